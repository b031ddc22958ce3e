/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Linux gives each runnable thread its share in turns, by default of some milliseconds, and since EEVDF the one with the earliest deadline
 * goes first: a thread with short turns that has had little of its share lately goes before those with long ones. That is what a reactor
 * needs, each of whose requests takes some tens of microseconds. sched_setattr(2) takes the length in sched_runtime, of anybody.
 */

#include "io/priority.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/log.h"

/* As in sched_setattr(2); glibc has had it under that name since 2.41. */
struct attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

#define RESET_ON_FORK UINT64_C(1)

static int get(struct attributes *a)
{
	memset(a, 0, sizeof(*a));
	return syscall(SYS_sched_getattr, 0, a, sizeof(*a), 0) ? -errno : 0;
}

static int set(struct attributes *a)
{
	a->size = sizeof(*a);
	return syscall(SYS_sched_setattr, 0, a, 0) ? -errno : 0;
}

static int set_wanted(struct attributes a, int nice)
{
	if (!a.nice)
		a.nice = nice;
	a.flags |= RESET_ON_FORK; /* RocksDB makes its threads where it first needs one */
	a.runtime_ns = PRIORITY_SLICE_NS;
	return set(&a);
}

void priority_raise(void)
{
	struct attributes a;
	int err;

	if (get(&a) || a.policy != SCHED_OTHER)
		return;
	err = set_wanted(a, PRIORITY_NICE);
	if (err == -EPERM || err == -EACCES)
		err = set_wanted(a, 0);
	if (err)
		log_debug("the scheduler gives no short turns: %s", strerror(-err));
}

void priority_raise_session(void)
{
	struct attributes a;
	int fd;

	if (getsid(0) != getpid() || get(&a) || a.policy != SCHED_OTHER || a.nice)
		return;
	fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* a kernel without them */
	if (dprintf(fd, "%d\n", PRIORITY_NICE) < 0)
		log_debug("the session keeps its priority: %s", strerror(errno));
	close(fd);
}

uint64_t priority_slice_ns(void)
{
	struct attributes a;

	return get(&a) ? 0 : a.runtime_ns;
}

int priority_nice(void)
{
	struct attributes a;

	return get(&a) ? 0 : a.nice;
}
