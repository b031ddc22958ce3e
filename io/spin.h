/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long a thread without work busy-polls before it sleeps. Of one thread, or under a lock of the caller's. */
#ifndef NVFS_IO_SPIN_H
#define NVFS_IO_SPIN_H

#include <stdint.h>

struct spin {
	uint64_t max_ns;    /* 0: never */
	uint64_t now_ns;    /* the next spin's length */
	uint64_t credit_ns; /* what vain spinning may still cost */
	uint64_t credit_at_ns;
};

void spin_init(struct spin *s, uint64_t max_ns, uint64_t now_ns);

/* How long to spin now; 0: go to sleep. */
uint64_t spin_budget(struct spin *s, uint64_t now_ns);

/* Spinning for spent_ns found nothing, or something. */
void spin_missed(struct spin *s, uint64_t spent_ns);
void spin_hit(struct spin *s, uint64_t spent_ns);

/* Work came after idle_ns without any, spinning included. */
void spin_woken(struct spin *s, uint64_t idle_ns);

#endif
