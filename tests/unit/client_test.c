/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client of the control socket against servers that answer well, slowly, badly and not at all. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/channel.h"
#include "fs/client.h"
#include "tests/unit/unit.h"

static char path[CLIENT_PATH_MAX];
static int listener;
static pthread_t thread;
static const char *const *answers; /* pieces, sent 20 ms apart, up to a NULL; then the end. None: silence */
static char request[1024];
static ino_t passed;

static void *serve(void *arg)
{
	int fd = accept(listener, NULL, NULL), got = -1;
	ssize_t n = channel_receive_bytes(fd, request, sizeof(request) - 1, &got);
	struct stat st;

	(void)arg;
	if (n > 0)
		request[n] = '\0';
	if (got >= 0 && !fstat(got, &st))
		passed = st.st_ino;
	if (got >= 0)
		close(got);
	while (!answers && recv(fd, request, sizeof(request), 0) > 0)
		;
	for (const char *const *a = answers; a && *a; a++) {
		if (send(fd, *a, strlen(*a), MSG_NOSIGNAL) < 0)
			break;
		poll(NULL, 0, 20);
	}
	close(fd);
	return NULL;
}

static struct client *begin(const char *const *pieces)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct client *c;

	snprintf(path, sizeof(path), "/tmp/nvfs-client-%d.sock", (int)getpid());
	answers = pieces;
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	unlink(path);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
	ck_assert_int_eq(client_connect_path(path, &c), 0);
	return c;
}

static void end(struct client *c)
{
	client_close(c);
	pthread_join(thread, NULL);
	close(listener);
	unlink(path);
}

static json_t *hello(void)
{
	return json_pack("{s:s}", "op", "hello");
}

START_TEST(takes_an_answer_in_pieces)
{
	struct client *c = begin((const char *const[]){ "{\"ok\":tr", "ue,\"n\":", "7}\n", NULL });
	json_t *reply = NULL;
	struct stat st;
	int fd = open("/dev/null", O_RDONLY);

	ck_assert_int_eq(client_call(c, hello(), fd, &reply), 0);
	ck_assert_int_eq(json_integer_value(json_object_get(reply, "n")), 7);
	json_decref(reply);
	ck_assert_int_eq(fstat(fd, &st), 0);
	end(c);
	ck_assert_str_eq(request, "{\"op\":\"hello\"}\n");
	ck_assert_uint_eq(passed, st.st_ino);
	close(fd);
}
END_TEST

START_TEST(tells_why_it_was_refused)
{
	struct client *c = begin((const char *const[]){
		"{\"ok\":false,\"error\":\"ENOSPC\",\"errno\":28,\"message\":\"too big\"}\n", NULL });

	ck_assert_int_eq(client_call(c, hello(), -1, NULL), -ENOSPC);
	ck_assert_str_eq(client_message(c), "too big");
	end(c);
}
END_TEST

START_TEST(survives_nonsense)
{
	static const char *const nonsense[] = {
		"hello\n", "\n", "[]\n", "{}\n", "{\"ok\":1}\n", "{\"ok\":true\n", "\xff\xfe\n",
	};

	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		struct client *c = begin((const char *const[]){ nonsense[i], NULL });

		ck_assert_int_eq(client_call(c, hello(), -1, NULL), -EPROTO);
		ck_assert_int_gt(strlen(client_message(c)), 0);
		end(c);
	}
}
END_TEST

START_TEST(a_refusal_without_a_number_is_an_error)
{
	struct client *c = begin((const char *const[]){ "{\"ok\":false,\"errno\":-5}\n", NULL });

	ck_assert_int_eq(client_call(c, hello(), -1, NULL), -EIO);
	ck_assert_int_gt(strlen(client_message(c)), 0);
	end(c);
}
END_TEST

START_TEST(sees_the_end)
{
	struct client *c = begin((const char *const[]){ "{\"ok\":true", NULL });

	ck_assert_int_eq(client_call(c, hello(), -1, NULL), -ECONNRESET);
	end(c);
}
END_TEST

/* Silence, for longer than the client wants to wait. */
START_TEST(does_not_wait_for_ever_when_told)
{
	struct client *c = begin(NULL);

	client_set_timeout(c, 1);
	ck_assert_int_eq(client_call(c, hello(), -1, NULL), -ETIMEDOUT);
	end(c);
}
END_TEST

START_TEST(nobody_serves)
{
	struct client *c;

	ck_assert_int_eq(client_connect("no.such-pool", &c), -ESRCH);
	ck_assert_int_eq(client_connect("../etc", &c), -EINVAL);
	ck_assert_int_eq(client_connect("", &c), -EINVAL);
	ck_assert_int_eq(client_connect_path("/nonexistent/x.sock", &c), -ESRCH);
}
END_TEST

START_TEST(takes_no_request)
{
	struct client *c = begin((const char *const[]){ NULL });

	ck_assert_int_eq(client_call(c, NULL, -1, NULL), -ENOMEM);
	end(c);
}
END_TEST

int main(void)
{
	return unit_run("client", takes_an_answer_in_pieces, tells_why_it_was_refused,
			survives_nonsense, a_refusal_without_a_number_is_an_error, sees_the_end,
			does_not_wait_for_ever_when_told, nobody_serves, takes_no_request, NULL);
}
