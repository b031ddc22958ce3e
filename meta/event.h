/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_EVENT_H
#define NVFS_META_EVENT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What happened in a pool, for people and for what watches it: the last EVENTS_KEPT, numbered from 1 since the pool was opened. They are
 * no log: what an error needs is logged besides, where it is detected.
 *
 * Any thread may add, a reactor too: the lock is a leaf, held while one event is copied. Nobody waits for a reader.
 */

#define EVENTS_KEPT 1000u
#define EVENT_TEXT_MAX 256
#define EVENT_NAME_MAX 256
#define EVENT_FOLLOWERS_MAX 16u

struct events;

enum event_kind {
	EVENT_SUBVOLUME_CREATED,
	EVENT_SUBVOLUME_RESIZED,
	EVENT_SUBVOLUME_DELETED,
	EVENT_SUBVOLUME_MOUNTED,
	EVENT_SUBVOLUME_UNMOUNTED,
	EVENT_SNAPSHOT_CREATED,
	EVENT_SNAPSHOT_DELETED,
	EVENT_SNAPSHOT_ROLLED_BACK,
	EVENT_CLONE_CREATED,
	EVENT_TENANT_CREATED,
	EVENT_TENANT_CHANGED,
	EVENT_TENANT_DELETED,
	EVENT_POOL_CHANGED,
	EVENT_CHECKSUM_ERROR, /* a block or record is not what was written */
	EVENT_DEVICE_ERROR,   /* a device failed a read, a write or a flush */
	EVENT_POOL_FAILED,    /* it takes no more writes */
	EVENT_POOL_NEARLY_FULL,
	EVENT_QUOTA_REACHED,  /* of a subvolume or a tenant: something was refused */
	EVENT_SOFT_LIMIT,     /* a tenant passed it, or its grace is over */
	EVENT_THROTTLED,      /* requests wait for a rate */
	EVENT_SWEEP_BEGUN,    /* something deleted is being taken apart */
	EVENT_SWEEP_ENDED,
	EVENT_KINDS,
};

enum event_severity {
	EVENT_INFO,
	EVENT_WARNING,
	EVENT_ERROR,
};

struct event {
	uint64_t number;
	int64_t time_ns;         /* since 1970 */
	enum event_kind kind;
	enum event_severity severity;
	uint64_t inode, offset;  /* inode 0: it is about none */
	char subvolume[EVENT_NAME_MAX], tenant[EVENT_NAME_MAX]; /* "": about none */
	char text[EVENT_TEXT_MAX]; /* one line, without control characters */
};

/* Stable, for programs: "checksum-error", "warning". */
const char *event_kind_name(enum event_kind kind);
const char *event_severity_name(enum event_severity severity);

/* NULL without memory. Nobody uses it any more; NULL is fine. */
struct events *events_create(void);
void events_destroy(struct events *e);

/*
 * What an event is about. subvolume and tenant may be NULL. limited: at most one in 30 seconds of the same kind with the same
 * `limit_key`, a number of the subvolume or tenant; the next one says how many were left out. Then it costs a reactor nearly nothing.
 */
struct event_about {
	enum event_kind kind;
	enum event_severity severity;
	const char *subvolume, *tenant;
	uint64_t inode, offset;
	bool limited;
	uint64_t limit_key;
};

/* Any thread. e NULL: nothing happens. */
void event_add(struct events *e, const struct event_about *about, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The first kept one whose number is above `after`. False: there is none yet. Any thread. */
bool event_next(struct events *e, uint64_t after, struct event *out);

/* The number of the newest one; 0: none. Any thread. */
uint64_t events_last(struct events *e);

/* When it was made, in us since 1970, which a double has exactly: numbers are of that opening of the pool. */
int64_t events_opening(const struct events *e);

/*
 * Have 1 written to the eventfd (non-blocking, the caller's) after each event that comes, until events_unfollow(). 0, or -EBUSY: there are
 * EVENT_FOLLOWERS_MAX. Any thread.
 */
int events_follow(struct events *e, int eventfd);
void events_unfollow(struct events *e, int eventfd);

#endif
