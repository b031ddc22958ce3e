/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon tells those who watch it. */
#include "config.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/daemon_rig.h"

static json_t *ask_events(json_int_t since)
{
	return ask(json_pack("{s:s,s:I}", "op", "events", "since", since), -1);
}

static void resize(json_int_t bytes)
{
	json_decref(ask(json_pack("{s:s,s:s,s:I}", "op", "subvolume.resize", "name", "a", "size_bytes", bytes), -1));
}

static const char *event_text(const json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

START_TEST(tells_events)
{
	json_t *reply, *events;
	json_int_t last, opening;

	start_daemon();
	create_subvolume("a");
	reply = ask_events(0);
	events = json_object_get(reply, "events");
	last = json_integer_value(json_object_get(reply, "last"));
	ck_assert_uint_eq(json_array_size(events), 1);
	ck_assert_str_eq(event_text(json_array_get(events, 0), "kind"), "subvolume-created");
	ck_assert_str_eq(event_text(json_array_get(events, 0), "subvolume"), "a");
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(events, 0), "tenant")), "default");
	json_decref(reply);
	resize(2 << 20);
	mount_subvolume("a");
	reply = ask_events(last);
	ck_assert_str_eq(event_text(json_array_get(json_object_get(reply, "events"), 0), "kind"), "subvolume-resized");
	ck_assert(json_is_false(json_object_get(reply, "restarted")));
	json_decref(reply);
	/* A number of an earlier worker: by itself, or by what came with it. */
	reply = ask_events(1000000);
	ck_assert(json_is_true(json_object_get(reply, "restarted")));
	ck_assert_uint_ge(json_array_size(json_object_get(reply, "events")), 2);
	opening = json_integer_value(json_object_get(reply, "opening"));
	json_decref(reply);
	for (int other = 0; other < 2; other++) {
		reply = ask(json_pack("{s:s,s:I,s:I}", "op", "events", "since", last, "opening", opening + other), -1);
		ck_assert_int_eq(json_is_true(json_object_get(reply, "restarted")), other);
		ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(json_object_get(reply, "events"), 0), "number")),
				 other ? 1 : last + 1);
		json_decref(reply);
	}
}
END_TEST

static struct client *follower(void)
{
	struct client *c;
	json_t *reply;

	ck_assert_int_eq(client_connect(pool, &c), 0);
	client_set_timeout(c, 120);
	ck_assert_int_eq(client_call(c, json_pack("{s:s,s:b}", "op", "events", "follow", 1), -1, &reply), 0);
	json_decref(reply);
	return c;
}

static void next_event(struct client *c, const char *kind)
{
	json_t *line;

	ck_assert_msg(!client_next(c, &line), "%s", client_message(c));
	ck_assert_str_eq(event_text(json_object_get(line, "event"), "kind"), kind);
	json_decref(line);
}

START_TEST(events_are_followed)
{
	struct client *first, *second;
	json_t *line;

	start_daemon();
	first = follower();
	second = follower();
	create_subvolume("a");
	resize(2 << 20);
	next_event(first, "subvolume-created");
	next_event(second, "subvolume-created");
	next_event(first, "subvolume-resized");
	client_close(first);
	resize(4 << 20);
	next_event(second, "subvolume-resized");
	next_event(second, "subvolume-resized");
	/* Who says anything has heard enough. */
	ck_assert_int_eq(client_call(second, json_pack("{s:s}", "op", "pool.show"), -1, NULL), -ECONNRESET);
	client_close(second);
	/* The end of the daemon does not wait for who follows. */
	first = follower();
	json_decref(ask(json_pack("{s:s}", "op", "pool.stop"), -1));
	ck_assert_int_eq(client_next(first, &line), -ECONNRESET);
	client_close(first);
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	daemon_pid = 0;
}
END_TEST

START_TEST(limits_followers)
{
	struct client *followers[16], *more;

	start_daemon();
	for (unsigned i = 0; i < 16; i++)
		followers[i] = follower();
	ck_assert_int_eq(client_connect(pool, &more), 0);
	ck_assert_int_eq(client_call(more, json_pack("{s:s,s:b}", "op", "events", "follow", 1), -1, NULL), -EBUSY);
	json_decref(ask(json_pack("{s:s}", "op", "events"), -1));
	for (unsigned i = 0; i < 16; i++)
		client_close(followers[i]);
	client_close(more);
}
END_TEST

/* One that never reads is cut off; nobody waits for it, and what the ring has no room for is counted. */
START_TEST(slow_followers_are_cut_off)
{
	static const char request[] = "{\"op\":\"events\",\"follow\":true}\n";
	enum { EVENTS = 4000, KEPT = 1000 };
	size_t lines = 0;
	char buf[4096];
	json_t *reply;
	ssize_t n;
	int fd;

	start_daemon();
	create_subvolume("a");
	fd = raw_connect();
	ck_assert_int_eq(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
	ck_assert_int_eq(recv(fd, buf, 1, 0), 1);
	for (int i = 0; i < EVENTS; i++)
		resize(4096 * (i + 1));
	reply = ask_events(0);
	ck_assert_uint_eq(json_array_size(json_object_get(reply, "events")), KEPT);
	ck_assert_int_eq(json_integer_value(json_object_get(reply, "lost")), EVENTS + 1 - KEPT);
	json_decref(reply);
	/* Its end comes while it still reads nothing. */
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLRDHUP }, 1, 120000), 1);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines += buf[i] == '\n';
	ck_assert_uint_gt(lines, 10);
	ck_assert_uint_lt(lines, EVENTS);
	close(fd);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		tells_events, events_are_followed, limits_followers, slow_followers_are_cut_off,
	};

	return daemon_run("daemon_events", tests, sizeof(tests) / sizeof(tests[0]));
}
