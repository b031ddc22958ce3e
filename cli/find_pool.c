/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid.h>

#include "cli/find_pool.h"
#include "cli/report.h"
#include "io/cleanup.h"
#include "io/device.h"
#include "meta/label.h"
#include "meta/records.h"

__attribute__((format(printf, 4, 5))) static int refuse(int err, char *why, size_t len,
							const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return err;
}

static int read_label(const char *path, struct label *label)
{
	struct device *dev;
	int rc = device_open(path, DEVICE_READONLY, &dev);

	if (rc)
		return rc;
	rc = label_read(dev, label, NULL);
	device_close(dev);
	return rc;
}

static const char *label_error(int err)
{
	switch (err) {
	case -ENOENT:
		return "it holds no nvfs pool; mkfs.nvfs makes one";
	case -EBADMSG:
		return "both copies of its label are damaged; bring them back from a copy of it";
	case -EPROTONOSUPPORT:
		return "it was made by a newer nvfs; update this one";
	case -ENODATA:
		return "it is smaller than its label says: it was cut off; bring the whole of it back from a copy";
	case -ENXIO:
		return "it is empty; mkfs.nvfs makes a pool";
	default:
		return device_problem(err);
	}
}

/* ---- The other members of a pool ---- */

static bool same_device(const char *a, const char *b)
{
	struct stat one, two;

	if (stat(a, &one) || stat(b, &two))
		return false;
	if (S_ISBLK(one.st_mode) && S_ISBLK(two.st_mode))
		return one.st_rdev == two.st_rdev;
	return one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

/* Take path as the member that it is, when it is one of the pool and that seat is free. The device that was named has its seat. */
static void try_member(struct pool_ref *ref, const struct label *pool, const char *path)
{
	struct label label;
	char **seat;

	if (read_label(path, &label) || memcmp(label.pool_uuid, pool->pool_uuid, 16) ||
	    label.device_index >= pool->device_count ||
	    memcmp(label.device_uuid, pool->devices[label.device_index].uuid, 16))
		return;
	seat = &ref->devices[label.device_index];
	if (!*seat)
		*seat = strdup(path);
	else if (label.device_index != pool->device_index && !ref->twice && !same_device(*seat, path))
		ref->twice = strdup(path);
}

/* What multipath, LVM or another device stands on: that one is to be used. */
static bool has_holder(const char *name)
{
	char path[PATH_MAX];
	struct dirent *e;
	bool any = false;

	snprintf(path, sizeof(path), "/sys/class/block/%s/holders", name);
	cleanup_dir DIR *d = opendir(path);
	while (d && !any && (e = readdir(d)))
		any = e->d_name[0] != '.';
	return any;
}

static void try_directory(struct pool_ref *ref, const struct label *pool, const char *dir, bool files)
{
	cleanup_dir DIR *d = opendir(dir);
	struct dirent *e;
	char path[PATH_MAX];
	struct stat st;

	while (d && (e = readdir(d))) {
		if (snprintf(path, sizeof(path), "%s/%s", files ? dir : "/dev", e->d_name) >= PATH_MAX ||
		    stat(path, &st))
			continue;
		if (files ? S_ISREG(st.st_mode) : S_ISBLK(st.st_mode) && !has_holder(e->d_name))
			try_member(ref, pool, path);
	}
}

static int find_members(const char *path, const struct label *pool, struct pool_ref *ref, char *why,
			size_t len)
{
	unsigned found = 0, missing = 0;
	struct stat st;

	ref->devices = calloc(pool->device_count + 1, sizeof(*ref->devices));
	if (!ref->devices)
		return -ENOMEM;
	ref->devices[pool->device_index] = strdup(path);
	if (pool->device_count > 1 && !stat(path, &st)) {
		cleanup_free char *dir = strdup(path);
		char *slash = dir ? strrchr(dir, '/') : NULL;

		if (slash)
			*(slash == dir ? slash + 1 : slash) = '\0';
		if (S_ISREG(st.st_mode))
			try_directory(ref, pool, slash ? dir : ".", true);
		else
			try_directory(ref, pool, "/sys/class/block", false);
	}
	for (unsigned i = 0; i < pool->device_count; i++) {
		if (ref->devices[i])
			found++;
		else
			missing = i;
	}
	if (found == pool->device_count)
		return 0;
	return refuse(-ENXIO, why, len,
		      "pool %s has %u devices and %u of them (one is device %u of %u) were not found; name them all "
		      "in %s/%s.conf, or attach them",
		      pool->name, pool->device_count, pool->device_count - found, missing + 1, pool->device_count, NVFS_CONF_DIR,
		      pool->name);
}

/* ---- Sources ---- */

static int parse_path(const char *path, struct pool_ref *ref, char *why, size_t len)
{
	char real[PATH_MAX];
	struct label label;
	int rc;

	if (!realpath(path, real))
		return refuse(-errno, why, len, "%s: %s", path, strerror(errno));
	rc = read_label(real, &label);
	if (rc)
		return refuse(rc, why, len, "%s: %s", path, label_error(rc));
	uuid_unparse_lower(label.pool_uuid, ref->uuid);
	ref->pool = strdup(label.name);
	if (!ref->pool)
		return -ENOMEM;
	return find_members(real, &label, ref, why, len);
}

/* Where the subvolume's name begins: behind the last colon, unless the whole is a path that exists. */
static const char *split(const char *source)
{
	if (strchr(source, '/') && access(source, F_OK) == 0)
		return NULL;
	return strrchr(source, ':');
}

static int take_snapshot(struct pool_ref *ref, const char *name, char *why, size_t why_len)
{
	if (object_name_validate(name, strlen(name)))
		return refuse(-EINVAL, why, why_len,
			      "\"%.80s\" cannot be the name of a snapshot: 1 to 255 of A-Z a-z 0-9 . _ -, not starting with . or -",
			      name);
	ref->snapshot = strdup(name);
	return ref->snapshot ? 0 : -ENOMEM;
}

static int take_subvolume(struct pool_ref *ref, const char *source, const char *name, char *why, size_t why_len)
{
	if (!*name)
		return refuse(-EINVAL, why, why_len, "\"%s\" has no name behind its colon; write POOL:SUBVOLUME", source);
	if (strchr(name, '@'))
		return refuse(-EINVAL, why, why_len, "\"%.600s\" names a snapshot, and this is about subvolumes; write %.*s", source,
			      (int)(strrchr(source, '@') - source), source);
	if (object_name_validate(name, strlen(name)))
		return refuse(-EINVAL, why, why_len,
			      "\"%.80s\" cannot be the name of a subvolume: 1 to 255 of A-Z a-z 0-9 . _ -, not starting with . or -",
			      name);
	ref->subvolume = strdup(name);
	return ref->subvolume ? 0 : -ENOMEM;
}

/* VOL@SNAP behind the colon. */
static int take_either(struct pool_ref *ref, const char *source, const char *name, char *why, size_t why_len)
{
	const char *at = strchr(name, '@');
	cleanup_free char *subvolume = at ? strndup(name, (size_t)(at - name)) : strdup(name);
	int rc = subvolume ? take_subvolume(ref, source, subvolume, why, why_len) : -ENOMEM;

	return rc || !at ? rc : take_snapshot(ref, at + 1, why, why_len);
}

static int parse(const char *source, bool snapshots, struct pool_ref *ref, char *why, size_t why_len)
{
	const char *colon = split(source);
	cleanup_free char *pool = NULL;
	int rc = 0;

	memset(ref, 0, sizeof(*ref));
	snprintf(why, why_len, "out of memory");
	pool = colon ? strndup(source, (size_t)(colon - source)) : strdup(source);
	if (!pool)
		return -ENOMEM;
	if (colon)
		rc = (snapshots ? take_either : take_subvolume)(ref, source, colon + 1, why, why_len);
	if (rc)
		return rc;
	if (strchr(pool, '/'))
		return parse_path(pool, ref, why, why_len);
	if (strchr(pool, ':'))
		return refuse(-EINVAL, why, why_len, "\"%s\" has more than one colon, and no name has any; write POOL:SUBVOLUME", source);
	if (!label_name_valid(pool))
		return refuse(-EINVAL, why, why_len,
			      "\"%s\" is no name of a pool (1 to 63 of A-Z a-z 0-9 . _ -) and no path (one with a /)",
			      pool);
	ref->pool = take_ptr(pool);
	return 0;
}

int pool_ref_parse(const char *source, struct pool_ref *ref, char *why, size_t why_len)
{
	return parse(source, false, ref, why, why_len);
}

int pool_ref_parse_snapshot(const char *source, struct pool_ref *ref, char *why, size_t why_len)
{
	return parse(source, true, ref, why, why_len);
}

void pool_ref_free(struct pool_ref *ref)
{
	for (char **d = ref->devices; d && *d; d++)
		free(*d);
	free(ref->devices);
	free(ref->pool);
	free(ref->subvolume);
	free(ref->snapshot);
	free(ref->twice);
	memset(ref, 0, sizeof(*ref));
}
