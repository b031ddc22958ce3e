/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
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

/* Owners of tenants leave places to administrators, and to each other. */
static struct admin_places owners_following = { .max = EVENT_FOLLOWERS_MAX / 2, .max_each = EVENT_FOLLOWERS_MAX / 4,
						.lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- Numbers ---- */

/*
 * Numbers of a pool's events have no gaps, and what an owner does not see would show as one. So owners get them as a secret permutation
 * has them (a Feistel network, with a key of this worker): they can be given back, and say nothing.
 */
#define NUMBER_BITS 52 /* what every reader of JSON has exactly */
#define HALF_BITS (NUMBER_BITS / 2)
#define HALF_MASK ((UINT64_C(1) << HALF_BITS) - 1)
#define ROUNDS 6

static uint64_t number_key[ROUNDS];
static pthread_once_t number_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
	/* Without a random one they only say more than they should. */
	if (getrandom(number_key, sizeof(number_key), 0) != sizeof(number_key))
		number_key[0] = (uint64_t)(uintptr_t)&number_key;
}

/* Numbers that differ in a bit have nothing in common afterwards: the finalizer of MurmurHash3. */
static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static uint64_t round_of(unsigned round, uint64_t half)
{
	return mixed(mixed(half + number_key[round]) ^ number_key[(round + 1) % ROUNDS]) & HALF_MASK;
}

static json_int_t number_out(const struct control_peer *peer, uint64_t number)
{
	uint64_t high = number >> HALF_BITS & HALF_MASK, low = number & HALF_MASK;

	if (peer->admin || !number)
		return (json_int_t)number;
	pthread_once(&number_once, make_key);
	for (unsigned i = 0; i < ROUNDS; i++) {
		const uint64_t was = low;

		low = high ^ round_of(i, low);
		high = was;
	}
	return (json_int_t)(high << HALF_BITS | low);
}

/* What cannot be a number of this worker becomes one that is not there yet. */
static uint64_t number_in(const struct control_peer *peer, json_int_t given)
{
	uint64_t high = (uint64_t)given >> HALF_BITS & HALF_MASK, low = (uint64_t)given & HALF_MASK;

	if (peer->admin || !given)
		return (uint64_t)given;
	if ((uint64_t)given >> NUMBER_BITS)
		return UINT64_MAX;
	pthread_once(&number_once, make_key);
	for (unsigned i = ROUNDS; i-- > 0;) {
		const uint64_t was = high;

		high = low ^ round_of(i, high);
		low = was;
	}
	return high << HALF_BITS | low;
}

/* How many of them were an owner's is not known. */
static json_int_t lost_out(const struct control_peer *peer, uint64_t lost)
{
	return (json_int_t)(peer->admin ? lost : lost > 0);
}

/* ---- Objects ---- */

static json_t *name_or_null(const char *name)
{
	return name[0] ? admin_text(name, strlen(name)) : json_null();
}

static json_t *event_object(const struct control_peer *peer, const struct event *e)
{
	return json_pack("{s:I,s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:o}", "number", number_out(peer, e->number), "time_ns", (json_int_t)e->time_ns,
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

	/* Who is made or unmade an owner is an event, so that this is asked then. */
	if (!admin_may_ask(f->server, f->peer)) {
		stream->ended = true;
		return admin_end(control_refuse(EPERM, "you own no tenant any more, whose events could be followed"));
	}
	while (event_next(pool_events(f->server->pool), f->seen, &e)) {
		lost = lost_before(f->seen, &e);
		if (lost) {
			f->seen = e.number - 1;
			return json_pack("{s:I}", "lost", lost_out(f->peer, lost));
		}
		f->seen = e.number;
		if (admin_sees(f->server, f->peer, e.tenant, e.time_ns))
			return json_pack("{s:o}", "event", event_object(f->peer, &e));
	}
	return NULL;
}

static void follower_close(struct control_stream *stream)
{
	struct follower *f = (struct follower *)stream;

	admin_place_give(&owners_following, f->peer);
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
	err = f->stream.wake < 0 ? -errno : admin_place_take(&owners_following, c->peer) ? 0 : -EBUSY;
	if (!err) {
		err = events_follow(pool_events(c->server->pool), f->stream.wake);
		if (err)
			admin_place_give(&owners_following, c->peer);
	}
	if (err) {
		if (f->stream.wake >= 0)
			close(f->stream.wake);
		free(f);
		return err;
	}
	c->peer->stream = &f->stream;
	return 0;
}

struct collected {
	json_t *list;
	uint64_t seen;    /* all up to that */
	uint64_t visible; /* the last that is in the list, or what was asked for */
	uint64_t lost;
};

static struct collected collect(struct admin_context *c, uint64_t since)
{
	struct collected all = { .list = json_array(), .seen = since, .visible = since };
	struct event e;

	while (event_next(pool_events(c->server->pool), all.seen, &e)) {
		all.lost += lost_before(all.seen, &e);
		all.seen = e.number;
		if (!admin_sees(c->server, c->peer, e.tenant, e.time_ns))
			continue;
		all.visible = e.number;
		json_array_append_new(all.list, event_object(c->peer, &e));
	}
	return all;
}

static json_t *refuse_to_follow(int err)
{
	return err == -EBUSY ? control_refuse(err, "as many follow the events already as can; ask without \"follow\"")
			     : control_refuse(err, "the events cannot be followed: %s", strerror(-err));
}

static json_t *events(struct admin_context *c)
{
	struct events *ring = pool_events(c->server->pool);
	json_int_t since = 0, opening = events_opening(ring);
	struct collected all;
	json_error_t error;
	int follow = 0, err;
	bool restarted;
	uint64_t after;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?I,s?I,s?b!}", "op", &op, "since", &since, "opening", &opening, "follow", &follow))
		return admin_bad_request(&error);
	if (since < 0 || opening < 0)
		return control_refuse(EINVAL, "since is the number of the last event that was seen, 0 for none, and opening is what came with it");
	after = number_in(c->peer, since);
	/* A number that is not there yet is of an earlier worker. */
	restarted = opening != events_opening(ring) || after > events_last(ring);
	all = collect(c, restarted ? 0 : after);
	err = follow ? follow_events(c, all.seen) : 0;
	if (err) {
		json_decref(all.list);
		return refuse_to_follow(err);
	}
	/* What an owner does not see does not count. */
	return admin_ok(json_pack("{s:o,s:I,s:I,s:I,s:b}", "events", all.list, "last",
				  number_out(c->peer, c->peer->admin ? all.seen : all.visible), "opening",
				  (json_int_t)events_opening(ring), "lost", lost_out(c->peer, all.lost), "restarted", restarted));
}

const struct admin_request admin_event_requests[] = {
	{ "events", events, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
