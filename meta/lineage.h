/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_LINEAGE_H
#define NVFS_META_LINEAGE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A node and its ancestors, from the newest on: their numbers fall, because an ancestor's is less than its descendants'. All versions
 * of a record lie side by side, newest node first; so the first one whose node is in the lineage is what the node sees.
 */

/* Index of the first of the nodes that is not above `node`; count if none. */
static inline unsigned lineage_at_most(const uint32_t *nodes, unsigned count, uint32_t node)
{
	unsigned low = 0, high = count;

	while (low < high) {
		const unsigned mid = (low + high) / 2;

		if (nodes[mid] > node)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static inline bool lineage_has(const uint32_t *nodes, unsigned count, uint32_t node)
{
	const unsigned i = lineage_at_most(nodes, count, node);

	return i < count && nodes[i] == node;
}

#endif
