/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fs/admin_internal.h"
#include "fs/server.h"

/* Somebody who follows the pool's events. */
struct follower {
	struct control_stream stream; /* first */
	const struct control_peer *peer;
	struct server *server;
	uint64_t seen; /* number of the last event that it was given, or that it may not see */
};

/* Owners of tenants leave places to administrators. */
#define OWNERS_FOLLOWING_MAX (EVENT_FOLLOWERS_MAX / 2)
static _Atomic unsigned owners_following;

static json_t *name_or_null(const char *name)
{
	return name[0] ? admin_text(name, strlen(name)) : json_null();
}

static json_t *event_object(const struct event *e)
{
	return json_pack("{s:I,s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:o}", "number", (json_int_t)e->number, "time_ns", (json_int_t)e->time_ns,
			 "kind", event_kind_name(e->kind), "severity", event_severity_name(e->severity), "subvolume",
			 name_or_null(e->subvolume), "tenant", name_or_null(e->tenant), "inode",
			 e->inode ? json_integer((json_int_t)e->inode) : json_null(), "offset",
			 e->inode ? json_integer((json_int_t)e->offset) : json_null(), "text",
			 admin_text(e->text, strlen(e->text)));
}

/* Events between what was seen and this one are not kept any more. */
static uint64_t lost_before(uint64_t seen, const struct event *e)
{
	return e->number - seen - 1;
}

static json_t *follower_next(struct control_stream *stream)
{
	struct follower *f = (struct follower *)stream;
	struct event e;
	uint64_t lost;

	while (event_next(pool_events(f->server->pool), f->seen, &e)) {
		lost = lost_before(f->seen, &e);
		if (lost) {
			f->seen = e.number - 1;
			return json_pack("{s:I}", "lost", (json_int_t)lost);
		}
		f->seen = e.number;
		if (admin_sees(f->server, f->peer, e.tenant, e.time_ns))
			return json_pack("{s:o}", "event", event_object(&e));
	}
	return NULL;
}

static void follower_close(struct control_stream *stream)
{
	struct follower *f = (struct follower *)stream;

	if (!f->peer->admin)
		atomic_fetch_sub(&owners_following, 1);
	events_unfollow(pool_events(f->server->pool), f->stream.wake);
	close(f->stream.wake);
	free(f);
}

static int follow_events(struct admin_context *c, uint64_t seen)
{
	struct follower *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	*f = (struct follower){ .stream = { .next = follower_next, .close = follower_close }, .peer = c->peer, .server = c->server,
				.seen = seen };
	f->stream.wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	err = f->stream.wake < 0 ? -errno : 0;
	if (!err && !c->peer->admin && atomic_fetch_add(&owners_following, 1) >= OWNERS_FOLLOWING_MAX)
		err = -EBUSY;
	if (!err)
		err = events_follow(pool_events(c->server->pool), f->stream.wake);
	if (err) {
		if (!c->peer->admin && f->stream.wake >= 0)
			atomic_fetch_sub(&owners_following, 1);
		if (f->stream.wake >= 0)
			close(f->stream.wake);
		free(f);
		return err;
	}
	c->peer->stream = &f->stream;
	return 0;
}

/* Those after *seen; *seen becomes the number of the last one. */
static json_t *collect(struct admin_context *c, uint64_t *seen, uint64_t *lost)
{
	json_t *list = json_array();
	struct event e;

	*lost = 0;
	while (event_next(pool_events(c->server->pool), *seen, &e)) {
		*lost += lost_before(*seen, &e);
		*seen = e.number;
		if (admin_sees(c->server, c->peer, e.tenant, e.time_ns))
			json_array_append_new(list, event_object(&e));
	}
	return list;
}

static json_t *events(struct admin_context *c)
{
	json_int_t since = 0;
	uint64_t seen, lost;
	json_error_t error;
	int follow = 0, err;
	bool restarted;
	const char *op;
	json_t *list;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?I,s?b!}", "op", &op, "since", &since, "follow", &follow))
		return admin_bad_request(&error);
	if (since < 0)
		return control_refuse(EINVAL, "since is the number of the last event that was seen, 0 for none");
	/* A number that is not there yet is of an earlier worker. */
	restarted = (uint64_t)since > events_last(pool_events(c->server->pool));
	seen = restarted ? 0 : (uint64_t)since;
	list = collect(c, &seen, &lost);
	err = follow ? follow_events(c, seen) : 0;
	if (err) {
		json_decref(list);
		return err == -EBUSY ? control_refuse(err, "%u follow the events already; ask without \"follow\"", EVENT_FOLLOWERS_MAX)
				     : control_refuse(err, "the events cannot be followed: %s", strerror(-err));
	}
	return admin_ok(json_pack("{s:o,s:I,s:I,s:b}", "events", list, "last", (json_int_t)seen, "lost", (json_int_t)lost, "restarted",
				  restarted));
}

const struct admin_request admin_event_requests[] = {
	{ "events", events, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
