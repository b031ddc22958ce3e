/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of requests share: one file for each kind of object (admin_pool.c, admin_subvolume.c, ...), which ends with a
 * table of its requests that admin.c looks through.
 */
#ifndef NVFS_FS_ADMIN_INTERNAL_H
#define NVFS_FS_ADMIN_INTERNAL_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>

#include "fs/admin.h"
#include "meta/event.h"
#include "meta/subvol.h"

/* A request on its way. The thread is its connection's: it may sleep. */
struct admin_context {
	struct server *server;
	struct admin *admin;
	struct control_peer *peer;
	json_t *request;
	int fd; /* a descriptor that came with it, or -1: taken by who needs it */
};

enum admin_access {
	ADMIN_ONLY,  /* root and the control group */
	ADMIN_OWNER, /* owners of tenants, too: tenant_act_as() is in force, so that meta/ has only what is theirs */
};

struct admin_request {
	const char *op; /* NULL ends a table */
	/* The reply, a new reference; NULL when c->peer->deferred was set or without memory. */
	json_t *(*fn)(struct admin_context *c);
	enum admin_access access;
};

extern const struct admin_request admin_pool_requests[];
extern const struct admin_request admin_subvolume_requests[];
extern const struct admin_request admin_mount_requests[];
extern const struct admin_request admin_event_requests[];
extern const struct admin_request admin_snapshot_requests[];
extern const struct admin_request admin_top_requests[];
extern const struct admin_request admin_tenant_requests[];
extern const struct admin_request admin_usage_requests[];

/* A reply that has only "ok", or fields besides; takes the fields. */
json_t *admin_ok(json_t *fields);

/* What json_unpack_ex() found wrong. */
json_t *admin_bad_request(const json_error_t *error);

/* A refusal of meta/ about a subvolume: its sentence when it has one. */
json_t *admin_refused(int err, const char *why, const char *what, const char *name);

/* {"ok": true, "subvolume": {...}} as it is now, or a refusal. */
json_t *admin_subvolume_reply(struct server *s, const char *name);

/*
 * Whether who asks may know of what is this tenant's, "" for what is of the pool: administrators of everything, owners of what they
 * own, and what happened (at_ns since 1970) when it was there already. The one place that decides it for answers that are about many. Any
 * thread.
 */
bool admin_sees(struct server *s, const struct control_peer *peer, const char *tenant, int64_t at_ns);

/* Whether who asks may ask anything still: an administrator, or an owner of some tenant. Any thread. */
bool admin_may_ask(struct server *s, const struct control_peer *peer);

/* The last line of a reply that goes on: takes what control_refuse() or json_pack() made. */
json_t *admin_end(json_t *reply);

/* Places for what takes long, which owners of tenants share: zeroed but for the numbers. */
#define ADMIN_PLACES_MAX 16u
struct admin_places {
	unsigned max, max_each; /* together, and of one user */
	pthread_mutex_t lock;
	unsigned count;         /* lock */
	uid_t users[ADMIN_PLACES_MAX]; /* lock */
};

/* Administrators need none: always true. */
bool admin_place_take(struct admin_places *p, const struct control_peer *peer);
void admin_place_give(struct admin_places *p, const struct control_peer *peer);

/*
 * An event of what somebody did: the text gets " by user N". subvolume and tenant may be NULL; the tenant of a subvolume that is there is
 * found.
 */
void admin_tell(const struct admin_context *c, enum event_kind kind, const char *subvolume, const char *tenant, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/*
 * Wait until a subvolume that was unmounted is closed, or a snapshot when `snapshot` is not NULL. Of what who asks may not see nothing is
 * waited for.
 */
void admin_settle(const struct admin_context *c, const char *subvolume, const char *snapshot);

/* Put throttled_ops, throttled_ns, throttled_now and throttled_by into an object. */
void admin_add_throttled(json_t *object, const struct throttle_stats *s);

/* The latter alone: by level and limit. */
json_t *admin_throttled_by(const struct throttle_stats *s);

/* A string that may be no UTF-8. */
json_t *admin_text(const char *s, size_t len);

#define BYTES(blocks) ((json_int_t)((blocks) * (uint64_t)NVFS_BLOCK_SIZE))

#endif
