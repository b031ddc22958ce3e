/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MOUNT_EXACT_H
#define TESTS_MOUNT_EXACT_H
/*
 * Limits of a mounted subvolume, to the block and to the inode.
 *
 * Cases as of ops.h. At its start the root of the subvolume has nothing in it but the case's own empty directory: that is one
 * block (the root's entry) and two inodes. What a case makes has the charges of docs/format.md, section 4.
 */
#include "ops.h"

#define BLOCK 4096

struct exact_volume {
	uint64_t blocks, inodes; /* what it may have, by the command line: its limits, or its tenant's where those are lower */
	uint64_t beyond_blocks, beyond_inodes; /* then these are what its own limits are above that, which statfs(2) shows */
	int full;                /* what a full one says: ENOSPC, or EDQUOT by the tenant's */
};
extern struct exact_volume exact;

extern const struct op_case exact_fill[], exact_space[], exact_names[], exact_crowd[];

/* Whether statfs(2) says that just so many blocks are left: the sizes are right, and what is free is available. */
bool exact_left(struct t *t, int line, uint64_t blocks);
bool exact_inodes_left(struct t *t, int line, uint64_t inodes);
/* The same of what comes back in the background: in the end, and never more than that on the way. */
bool exact_left_in_time(struct t *t, int line, uint64_t blocks);
bool exact_inodes_left_in_time(struct t *t, int line, uint64_t inodes);
#define LEFT(blocks) exact_left(t, __LINE__, (uint64_t)(blocks))
#define INODES_LEFT(inodes) exact_inodes_left(t, __LINE__, (uint64_t)(inodes))
#define COMES_BACK(blocks) exact_left_in_time(t, __LINE__, (uint64_t)(blocks))
#define INODES_COME_BACK(inodes) exact_inodes_left_in_time(t, __LINE__, (uint64_t)(inodes))

/* Blocks that statfs(2) says are free. */
uint64_t exact_free(void);

/* A new empty file in the case's directory, which has a block from then on; ends the case on failure. */
int exact_file(struct t *t, const char *name, int flags);

/* Bytes to write: the same for each block number and seed, never zeros; len whole blocks at a multiple of one. */
void exact_pattern(void *buf, size_t len, uint64_t seed, uint64_t offset);
bool exact_reads(int fd, uint64_t offset, uint64_t len, uint64_t seed);

/* Blocks by st_blocks of an open file. */
uint64_t exact_blocks(int fd);

/* Ten writers that take and give back in DIR until SIGTERM, whatever they are refused for want of room. 0; 1 after any other error. */
int exact_busy(const char *dir);

/* Page-aligned memory that is never given back. */
void *exact_buffer(size_t len);

#endif
