/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telling the devices what is free, in the background: a thread that takes long freed runs from the
 * allocator, at a bounded rate. Regular files are left alone: their space was allocated when the pool was made, so
 * that it can be filled whatever else lives on their filesystem, and a hole would give that up.
 */
#ifndef NVFS_META_DISCARD_H
#define NVFS_META_DISCARD_H

struct discarder;
struct pool;

/* 0 and *out, NULL when no device of the pool wants discards; or -errno. Before the pool is used. */
int discarder_start(struct pool *pool, struct discarder **out);

/* Ends after the discard under way. NULL is fine. */
void discarder_stop(struct discarder *d);

#endif
