/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often the kernel was told of each inode (nlookup), in memory that outlives the worker:
 * without it a new worker could not know which orphans are still open. lookups.c says how the
 * tables grow.
 */
#ifndef NVFS_META_LOOKUPS_H
#define NVFS_META_LOOKUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lookup_store; /* the memory, of the pool: thread-safe */
struct lookups;      /* the table of one subvolume: one thread at a time */

/* Bytes of sparse memory for a store; zeros at first. Never all of it is touched. */
size_t lookup_store_bytes(void);

/* base: page-aligned, lookup_store_bytes(), stays the caller's. 0 or -ENOMEM. */
int lookup_store_create(void *base, struct lookup_store **out);
void lookup_store_destroy(struct lookup_store *store); /* all tables are closed; NULL is fine */

/* The table of this subvolume, with what an earlier worker left in it. 0 or -ENOMEM. */
int lookups_open(struct lookup_store *store, uint32_t subvol, struct lookups **out);

/* Give the handle back; with forget also what the table has. NULL is fine. */
void lookups_close(struct lookups *lookups, bool forget);

/* False when there was no room: then the table is in doubt from now on. */
bool lookups_add(struct lookups *lookups, uint64_t ino, uint64_t n);

/* What is left of the count; 0 also for an inode that is not there. */
uint64_t lookups_sub(struct lookups *lookups, uint64_t ino, uint64_t n);
uint64_t lookups_get(const struct lookups *lookups, uint64_t ino);

void lookups_clear(struct lookups *lookups);
uint64_t lookups_count(const struct lookups *lookups); /* inodes */

/* A count may be missing: an inode that is not in the table may be known all the same. */
bool lookups_in_doubt(const struct lookups *lookups);

#endif
