/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_WORKERS_H
#define NVFS_IO_WORKERS_H

#include <stddef.h>

#include "io/reactor.h"

/*
 * A few threads for what a reactor must not do itself: compress, wait for a
 * cold read of metadata. Work is started in the order in which it was
 * submitted and ends in any.
 */

struct workers;

/* Lives inside the caller's object and is the pool's until done is called. */
struct work {
	/* On a worker. May sleep. */
	void (*fn)(struct work *w);
	/*
	 * Afterwards on the thread of reactor, which the caller has set; may
	 * free the work or submit it again. NULL: nobody is told, and fn may
	 * free the work as the last thing it does.
	 */
	void (*done)(struct work *w);
	struct reactor *reactor;

	struct work *next;      /* private */
	struct reactor_msg msg; /* private */
};

/* Start threads (at least 1) called name-0, name-1 ..., signals blocked. 0 or -errno. */
int workers_create(unsigned threads, const char *name, struct workers **out);

/* Run what was submitted, then end the threads and free the pool. NULL is fine. */
void workers_destroy(struct workers *pool);

/* Any thread, done and fn included; never blocks for long, never fails. */
void workers_submit(struct workers *pool, struct work *w);

/* Submitted and not yet started. Any thread; a hint. */
size_t workers_backlog(struct workers *pool);

#endif
