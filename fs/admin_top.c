/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <string.h>

#include "fs/admin_internal.h"
#include "fs/server.h"

/* What is mounted has done since it was mounted: who asks twice has what it does. */

static json_t *latency_object(const struct latency *l)
{
	json_t *buckets = json_array();

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		json_array_append_new(buckets, json_integer((json_int_t)atomic_load_explicit(&l->buckets[i], memory_order_relaxed)));
	return json_pack("{s:I,s:o}", "total_ns", (json_int_t)atomic_load_explicit(&l->total_ns, memory_order_relaxed), "buckets",
			 buckets);
}

static json_t *volume_object(const struct volume *v)
{
	const struct latency *latency = session_latency(v->session);
	struct session_stats session;
	struct subvol_stats s;

	session_stats(v->session, &session);
	subvol_stats(v->ops.sv, &s);
	return json_pack("{s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "name", admin_text(v->name, strlen(v->name)), "tenant",
			 admin_text(v->tenant, strlen(v->tenant)), "session", (json_int_t)v->number, "read_bytes",
			 (json_int_t)s.read_bytes, "written_bytes", (json_int_t)s.written_bytes, "dirty_bytes", BYTES(s.dirty_blocks),
			 "used_bytes", BYTES(s.used_blocks), "size_bytes", BYTES(s.size_blocks), "cached_inodes",
			 (json_int_t)s.cached_inodes, "throttled", (json_int_t)session.late, "throttled_by", admin_throttled_by(&s.throttled), "read", latency_object(&latency[LATENCY_READ]), "write",
			 latency_object(&latency[LATENCY_WRITE]), "sync", latency_object(&latency[LATENCY_SYNC]), "other",
			 latency_object(&latency[LATENCY_OTHER]));
}

struct collection {
	struct admin_context *context;
	json_t *list;
};

static void add_volume(const struct volume *v, void *arg)
{
	struct collection *c = arg;

	if (admin_sees(c->context->server, c->context->peer, v->tenant, INT64_MAX))
		json_array_append_new(c->list, volume_object(v));
}

static json_t *top(struct admin_context *c)
{
	struct collection collection = { .context = c, .list = json_array() };
	struct pool_stats p;
	json_error_t error;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op)) {
		json_decref(collection.list);
		return admin_bad_request(&error);
	}
	server_each_volume(c->server, add_volume, &collection);
	pool_stats(c->server->pool, &p);
	if (!c->peer->admin) /* what all do together is nothing of an owner's */
		p.dirty_blocks = p.dirty_cap_blocks = p.commits = 0;
	return admin_ok(json_pack("{s:s,s:I,s:I,s:I,s:I,s:o}", "pool", p.name, "time_ns", (json_int_t)monotonic_now_ns(), "dirty_bytes",
				  BYTES(p.dirty_blocks), "dirty_cap_bytes", BYTES(p.dirty_cap_blocks), "commits", (json_int_t)p.commits,
				  "subvolumes", collection.list));
}

const struct admin_request admin_top_requests[] = {
	{ "top", top, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
