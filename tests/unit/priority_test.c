/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Before whom the scheduler lets reactors and sessions run. */
#include "config.h"

#include "io/priority.h"
#include "io/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/unit.h"

struct scheduled {
	uint64_t slice_ns;
	int nice;
};

struct schedules {
	struct reactor_msg msg;
	struct scheduled of_reactor, of_child;
};

static struct scheduled scheduled(void)
{
	return (struct scheduled){ .slice_ns = priority_slice_ns(), .nice = priority_nice() };
}

static void *note_schedule(void *arg)
{
	*(struct scheduled *)arg = scheduled();
	return NULL;
}

static void note_schedules(struct reactor *r, struct reactor_msg *msg)
{
	struct schedules *s = (struct schedules *)msg;
	pthread_t child;

	s->of_reactor = scheduled();
	ck_assert_int_eq(pthread_create(&child, NULL, note_schedule, &s->of_child), 0);
	pthread_join(child, NULL);
	reactor_stop(r);
}

static struct schedules schedules_of_reactor(void)
{
	struct schedules s = { .msg.fn = note_schedules };
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	ck_assert_int_eq(reactor_start_thread(r, "short"), 0);
	reactor_post(r, &s.msg);
	ck_assert_int_eq(reactor_join(r), 0);
	reactor_destroy(r);
	return s;
}

/* Linux says how long a thread's turns are since it lets them be chosen, 6.12. */
START_TEST(reactors_have_short_turns)
{
	const uint64_t usual = priority_slice_ns();
	const struct schedules s = schedules_of_reactor();

	if (!usual)
		return;
	ck_assert_uint_eq(s.of_reactor.slice_ns, PRIORITY_SLICE_NS);
	ck_assert_uint_gt(s.of_child.slice_ns, PRIORITY_SLICE_NS);
}
END_TEST

/* Whether nice values below that of the process are allowed here. */
static bool may_be_raised(void)
{
	const bool may = !setpriority(PRIO_PROCESS, 0, -1);

	return may && !setpriority(PRIO_PROCESS, 0, 0);
}

START_TEST(reactors_go_before_others)
{
	struct schedules s;

	if (priority_nice() || !may_be_raised())
		return;
	s = schedules_of_reactor();
	ck_assert_int_eq(s.of_reactor.nice, PRIORITY_NICE);
	ck_assert_int_eq(s.of_child.nice, 0);
	/* But not where an administrator wants it otherwise. */
	ck_assert_int_eq(setpriority(PRIO_PROCESS, 0, 3), 0);
	s = schedules_of_reactor();
	ck_assert_int_eq(s.of_reactor.nice, 3);
}
END_TEST

static void become_ordinary(void)
{
	ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
	ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
}

/* Who may not raise itself still has short turns. */
START_TEST(ordinary_users_have_short_turns)
{
	struct schedules s;

	if (priority_nice() || geteuid() || !priority_slice_ns())
		return;
	become_ordinary();
	s = schedules_of_reactor();
	ck_assert_int_eq(s.of_reactor.nice, 0);
	ck_assert_uint_eq(s.of_reactor.slice_ns, PRIORITY_SLICE_NS);
}
END_TEST

static int nice_of_session(void)
{
	char line[64] = "";
	const char *nice;
	FILE *f = fopen("/proc/self/autogroup", "re");

	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	nice = strstr(line, "nice ");
	return nice ? atoi(nice + strlen("nice ")) : 0;
}

/* In a child, which leads no group: what its session had and got. */
static void raise_own_session(int out)
{
	int nice[2] = { -1, -1 };

	if (setsid() > 0) {
		nice[0] = nice_of_session();
		priority_raise_session();
		nice[1] = nice_of_session();
	}
	_exit(write(out, nice, sizeof(nice)) != sizeof(nice));
}

START_TEST(sessions_go_before_others)
{
	const int usual = nice_of_session();
	int fds[2], nice[2];

	if (access("/proc/self/autogroup", W_OK) || priority_nice() || !may_be_raised())
		return;
	priority_raise_session(); /* not this one, which others share */
	ck_assert_int_eq(nice_of_session(), usual);
	ck_assert_int_eq(pipe(fds), 0);
	if (!fork())
		raise_own_session(fds[1]);
	ck_assert_int_eq(read(fds[0], nice, sizeof(nice)), (ssize_t)sizeof(nice));
	ck_assert_int_eq(nice[0], 0);
	ck_assert_int_eq(nice[1], PRIORITY_NICE);
}
END_TEST

int main(void)
{
	struct reactor *r;
	int rc = reactor_create(NULL, &r);

	if (rc == -ENOSYS || rc == -EPERM)
		unit_skip("io_uring is not available");
	reactor_destroy(r);
	return unit_run("priority", reactors_have_short_turns, reactors_go_before_others, ordinary_users_have_short_turns, sessions_go_before_others,
			NULL);
}
