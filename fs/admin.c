/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "meta/snapshot.h"
#include "meta/tenant.h"

json_t *admin_ok(json_t *fields)
{
	json_t *reply = json_pack("{s:b}", "ok", 1);

	if (fields)
		json_object_update(reply, fields);
	json_decref(fields);
	return reply;
}

json_t *admin_bad_request(const json_error_t *error)
{
	return control_refuse(EINVAL, "the request cannot be understood: %s", error->text);
}

json_t *admin_refused(int err, const char *why, const char *what, const char *name)
{
	if (why[0])
		return control_refuse(err, "%s", why);
	if (err == -ENOENT)
		return control_refuse(err, "there is no subvolume %s; nvfs subvolume list shows them", name);
	return control_refuse(err, "subvolume %s cannot be %s: %s", name, what, strerror(-err));
}

void admin_tell(const struct admin_context *c, enum event_kind kind, const char *subvolume, const char *tenant, const char *fmt, ...)
{
	struct event_about about = { .kind = kind, .severity = EVENT_INFO, .subvolume = subvolume, .tenant = tenant };
	char text[EVENT_TEXT_MAX];
	struct subvol_info info;
	va_list ap;

	if (subvolume && !tenant && !subvol_info(c->server->pool, subvolume, &info))
		about.tenant = info.tenant;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	event_add(pool_events(c->server->pool), &about, "%s by user %u", text, (unsigned)c->peer->uid);
}

void admin_settle(const struct admin_context *c, const char *subvolume, const char *snapshot)
{
	const struct snapshot_name name = { .subvol = subvolume, .snapshot = snapshot };
	char path[SNAPSHOT_PATH_MAX + 1];
	struct snapshot_info there;
	struct subvol_info info;

	if (!c->peer->admin &&
	    (snapshot ? snapshot_info(c->server->pool, &name, &there) : subvol_info(c->server->pool, subvolume, &info)))
		return;
	snprintf(path, sizeof(path), "%s%s%s", subvolume, snapshot ? "@" : "", snapshot ? snapshot : "");
	server_settle(c->server, path);
}

json_t *admin_throttled_by(const struct throttle_stats *s)
{
	static const char *const levels[THROTTLE_LEVELS] = { "subvolume", "tenant" };
	static const char *const limits[THROTTLE_LIMITS] = { "read_iops", "write_iops", "read_bps", "write_bps" };
	json_t *by = json_object();

	for (unsigned level = 0; level < THROTTLE_LEVELS; level++) {
		json_t *object = json_object();

		for (unsigned limit = 0; limit < THROTTLE_LIMITS; limit++)
			json_object_set_new(object, limits[limit],
					    json_pack("{s:I,s:I}", "ops", (json_int_t)s->held[level][limit].ops, "ns",
						      (json_int_t)s->held[level][limit].ns));
		json_object_set_new(by, levels[level], object);
	}
	return by;
}

void admin_add_throttled(json_t *object, const struct throttle_stats *s)
{
	json_object_update_new(object, json_pack("{s:I,s:I,s:I,s:o}", "throttled_ops", (json_int_t)s->delayed_ops, "throttled_ns",
						 (json_int_t)s->delayed_ns, "throttled_now", (json_int_t)s->waiting, "throttled_by",
						 admin_throttled_by(s)));
}

json_t *admin_text(const char *s, size_t len)
{
	json_t *j = json_stringn(s, len);

	return j ? j : json_string("?");
}

static const struct admin_request *const tables[] = {
	admin_pool_requests,
	admin_subvolume_requests,
	admin_mount_requests,
	admin_event_requests,
	admin_snapshot_requests,
	admin_top_requests,
	admin_tenant_requests,
	admin_usage_requests,
};

static const struct admin_request *find_request(const char *op)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct admin_request *r = tables[i]; r->op; r++)
			if (!strcmp(op, r->op))
				return r;
	return NULL;
}

/* NULL: it is ours, or is not said. It goes, since requests have no keys that they do not know. */
static json_t *check_version(json_t *request)
{
	const json_t *version = json_object_get(request, "version");

	if (!version)
		return NULL;
	if (!json_is_integer(version) || json_integer_value(version) != CONTROL_VERSION)
		return control_refuse(EPROTONOSUPPORT, "this daemon speaks version %d of the protocol; \"version\" is that number or left out",
				      CONTROL_VERSION);
	json_object_del(request, "version");
	return NULL;
}

static struct tenant_user user_of(const struct control_peer *peer)
{
	return (struct tenant_user){ .uid = peer->uid, .gids = peer->gids, .gid_count = peer->gid_count };
}

bool admin_may_ask(struct server *s, const struct control_peer *peer)
{
	const struct tenant_user user = user_of(peer);

	return peer->admin || tenant_owns_any(s->pool, &user);
}

bool admin_knows(void *arg, const struct control_peer *peer)
{
	const struct admin *admin = arg;

	return admin_may_ask(admin->server, peer);
}

json_t *admin_end(json_t *reply)
{
	if (reply)
		json_object_set_new(reply, "end", json_true());
	return reply;
}

/* ---- Places ---- */

bool admin_place_take(struct admin_places *p, const struct control_peer *peer)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&p->lock);
	unsigned same = 0;

	if (peer->admin)
		return true;
	for (unsigned i = 0; i < p->count; i++)
		same += p->users[i] == peer->uid;
	if (p->count == p->max || same == p->max_each)
		return false;
	p->users[p->count++] = peer->uid;
	return true;
}

void admin_place_give(struct admin_places *p, const struct control_peer *peer)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&p->lock);

	for (unsigned i = 0; i < p->count && !peer->admin; i++)
		if (p->users[i] == peer->uid) {
			p->users[i] = p->users[--p->count];
			return;
		}
}

bool admin_sees(struct server *s, const struct control_peer *peer, const char *tenant, int64_t at_ns)
{
	const struct tenant_user user = user_of(peer);

	return peer->admin || (tenant[0] && tenant_is_owned(s->pool, tenant, at_ns, &user));
}

/* With the eyes of who asks. */
static json_t *answer(struct admin_context *c, const struct admin_request *r)
{
	const struct tenant_user user = user_of(c->peer);
	json_t *reply;

	if (c->peer->admin)
		return r->fn(c);
	/* It owned one when it came; again for each request, as that may have changed. */
	if (r->access == ADMIN_ONLY || !admin_knows(c->admin, c->peer))
		return control_refuse(EPERM, "only root and the control_group of nvfs.conf may do that");
	tenant_act_as(&user);
	reply = r->fn(c);
	tenant_act_as(NULL);
	return reply;
}

json_t *admin_handle(void *arg, struct control_peer *peer, json_t *request, int fd)
{
	struct admin *admin = arg;
	cleanup_fd int passed = fd;
	struct admin_context c = { .server = admin->server, .admin = admin, .peer = peer,
				   .request = request, .fd = -1 };
	const char *op = json_string_value(json_object_get(request, "op"));
	const struct admin_request *r;
	json_t *reply = check_version(request);

	if (reply)
		return reply;
	if (!op)
		return control_refuse(EINVAL, "a request needs a key \"op\", a string");
	r = find_request(op);
	if (!r)
		return control_refuse(EOPNOTSUPP, "there is no request %s", op);
	c.fd = take_fd(&passed);
	reply = answer(&c, r);
	if (c.fd >= 0)
		close(c.fd);
	return reply;
}

void admin_gone(void *arg, struct control_peer *peer)
{
	struct admin *admin = arg;

	if (peer->mount)
		server_abandon(admin->server, peer->mount);
	peer->mount = 0;
}
