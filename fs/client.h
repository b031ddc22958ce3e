/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_CLIENT_H
#define NVFS_FS_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * The other end of nvfsd's control socket: docs/control-protocol.md has the
 * requests. One thread at a time per client.
 *
 *	struct client *c;
 *	json_t *reply;
 *	int err = client_connect("tank", &c);
 *	if (!err) {
 *		err = client_call(c, json_pack("{s:s}", "op", "pool.show"), -1, &reply);
 *		if (err)
 *			fprintf(stderr, "%s\n", client_message(c));
 *		else
 *			json_decref(reply);
 *		client_close(c);
 *	}
 */

struct client;

/* Room for "/run/nvfs/POOL.sock" with the longest name of a pool. */
#define CLIENT_PATH_MAX 108

/* The control socket of a pool: 0, or -EINVAL for what cannot be a pool's name. */
int client_socket_path(const char *pool, char path[CLIENT_PATH_MAX]);

/*
 * Connect to the daemon that serves the pool. 0; -ESRCH when nobody serves it (no
 * socket, or a stale one), -EACCES, -EINVAL, or another -errno. client_connect_path()
 * takes the socket's path.
 */
int client_connect(const char *pool, struct client **out);
int client_connect_path(const char *path, struct client **out);

/* NULL is fine. */
void client_close(struct client *c);

/*
 * Send a request, with a descriptor when fd >= 0 (it stays the caller's), and wait for the reply.
 * The request's reference is taken in any case; NULL is -ENOMEM, so that a json_pack() needs no
 * check. 0 and, when reply is not NULL, *reply (the caller's reference), a JSON object; or the -errno
 * that the daemon answered; -ECONNRESET when it went away, -EPROTO when it talks nonsense. After an error
 * client_message() is a sentence for people.
 */
int client_call(struct client *c, json_t *request, int fd, json_t **reply);

/*
 * The next line of a reply that goes on (docs/control-protocol.md, events): waits for it as client_call() does. 0 and *line, the caller's
 * reference, a JSON object; -ECONNRESET at the end, -EPROTO.
 */
int client_next(struct client *c, json_t **line);

/* Of the last call on c; never NULL, valid until the next call. */
const char *client_message(const struct client *c);

/* How long client_call() waits for a reply; 0, the default, is for ever. */
void client_set_timeout(struct client *c, unsigned seconds);

/*
 * The pools that are served on this machine: calls fn with the name of each that has a listener, also one that refuses
 * this caller, in order of names, until it returns non-zero, which is returned. 0 when there is none; -errno when they cannot be
 * listed.
 */
int client_each_pool(int (*fn)(const char *pool, void *arg), void *arg);

#endif
