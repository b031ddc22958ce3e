/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files of metafs: few, append-only, in one flat directory. For meta/env.cc and meta/db.c; C
 * and C++. All functions may be called from any thread.
 */
#ifndef NVFS_META_METAFS_FILE_H
#define NVFS_META_METAFS_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct metafs;
struct metafs_file;

struct metafs_stat {
	uint64_t id;
	uint64_t size_bytes;
	int64_t mtime_ns;
	unsigned kind;     /* enum metafs_kind */
	uint64_t blocks;   /* of the device, preallocated ones included */
	unsigned extents;
};

/*
 * A new, empty file, replacing one of this name. What kind it is follows from the name: NNNNNN.log is a WAL,
 * MANIFEST-NNNNNN a log, anything else plain. No I/O but when space runs short. The handle is the
 * caller's until metafs_file_close(). 0, -ENOSPC, -ENAMETOOLONG, -EROFS, -EIO, -ENOMEM.
 */
int metafs_create(struct metafs *mf, const char *name, struct metafs_file **out);

/* For reading. 0, -ENOENT. */
int metafs_file_open(struct metafs *mf, const char *name, struct metafs_file **out);

/* Space that was preallocated and not used is given back. The file may have been deleted before. */
void metafs_file_close(struct metafs_file *file);

/* One writer at a time. Whole or not at all, but for -EIO. 0, -ENOSPC, -EIO, -EROFS, -ENOMEM. */
int metafs_append(struct metafs_file *file, const void *data, size_t len);

/*
 * Make durable what was appended before the call, the file's name and extents, and before those
 * the data of the devices. Logs: at the same time as appends. Plain files: by the writer.
 * 0; -ENOSPC (the table is full); -EIO is final.
 */
int metafs_file_sync(struct metafs_file *file);

/* Bytes read, fewer only at the end; or -EIO. What was appended and not synced can be read. */
ssize_t metafs_read(struct metafs_file *file, void *buf, size_t len, uint64_t offset);

uint64_t metafs_file_size(struct metafs_file *file);
uint64_t metafs_file_id(const struct metafs_file *file);

/*
 * How much will be appended, so that the space is one extent. A hint, and the mark of a compaction's
 * output: that one cannot have the last of the space.
 */
void metafs_file_expect(struct metafs_file *file, uint64_t bytes);

/* ---- Names ---- */

int metafs_stat(struct metafs *mf, const char *name, struct metafs_stat *out); /* 0, -ENOENT */
/* Open handles keep reading it. Durable with the next table. 0, -ENOENT, -EROFS. */
int metafs_unlink(struct metafs *mf, const char *name);
/*
 * Replaces to. The kind stays: -EINVAL when the new name would make it another. 0, -ENOENT, -EROFS; -ENOSPC: the table has
 * no room for a longer name.
 */
int metafs_rename(struct metafs *mf, const char *from, const char *to);
/* Calls fn for every name, under a lock: fn must not call metafs. */
void metafs_list(struct metafs *mf, void (*fn)(void *arg, const char *name), void *arg);
/* Make names durable: a new table when the durable one lacks something. 0 or -errno. */
int metafs_sync_names(struct metafs *mf);

/* Free, or free as soon as a table is durable. */
uint64_t metafs_free_bytes(struct metafs *mf);

#endif
