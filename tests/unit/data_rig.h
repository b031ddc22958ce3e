/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool on simulated devices with one open subvolume, whose reactor runs on the test's thread:
 * files are made and used by plain calls that return when the op has ended.
 */
#ifndef NVFS_TESTS_DATA_RIG_H
#define NVFS_TESTS_DATA_RIG_H

#include "io/sim.h"
#include "meta/data.h"
#include "meta/names.h"
#include "meta/subvol.h"

#define RIG_DEVICES_MAX 2

struct rig_options {
	uint64_t device_bytes; /* 0: 128 MiB */
	unsigned devices;      /* 0: 1 */
	uint64_t size_bytes;   /* of the subvolume; 0: 64 MiB */
	size_t dirty_bytes;    /* 0: 8 MiB */
	size_t map_cache_bytes;
	size_t cache_bytes;    /* of RocksDB's blocks; 0: 64 MiB */
	uint32_t commit_ms;    /* 0: as good as never */
	bool compress;
	bool with_area;        /* memory that outlives the pool, for rig_kill() */
};

struct rig {
	struct rig_options options;
	struct device *dev[RIG_DEVICES_MAX];
	unsigned devices;
	struct reactor *reactor;
	struct pool *pool;
	struct subvol *sv;
	uint32_t session; /* of the calls */
	uint64_t unique;
	int area_fd;
	void *area;
	size_t area_bytes;
};

/* mkfs, a subvolume, open. options may be NULL. */
void rig_make(struct rig *rig, const struct rig_options *options);

/* Everything is closed, as an unmount does; and opened again. */
int rig_close(struct rig *rig);
int rig_open(struct rig *rig);
void rig_reopen(struct rig *rig);

/* Close and free. */
void rig_free(struct rig *rig);

/* Another rig on what these devices would have after a cut of the power now; it is not open yet. */
void rig_cut(struct rig *rig, struct rig *out, uint64_t seed);

/* The same for a death of the process: the devices have everything, and the area is as it is. */
void rig_kill(struct rig *rig, struct rig *out);

uint64_t rig_create(struct rig *rig, const char *name);
uint64_t rig_lookup(struct rig *rig, const char *name); /* 0: none */
void rig_unlink(struct rig *rig, const char *name);
void rig_forget(struct rig *rig, uint64_t ino);

ssize_t rig_write(struct rig *rig, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags);
/* Copies into buf. */
ssize_t rig_read(struct rig *rig, uint64_t ino, uint64_t offset, void *buf, size_t len);
int rig_truncate(struct rig *rig, uint64_t ino, uint64_t size);
int rig_fallocate(struct rig *rig, uint64_t ino, int mode, uint64_t offset, uint64_t len);
int64_t rig_seek(struct rig *rig, uint64_t ino, uint64_t offset, int whence);
ssize_t rig_copy(struct rig *rig, uint64_t in, uint64_t offset_in, uint64_t out, uint64_t offset_out, size_t len);
int rig_fsync(struct rig *rig, uint64_t ino);
int rig_sync(struct rig *rig);
void rig_attr(struct rig *rig, uint64_t ino, struct inode_attr *out);

/* A call that goes on while others do; by rig_start_write() and so on. Zero it. */
struct rig_call {
	struct op op;
	ssize_t (*fn)(struct rig_call *c);
	uint64_t ino, ino2, offset, offset2;
	void *buf;
	const void *from;
	size_t len;
	unsigned flags;
	int mode;
	struct inode_attr attr;
	const char *name;
	ssize_t result;
	bool done;
};
/* With a function of the test's own; c->fn and its arguments are set. */
void rig_start(struct rig *rig, struct rig_call *c);
void rig_start_write(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t offset, const void *buf, size_t len,
		     unsigned flags);
void rig_start_read(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t offset, void *buf, size_t len);
void rig_start_fsync(struct rig *rig, struct rig_call *c, uint64_t ino);
void rig_start_truncate(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t size);
void rig_start_fallocate(struct rig *rig, struct rig_call *c, uint64_t ino, int mode, uint64_t offset, uint64_t len);
void rig_start_copy(struct rig *rig, struct rig_call *c, uint64_t in, uint64_t offset_in, uint64_t out,
		    uint64_t offset_out, size_t len);
ssize_t rig_wait(struct rig *rig, struct rig_call *c);
/* Let the reactor do what it has to, without waiting for anything. */
void rig_turn(struct rig *rig, unsigned iterations);

uint64_t rig_used(struct rig *rig); /* blocks charged to the subvolume */

/* Everything is put: counters, `S`, maps and holders of blocks must agree. Fails the test otherwise. */
void rig_check(struct rig *rig);

#endif
