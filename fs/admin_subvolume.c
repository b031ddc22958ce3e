/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/log.h"
#include "io/size.h"

static json_t *stats_object(const struct subvol_stats *s)
{
	json_t *object = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "reads", (json_int_t)s->reads,
			 "writes", (json_int_t)s->writes, "read_bytes", (json_int_t)s->read_bytes,
			 "written_bytes", (json_int_t)s->written_bytes, "namespace_ops",
			 (json_int_t)s->namespace_ops, "fsyncs", (json_int_t)s->fsyncs,
			 "dirty_bytes", BYTES(s->dirty_blocks), "checksum_errors",
			 (json_int_t)s->checksum_errors, "cached_inodes",
			 (json_int_t)s->cached_inodes);

	admin_add_throttled(object, &s->throttled);
	return object;
}

static json_t *rates_object(const struct rates *r)
{
	return json_pack("{s:I,s:I,s:I,s:I}", "read_iops", (json_int_t)r->read_iops, "write_iops", (json_int_t)r->write_iops,
			 "read_bps", (json_int_t)r->read_bytes_per_s, "write_bps", (json_int_t)r->write_bytes_per_s);
}

static void add_mount(const struct volume *v, void *arg)
{
	struct subvol_stats stats;
	json_t *object = arg;

	subvol_stats(v->ops.sv, &stats);
	json_object_set_new(object, "mounted", json_true());
	json_object_set_new(object, "target", admin_text(v->target, strlen(v->target)));
	json_object_set_new(object, "read_only", json_boolean(v->read_only));
	json_object_set_new(object, "stats", stats_object(&stats));
	/* What an open one uses is known to the reactor first. */
	json_object_set_new(object, "used_bytes", json_integer(BYTES(stats.used_blocks)));
	json_object_set_new(object, "used_inodes",
			    json_integer((json_int_t)stats.used_inodes));
}

static json_t *subvolume_object(struct server *s, const struct subvol_info *info, const char *name)
{
	const struct subvol_rec *rec = &info->rec;
	json_t *object = json_pack(
		"{s:o,s:I,s:s,s:I,s:I,s:I,s:I,s:b,s:s,s:I,s:b,s:b}", "name", admin_text(name, strlen(name)), "id",
		(json_int_t)rec->tree, "tenant", info->tenant, "size_bytes", BYTES(rec->size_blocks), "used_bytes",
		BYTES(info->used_blocks), "inodes", (json_int_t)rec->inodes_max, "used_inodes",
		(json_int_t)info->used_inodes, "thin", !(rec->flags & SUBVOL_RESERVED),
		"compression", rec->compression ? "lz4" : "off", "created_ns",
		(json_int_t)rec->created_ns, "mounted", 0, "leaving", server_is_leaving(s, name));
	if (object)
		json_object_set_new(object, "rates", rates_object(&rec->rates));
	if (object)
		server_volume(s, name, add_mount, object);
	return object;
}

json_t *admin_subvolume_reply(struct server *s, const char *name)
{
	struct subvol_info info;
	int err = subvol_info(s->pool, name, &info);

	if (err)
		return admin_refused(err, "", "read", name);
	return admin_ok(json_pack("{s:o}", "subvolume", subvolume_object(s, &info, name)));
}

/* ---- Requests ---- */

static int parse_compression(const char *name, uint8_t *out)
{
	if (!strcmp(name, "off"))
		*out = 0;
	else if (!strcmp(name, "lz4"))
		*out = 1;
	else
		return -EINVAL;
	return 0;
}

static json_t *subvolume_create(struct admin_context *c)
{
	/* The root directory is root's, or of the owner who asks. */
	json_int_t size = 0, inodes = 0, mode = 0;
	json_int_t uid = c->peer->admin ? 0 : c->peer->uid, gid = c->peer->admin ? 0 : c->peer->gids[0];
	const char *op, *name, *tenant = NULL, *compression = "off";
	struct subvol_options options = { 0 };
	char why[1024] = "", bytes[SIZE_TEXT_MAX];
	json_error_t error;
	int thin = 0, err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?I,s?s,s?I,s?b,s?s,s?I,s?I,s?I!}", "op",
			   &op, "name", &name, "size_bytes", &size, "tenant", &tenant, "inodes", &inodes, "thin", &thin,
			   "compression", &compression, "uid", &uid, "gid", &gid, "mode", &mode))
		return admin_bad_request(&error);
	if (size < 0 || (!size && json_object_get(c->request, "size_bytes")))
		return control_refuse(EINVAL, "a subvolume needs a size of at least one block");
	if (inodes < 0)
		return control_refuse(EINVAL, "a number of inodes cannot be below 0");
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX || mode < 0 ||
	    mode > 07777)
		return control_refuse(EINVAL, "owner or mode of the root directory is out of range");
	if (parse_compression(compression, &options.compression))
		return control_refuse(EINVAL, "compression is off or lz4, not %s", compression);
	options.size_bytes = (uint64_t)size;
	options.inodes_max = (uint64_t)inodes;
	options.tenant = tenant;
	options.thin = thin;
	options.reserved = json_is_false(json_object_get(c->request, "thin"));
	options.compression_given = json_object_get(c->request, "compression") != NULL;
	options.root_uid = (uint32_t)uid;
	options.root_gid = (uint32_t)gid;
	options.root_mode = (uint32_t)mode;
	err = subvol_create(c->server->pool, name, &options, why, sizeof(why));
	if (err)
		return admin_refused(err, why, "created", name);
	log_info("%s: subvolume %s was created by user %u", pool_name(c->server->pool), name,
		 (unsigned)c->peer->uid);
	if (size)
		admin_tell(c, EVENT_SUBVOLUME_CREATED, name, NULL, "created with %s", size_text((uint64_t)size, bytes, sizeof(bytes)));
	else
		admin_tell(c, EVENT_SUBVOLUME_CREATED, name, NULL, "created with its tenant's size");
	return admin_subvolume_reply(c->server, name);
}

struct subvolume_list {
	struct server *server;
	json_t *array;
};

static int add_subvolume(const struct subvol_info *info, void *arg)
{
	struct subvolume_list *list = arg;
	char name[SUBVOL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%.*s", (int)info->rec.name_len, info->rec.name);
	return json_array_append_new(list->array, subvolume_object(list->server, info, name))
		       ? -ENOMEM
		       : 0;
}

static json_t *subvolume_list(struct admin_context *c)
{
	struct subvolume_list list = { .server = c->server, .array = json_array() };
	json_error_t error;
	const char *op;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op)) {
		json_decref(list.array);
		return admin_bad_request(&error);
	}
	err = subvol_each(c->server->pool, add_subvolume, &list);
	if (err) {
		json_decref(list.array);
		return control_refuse(err, "the subvolumes cannot be listed: %s", strerror(-err));
	}
	return admin_ok(json_pack("{s:o}", "subvolumes", list.array));
}

static json_t *subvolume_show(struct admin_context *c)
{
	json_error_t error;
	const char *op, *name;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "name", &name))
		return admin_bad_request(&error);
	return admin_subvolume_reply(c->server, name);
}

static json_t *subvolume_resize(struct admin_context *c)
{
	json_int_t size = 0, inodes = 0;
	char why[1024] = "", bytes[SIZE_TEXT_MAX];
	json_error_t error;
	const char *op, *name;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?I,s?I!}", "op", &op, "name", &name,
			   "size_bytes", &size, "inodes", &inodes))
		return admin_bad_request(&error);
	if (size < 0 || inodes < 0)
		return control_refuse(EINVAL, "neither size nor number of inodes can be below 0");
	if (!size && !inodes)
		return control_refuse(EINVAL, "a new size or a new number of inodes is needed");
	err = subvol_resize(c->server->pool, name, (uint64_t)size, (uint64_t)inodes, why,
			    sizeof(why));
	if (err)
		return admin_refused(err, why, "resized", name);
	if (size)
		admin_tell(c, EVENT_SUBVOLUME_RESIZED, name, NULL, "its size is %s now",
			   size_text((uint64_t)size, bytes, sizeof(bytes)));
	if (inodes)
		admin_tell(c, EVENT_SUBVOLUME_RESIZED, name, NULL, "it may have %lld inodes now", (long long)inodes);
	return admin_subvolume_reply(c->server, name);
}

/* A key of the request and the field that it is for. */
static int take_rate(const struct admin_context *c, const char *key, unsigned field, uint64_t *rate, unsigned *fields)
{
	const json_t *value = json_object_get(c->request, key);

	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return -EINVAL;
	*rate = (uint64_t)json_integer_value(value);
	*fields |= field;
	return 0;
}

static int take_rates(const struct admin_context *c, struct rates *rates, unsigned *fields)
{
	return take_rate(c, "read_iops", SUBVOL_READ_IOPS, &rates->read_iops, fields) ||
			       take_rate(c, "write_iops", SUBVOL_WRITE_IOPS, &rates->write_iops, fields) ||
			       take_rate(c, "read_bps", SUBVOL_READ_BYTES, &rates->read_bytes_per_s, fields) ||
			       take_rate(c, "write_bps", SUBVOL_WRITE_BYTES, &rates->write_bytes_per_s, fields)
		       ? -EINVAL
		       : 0;
}

static json_t *subvolume_set(struct admin_context *c)
{
	struct rates rates = { 0 };
	unsigned fields = 0;
	char why[1024] = "";
	json_error_t error;
	json_int_t unused;
	const char *op, *name;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?I,s?I,s?I,s?I!}", "op", &op, "name", &name, "read_iops", &unused,
			   "write_iops", &unused, "read_bps", &unused, "write_bps", &unused))
		return admin_bad_request(&error);
	if (take_rates(c, &rates, &fields) || !fields)
		return control_refuse(EINVAL, "a limit of operations or bytes a second is needed; 0 is none");
	err = subvol_set_rates(c->server->pool, name, &rates, fields, why, sizeof(why));
	if (err)
		return admin_refused(err, why, "changed", name);
	admin_tell(c, EVENT_SUBVOLUME_RESIZED, name, NULL, "its limits of operations or bytes a second were changed");
	return admin_subvolume_reply(c->server, name);
}

static int count_kept(const struct snapshot_info *info, void *arg)
{
	*(json_int_t *)arg += !info->deleted;
	return 0;
}

/* Snapshots outlive their subvolume, which people ought to be told. */
static json_int_t snapshots_kept(struct admin_context *c, const char *name)
{
	json_int_t count = 0;

	snapshot_each(c->server->pool, name, count_kept, &count);
	return count;
}

/* What would go, after the checks that the deletion makes. */
static json_t *would_delete(struct admin_context *c, const char *name)
{
	struct subvol_info info;
	int err = subvol_info(c->server->pool, name, &info);

	if (err)
		return admin_refused(err, "", "read", name);
	if (info.open)
		return control_refuse(EBUSY, "subvolume %s is mounted: unmount it first", name);
	if (pool_read_only(c->server->pool))
		return control_refuse(EROFS, "the pool takes no changes: it is read-only");
	return admin_ok(json_pack("{s:b,s:[{s:s,s:o,s:I,s:I,s:I}]}", "dry_run", 1, "would_delete", "kind", "subvolume", "name",
				  admin_text(name, strlen(name)), "used_bytes", BYTES(info.used_blocks), "used_inodes",
				  (json_int_t)info.used_inodes, "snapshots_kept", snapshots_kept(c, name)));
}

static json_t *subvolume_delete(struct admin_context *c)
{
	struct subvol_info info;
	char why[1024] = "";
	const char *op, *name;
	json_error_t error;
	json_int_t kept;
	int err, dry_run = 0;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?b!}", "op", &op, "name", &name, "dry_run", &dry_run))
		return admin_bad_request(&error);
	admin_settle(c, name, NULL);
	if (dry_run)
		return would_delete(c, name);
	if (subvol_info(c->server->pool, name, &info))
		info.tenant[0] = '\0';
	kept = snapshots_kept(c, name);
	err = subvol_delete(c->server->pool, name, why, sizeof(why));
	if (err)
		return admin_refused(err, why, "deleted", name);
	log_info("%s: subvolume %s was deleted by user %u", pool_name(c->server->pool), name,
		 (unsigned)c->peer->uid);
	admin_tell(c, EVENT_SUBVOLUME_DELETED, name, info.tenant, "deleted");
	return admin_ok(json_pack("{s:I}", "snapshots_kept", kept));
}

const struct admin_request admin_subvolume_requests[] = {
	{ "subvolume.create", subvolume_create, ADMIN_OWNER },
	{ "subvolume.list", subvolume_list, ADMIN_OWNER },
	{ "subvolume.show", subvolume_show, ADMIN_OWNER },
	{ "subvolume.resize", subvolume_resize, ADMIN_OWNER },
	{ "subvolume.set", subvolume_set, ADMIN_ONLY },
	{ "subvolume.delete", subvolume_delete, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
