/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_EPOCH_H
#define NVFS_IO_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * When may a block be reused that nothing maps any more? When every read that
 * may have looked it up before has ended, on any reactor.
 *
 *	reader                          one who frees
 *	epoch_enter(d, slot, &pin)      remove the block from the maps
 *	look the block up               tag = epoch_tag(d)
 *	read it                         ... later, epoch_passed(d, tag):
 *	epoch_exit(d, &pin)             reuse it
 *
 * The reader enters *before* it looks up. A read may last over any number of
 * iterations of its reactor, and reads may end in any order.
 */

struct epoch_domain;

/* In the reader's request. */
struct epoch_pin {
	uint16_t slot;
	uint16_t generation;
};

/* slots: one per reactor (and one for whoever else reads). 0 or -ENOMEM. */
int epoch_domain_create(unsigned slots, struct epoch_domain **out);

/* Nobody is inside. NULL is fine. */
void epoch_domain_destroy(struct epoch_domain *d);

/*
 * Any thread; cheap where one thread uses a slot. Pins may be nested and moved
 * to another thread. Every pin is exited exactly once.
 */
void epoch_enter(struct epoch_domain *d, unsigned slot, struct epoch_pin *pin);
void epoch_exit(struct epoch_domain *d, const struct epoch_pin *pin);

/*
 * A tag for what has just been made unreachable. Tags never go down; many
 * frees share one. Any thread.
 */
uint64_t epoch_tag(struct epoch_domain *d);

/*
 * Whether every read that had entered when epoch_tag() returned this tag has
 * exited. Once true it stays true, for lower tags too. Moves the epochs on; to
 * be asked now and then while something waits. Any thread.
 */
bool epoch_passed(struct epoch_domain *d, uint64_t tag);

#endif
