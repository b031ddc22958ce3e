/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subvolumes of one reactor share, so that a mounted one costs little while nothing happens in it: memory of
 * work under way, and of what is known of names. Its sizes are per reactor, however many subvolumes there are. The reactor's thread
 * only, but for making and freeing it.
 */
#ifndef NVFS_META_SHARED_H
#define NVFS_META_SHARED_H

#include <stdbool.h>
#include <stddef.h>

#include "io/reactor.h"

struct buffers;
struct chunk;
struct inode;
struct known_names;
struct op_io;
struct pool;
struct writing;

struct shared {
	struct known_names *names;
	struct buffers *buffers;

	/* What can leave memory, of all subvolumes: oldest first, and oldest last. */
	struct chunk *chunks;
	size_t chunk_count;       /* those that are in use, too; as inode_count */
	struct inode *inodes_newest, *inodes_oldest;
	size_t inode_count;
	struct reactor_msg evict_msg;
	bool evicting;
	struct pool *pool;

	/* For reuse. */
	struct op_io *free_io;
	struct writing *free_writings;
	unsigned free_writing_count;
};

int shared_create(struct pool *pool, struct shared **out); /* 0 or -ENOMEM */

/* Nothing refers to it any more. NULL is fine. */
void shared_destroy(struct shared *shared);

#endif
