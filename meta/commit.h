/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_COMMIT_H
#define NVFS_META_COMMIT_H

#include "meta/pool.h"
#include "meta/space.h"

/*
 * The commit thread. pool_commit() tickets queue here; the thread takes all that
 * wait, has RocksDB sync its WAL (metafs flushes the data devices first), and answers them together. The space operands of the batches that
 * were put before the sync began are then applied to the durable counts.
 */
struct committer;

int committer_start(struct pool *pool, struct committer **out);
void committer_stop(struct committer *c); /* after a last commit by the caller */

/*
 * A ticket will come as soon as some data is written (COMMIT_SOON), or it is written (COMMIT_WRITTEN): hints, by which the thread is awake
 * and the devices are flushed when it comes. Any thread.
 */
enum commit_hint { COMMIT_SOON, COMMIT_WRITTEN };
void commit_hint(struct pool *pool, enum commit_hint hint);

/* A batch with these operands was put: they belong to the next sync that begins. Takes over ops. Any thread. */
void commit_put_space(struct pool *pool, struct space_ops *ops);

#endif
