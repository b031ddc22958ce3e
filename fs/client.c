/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/channel.h"
#include "fs/client.h"
#include "io/cleanup.h"

/* A reply longer than this is nonsense: a list of 100,000 subvolumes is 40 MiB. */
#define REPLY_BYTES_MAX (64u << 20)

struct client {
	int fd;
	int timeout_ms; /* -1: none */
	char *line;     /* what was received and not yet taken */
	size_t len, room;
	char message[1024];
};

static bool name_valid(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < 64 && name[0] != '.' && name[0] != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       len;
}

int client_socket_path(const char *pool, char path[CLIENT_PATH_MAX])
{
	int n;

	if (!name_valid(pool))
		return -EINVAL;
	n = snprintf(path, CLIENT_PATH_MAX, "%s/%s.sock", NVFS_RUN_DIR, pool);
	return n < CLIENT_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* A connected socket, or -errno; what the kernel says of a socket without a listener becomes -ESRCH. */
static int open_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == ENOENT || errno == ECONNREFUSED ? -ESRCH : -errno;
	return take_fd(&fd);
}

int client_connect_path(const char *path, struct client **out)
{
	cleanup_fd int fd = open_socket(path);
	struct client *c;

	if (fd < 0)
		return fd;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = take_fd(&fd);
	c->timeout_ms = -1;
	*out = c;
	return 0;
}

int client_connect(const char *pool, struct client **out)
{
	char path[CLIENT_PATH_MAX];
	int err = client_socket_path(pool, path);

	return err ? err : client_connect_path(path, out);
}

void client_close(struct client *c)
{
	if (!c)
		return;
	close(c->fd);
	free(c->line);
	free(c);
}

const char *client_message(const struct client *c)
{
	return c->message;
}

void client_set_timeout(struct client *c, unsigned seconds)
{
	c->timeout_ms = seconds ? (int)(seconds > 86400 ? 86400 : seconds) * 1000 : -1;
}

static int fail(struct client *c, int err, const char *what)
{
	snprintf(c->message, sizeof(c->message), "%s: %s", what, strerror(-err));
	return err;
}

static int send_line(struct client *c, const char *line, size_t len, int fd)
{
	while (len > 0) {
		ssize_t n = channel_send_bytes(c->fd, line, len, fd);

		if (n < 0)
			return n == -EPIPE ? -ECONNRESET : (int)n;
		fd = -1;
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

static int make_room(struct client *c)
{
	size_t room = c->room ? c->room * 2 : 4096;
	char *grown;

	if (c->len < c->room)
		return 0;
	if (room > REPLY_BYTES_MAX)
		return -EPROTO;
	grown = realloc(c->line, room);
	if (!grown)
		return -ENOMEM;
	c->line = grown;
	c->room = room;
	return 0;
}

/* Receive until there is a whole line; *len is its length without the newline. */
static int receive_line(struct client *c, size_t *len)
{
	size_t seen = 0;

	for (;;) {
		char *end = c->len > seen ? memchr(c->line + seen, '\n', c->len - seen) : NULL;
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		ssize_t n;
		int err;

		if (end) {
			*len = (size_t)(end - c->line);
			return 0;
		}
		seen = c->len;
		err = make_room(c);
		if (err)
			return err;
		n = poll(&p, 1, c->timeout_ms);
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0)
			n = recv(c->fd, c->line + c->len, c->room - c->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		c->len += (size_t)n;
	}
}

static void drop_line(struct client *c, size_t len)
{
	c->len -= len + 1;
	memmove(c->line, c->line + len + 1, c->len);
}

/* What a refusal says: its errno, and its message into c. */
static int refusal(struct client *c, const json_t *object)
{
	const char *message = json_string_value(json_object_get(object, "message"));
	json_int_t err = json_integer_value(json_object_get(object, "errno"));

	if (err <= 0 || err > 4094)
		err = EIO;
	snprintf(c->message, sizeof(c->message), "%s", message ? message : strerror((int)err));
	return -(int)err;
}

static int take_reply(struct client *c, size_t len, json_t **reply)
{
	json_t *object = json_loadb(c->line, len, 0, NULL);
	int err = 0;

	drop_line(c, len);
	if (!json_is_object(object) || !json_is_boolean(json_object_get(object, "ok")))
		err = fail(c, -EPROTO, "nvfsd's answer cannot be understood");
	else if (!json_is_true(json_object_get(object, "ok")))
		err = refusal(c, object);
	else if (reply)
		*reply = json_incref(object);
	json_decref(object);
	return err;
}

int client_call(struct client *c, json_t *request, int fd, json_t **reply)
{
	cleanup_free char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t len;
	int err;

	json_decref(request);
	c->message[0] = '\0';
	if (!line)
		return fail(c, -ENOMEM, "cannot make a request for nvfsd");
	len = strlen(line);
	line[len] = '\n'; /* in place of the NUL: send_line() has the length */
	err = send_line(c, line, len + 1, fd);
	/* One who is refused a connection finds the reason in front of the end. */
	if (err && err != -ECONNRESET)
		return fail(c, err, "cannot send to nvfsd");
	err = receive_line(c, &len);
	if (err)
		return fail(c, err, "no answer from nvfsd");
	return take_reply(c, len, reply);
}

int client_next(struct client *c, json_t **line)
{
	json_t *object;
	size_t len;
	int err;

	c->message[0] = '\0';
	err = receive_line(c, &len);
	if (err)
		return fail(c, err, "nvfsd says nothing more");
	object = json_loadb(c->line, len, 0, NULL);
	drop_line(c, len);
	if (json_is_object(object)) {
		*line = object;
		return 0;
	}
	json_decref(object);
	return fail(c, -EPROTO, "nvfsd's answer cannot be understood");
}

static int is_socket(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 5 && !strcmp(e->d_name + len - 5, ".sock");
}

int client_each_pool(int (*fn)(const char *pool, void *arg), void *arg)
{
	struct dirent **names;
	int n = scandir(NVFS_RUN_DIR, &names, is_socket, alphasort);
	int result = 0;

	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		char path[CLIENT_PATH_MAX];
		int fd;

		names[i]->d_name[strlen(names[i]->d_name) - 5] = '\0';
		if (!result && !client_socket_path(names[i]->d_name, path)) {
			fd = open_socket(path);
			if (fd >= 0)
				close(fd);
			if (fd != -ESRCH)
				result = fn(names[i]->d_name, arg);
		}
		free(names[i]);
	}
	free(names);
	return result;
}
