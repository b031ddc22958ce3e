/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/cleanup.h"

#define FUSE_MAJOR 10u
#define FUSE_MINOR 229u

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
	return admin_ok(json_pack("{s:s,s:o,s:s,s:i,s:b}", "mount_options", options, "source", source,
				  "type", "fuse.nvfs", "read_ahead_kb",
				  READ_AHEAD_REQUESTS * (int)(REQUEST_DATA_MAX / 1024), "read_only", read_only));
}

static json_t *mount_subvolume(struct admin_context *c)
{
	struct mount_request m = { .target = "" };
	int read_only = 0, writeback = 0, parallel_dio = 0, noatime = 0, snapdir = 0, err;
	char why[1024] = "";
	json_error_t error;
	uint32_t number;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?s,s?b,s?b,s?b,s?b,s?b!}", "op", &op,
			   "subvolume", &m.subvolume, "target", &m.target, "read_only", &read_only,
			   "writeback", &writeback, "parallel_dio", &parallel_dio,
			   "noatime", &noatime, "snapdir", &snapdir))
		return admin_bad_request(&error);
	if (!is_fuse_device(c->fd))
		return control_refuse(EBADF, "a descriptor of /dev/fuse has to come with the request");
	if (is_mounted_fuse(c->fd))
		return control_refuse(EBUSY, "that descriptor of /dev/fuse has a mount already; open another one");
	if (strlen(m.subvolume) > SNAPSHOT_PATH_MAX || strlen(m.target) >= PATH_MAX)
		return control_refuse(ENAMETOOLONG, "the name of subvolume or target is too long");
	/* One that never mounted what it asked for before will not now. */
	admin_gone(c->admin, c->peer);
	m.read_only = read_only;
	m.writeback = writeback;
	m.parallel_dio = parallel_dio;
	m.noatime = noatime;
	m.snapdir = snapdir;
	m.fd = take_fd(&c->fd);
	err = server_mount(c->server, &m, &number, why, sizeof(why));
	if (err)
		return admin_refused(err, why, "mounted", m.subvolume);
	c->peer->mount = number;
	return mount_reply(c->server, m.subvolume,
			   read_only || strchr(m.subvolume, '@') || pool_read_only(c->server->pool));
}

static json_t *sync_reply(struct admin_context *c, const char *subvolume)
{
	int err = server_sync(c->server, subvolume);

	if (err == -ENOENT)
		return control_refuse(err, "%s is not mounted", subvolume);
	if (err)
		return control_refuse(err, "not everything could be written: %s", strerror(-err));
	return admin_ok(NULL);
}

/* What only who called mount(2) can see. */
static json_t *mounted(struct admin_context *c)
{
	json_int_t dev_major, dev_minor;
	json_error_t error;
	const char *op;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:I,s:I!}", "op", &op, "device_major", &dev_major, "device_minor", &dev_minor))
		return admin_bad_request(&error);
	if (dev_major < 0 || dev_major > UINT32_MAX || dev_minor < 0 || dev_minor > UINT32_MAX)
		return control_refuse(EINVAL, "the number of a device is out of range");
	if (!c->peer->mount || server_set_device(c->server, c->peer->mount, makedev((unsigned)dev_major, (unsigned)dev_minor)))
		return control_refuse(EINVAL, "nothing was mounted over this connection");
	return admin_ok(NULL);
}

static json_t *unmount_prepare(struct admin_context *c)
{
	json_error_t error;
	const char *op, *subvolume;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "subvolume", &subvolume))
		return admin_bad_request(&error);
	return sync_reply(c, subvolume);
}

/* A subvolume that is not mounted has nothing to write; that it is there is checked. */
static json_t *sync_request(struct admin_context *c)
{
	const char *op, *subvolume = NULL;
	struct subvol_info info;
	json_error_t error;
	int err = 0;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s?s!}", "op", &op, "subvolume", &subvolume))
		return admin_bad_request(&error);
	if (subvolume)
		err = subvol_info(c->server->pool, subvolume, &info);
	if (err)
		return admin_refused(err, "", "synced", subvolume);
	err = server_sync(c->server, subvolume);
	if (err && err != -ENOENT)
		return control_refuse(err, "not everything could be written: %s", strerror(-err));
	return admin_ok(NULL);
}

const struct admin_request admin_mount_requests[] = {
	{ "mount", mount_subvolume, ADMIN_ONLY },
	{ "mounted", mounted, ADMIN_ONLY },
	{ "unmount.prepare", unmount_prepare, ADMIN_ONLY },
	{ "sync", sync_request, ADMIN_ONLY },
	{ NULL, NULL, ADMIN_ONLY },
};
