/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reaching the daemon of a pool, and having it started. */
#ifndef NVFS_CLI_SERVE_H
#define NVFS_CLI_SERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/find_pool.h"
#include "fs/client.h"

/*
 * Connect to the daemon of ref->pool; when nobody serves it and started is not NULL, have it started first, which *started tells: by
 * systemd where that runs the machine, else by running nvfsd, which puts itself into the background when it serves. 0 or -errno and
 * why has the sentence.
 */
int serve_connect(const struct pool_ref *ref, bool *started, struct client **out, char *why, size_t why_len);

/*
 * What of the pool ref means: its own subvolume, or VOL@SNAP, or the pool's only one. 0 and *name (free it), -ENOENT or -EINVAL with why.
 */
int serve_subvolume(struct client *c, const struct pool_ref *ref, char **name, char *why, size_t why_len);

#endif
