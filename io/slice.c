/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Linux gives each runnable thread its share in turns, by default of some milliseconds, and since EEVDF the one with the earliest deadline
 * goes first: a thread with short turns that has had little of its share lately goes before those with long ones. That is what a reactor
 * needs, each of whose requests takes some tens of microseconds. sched_setattr(2) takes the length in sched_runtime, of anybody.
 */

#include "io/slice.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/log.h"

/* As in sched_setattr(2); glibc has had it under that name since 2.41. */
struct slice_attr {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

#define RESET_ON_FORK UINT64_C(1)

static int get(struct slice_attr *a)
{
	memset(a, 0, sizeof(*a));
	return syscall(SYS_sched_getattr, 0, a, sizeof(*a), 0) ? -errno : 0;
}

void slice_make_short(void)
{
	struct slice_attr a;

	if (get(&a) || a.policy != SCHED_OTHER)
		return;
	a.size = sizeof(a);
	a.flags |= RESET_ON_FORK; /* RocksDB makes its threads where it first needs one */
	a.runtime_ns = SLICE_SHORT_NS;
	if (syscall(SYS_sched_setattr, 0, &a, 0))
		log_debug("the scheduler gives no short turns: %s", strerror(errno));
}

uint64_t slice_now_ns(void)
{
	struct slice_attr a;

	return get(&a) ? 0 : a.runtime_ns;
}
