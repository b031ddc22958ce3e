/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_GROUP_H
#define NVFS_META_GROUP_H

#include "meta/nodes.h"
#include "meta/snapshot.h"

/*
 * What a request about many snapshots has to know of all nodes of a pool, in walks whose number does not depend on how many it names. The
 * pool's admin_lock is held; they may sleep.
 */

/* nodes_load() for the functions here. */
int group_load(struct pool *pool, struct nodes *out);

/* out[i]: the node that is the snapshot names[i], of a subvolume that is there or was deleted; NULL: there is none. One walk. 0 or -errno. */
int group_find(struct pool *pool, struct nodes *nodes, const struct snapshot_name *names, unsigned n, struct node_entry **out);

/*
 * views[i]: a number below .snapshots that no snapshot of subvols[i], all different, has; above all that are there while there is one, else
 * the least; 0 when all are taken. Two walks at most. 0 or -ENOMEM.
 */
int group_views(struct pool *pool, struct nodes *nodes, const uint32_t *subvols, unsigned n, uint16_t *views);

#endif
