/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_SWEEP_H
#define NVFS_META_SWEEP_H

struct pool;
struct sweeper;

/*
 * The thread that takes deleted subvolumes and snapshots apart: nodes that nothing names. It goes on where it stood when the
 * pool was closed. It also looks after the pool's sequence.
 */
int sweeper_start(struct pool *pool, struct sweeper **out);

/* End it, in the middle of a sweep if need be. NULL is fine. */
void sweeper_stop(struct sweeper *sw);

/* There may be something new to sweep. Any thread; NULL is fine. */
void sweeper_kick(struct sweeper *sw);

/* Room is short: nodes that several clones inherit from may hold some that none of them needs any more. Any thread; NULL is fine. */
void sweeper_look_again(struct sweeper *sw);

/* Nodes that wait, at least 1 while it does not know yet what a call above may have brought. Any thread; NULL is fine. */
unsigned sweeper_left(struct sweeper *sw);

/*
 * Why what waits cannot be taken apart now, -errno: since then nothing that failed was tried again and got on. 0: nothing failed. Any thread; NULL
 * is fine.
 */
int sweeper_error(struct sweeper *sw);

#endif
