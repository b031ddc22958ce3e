/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_DRAIN_H
#define NVFS_FS_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * When has all that the kernel had queued for a session been answered? syncfs(2) of a FUSE filesystem only queues the dirty pages, or waits
 * for them, by kernel (those of Linux 6.16 and later were told not to wait in later ones).
 *
 * The kernel hands requests out in the order in which they were queued, but for those of its background (write-back is of that kind), of which it
 * lets `max_background` be on their way at a time. So when a read finds nothing and fewer than that are in our hands, nothing at all is
 * queued; when those in our hands are answered, everything has been. That is done twice: write-back of a file that waits in the kernel for an
 * fsync or a truncation of the same file is queued when that one was answered.
 *
 * Reactor thread only.
 */

struct session_drain {
	/* Once, on the reactor: all was answered, or the session ended or the time was over before. d is the caller's again. */
	void (*done)(struct session_drain *d, bool drained);
	/* Private. */
	unsigned rounds;           /* that are left */
	bool counting;
	uint64_t mark;             /* the newest request that this round waits for */
	uint64_t left;
	struct session_drain *prev, *next;
};

struct drains {
	struct session_drain *list;
	uint64_t read;             /* requests so far: a request's number is what it was then */
};

void drain_start(struct drains *drains, struct session_drain *d);

/* Nothing is queued, and so many are in our hands. */
void drain_idle(struct drains *drains, uint64_t in_hand);

/* This one was answered. True: a round ended, and somebody waits for drain_idle(). */
bool drain_answered(struct drains *drains, uint64_t number);

/* Not any more: done(false). */
void drain_cancel(struct drains *drains, struct session_drain *d);
void drain_cancel_all(struct drains *drains);

#endif
