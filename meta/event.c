/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "io/visible.h"
#include "meta/event.h"

#define LIMIT_NS (INT64_C(30) * 1000000000)
#define LIMIT_SLOTS 256u

/* The last limited event of some kind and key. Two that share a slot take turns: then one more is said than should be. */
struct limit {
	_Atomic uint64_t key; /* 0: unused */
	_Atomic int64_t until_ns;
	_Atomic uint32_t left_out;
};

struct events {
	int64_t opening;      /* in us; constant */
	pthread_mutex_t lock; /* leaf; protects what follows */
	uint64_t last;        /* number of the newest one */
	int followers[EVENT_FOLLOWERS_MAX];
	unsigned follower_count;
	struct event ring[EVENTS_KEPT]; /* number n is at n % EVENTS_KEPT */
	struct limit limits[LIMIT_SLOTS]; /* not under the lock */
};

static const char *const kind_names[EVENT_KINDS] = {
	[EVENT_SUBVOLUME_CREATED] = "subvolume-created",
	[EVENT_SUBVOLUME_RESIZED] = "subvolume-resized",
	[EVENT_SUBVOLUME_DELETED] = "subvolume-deleted",
	[EVENT_SUBVOLUME_MOUNTED] = "subvolume-mounted",
	[EVENT_SUBVOLUME_UNMOUNTED] = "subvolume-unmounted",
	[EVENT_SNAPSHOT_CREATED] = "snapshot-created",
	[EVENT_SNAPSHOT_DELETED] = "snapshot-deleted",
	[EVENT_SNAPSHOT_ROLLED_BACK] = "snapshot-rolled-back",
	[EVENT_CLONE_CREATED] = "clone-created",
	[EVENT_TENANT_CREATED] = "tenant-created",
	[EVENT_TENANT_CHANGED] = "tenant-changed",
	[EVENT_TENANT_DELETED] = "tenant-deleted",
	[EVENT_POOL_CHANGED] = "pool-changed",
	[EVENT_CHECKSUM_ERROR] = "checksum-error",
	[EVENT_DEVICE_ERROR] = "device-error",
	[EVENT_POOL_FAILED] = "pool-failed",
	[EVENT_POOL_NEARLY_FULL] = "pool-nearly-full",
	[EVENT_QUOTA_REACHED] = "quota-reached",
	[EVENT_SOFT_LIMIT] = "soft-limit",
	[EVENT_THROTTLED] = "throttled",
	[EVENT_SWEEP_BEGUN] = "sweep-begun",
	[EVENT_SWEEP_ENDED] = "sweep-ended",
};

const char *event_kind_name(enum event_kind kind)
{
	return (unsigned)kind < EVENT_KINDS ? kind_names[kind] : "unknown";
}

const char *event_severity_name(enum event_severity severity)
{
	static const char *const names[] = { "info", "warning", "error" };

	return (unsigned)severity < 3 ? names[severity] : "unknown";
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct events *events_create(void)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->opening = clock_ns(CLOCK_REALTIME) / 1000;
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

void events_destroy(struct events *e)
{
	if (!e)
		return;
	pthread_mutex_destroy(&e->lock);
	free(e);
}

int64_t events_opening(const struct events *e)
{
	return e->opening;
}

/* ---- Not too often ---- */

static uint64_t limit_key(const struct event_about *about)
{
	/* Never 0. */
	return (about->limit_key * EVENT_KINDS + (uint64_t)about->kind) * 2 + 1;
}

/* Whether it is to be said now; then *left_out is how often it was not, since the last time. */
static bool limit_passes(struct events *e, const struct event_about *about, uint32_t *left_out)
{
	const uint64_t key = limit_key(about);
	struct limit *l = &e->limits[key * UINT64_C(0x9e3779b97f4a7c15) >> 56];
	const int64_t now = clock_ns(CLOCK_MONOTONIC_COARSE);
	int64_t until = atomic_load_explicit(&l->until_ns, memory_order_relaxed);
	const bool same = atomic_load_explicit(&l->key, memory_order_relaxed) == key;

	/* Of two at the same moment one says it. */
	if ((same && now < until) ||
	    !atomic_compare_exchange_strong_explicit(&l->until_ns, &until, now + LIMIT_NS, memory_order_relaxed, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&l->left_out, 1, memory_order_relaxed);
		return false;
	}
	*left_out = atomic_exchange_explicit(&l->left_out, 0, memory_order_relaxed);
	if (!same)
		*left_out = 0;
	atomic_store_explicit(&l->key, key, memory_order_relaxed);
	return true;
}

/* ---- Adding ---- */

/* Into the ring and to who follows. */
static void publish(struct events *e, const struct event *event)
{
	static const uint64_t one = 1;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&e->lock);
	struct event *slot = &e->ring[++e->last % EVENTS_KEPT];

	*slot = *event;
	slot->number = e->last;
	/* A counter that is full wakes its reader all the same. */
	for (unsigned i = 0; i < e->follower_count; i++)
		if (write(e->followers[i], &one, sizeof(one)) < 0)
			continue;
}

void event_add(struct events *e, const struct event_about *about, const char *fmt, ...)
{
	char text[EVENT_TEXT_MAX];
	struct event event;
	uint32_t left_out = 0;
	va_list ap;
	int len;

	if (!e || (about->limited && !limit_passes(e, about, &left_out)))
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (left_out && len >= 0 && (size_t)len < sizeof(text))
		snprintf(text + len, sizeof(text) - (size_t)len, " (%u more times since it was last said)", left_out);
	event = (struct event){ .time_ns = clock_ns(CLOCK_REALTIME), .kind = about->kind, .severity = about->severity,
				.inode = about->inode, .offset = about->offset };
	snprintf(event.subvolume, sizeof(event.subvolume), "%s", about->subvolume ? about->subvolume : "");
	snprintf(event.tenant, sizeof(event.tenant), "%s", about->tenant ? about->tenant : "");
	visible_copy(event.text, sizeof(event.text), text);
	publish(e, &event);
}

/* ---- Reading ---- */

bool event_next(struct events *e, uint64_t after, struct event *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&e->lock);
	const uint64_t first = e->last > EVENTS_KEPT ? e->last - EVENTS_KEPT + 1 : 1;
	const uint64_t wanted = after + 1 > first ? after + 1 : first;

	if (after >= e->last)
		return false;
	*out = e->ring[wanted % EVENTS_KEPT];
	return true;
}

uint64_t events_last(struct events *e)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&e->lock);

	return e->last;
}

int events_follow(struct events *e, int eventfd)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&e->lock);

	if (e->follower_count == EVENT_FOLLOWERS_MAX)
		return -EBUSY;
	e->followers[e->follower_count++] = eventfd;
	return 0;
}

void events_unfollow(struct events *e, int eventfd)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&e->lock);

	for (unsigned i = 0; i < e->follower_count; i++)
		if (e->followers[i] == eventfd) {
			e->followers[i] = e->followers[--e->follower_count];
			return;
		}
}
