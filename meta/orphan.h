/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_ORPHAN_H
#define NVFS_META_ORPHAN_H

#include <stdbool.h>
#include <stdint.h>

#include "meta/op.h"

/*
 * Orphans: inodes without a name that somebody may still use, and the reaper that takes them
 * apart when nobody does. Reactor thread.
 */

/* For subvol_open(): begin with what is in RocksDB. 0 or -ENOMEM. */
int reaper_start(struct subvol *sv);

/* For subvol_close(), when no op is under way: stop, whatever is left. False: a step has not ended yet, call again. */
bool reaper_stop(struct subvol *sv);

/* The inode's batch with its orphan record was written: reap it now, or when the kernel has forgotten it. */
void orphan_made(struct subvol *sv, uint64_t ino);

/* The same for a new inode without a name, which the kernel is about to be told of. */
void orphan_kept(struct subvol *sv, uint64_t ino);

/* It has a name again. */
void orphan_linked(struct subvol *sv, uint64_t ino);

/* The kernel's count went to 0. */
void orphan_forgotten(struct subvol *sv, uint64_t ino);

/* Something is being reaped, or waits for it, and nothing is in its way. */
bool reaper_busy(const struct subvol *sv);

/* Wait for the next inode to be reaped. Only when reaper_busy(). */
int reaper_wait(struct op *op);

/* From now on nobody uses any orphan: reap all. */
void reaper_take_all(struct subvol *sv);

#endif
