/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_ROOM_H
#define NVFS_META_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct subvol;

/*
 * Who may take slots of dirty blocks. Below seven eighths of the cap everybody may. The last eighth is for those who hold less than their
 * share: a tenant's is one part more than there are tenants with dirty blocks, so that there is one for who comes next, and a subvolume's
 * is the same of its tenant's. So a writer alone has seven eighths, two tenants that want all get the same, and one with a hundred
 * subvolumes no more than one with a single one. Who holds nothing may take what is left once, since a share can be less than a write
 * needs.
 *
 * Nobody waits for slots that are not on their way to the device: with less than half of them free, what is dirty is written back as it
 * comes (slots_are_scarce() in writeback.c).
 */

/* A moment: numbers of slots, and of who holds any. */
struct room_view {
	uint64_t all, left;
	uint64_t tenant_holds, subvol_holds;
	uint32_t tenants, subvols; /* with dirty blocks: of the pool, of the tenant */
};

bool room_allows(const struct room_view *v, uint64_t n);

/* Whether the subvolume may take n slots now. Its reactor's thread. */
bool room_is_there(const struct subvol *sv, uint64_t n);

/* It took n slots, or gave them back with a number below 0. Its reactor's thread. */
void room_count(struct subvol *sv, int64_t n);

#endif
