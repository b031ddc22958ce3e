/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subvolumes of one reactor share, so that a mounted one costs little while nothing happens in it: memory of
 * work under way, and of what is known of names. Its sizes are per reactor, however many subvolumes there are. The reactor's thread
 * only, but for making and freeing it.
 */
#ifndef NVFS_META_SHARED_H
#define NVFS_META_SHARED_H

struct buffers;
struct known_names;
struct op_io;
struct writing;

struct shared {
	struct known_names *names;
	struct buffers *buffers;
	/* For reuse. */
	struct op_io *free_io;
	struct writing *free_writings;
	unsigned free_writing_count;
};

int shared_create(struct shared **out); /* 0 or -ENOMEM */

/* Nothing refers to it any more. NULL is fine. */
void shared_destroy(struct shared *shared);

#endif
