/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How soon the scheduler lets a thread run that was woken, and before whom.
 *
 * A filesystem in the kernel works in the time of whoever called it. A server has only the time that the scheduler gives it beside its clients,
 * and all of them wait for it: so it goes before programs of the usual priority, like knfsd once did, but takes no more than its share
 * of a contended processor.
 */
#ifndef NVFS_IO_PRIORITY_H
#define NVFS_IO_PRIORITY_H

#include <stdint.h>

#define PRIORITY_SLICE_NS UINT64_C(100000) /* the least that Linux takes */
#define PRIORITY_NICE (-6)                 /* docs/performance.md has what others cost and bring */

/*
 * Have the calling thread take its processor time in short turns, and at PRIORITY_NICE, from now on; threads that it makes do not. A thread
 * that is woken then runs at once instead of after somebody's turn of milliseconds. Turns: Linux 6.12 and later. A nice value or a policy
 * that an administrator has set stays as it is, and so does the nice value without CAP_SYS_NICE. No error: it is a wish.
 */
void priority_raise(void);

/*
 * Where Linux groups threads by session (sched(7), autogroup) nice values count only within a session: have that of the calling process go
 * before others at PRIORITY_NICE. Of a process that leads its session, once: it is the whole session's. As priority_raise() otherwise.
 */
void priority_raise_session(void);

/* Of the calling thread; 0 where the kernel does not say. */
uint64_t priority_slice_ns(void);
int priority_nice(void);

#endif
