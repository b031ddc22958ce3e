/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/discard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/log.h"
#include "meta/pool_internal.h"

#define PERIOD_NS UINT64_C(1000000000)
#define BYTES_PER_PERIOD (UINT64_C(1) << 30) /* cheap for a device; the bound is for the bad ones */

struct discarder {
	struct pool *pool;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping; /* lock */
	bool refused[LABEL_DEVICES_MAX]; /* the thread's own: this device does not discard */
};

static bool wants_discards(struct device *dev)
{
	return device_kind(dev) != DEVICE_FILE && device_geometry(dev)->discard && !device_readonly(dev);
}

/* The run is ours until space_discard_done(). */
static void discard_run(struct discarder *d, const struct extent *run)
{
	struct device *dev = d->pool->devices[run->vdev];
	int err;

	if (d->refused[run->vdev])
		return;
	err = device_discard(dev, run->block * NVFS_BLOCK_SIZE, run->blocks * (uint64_t)NVFS_BLOCK_SIZE);
	if (err) {
		d->refused[run->vdev] = true;
		log_warn("%s: discards nothing any more: %s", device_name(dev), strerror(-err));
	}
}

static bool stopping(struct discarder *d)
{
	bool yes;

	pthread_mutex_lock(&d->lock);
	yes = d->stopping;
	pthread_mutex_unlock(&d->lock);
	return yes;
}

/* A period's worth. What the allocator has frees itself up first: readers may have ended since. */
static void discard_some(struct discarder *d)
{
	struct space *space = d->pool->space;
	uint64_t bytes = 0;
	struct extent run;

	space_reap(space);
	while (bytes < BYTES_PER_PERIOD && !stopping(d) && space_discard_take(space, &run)) {
		discard_run(d, &run);
		space_discard_done(space, &run);
		bytes += run.blocks * (uint64_t)NVFS_BLOCK_SIZE;
	}
}

static void *discard_thread(void *arg)
{
	struct discarder *d = arg;
	struct timespec until;

	pthread_mutex_lock(&d->lock);
	while (!d->stopping) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += PERIOD_NS / 1000000000;
		pthread_cond_timedwait(&d->wake, &d->lock, &until);
		pthread_mutex_unlock(&d->lock);
		discard_some(d);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static int start_thread(struct discarder *d)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&d->thread, NULL, discard_thread, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		pthread_setname_np(d->thread, "nvfs-discard");
	return r;
}

static void discarder_free(struct discarder *d)
{
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

int discarder_start(struct pool *pool, struct discarder **out)
{
	struct discarder *d;
	pthread_condattr_t attr;
	unsigned wanting = 0;
	int r;

	*out = NULL;
	for (unsigned i = 0; i < pool->device_count; i++)
		wanting += wants_discards(pool->devices[i]);
	if (!wanting || pool->options.read_only)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->pool = pool;
	for (unsigned i = 0; i < pool->device_count; i++)
		d->refused[i] = !wants_discards(pool->devices[i]);
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = start_thread(d);
	if (r)
		discarder_free(d);
	else
		*out = d;
	return r;
}

void discarder_stop(struct discarder *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	discarder_free(d);
}
