/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_CONTROL_H
#define NVFS_FS_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

/*
 * The control socket: takes connections, reads lines, checks who asks and writes the answers; what the requests
 * mean is in admin*.c. A thread for each connection, because administration sleeps.
 * docs/control-protocol.md.
 */

struct control;
struct server;

/* What requests may say and replies do say as "version": docs/control-protocol.md. */
#define CONTROL_VERSION 1

#define CONTROL_LINE_MAX (64u << 10)
#define CONTROL_CONNECTIONS_MAX 64
#define CONTROL_CONNECTIONS_ROOT 8 /* of these, which only root gets: mounts can be ended whatever others do */
#define CONTROL_CONNECTIONS_OWNERS 32 /* at most, for all who are no administrators */
#define CONTROL_CONNECTIONS_OWNER 8   /* and for one user of them */
#define CONTROL_LINE_SECONDS 10
#define CONTROL_REPLY_SECONDS 60
#define CONTROL_FOLLOW_SECONDS 5 /* in which one who follows has to take something */

/* A reply that goes on: lines come after it until the client goes or sends anything. On the connection's thread. */
struct control_stream {
	int wake; /* becomes readable when there may be another line: an eventfd */
	bool ended; /* set by next(): the line that it gives is the last one */
	/* The next line, a new reference; NULL: there is none now. */
	json_t *(*next)(struct control_stream *s);
	/* The end; frees it. */
	void (*close)(struct control_stream *s);
};

/* Who asks, and what outlives a request of its connection. */
struct control_peer {
	pid_t pid;
	uid_t uid;
	gid_t *gids;         /* its groups, the primary one first; gid_count >= 1 */
	size_t gid_count;
	bool admin;          /* root or of the admin_group: may do everything */
	uint32_t mount;      /* number of the last session that it asked for; 0: none */
	/* The answer to this request is given by the supervisor, when all is over; the socket is its now. */
	bool deferred;
	struct control_stream *stream; /* of this request, when it was answered with ok; else NULL */
};

/* Takes a request, gives the reply (a new reference). fd is -1 or a descriptor, the callee's. */
typedef json_t *(*control_handler)(void *arg, struct control_peer *peer, json_t *request, int fd);

/* A reply that refuses. */
json_t *control_refuse(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct control_options {
	int listen_fd;           /* stays the caller's */
	gid_t admin_group;       /* 0: only root */
	control_handler handler;
	/*
	 * Whether somebody who is no administrator has any business here: who has none gets a refusal, and neither a thread nor a
	 * connection's place. Called on the listener's thread: it must not wait.
	 */
	bool (*known)(void *arg, const struct control_peer *peer);
	/* The connection is over; never during a request of it. */
	void (*gone)(void *arg, struct control_peer *peer);
	/* A request was deferred: takes the socket (the callee's) that waits for the answer. */
	void (*deferred)(void *arg, int sock);
	void *arg;
};

/* Start to listen on a thread of its own. 0 or -errno. */
int control_start(const struct control_options *options, struct control **out);

/* No more connections and requests; waits for those under way. */
void control_stop(struct control *c);

#endif
