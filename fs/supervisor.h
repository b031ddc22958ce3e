/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_SUPERVISOR_H
#define NVFS_FS_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/poolconf.h"

/*
 * Serve a pool: hold what has to outlive a worker, and start workers until told to stop. conf is complete
 * (pool's name, devices). area_bytes: size of the memory that it shares with the worker; worker_args: of `nvfsd --worker`.
 *
 * ready_fd is -1, or a pipe into which a byte is written when the pool is served: then it goes to the
 * background. The exit status.
 */
struct supervisor_options {
	const struct poolconf *conf;
	size_t area_bytes;
	char *const *worker_args;
	unsigned worker_argc;
	unsigned restart_at;       /* index in front of which --restart goes */
	int ready_fd;
};

int supervisor_run(const struct supervisor_options *options);

#endif
