/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "fs/channel.h"
#include "fs/drain.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "io/log.h"

/*
 * What the kernel has in its page cache and we do not: the supervisor has it written back (fs/syncer.h), and then what the kernel queued for that is
 * waited for (fs/drain.h). Both sleep, so: a thread of the control socket.
 */

#define SYNC_S 120  /* a device that is slower than that has a snapshot without those pages */
#define DRAIN_NS UINT64_C(5000000000)

/* ---- The supervisor's part ---- */

struct kernel_sync {
	uint32_t number;
	bool done;
	int error;
	struct kernel_sync *next;
};

void server_synced(struct server *s, uint32_t number, int error)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->sync_lock);
	struct kernel_sync *sync;

	LL_FOREACH(s->syncs, sync) {
		if (sync->number == number) {
			sync->done = true;
			sync->error = error;
		}
	}
	pthread_cond_broadcast(&s->synced);
}

void server_sync_no_more(struct server *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->sync_lock);

	s->no_more_syncs = true;
	pthread_cond_broadcast(&s->synced);
}

static int wait_synced(struct server *s, struct kernel_sync *sync)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SYNC_S;
	while (!sync->done && !s->no_more_syncs)
		if (pthread_cond_timedwait(&s->synced, &s->sync_lock, &until))
			return -ETIMEDOUT;
	return sync->done ? sync->error : -ESHUTDOWN;
}

static int sync_device(struct server *s, dev_t device)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->sync_lock);
	struct channel_msg msg = { .type = CHANNEL_SYNC, .device = device };
	struct kernel_sync sync = { .done = false };
	int err;

	if (s->channel < 0 || s->no_more_syncs)
		return -ESHUTDOWN;
	do
		sync.number = ++s->next_sync;
	while (!sync.number);
	LL_PREPEND(s->syncs, &sync);
	msg.number = sync.number;
	err = channel_send(s->channel, &msg, -1);
	if (!err)
		err = wait_synced(s, &sync);
	LL_DELETE(s->syncs, &sync);
	return err;
}

/* ---- What is queued ---- */

struct waiting_drain {
	struct reactor_msg msg;
	struct reactor_timer timer;
	struct session_drain drain;
	struct session *session;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over, drained; /* lock */
};

static void on_done(struct session_drain *d, bool drained)
{
	struct waiting_drain *w = (void *)((char *)d - offsetof(struct waiting_drain, drain));

	reactor_timer_cancel(session_reactor(w->session), &w->timer);
	pthread_mutex_lock(&w->lock);
	w->over = true;
	w->drained = drained;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void on_timer(struct reactor *r, struct reactor_timer *t)
{
	struct waiting_drain *w = (void *)((char *)t - offsetof(struct waiting_drain, timer));

	(void)r;
	session_drain_cancel(w->session, &w->drain);
}

static void start_drain(struct reactor *r, struct reactor_msg *msg)
{
	struct waiting_drain *w = (void *)((char *)msg - offsetof(struct waiting_drain, msg));

	reactor_timer_add(r, &w->timer, reactor_now_ns(r) + DRAIN_NS);
	session_drain(w->session, &w->drain);
}

static bool drain(struct session *session)
{
	struct waiting_drain w = {
		.msg.fn = start_drain, .timer.fn = on_timer, .drain.done = on_done, .session = session,
	};

	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.cond, NULL);
	reactor_post(session_reactor(session), &w.msg);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return w.drained;
}

/* ---- Both ---- */

static const char *reason(int err)
{
	switch (err) {
	case -ENODEV:
		return "who mounted it did not tell the number of its device";
	case -ENOENT:
		return "no directory of its mount can be reached";
	case -ETIMEDOUT:
		return "the kernel did not write them back in time";
	default:
		return strerror(-err);
	}
}

int volume_write_back(struct volume *v)
{
	int err;

	if (v->read_only)
		return 0;
	err = v->device ? sync_device(v->server, v->device) : -ENODEV;
	if (!err && !drain(v->session))
		err = -ETIMEDOUT;
	/* Unmounted meanwhile: that writes them back, too. */
	return session_gone(v->session) ? 0 : err;
}

int server_write_back(struct server *s, const char *subvolume, char *why, size_t why_len)
{
	struct volume *v = server_get_volume(s, subvolume);
	int err = v ? volume_write_back(v) : 0;

	if (err) {
		snprintf(why, why_len, "%s: %s may not be in it: %s", subvolume,
			 v->writeback ? "what no fsync(2) wrote back" : "pages of mmap(2) that no msync(2) wrote back", reason(err));
		log_warn("%s: %s", pool_name(s->pool), why);
	}
	if (v)
		server_put_volume(v);
	return err;
}
