/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "fs/channel.h"
#include "fs/control.h"
#include "fs/errname.h"
#include "fs/linger.h"
#include "io/cleanup.h"
#include "io/log.h"
#include "io/visible.h"

#define GROUPS_FIRST 64 /* room for as many at the first try */
#define THREADS_IDLE_MAX 4u

struct connection {
	struct control *control;
	int fd;
	int passed;             /* a descriptor that came and no request has taken yet, or -1 */
	struct control_peer peer;
	char *line;             /* CONTROL_LINE_MAX + 1 */
	size_t len;
	struct connection *prev, *next;
	struct connection *queued; /* behind it in control->queue */
};

struct control {
	struct control_options options;
	int wake;               /* eventfd: stop */
	pthread_t listener;
	pthread_mutex_t lock;
	pthread_cond_t empty;
	struct connection *connections; /* lock */
	unsigned count;                 /* lock */
	bool stopping;                  /* lock */
	unsigned threads;               /* lock: of connections */
	unsigned idle;                  /* lock: of these, who wait and have not been given one */
	struct connection *queue;       /* lock: given to them */
	pthread_cond_t given;
};

json_t *control_refuse(int err, const char *fmt, ...)
{
	char text[1024], message[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err = err < 0 ? -err : err;
	/* It may quote what was asked for, and be cut off in the middle of a character. */
	visible_copy(message, sizeof(message), text);
	return json_pack("{s:b,s:s,s:i,s:s}", "ok", 0, "error", errname(err), "errno", err, "message", message);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The reply as a line, its end in place of the NUL; takes it. NULL without memory. */
static char *line_of(json_t *reply, size_t *len)
{
	char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

	json_decref(reply);
	if (!text)
		return NULL;
	*len = strlen(text);
	text[(*len)++] = '\n';
	return text;
}

/*
 * Takes the reply. False when the client is gone or too slow: each send has the socket's time limit, all of them
 * together another, because the end of the daemon waits for them.
 */
static bool send_reply(int fd, json_t *reply)
{
	const int64_t deadline = now_ms() + CONTROL_REPLY_SECONDS * 1000;
	cleanup_free char *text = NULL;
	size_t len = 0, at = 0;

	if (reply)
		json_object_set_new(reply, "version", json_integer(CONTROL_VERSION));
	text = line_of(reply, &len);
	if (!text)
		return false;
	while (at < len) {
		ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || now_ms() > deadline)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* ---- Who ---- */

static bool in_group(const struct control_peer *peer, gid_t group)
{
	for (size_t i = 0; group && i < peer->gid_count; i++)
		if (peer->gids[i] == group)
			return true;
	return false;
}

/* The supplementary groups behind the primary one. A kernel that does not tell them leaves that one. */
static int get_groups(int fd, gid_t primary, struct control_peer *peer)
{
	socklen_t len = GROUPS_FIRST * sizeof(gid_t);
	int err;

	do {
		gid_t *grown = realloc(peer->gids, sizeof(gid_t) + len);

		if (!grown)
			return -ENOMEM;
		peer->gids = grown;
		err = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, grown + 1, &len) ? errno : 0;
	} while (err == ERANGE); /* len is what it takes */
	peer->gids[0] = primary;
	peer->gid_count = 1 + (err ? 0 : len / sizeof(gid_t));
	return 0;
}

static int identify(struct connection *c)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int err;

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	c->peer.pid = cred.pid;
	c->peer.uid = cred.uid;
	err = get_groups(c->fd, cred.gid, &c->peer);
	if (err)
		return err;
	c->peer.admin = cred.uid == 0 || in_group(&c->peer, c->control->options.admin_group);
	return c->peer.admin || c->control->options.known(c->control->options.arg, &c->peer) ? 0 : -EPERM;
}

/* ---- Lines ---- */

static void take_passed(struct connection *c, int fd)
{
	if (fd < 0)
		return;
	if (c->passed >= 0)
		close(c->passed);
	c->passed = fd;
}

/* Descriptors are taken of administrators alone. */
static ssize_t receive_some(struct connection *c)
{
	char *to = c->line + c->len;
	const size_t room = CONTROL_LINE_MAX - c->len;
	ssize_t n;
	int fd;

	if (!c->peer.admin)
		return linger_receive(c->fd, to, room);
	n = channel_receive_bytes(c->fd, to, room, &fd);
	take_passed(c, fd);
	return n;
}

/*
 * Receive up to the end of a line: 1 and its length without the newline; 0 when the client is done;
 * -EMSGSIZE, -ETIMEDOUT (an unfinished line), or what recvmsg(2) says.
 */
static int receive_line(struct connection *c, size_t *len)
{
	int64_t deadline = 0;

	for (;;) {
		char *end = memchr(c->line, '\n', c->len);
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		int64_t left = -1;
		ssize_t n;

		if (end) {
			*len = (size_t)(end - c->line);
			return 1;
		}
		if (c->len == CONTROL_LINE_MAX)
			return -EMSGSIZE;
		if (c->len > 0) {
			if (!deadline)
				deadline = now_ms() + CONTROL_LINE_SECONDS * 1000;
			left = deadline - now_ms();
			if (left <= 0)
				return -ETIMEDOUT;
		}
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = receive_some(c);
		if (n <= 0)
			return (int)n;
		c->len += (size_t)n;
	}
}

static json_t *answer(struct connection *c, size_t len)
{
	json_error_t error;
	json_t *request = json_loadb(c->line, len, JSON_REJECT_DUPLICATES, &error);
	int fd = take_fd(&c->passed);
	json_t *reply;

	if (!json_is_object(request)) {
		json_decref(request);
		if (fd >= 0)
			close(fd);
		return control_refuse(EINVAL, "a request is one JSON object on one line%s%s",
				      request ? "" : ": ", request ? "" : error.text);
	}
	reply = c->control->options.handler(c->control->options.arg, &c->peer, request, fd);
	json_decref(request);
	return reply;
}

/* ---- Replies that go on ---- */

/* Whether there is something to read, which is the end of following, or the end of the connection; waits for it, or for `wake`. */
static bool follower_leaves(int fd, int wake, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN | POLLRDHUP }, { .fd = wake, .events = POLLIN } };

	while (poll(p, wake < 0 ? 1 : 2, timeout_ms) < 0)
		if (errno != EINTR)
			return true;
	return p[0].revents != 0;
}

/* One line; takes it. False when the client is gone, or took nothing for too long. */
static bool send_followed(int fd, json_t *json)
{
	size_t len = 0, at = 0;
	cleanup_free char *text = line_of(json, &len);

	while (text && at < len) {
		struct pollfd p = { .fd = fd, .events = POLLOUT | POLLRDHUP };
		ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EINTR &&
			 (errno != EAGAIN || poll(&p, 1, CONTROL_FOLLOW_SECONDS * 1000) <= 0 || p.revents & ~POLLOUT))
			return false;
	}
	return text != NULL;
}

static void follow(int fd, struct control_stream *s)
{
	uint64_t count;
	json_t *line;

	/* The counter is taken before the lines are: what comes in between wakes again. */
	while (!follower_leaves(fd, s->wake, -1)) {
		if (read(s->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			return;
		while ((line = s->next(s))) {
			if (!send_followed(fd, line) || s->ended || follower_leaves(fd, -1, 0))
				return;
		}
	}
}

static void end_stream(struct control_peer *peer)
{
	if (peer->stream)
		peer->stream->close(peer->stream);
	peer->stream = NULL;
}

/* The socket, for somebody else: control_stop() does not touch it any more. */
static int hand_on(struct connection *c)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&c->control->lock);

	return take_fd(&c->fd);
}

/* Requests until the client goes, talks nonsense, or hands its socket on. */
static void converse(struct connection *c)
{
	bool gone = false;
	size_t len = 0;
	int got;

	while ((got = receive_line(c, &len)) > 0) {
		bool object = len > 0;
		json_t *reply = object ? answer(c, len) : control_refuse(EINVAL, "an empty line");
		bool sane = object && c->line[strspn(c->line, " \t")] == '{';

		if (c->peer.deferred) {
			json_decref(reply);
			c->control->options.deferred(c->control->options.arg, hand_on(c));
			return;
		}
		if (!sane) {
			send_reply(c->fd, reply);
			return;
		}
		/* What somebody who is gone said in whole lines before is done, and nobody hears of it. */
		if (gone)
			json_decref(reply);
		else
			gone = !send_reply(c->fd, reply);
		if (c->peer.stream) { /* of one who is gone it ends at once */
			follow(c->fd, c->peer.stream);
			return;
		}
		if (gone && !memchr(c->line + len + 1, '\n', c->len - len - 1))
			return;
		c->len -= len + 1;
		memmove(c->line, c->line + len + 1, c->len);
	}
	if (got == -EMSGSIZE)
		send_reply(c->fd, control_refuse(EMSGSIZE, "a request has at most %u bytes",
						 CONTROL_LINE_MAX));
	else if (got == -ETIMEDOUT)
		send_reply(c->fd, control_refuse(ETIMEDOUT, "a line was not finished within %d s",
						 CONTROL_LINE_SECONDS));
}

/* ---- Connections ---- */

static void leave(struct connection *c)
{
	struct control *control = c->control;

	pthread_mutex_lock(&control->lock);
	DL_DELETE(control->connections, c);
	control->count--;
	pthread_cond_signal(&control->empty);
	pthread_mutex_unlock(&control->lock);
	/* Nobody waits for what that takes: it is not in the list any more, whose sockets control_stop() shuts down. */
	if (c->fd >= 0)
		linger_close(c->fd);
	if (c->passed >= 0)
		close(c->passed);
	free(c->peer.gids);
	free(c->line);
	free(c);
}

static void serve(struct connection *c)
{
	converse(c);
	end_stream(&c->peer);
	c->control->options.gone(c->control->options.arg, &c->peer);
	leave(c);
}

/* The next one for a thread that has served one, or NULL: it is to end. */
static struct connection *next_connection(struct control *control)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&control->lock);
	struct connection *c;

	if (control->idle == THREADS_IDLE_MAX)
		return NULL;
	control->idle++;
	while (!control->queue && !control->stopping)
		pthread_cond_wait(&control->given, &control->lock);
	c = control->queue;
	if (c)
		control->queue = c->queued;
	else
		control->idle--;
	return c;
}

/*
 * Threads are used again, and not only because that is cheaper: RocksDB takes the heights of its skip lists from a generator
 * of the thread that inserts, and one that is new begins with the same numbers as the last one did. A memtable that new threads filled,
 * a few records each, is a list that is searched from its start.
 */
static void *connection_main(void *arg)
{
	struct connection *c = arg;
	struct control *control = c->control;

	pthread_setname_np(pthread_self(), "control-client");
	while (c) {
		serve(c);
		c = next_connection(control);
	}
	pthread_mutex_lock(&control->lock);
	control->threads--;
	pthread_cond_signal(&control->empty);
	pthread_mutex_unlock(&control->lock);
	return NULL;
}

static bool give_to_idle(struct connection *c)
{
	struct control *control = c->control;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&control->lock);

	if (!control->idle)
		return false;
	control->idle--;
	c->queued = control->queue;
	control->queue = c;
	pthread_cond_signal(&control->given);
	return true;
}

/* Whether the places of those who are no administrators are taken, or this user's of them. The lock is held. */
static bool owners_full(const struct control *control, const struct connection *c)
{
	const struct connection *other;
	unsigned owners = 0, same = 0;

	DL_FOREACH(control->connections, other) {
		owners += !other->peer.admin;
		same += !other->peer.admin && other->peer.uid == c->peer.uid;
	}
	return owners >= CONTROL_CONNECTIONS_OWNERS || same >= CONTROL_CONNECTIONS_OWNER;
}

static int enter(struct control *control, struct connection *c)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&control->lock);
	const unsigned most = CONTROL_CONNECTIONS_MAX - (c->peer.uid ? CONTROL_CONNECTIONS_ROOT : 0);

	if (control->count >= most || (!c->peer.admin && owners_full(control, c)))
		return -EBUSY;
	if (control->stopping)
		return -ESHUTDOWN;
	DL_APPEND(control->connections, c);
	control->count++;
	return 0;
}

static void count_threads(struct control *control, int by)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&control->lock);

	control->threads += (unsigned)by;
}

static int start_thread(struct connection *c)
{
	struct control *control = c->control;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (give_to_idle(c))
		return 0;
	count_threads(control, 1);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, connection_main, c);
	pthread_attr_destroy(&attr);
	if (err)
		count_threads(control, -1);
	return -err;
}

static json_t *refuse_client(int err)
{
	switch (err) {
	case -EBUSY:
		return control_refuse(err, "too many connections: try again later");
	case -EPERM:
		return control_refuse(err, "only root, the control_group of nvfs.conf and the owners of tenants may ask this daemon; "
					   "nvfs tenant set --owner-uid makes one");
	default:
		return control_refuse(err, "no connection can be taken now");
	}
}

static void take_client(struct control *control, int fd)
{
	static const struct timeval limit = { .tv_sec = CONTROL_LINE_SECONDS };
	struct connection *c = calloc(1, sizeof(*c));
	int err = c ? 0 : -ENOMEM;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (!err) {
		c->control = control;
		c->fd = fd;
		c->passed = -1;
		c->line = malloc(CONTROL_LINE_MAX + 1);
		err = c->line ? identify(c) : -ENOMEM;
	}
	if (!err)
		err = enter(control, c);
	if (!err) {
		err = start_thread(c);
		if (!err)
			return;
		leave(c);
		return;
	}
	send_reply(fd, refuse_client(err));
	linger_close(fd);
	if (c) {
		free(c->peer.gids);
		free(c->line);
	}
	free(c);
}

static void *listener_main(void *arg)
{
	struct control *control = arg;
	struct pollfd p[2] = { { .fd = control->options.listen_fd, .events = POLLIN },
			       { .fd = control->wake, .events = POLLIN } };

	pthread_setname_np(pthread_self(), "control");
	for (;;) {
		int fd;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			return NULL;
		fd = accept4(control->options.listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			take_client(control, fd);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			poll(NULL, 0, 100);
	}
}

int control_start(const struct control_options *options, struct control **out)
{
	struct control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->options = *options;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->empty, NULL);
	pthread_cond_init(&c->given, NULL);
	/* A client that is gone between poll and accept must not make us wait. */
	fcntl(options->listen_fd, F_SETFL, fcntl(options->listen_fd, F_GETFL) | O_NONBLOCK);
	c->wake = eventfd(0, EFD_CLOEXEC);
	err = c->wake < 0 ? -errno : -pthread_create(&c->listener, NULL, listener_main, c);
	if (err) {
		if (c->wake >= 0)
			close(c->wake);
		free(c);
		return err;
	}
	*out = c;
	return 0;
}

void control_stop(struct control *control)
{
	uint64_t one = 1;
	struct connection *c;

	if (write(control->wake, &one, sizeof(one)) != sizeof(one))
		log_error("the control socket's thread cannot be woken: %s", strerror(errno));
	pthread_join(control->listener, NULL);
	pthread_mutex_lock(&control->lock);
	control->stopping = true;
	/* Idle ones see the end of their input; one at work still gets its answer. */
	DL_FOREACH(control->connections, c) {
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RD);
	}
	pthread_cond_broadcast(&control->given);
	while (control->count > 0 || control->threads > 0)
		pthread_cond_wait(&control->empty, &control->lock);
	pthread_mutex_unlock(&control->lock);
	close(control->wake);
	pthread_cond_destroy(&control->empty);
	pthread_cond_destroy(&control->given);
	pthread_mutex_destroy(&control->lock);
	free(control);
}
