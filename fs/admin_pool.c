/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/device.h"
#include "io/log.h"

static void add_session(const struct volume *v, void *arg)
{
	struct session_stats stats;

	session_stats(v->session, &stats);
	json_array_append_new(
		arg, json_pack("{s:o,s:o,s:b,s:b,s:I,s:i}", "subvolume",
			       admin_text(v->name, strlen(v->name)), "target",
			       admin_text(v->target, strlen(v->target)), "read_only", v->read_only,
			       "mounted", stats.mounted, "requests", (json_int_t)stats.requests,
			       "in_flight", (int)stats.in_flight));
}

static json_t *device_list(struct server *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->device_count; i++) {
		const char *name = device_name(s->devices[i]);

		json_array_append_new(list, admin_text(name, strlen(name)));
	}
	return list;
}

/* Only what is wrong. */
static void add_errors(json_t *to, const struct pool_stats *p)
{
	if (p->failed)
		json_object_set_new(to, "failed", json_integer(-p->failed));
	if (p->sweep_error)
		json_object_set_new(to, "sweep_error", json_integer(-p->sweep_error));
}

static json_t *pool_object(struct admin_context *c)
{
	struct server *s = c->server;
	struct pool_stats p;
	struct pool_usage u;
	char uuid[37];
	json_t *pool;

	pool_stats(s->pool, &p);
	uuid_unparse_lower(p.uuid, uuid);
	pool = json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:o}", "name", p.name, "uuid", uuid, "version",
			 PACKAGE_VERSION, "supervisor_pid", (int)c->admin->supervisor, "worker_pid",
			 (int)getpid(), "reactors", (int)s->reactor_count, "devices",
			 device_list(s));
	if (!pool)
		return NULL;
	json_object_update_new(
		pool, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "data_bytes",
				BYTES(p.data_blocks), "free_bytes", BYTES(p.free_blocks),
				"reserved_bytes", BYTES(p.reserved_blocks), "meta_bytes",
				(json_int_t)p.meta_bytes, "meta_free_bytes",
				(json_int_t)p.meta_free_bytes, "inodes",
				(json_int_t)p.inodes_max, "dirty_bytes", BYTES(p.dirty_blocks),
				"dirty_cap_bytes", BYTES(p.dirty_cap_blocks), "commits",
				(json_int_t)p.commits, "checksum_errors",
				(json_int_t)p.checksum_errors, "io_errors", (json_int_t)p.io_errors,
				"subvolumes", (json_int_t)p.subvolumes, "open_subvolumes",
				(json_int_t)p.open_subvolumes));
	if (!pool_usage(s->pool, &u))
		json_object_update_new(
			pool, json_pack("{s:I,s:I,s:i,s:I,s:i,s:I,s:i}", "promised_bytes", BYTES(u.promised_blocks),
					"promise_limit_bytes", BYTES(u.promise_limit_blocks), "overcommit_percent",
					(int)u.overcommit_percent, "snapshot_bytes", BYTES(u.snapshot_blocks), "snapshots",
					(int)u.snapshots, "sweeping_bytes", BYTES(u.sweeping_blocks), "sweeps", (int)u.sweeps));
	add_errors(pool, &p);
	json_object_set_new(pool, "used_bytes", json_integer(BYTES(p.data_blocks - p.free_blocks)));
	json_object_set_new(pool, "unclaimed_bytes", json_integer(BYTES(p.unclaimed_blocks)));
	json_object_set_new(pool, "headroom_bytes", json_integer(BYTES(p.headroom_blocks)));
	return pool;
}

static json_t *pool_show(struct admin_context *c)
{
	json_error_t error;
	json_t *sessions;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op))
		return admin_bad_request(&error);
	sessions = json_array();
	server_each_volume(c->server, add_session, sessions);
	return admin_ok(json_pack("{s:o,s:o}", "pool", pool_object(c), "sessions", sessions));
}

static json_t *pool_stop(struct admin_context *c)
{
	json_error_t error;
	char why[1024];
	const char *op;
	int force = 0, err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?b!}", "op", &op, "force", &force))
		return admin_bad_request(&error);
	err = server_prepare_stop(c->server, force, why, sizeof(why));
	if (err)
		return control_refuse(err, "%s", why);
	log_info("%s: stopped by process %d of user %u", pool_name(c->server->pool),
		 (int)c->peer->pid, (unsigned)c->peer->uid);
	c->peer->deferred = true;
	return NULL;
}

/* The pool as it is then. */
static json_t *pool_set(struct admin_context *c)
{
	json_int_t percent = 0;
	char why[1024] = "";
	json_error_t error;
	const char *op;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:I!}", "op", &op, "overcommit_percent", &percent))
		return admin_bad_request(&error);
	if (percent < 0 || percent > UINT32_MAX)
		return control_refuse(EINVAL, "overcommit is 100 percent (none) to %u, not %lld", POOL_OVERCOMMIT_MAX, (long long)percent);
	err = pool_set_overcommit(c->server->pool, (uint32_t)percent, why, sizeof(why));
	if (err)
		return control_refuse(err, "%s", why);
	log_info("%s: overcommit was set to %lld percent by user %u", pool_name(c->server->pool), (long long)percent,
		 (unsigned)c->peer->uid);
	admin_tell(c, EVENT_POOL_CHANGED, NULL, NULL, "overcommit was set to %lld percent", (long long)percent);
	return admin_ok(json_pack("{s:o}", "pool", pool_object(c)));
}

/* What was deleted and is being taken apart, as far as who asks may see it. */
static json_t *sweeps(struct admin_context *c)
{
	struct pool_stats p;
	struct pool_usage u;
	json_error_t error;
	const char *op;
	json_t *reply;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op))
		return admin_bad_request(&error);
	err = pool_sweeps(c->server->pool, &u);
	if (err)
		return control_refuse(err, "the sweeps cannot be counted: %s", strerror(-err));
	reply = json_pack("{s:i,s:I}", "sweeps", (int)u.sweeps, "sweeping_bytes", BYTES(u.sweeping_blocks));
	pool_stats(c->server->pool, &p);
	add_errors(reply, &p);
	return admin_ok(reply);
}

const struct admin_request admin_pool_requests[] = {
	{ "pool.show", pool_show, ADMIN_ONLY },
	{ "pool.set", pool_set, ADMIN_ONLY },
	{ "pool.stop", pool_stop, ADMIN_ONLY },
	{ "sweeps", sweeps, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
