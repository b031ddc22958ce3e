/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_SYNCER_H
#define NVFS_FS_SYNCER_H

#include <sys/types.h>

/*
 * syncfs(2) of a mount of our own, in a process of its own: what it waits for is answered by the worker, so neither that one nor who has to see
 * that one's death may sleep in it. The process has no descriptor of ours: as long as one of /dev/fuse is open anywhere, the
 * mounts of a dead worker would wait for ever.
 *
 * The filesystem is found by its device number in any mount namespace that this one's /proc shows, and nothing else is ever synced. Its
 * root, or what is bound of it, is open while it is synced and no longer.
 */

/* Fork it: its pid, or -errno. */
pid_t syncer_start(dev_t dev);

/* What its exit status (waitpid()) says: 0 or -errno; -ENOENT: no mount of it can be reached. */
int syncer_result(int status);

#endif
