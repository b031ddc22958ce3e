/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How soon the scheduler lets a thread run that was woken. */
#ifndef NVFS_IO_SLICE_H
#define NVFS_IO_SLICE_H

#include <stdint.h>

#define SLICE_SHORT_NS UINT64_C(100000) /* the least that Linux takes */

/*
 * Have the calling thread take its processor time in short turns, from now on; threads that it makes do not. Where processors are
 * contended a thread that is woken then runs at once instead of after somebody's turn of milliseconds; it gets no more time than before.
 * Linux 6.12 and later; older kernels, and a policy that an administrator has set, stay as they are. No error: it is a wish.
 */
void slice_make_short(void);

/* The turns of the calling thread; 0 where the kernel does not say. */
uint64_t slice_now_ns(void);

#endif
