/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_SYSREC_H
#define NVFS_META_SYSREC_H

#include "meta/db.h"
#include "meta/records.h"

/* Reading the few records of `sys` by callers that may sleep. 0, -ENOENT, -EBADMSG (not logged), -EIO. */

int sysrec_pool(struct db *db, struct pool_rec *out);
int sysrec_subvol_id(struct db *db, const char *name, uint32_t *id);
/* out->name leads into name, 256 bytes, which is NUL-terminated. */
int sysrec_subvol(struct db *db, uint32_t id, struct subvol_rec *out, char *name);
int sysrec_node(struct db *db, uint32_t tree, uint32_t node, struct node_rec *out, char *name);
int sysrec_tree(struct db *db, uint32_t tree, uint64_t *next_ino);
/* All zeros when there is no such record. */
int sysrec_counters(struct db *db, uint32_t tree, uint32_t node, struct counters_rec *out);

/* fn for each record of this type, in the order of keys, until it returns non-zero, which is returned. */
typedef int (*sysrec_fn)(void *arg, const struct sys_key *key, const void *value, size_t len);
int sysrec_each(struct db *db, uint8_t type, sysrec_fn fn, void *arg);
/* The same as of a moment. */
int sysrec_each_at(struct db *db, const struct db_snapshot *at, uint8_t type, sysrec_fn fn, void *arg);

/* Puts into a batch. */
void sysrec_put_pool(struct db *db, struct db_batch *batch, const struct pool_rec *rec);
void sysrec_put_subvol(struct db *db, struct db_batch *batch, uint32_t id, const struct subvol_rec *rec);
void sysrec_put_node(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct node_rec *rec);
void sysrec_put_tree(struct db *db, struct db_batch *batch, uint32_t tree, uint64_t next_ino);
void sysrec_put_tenant(struct db *db, struct db_batch *batch, uint32_t id, const struct tenant_rec *rec);
void sysrec_add_counters(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct counters_rec *delta);

#endif
