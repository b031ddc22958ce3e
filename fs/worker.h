/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_WORKER_H
#define NVFS_FS_WORKER_H

#include <stdbool.h>

#include "fs/poolconf.h"

/*
 * Serve the pool until the supervisor says stop or goes away. The descriptors of
 * channel.h are open. restart: this is not the first worker of its supervisor. to_syslog: log there once the pool is
 * served. The exit status: 0 when everything was committed.
 */
int worker_run(const struct poolconf *conf, bool restart, bool to_syslog);

#endif
