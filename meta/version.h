/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_VERSION_H
#define NVFS_META_VERSION_H

#include <stdint.h>

#include "meta/op.h"
#include "meta/records.h"

/*
 * Records have versions: the last four bytes of a key in `ns` and `map` are the
 * complement of the node that wrote it. A reader of a node sees the version of
 * the nearest ancestor (itself included); a whiteout there means "not there".
 * These functions take keys *with* the subvolume's own node at the end, as the key builders make them.
 */

/* The visible version: 0, -ENOENT (none, or a whiteout), -EIO, META_WAIT. from (may be NULL) is the node that wrote it. */
int version_get(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len, struct db_value *out, uint32_t *from);

/* Whether an ancestor has a version that is visible where the live node has none: 0, 1, META_WAIT, -errno. */
int version_above(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len);

/* Whether that may be so, without a look: then a deletion of this key may have to be a whiteout. */
bool version_hides(const struct subvol *sv, const uint8_t *key);

/* Make the record invisible in this node: a deletion, or a whiteout when an ancestor may have a version. */
void version_delete(struct subvol *sv, struct db_batch *batch, enum db_cf cf, const uint8_t *key, size_t key_len);

/*
 * Iterate over visible records with this prefix (a key without cookie, name or chunk), from the key `start` on (prefix included; NULL:
 * the first) in key order. fn gets the key without its node, the node that wrote the version, and returns 0 to go on, anything else to stop with that result.
 * META_WAIT before fn was called for what is not in memory: a worker warms the range, the op is run again from its start.
 */
int version_each(struct op *op, enum db_cf cf, const uint8_t *prefix, size_t prefix_len, const uint8_t *start, size_t start_len,
		 int (*fn)(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len), void *arg);

#endif
