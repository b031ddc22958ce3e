/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_ADMIN_H
#define NVFS_FS_ADMIN_H

#include "fs/control.h"

struct server;

/* What the control socket's requests do (docs/control-protocol.md). */

struct admin {
	struct server *server;
	pid_t supervisor;
};

/* The handler and the end of a connection for control_start(); arg is a struct admin. */
json_t *admin_handle(void *arg, struct control_peer *peer, json_t *request, int fd);
bool admin_knows(void *arg, const struct control_peer *peer);
void admin_gone(void *arg, struct control_peer *peer);

#endif
