/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_POOLCONF_H
#define NVFS_FS_POOLCONF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Devices and options of a pool as nvfsd is to serve it: /etc/nvfs/POOL.conf, nvfs.conf(5). */

#define POOLCONF_DEVICES_MAX 64

struct poolconf {
	char pool[64];          /* "" when only devices are known */
	char *devices[POOLCONF_DEVICES_MAX];
	unsigned device_count;
	unsigned reactors;      /* 0: one for each processor, 8 at most */
	uint64_t dirty_bytes;   /* 0 in these: the default of meta/pool.h */
	uint64_t cache_bytes;
	uint64_t map_cache_bytes;
	uint32_t inode_cache;
	uint32_t commit_ms;
	gid_t control_group;    /* who may use the control socket besides root; 0: nobody */
};

/* Make an empty one. poolconf_free() releases what it holds, not itself. */
void poolconf_init(struct poolconf *c);
void poolconf_free(struct poolconf *c);

/*
 * The file of a pool: POOL.conf in /etc/nvfs, or else in /run/nvfs, where the mount helper notes the devices of a pool
 * that was named by them. path has room for PATH_MAX.
 */
void poolconf_path(const char *pool, char *path, size_t len);

/*
 * Read a file into *c, over what is there. 0, -ENOENT when there is none, another -errno. Every
 * mistake is -EINVAL, with a line in why (at most len bytes) that names file, line and what was expected.
 */
int poolconf_read(struct poolconf *c, const char *path, char *why, size_t len);

/*
 * "dirty=512M,reactors=2": what -o and the key `options` take. 0 or -EINVAL with why. commit_ms of at
 * least 100.
 */
int poolconf_options(struct poolconf *c, const char *options, char *why, size_t len);

/* Add a device: 0, -EINVAL for the same path twice or too many, -ENOMEM. */
int poolconf_add_device(struct poolconf *c, const char *path);

/* What poolconf_options() reads back as the options of c. */
#define POOLCONF_OPTIONS_MAX 256
void poolconf_format_options(const struct poolconf *c, char *buf, size_t len);

#endif
