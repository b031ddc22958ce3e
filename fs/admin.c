/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/admin.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"

#define FUSE_MAJOR 10u
#define FUSE_MINOR 229u

struct context {
	struct server *server;
	struct admin *admin;
	struct control_peer *peer;
	json_t *request;
	int fd; /* a descriptor that came with it, or -1: taken by who needs it */
};

/* A reply that has only "ok", or fields besides; takes the fields. */
static json_t *reply_ok(json_t *fields)
{
	json_t *reply = json_pack("{s:b}", "ok", 1);

	if (fields)
		json_object_update(reply, fields);
	json_decref(fields);
	return reply;
}

/* What json_unpack_ex() found wrong. */
static json_t *bad_request(const json_error_t *error)
{
	return control_refuse(EINVAL, "the request cannot be understood: %s", error->text);
}

/* A refusal of meta/: its sentence when it has one. */
static json_t *refused(int err, const char *why, const char *what, const char *name)
{
	if (why[0])
		return control_refuse(err, "%s", why);
	if (err == -ENOENT)
		return control_refuse(err, "there is no subvolume %s; nvfs subvolume list shows them", name);
	return control_refuse(err, "subvolume %s cannot be %s: %s", name, what, strerror(-err));
}

/* ---- Objects ---- */

static json_t *text(const char *s, size_t len)
{
	json_t *j = json_stringn(s, len);

	return j ? j : json_string("?");
}

#define BYTES(blocks) ((json_int_t)((blocks) * (uint64_t)NVFS_BLOCK_SIZE))

static json_t *stats_object(const struct subvol_stats *s)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "reads", (json_int_t)s->reads,
			 "writes", (json_int_t)s->writes, "read_bytes", (json_int_t)s->read_bytes,
			 "written_bytes", (json_int_t)s->written_bytes, "namespace_ops",
			 (json_int_t)s->namespace_ops, "fsyncs", (json_int_t)s->fsyncs,
			 "dirty_bytes", BYTES(s->dirty_blocks), "checksum_errors",
			 (json_int_t)s->checksum_errors, "cached_inodes",
			 (json_int_t)s->cached_inodes);
}

struct mount_search {
	const char *name;
	json_t *object;
};

static void add_mount(const struct volume *v, void *arg)
{
	struct mount_search *search = arg;
	struct subvol_stats stats;

	if (strcmp(v->name, search->name))
		return;
	subvol_stats(v->ops.sv, &stats);
	json_object_set_new(search->object, "mounted", json_true());
	json_object_set_new(search->object, "target", text(v->target, strlen(v->target)));
	json_object_set_new(search->object, "read_only", json_boolean(v->read_only));
	json_object_set_new(search->object, "stats", stats_object(&stats));
	/* What an open one uses is known to the reactor first. */
	json_object_set_new(search->object, "used_bytes", json_integer(BYTES(stats.used_blocks)));
	json_object_set_new(search->object, "used_inodes",
			    json_integer((json_int_t)stats.used_inodes));
}

static json_t *subvolume_object(struct server *s, const struct subvol_info *info, const char *name)
{
	struct mount_search search = { .name = name };
	const struct subvol_rec *rec = &info->rec;

	search.object = json_pack(
		"{s:o,s:I,s:I,s:I,s:I,s:I,s:b,s:s,s:I,s:b,s:b}", "name", text(name, strlen(name)), "id",
		(json_int_t)rec->tree, "size_bytes", BYTES(rec->size_blocks), "used_bytes",
		BYTES(info->used_blocks), "inodes", (json_int_t)rec->inodes_max, "used_inodes",
		(json_int_t)info->used_inodes, "thin", !(rec->flags & SUBVOL_RESERVED),
		"compression", rec->compression ? "lz4" : "off", "created_ns",
		(json_int_t)rec->created_ns, "mounted", 0, "leaving", server_is_leaving(s, name));
	if (search.object)
		server_each_volume(s, add_mount, &search);
	return search.object;
}

static json_t *reply_subvolume(struct server *s, const char *name)
{
	struct subvol_info info;
	int err = subvol_info(s->pool, name, &info);

	if (err)
		return refused(err, "", "read", name);
	return reply_ok(json_pack("{s:o}", "subvolume", subvolume_object(s, &info, name)));
}

/* ---- pool ---- */

static void add_session(const struct volume *v, void *arg)
{
	struct session_stats stats;

	session_stats(v->session, &stats);
	json_array_append_new(
		arg, json_pack("{s:o,s:o,s:b,s:b,s:I,s:i}", "subvolume",
			       text(v->name, strlen(v->name)), "target",
			       text(v->target, strlen(v->target)), "read_only", v->read_only,
			       "mounted", stats.mounted, "requests", (json_int_t)stats.requests,
			       "in_flight", (int)stats.in_flight));
}

static json_t *device_list(struct server *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->device_count; i++) {
		const char *name = device_name(s->devices[i]);

		json_array_append_new(list, text(name, strlen(name)));
	}
	return list;
}

static json_t *pool_object(struct context *c)
{
	struct server *s = c->server;
	struct pool_stats p;
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
	return pool;
}

static json_t *pool_show(struct context *c)
{
	json_error_t error;
	json_t *sessions;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op))
		return bad_request(&error);
	sessions = json_array();
	server_each_volume(c->server, add_session, sessions);
	return reply_ok(json_pack("{s:o,s:o}", "pool", pool_object(c), "sessions", sessions));
}

static json_t *pool_stop(struct context *c)
{
	json_error_t error;
	char why[1024];
	const char *op;
	int force = 0, err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?b!}", "op", &op, "force", &force))
		return bad_request(&error);
	err = server_prepare_stop(c->server, force, why, sizeof(why));
	if (err)
		return control_refuse(err, "%s", why);
	log_info("%s: stopped by process %d of user %u", pool_name(c->server->pool),
		 (int)c->peer->pid, (unsigned)c->peer->uid);
	c->peer->deferred = true;
	return NULL;
}

/* ---- subvolumes ---- */

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

static json_t *subvolume_create(struct context *c)
{
	json_int_t size = 0, inodes = 0, uid = 0, gid = 0, mode = 0;
	const char *op, *name, *compression = "off";
	struct subvol_options options = { 0 };
	char why[1024] = "";
	json_error_t error;
	int thin = 0, err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s:I,s?I,s?b,s?s,s?I,s?I,s?I!}", "op",
			   &op, "name", &name, "size_bytes", &size, "inodes", &inodes, "thin", &thin,
			   "compression", &compression, "uid", &uid, "gid", &gid, "mode", &mode))
		return bad_request(&error);
	if (size <= 0 || inodes < 0)
		return control_refuse(EINVAL, "a subvolume needs a size of at least one block");
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX || mode < 0 ||
	    mode > 07777)
		return control_refuse(EINVAL, "owner or mode of the root directory is out of range");
	if (parse_compression(compression, &options.compression))
		return control_refuse(EINVAL, "compression is off or lz4, not %s", compression);
	options.size_bytes = (uint64_t)size;
	options.inodes_max = (uint64_t)inodes;
	options.thin = thin;
	options.root_uid = (uint32_t)uid;
	options.root_gid = (uint32_t)gid;
	options.root_mode = (uint32_t)mode;
	err = subvol_create(c->server->pool, name, &options, why, sizeof(why));
	if (err)
		return refused(err, why, "created", name);
	log_info("%s: subvolume %s was created by user %u", pool_name(c->server->pool), name,
		 (unsigned)c->peer->uid);
	return reply_subvolume(c->server, name);
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

static json_t *subvolume_list(struct context *c)
{
	struct subvolume_list list = { .server = c->server, .array = json_array() };
	json_error_t error;
	const char *op;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op)) {
		json_decref(list.array);
		return bad_request(&error);
	}
	err = subvol_each(c->server->pool, add_subvolume, &list);
	if (err) {
		json_decref(list.array);
		return control_refuse(err, "the subvolumes cannot be listed: %s", strerror(-err));
	}
	return reply_ok(json_pack("{s:o}", "subvolumes", list.array));
}

static json_t *subvolume_show(struct context *c)
{
	json_error_t error;
	const char *op, *name;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "name", &name))
		return bad_request(&error);
	return reply_subvolume(c->server, name);
}

static json_t *subvolume_resize(struct context *c)
{
	json_int_t size = 0, inodes = 0;
	char why[1024] = "";
	json_error_t error;
	const char *op, *name;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?I,s?I!}", "op", &op, "name", &name,
			   "size_bytes", &size, "inodes", &inodes))
		return bad_request(&error);
	if (size < 0 || inodes < 0 || (!size && !inodes))
		return control_refuse(EINVAL, "a new size or a new number of inodes is needed");
	err = subvol_resize(c->server->pool, name, (uint64_t)size, (uint64_t)inodes, why,
			    sizeof(why));
	if (err)
		return refused(err, why, "resized", name);
	return reply_subvolume(c->server, name);
}

static json_t *subvolume_delete(struct context *c)
{
	char why[1024] = "";
	json_error_t error;
	const char *op, *name;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "name", &name))
		return bad_request(&error);
	server_settle(c->server, name);
	err = subvol_delete(c->server->pool, name, why, sizeof(why));
	if (err)
		return refused(err, why, "deleted", name);
	log_info("%s: subvolume %s was deleted by user %u", pool_name(c->server->pool), name,
		 (unsigned)c->peer->uid);
	return reply_ok(NULL);
}

/* ---- mount, sync ---- */

static bool is_fuse_device(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(FUSE_MAJOR, FUSE_MINOR);
}

/*
 * Whether a filesystem is mounted on it: its requests would go to whichever session reads them. A read that has no room for a
 * request takes none and says EPERM before the mount.
 */
static bool is_mounted_fuse(int fd)
{
	char byte;

	return read(fd, &byte, 1) >= 0 || errno != EPERM;
}

/* What a sequential reader of the page cache has on its way: enough to keep the device busy while the first is copied. */
#define READ_AHEAD_REQUESTS 4

static json_t *mount_reply(struct server *s, const char *subvolume, bool read_only)
{
	char options[160];
	json_t *source = json_sprintf("%s:%s", pool_name(s->pool), subvolume);

	snprintf(options, sizeof(options),
		 "rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=%u",
		 REQUEST_DATA_MAX);
	return reply_ok(json_pack("{s:s,s:o,s:s,s:i,s:b}", "mount_options", options, "source", source,
				  "type", "fuse.nvfs", "read_ahead_kb",
				  READ_AHEAD_REQUESTS * (int)(REQUEST_DATA_MAX / 1024), "read_only", read_only));
}

static json_t *mount_subvolume(struct context *c)
{
	struct mount_request m = { .target = "" };
	int read_only = 0, writeback = 0, parallel_dio = 0, noatime = 0, err;
	char why[1024] = "";
	json_error_t error;
	uint32_t number;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?s,s?b,s?b,s?b,s?b!}", "op", &op,
			   "subvolume", &m.subvolume, "target", &m.target, "read_only", &read_only,
			   "writeback", &writeback, "parallel_dio", &parallel_dio,
			   "noatime", &noatime))
		return bad_request(&error);
	if (!is_fuse_device(c->fd))
		return control_refuse(EBADF, "a descriptor of /dev/fuse has to come with the request");
	if (is_mounted_fuse(c->fd))
		return control_refuse(EBUSY, "that descriptor of /dev/fuse has a mount already; open another one");
	if (strlen(m.subvolume) > SUBVOL_NAME_MAX || strlen(m.target) >= PATH_MAX)
		return control_refuse(ENAMETOOLONG, "the name of subvolume or target is too long");
	/* One that never mounted what it asked for before will not now. */
	admin_gone(c->admin, c->peer);
	m.read_only = read_only;
	m.writeback = writeback;
	m.parallel_dio = parallel_dio;
	m.noatime = noatime;
	m.fd = take_fd(&c->fd);
	err = server_mount(c->server, &m, &number, why, sizeof(why));
	if (err)
		return refused(err, why, "mounted", m.subvolume);
	c->peer->mount = number;
	return mount_reply(c->server, m.subvolume, read_only || pool_read_only(c->server->pool));
}

static json_t *sync_reply(struct context *c, const char *subvolume)
{
	int err = server_sync(c->server, subvolume);

	if (err == -ENOENT)
		return control_refuse(err, "subvolume %s is not mounted", subvolume);
	if (err)
		return control_refuse(err, "not everything could be written: %s", strerror(-err));
	return reply_ok(NULL);
}

static json_t *unmount_prepare(struct context *c)
{
	json_error_t error;
	const char *op, *subvolume;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "subvolume", &subvolume))
		return bad_request(&error);
	return sync_reply(c, subvolume);
}

/* A subvolume that is not mounted has nothing to write; that it is there is checked. */
static json_t *sync_request(struct context *c)
{
	const char *op, *subvolume = NULL;
	struct subvol_info info;
	json_error_t error;
	int err = 0;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?s!}", "op", &op, "subvolume", &subvolume))
		return bad_request(&error);
	if (subvolume)
		err = subvol_info(c->server->pool, subvolume, &info);
	if (err)
		return refused(err, "", "synced", subvolume);
	err = server_sync(c->server, subvolume);
	if (err && err != -ENOENT)
		return control_refuse(err, "not everything could be written: %s", strerror(-err));
	return reply_ok(NULL);
}

/* ---- Dispatch ---- */

static const struct {
	const char *op;
	json_t *(*fn)(struct context *c);
	bool anybody;
} requests[] = {
	{ "pool.show", pool_show, true },
	{ "pool.stop", pool_stop, false },
	{ "subvolume.create", subvolume_create, false },
	{ "subvolume.list", subvolume_list, true },
	{ "subvolume.show", subvolume_show, true },
	{ "subvolume.resize", subvolume_resize, false },
	{ "subvolume.delete", subvolume_delete, false },
	{ "mount", mount_subvolume, false },
	{ "unmount.prepare", unmount_prepare, false },
	{ "sync", sync_request, false },
};

json_t *admin_handle(void *arg, struct control_peer *peer, json_t *request, int fd)
{
	struct admin *admin = arg;
	cleanup_fd int passed = fd;
	struct context c = { .server = admin->server, .admin = admin, .peer = peer,
			     .request = request, .fd = -1 };
	const char *op = json_string_value(json_object_get(request, "op"));
	json_t *reply;

	if (!op)
		return control_refuse(EINVAL, "a request needs a key \"op\", a string");
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(op, requests[i].op))
			continue;
		if (!requests[i].anybody && !peer->admin)
			return control_refuse(EPERM,
					      "only root and the control_group of nvfs.conf may do that");
		c.fd = take_fd(&passed);
		reply = requests[i].fn(&c);
		if (c.fd >= 0)
			close(c.fd);
		return reply;
	}
	return control_refuse(EOPNOTSUPP, "there is no request %s", op);
}

void admin_gone(void *arg, struct control_peer *peer)
{
	struct admin *admin = arg;

	if (peer->mount)
		server_abandon(admin->server, peer->mount);
	peer->mount = 0;
}
