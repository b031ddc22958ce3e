/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "io/log.h"
#include "meta/snapshot.h"

/* Snapshots, rollback, clones. */

#define WHY_MAX 1024

static void path_of(const struct snapshot_name *n, char path[SNAPSHOT_PATH_MAX + 1])
{
	snprintf(path, SNAPSHOT_PATH_MAX + 1, "%s@%s", n->subvol, n->snapshot);
}

static json_t *refused(int err, const char *why, const char *what, const struct snapshot_name *n)
{
	if (why[0])
		return control_refuse(err, "%s", why);
	if (err == -ENOENT)
		return control_refuse(err, "there is no snapshot %.255s@%.255s; nvfs snapshot list shows them", n->subvol, n->snapshot);
	return control_refuse(err, "snapshot %.255s@%.255s cannot be %s: %s", n->subvol, n->snapshot, what, strerror(-err));
}

/* ---- Objects ---- */

struct mount_search {
	const char *path;
	json_t *object;
};

static void add_mount(const struct volume *v, void *arg)
{
	struct mount_search *search = arg;

	if (strcmp(v->name, search->path))
		return;
	json_object_set_new(search->object, "mounted", json_true());
	json_object_set_new(search->object, "target", admin_text(v->target, strlen(v->target)));
}

static json_t *snapshot_object(struct server *s, const struct snapshot_info *info)
{
	const struct snapshot_name name = { .subvol = info->subvol, .snapshot = info->name };
	char path[SNAPSHOT_PATH_MAX + 1];
	struct mount_search search = { .path = path };

	path_of(&name, path);
	search.object = json_pack("{s:o,s:o,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:b,s:b}", "subvolume",
				  admin_text(info->subvol, strlen(info->subvol)), "snapshot", admin_text(info->name, strlen(info->name)),
				  "view", (int)info->view, "created_ns", (json_int_t)info->created_ns, "size_bytes",
				  BYTES(info->size_blocks), "inodes", (json_int_t)info->inodes_max, "used_bytes", BYTES(info->used_blocks),
				  "used_inodes", (json_int_t)info->used_inodes, "held_bytes", BYTES(info->held_blocks),
				  "subvolume_deleted", info->deleted, "leaving", server_is_leaving(s, path), "mounted", 0);
	if (info->group)
		json_object_set_new(search.object, "group", json_integer(info->group));
	server_each_volume(s, add_mount, &search);
	return search.object;
}

struct listing {
	struct server *server;
	json_t *array;
};

static int list_one(const struct snapshot_info *info, void *arg)
{
	struct listing *l = arg;

	return json_array_append_new(l->array, snapshot_object(l->server, info)) ? -ENOMEM : 0;
}

/* ---- create ---- */

static int parse_name(const json_t *item, struct snapshot_name *out, json_error_t *error)
{
	return json_unpack_ex((json_t *)item, error, 0, "{s:s,s:s!}", "subvolume", &out->subvol, "snapshot", &out->snapshot);
}

/* What the kernel has of a mounted subvolume comes to it first. NULL, or an array with a sentence for what did not. */
static json_t *write_back(const struct admin_context *c, const char *subvolume, json_t *warnings)
{
	struct server *s = c->server;
	struct subvol_info info;
	char why[WHY_MAX];

	admin_settle(c, subvolume, NULL);
	/* One that is not theirs is refused later. */
	if (subvol_info(s->pool, subvolume, &info) || !server_write_back(s, subvolume, why, sizeof(why)))
		return warnings;
	if (!warnings)
		warnings = json_array();
	json_array_append_new(warnings, admin_text(why, strlen(why)));
	return warnings;
}

/* Takes the warnings. */
static json_t *with_warnings(json_t *reply, json_t *warnings)
{
	if (reply && warnings && json_is_true(json_object_get(reply, "ok")))
		json_object_set(reply, "warnings", warnings);
	json_decref(warnings);
	return reply;
}

static json_t *created(struct admin_context *c, const struct snapshot_name *names, unsigned count)
{
	struct listing l = { .server = c->server, .array = json_array() };
	char path[SNAPSHOT_PATH_MAX + 1];

	for (unsigned i = 0; i < count; i++) {
		path_of(&names[i], path);
		log_info("%s: snapshot %s was made by user %u", pool_name(c->server->pool), path, (unsigned)c->peer->uid);
		admin_tell(c, EVENT_SNAPSHOT_CREATED, names[i].subvol, NULL, "snapshot %s made%s", names[i].snapshot,
			   count > 1 ? " with others at one moment" : "");
		server_views_changed(c->server, names[i].subvol);
	}
	/* One that somebody deleted meanwhile was made all the same. */
	snapshot_infos(c->server->pool, names, count, list_one, &l);
	return admin_ok(json_pack("{s:o}", "snapshots", l.array));
}

static json_t *create_all(struct admin_context *c, const json_t *list)
{
	const unsigned count = (unsigned)json_array_size(list);
	cleanup_free struct snapshot_name *names = calloc(count, sizeof(*names));
	char why[WHY_MAX] = "";
	json_t *warnings = NULL;
	json_error_t error;
	int err;

	if (!names)
		return NULL;
	for (unsigned i = 0; i < count; i++)
		if (parse_name(json_array_get(list, i), &names[i], &error))
			return admin_bad_request(&error);
	for (unsigned i = 0; i < count; i++)
		warnings = write_back(c, names[i].subvol, warnings);
	err = snapshot_create(c->server->pool, names, count, why, sizeof(why));
	return with_warnings(err ? refused(err, why, "made", &names[0]) : created(c, names, count), warnings);
}

static json_t *create_request(struct admin_context *c)
{
	json_error_t error;
	json_t *list;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:o!}", "op", &op, "snapshots", &list))
		return admin_bad_request(&error);
	if (!json_array_size(list))
		return control_refuse(EINVAL, "\"snapshots\" is a list of at least one {\"subvolume\", \"snapshot\"}");
	return create_all(c, list);
}

/* ---- list, show ---- */

static json_t *list_request(struct admin_context *c)
{
	struct listing l = { .server = c->server };
	const char *op, *subvolume = NULL;
	struct subvol_info info;
	json_error_t error;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?s!}", "op", &op, "subvolume", &subvolume))
		return admin_bad_request(&error);
	l.array = json_array();
	err = snapshot_each(c->server->pool, subvolume, list_one, &l);
	/* A subvolume that was deleted has the snapshots that are left of it. */
	if (!err && subvolume && !json_array_size(l.array))
		err = subvol_info(c->server->pool, subvolume, &info);
	if (err) {
		json_decref(l.array);
		return subvolume ? admin_refused(err, "", "read", subvolume) :
				   control_refuse(err, "the snapshots cannot be listed: %s", strerror(-err));
	}
	return admin_ok(json_pack("{s:o}", "snapshots", l.array));
}

static json_t *show_request(struct admin_context *c)
{
	struct snapshot_name name;
	struct snapshot_info info;
	json_error_t error;
	const char *op;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s:s!}", "op", &op, "subvolume", &name.subvol, "snapshot", &name.snapshot))
		return admin_bad_request(&error);
	err = snapshot_info(c->server->pool, &name, &info);
	if (err)
		return refused(err, "", "read", &name);
	return admin_ok(json_pack("{s:o}", "snapshot", snapshot_object(c->server, &info)));
}

/* ---- delete, rollback ---- */

struct destroying {
	struct snapshot_name name;
	char path[SNAPSHOT_PATH_MAX + 1];
	int dry_run;
};

/* NULL and d, or a refusal. */
static json_t *parse_destroying(struct admin_context *c, struct destroying *d)
{
	json_error_t error;
	const char *op;

	memset(d, 0, sizeof(*d));
	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s:s,s?b!}", "op", &op, "subvolume", &d->name.subvol, "snapshot",
			   &d->name.snapshot, "dry_run", &d->dry_run))
		return admin_bad_request(&error);
	path_of(&d->name, d->path);
	return NULL;
}

/* What the deletion checks, in its order. */
static json_t *would_delete(struct admin_context *c, const struct destroying *d)
{
	struct snapshot_info info;
	int err = pool_read_only(c->server->pool) ? -EROFS : snapshot_info(c->server->pool, &d->name, &info);

	if (err == -EROFS)
		return control_refuse(err, "the pool takes no changes: it is read-only");
	if (err)
		return refused(err, "", "read", &d->name);
	if (info.open)
		return control_refuse(EBUSY, "snapshot %s is mounted: unmount it first", d->path);
	return admin_ok(json_pack("{s:b,s:[{s:s,s:o,s:I,s:I,s:I}]}", "dry_run", 1, "would_delete", "kind", "snapshot", "name",
				  admin_text(d->path, strlen(d->path)), "used_bytes", BYTES(info.used_blocks), "used_inodes",
				  (json_int_t)info.used_inodes, "held_bytes", BYTES(info.held_blocks)));
}

static json_t *delete_request(struct admin_context *c)
{
	struct snapshot_info info = { .tenant_name = "" };
	struct view_barrier *ban = NULL;
	char why[WHY_MAX] = "";
	struct destroying d;
	json_t *bad = parse_destroying(c, &d);
	int err;

	if (bad)
		return bad;
	admin_settle(c, d.name.subvol, d.name.snapshot);
	if (d.dry_run)
		return would_delete(c, &d);
	if (snapshot_info(c->server->pool, &d.name, &info) == 0 && !info.open)
		ban = server_ban_view(c->server, d.name.subvol, d.name.snapshot);
	err = snapshot_delete(c->server->pool, &d.name, why, sizeof(why));
	server_unban_view(ban);
	if (err)
		return refused(err, why, "deleted", &d.name);
	log_info("%s: snapshot %s was deleted by user %u", pool_name(c->server->pool), d.path, (unsigned)c->peer->uid);
	/* The subvolume may be gone, and its name another tenant's. */
	admin_tell(c, EVENT_SNAPSHOT_DELETED, d.name.subvol, info.tenant_name, "snapshot %s deleted", d.name.snapshot);
	return admin_ok(NULL);
}

/* What the rollback checks, in its order; the room beside the claims it finds out itself. */
static json_t *would_roll_back(struct admin_context *c, const struct destroying *d)
{
	struct snapshot_info info;
	struct subvol_info now;
	int err = pool_read_only(c->server->pool) ? -EROFS : subvol_info(c->server->pool, d->name.subvol, &now);

	if (err == -EROFS)
		return control_refuse(err, "the pool takes no changes: it is read-only");
	if (err)
		return admin_refused(err, "", "read", d->name.subvol);
	err = snapshot_info(c->server->pool, &d->name, &info);
	if (err)
		return refused(err, "", "read", &d->name);
	if (info.subvol_id != now.id)
		return control_refuse(ENOENT, "snapshot %s is of an earlier subvolume of that name; nvfs clone makes a new one of it",
				      d->path);
	if (now.open)
		return control_refuse(EBUSY, "subvolume %s is mounted: unmount it first", d->name.subvol);
	if (info.used_blocks > now.rec.size_blocks || info.used_inodes > now.rec.inodes_max)
		return control_refuse(ENOSPC, "%s has more than the limits of subvolume %s allow now: %llu bytes and %llu inodes",
				      d->path, d->name.subvol, (unsigned long long)BYTES(info.used_blocks),
				      (unsigned long long)info.used_inodes);
	return admin_ok(json_pack("{s:b,s:{s:o,s:I,s:I,s:I}}", "dry_run", 1, "would_roll_back", "subvolume",
				  admin_text(d->name.subvol, strlen(d->name.subvol)), "to_ns", (json_int_t)info.created_ns, "used_bytes",
				  BYTES(now.used_blocks), "used_inodes", (json_int_t)now.used_inodes));
}

static json_t *rollback_request(struct admin_context *c)
{
	char why[WHY_MAX] = "";
	struct destroying d;
	json_t *bad = parse_destroying(c, &d);
	int err;

	if (bad)
		return bad;
	admin_settle(c, d.name.subvol, NULL);
	if (d.dry_run)
		return would_roll_back(c, &d);
	err = snapshot_rollback(c->server->pool, &d.name, why, sizeof(why));
	if (err)
		return refused(err, why, "rolled back to", &d.name);
	log_info("%s: subvolume %s was rolled back to %s by user %u", pool_name(c->server->pool), d.name.subvol, d.path,
		 (unsigned)c->peer->uid);
	admin_tell(c, EVENT_SNAPSHOT_ROLLED_BACK, d.name.subvol, NULL, "rolled back to snapshot %s", d.name.snapshot);
	return admin_subvolume_reply(c->server, d.name.subvol);
}

/* ---- clone ---- */

static json_t *clone_request(struct admin_context *c)
{
	struct clone_options options = { 0 };
	struct snapshot_name from = { 0 };
	json_int_t size = 0, inodes = 0;
	char why[WHY_MAX] = "";
	int thin = 0, reserved = 0, err;
	json_t *warnings;
	json_error_t error;
	const char *op, *name;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?s,s:s,s?I,s?I,s?b,s?b!}", "op", &op, "subvolume", &from.subvol, "snapshot",
			   &from.snapshot, "name", &name, "size_bytes", &size, "inodes", &inodes, "thin", &thin, "reserved", &reserved))
		return admin_bad_request(&error);
	if (size < 0 || inodes < 0)
		return control_refuse(EINVAL, "a size or a number of inodes is above 0, or left out: as of the origin");
	options.size_bytes = (uint64_t)size;
	options.inodes_max = (uint64_t)inodes;
	options.thin = thin;
	options.reserved = reserved;
	warnings = from.snapshot ? NULL : write_back(c, from.subvol, NULL);
	err = snapshot_clone(c->server->pool, &from, name, &options, why, sizeof(why));
	if (err)
		return with_warnings(admin_refused(err, why, "cloned", from.subvol), warnings);
	log_info("%s: subvolume %s was cloned from %s%s%s by user %u", pool_name(c->server->pool), name, from.subvol,
		 from.snapshot ? "@" : "", from.snapshot ? from.snapshot : "", (unsigned)c->peer->uid);
	admin_tell(c, EVENT_CLONE_CREATED, name, NULL, "cloned from %s%s%s", from.subvol, from.snapshot ? "@" : "",
		   from.snapshot ? from.snapshot : "");
	return with_warnings(admin_subvolume_reply(c->server, name), warnings);
}

const struct admin_request admin_snapshot_requests[] = {
	{ "snapshot.create", create_request, ADMIN_OWNER },
	{ "snapshot.list", list_request, ADMIN_OWNER },
	{ "snapshot.show", show_request, ADMIN_OWNER },
	{ "snapshot.delete", delete_request, ADMIN_OWNER },
	{ "snapshot.rollback", rollback_request, ADMIN_OWNER },
	{ "clone.create", clone_request, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
