/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "meta/sysrec.h"

static int get(struct db *db, const uint8_t *key, size_t key_len, struct db_value *out)
{
	return db_get(db, DB_SYS, key, key_len, 0, out);
}

int sysrec_pool(struct db *db, struct pool_rec *out)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r = get(db, key, key_pool(key), &v);

	return r ?: pool_rec_decode(v.data, v.len, out);
}

int sysrec_subvol_id(struct db *db, const char *name, uint32_t *id)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r;

	if (object_name_validate(name, strlen(name)))
		return -ENOENT;
	r = get(db, key, key_subvol_name(key, name, strlen(name)), &v);
	return r ?: index_rec_decode(v.data, v.len, REC_SUBVOL_NAME, id);
}

static const char *keep_name(char *buf, const char *name, size_t len)
{
	memcpy(buf, name, len);
	buf[len] = 0;
	return buf;
}

int sysrec_subvol(struct db *db, uint32_t id, struct subvol_rec *out, char *name)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r = get(db, key, key_subvol(key, id), &v);

	if (!r)
		r = subvol_rec_decode(v.data, v.len, out);
	if (!r)
		out->name = keep_name(name, out->name, out->name_len);
	return r;
}

int sysrec_node(struct db *db, uint32_t tree, uint32_t node, struct node_rec *out, char *name)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r = get(db, key, key_node(key, tree, node), &v);

	if (!r)
		r = node_rec_decode(v.data, v.len, out);
	if (!r)
		out->name = keep_name(name, out->name, out->name_len);
	return r;
}

int sysrec_tree(struct db *db, uint32_t tree, uint64_t *next_ino)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r = get(db, key, key_tree(key, tree), &v);

	return r ?: tree_rec_decode(v.data, v.len, next_ino);
}

int sysrec_counters(struct db *db, uint32_t tree, uint32_t node, struct counters_rec *out)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	int r = get(db, key, key_counters(key, tree, node), &v);

	memset(out, 0, sizeof(*out));
	if (r)
		return r == -ENOENT ? 0 : r;
	return counters_rec_decode(v.data, v.len, out);
}

int sysrec_each(struct db *db, uint8_t type, sysrec_fn fn, void *arg)
{
	return sysrec_each_at(db, NULL, type, fn, arg);
}

int sysrec_each_at(struct db *db, const struct db_snapshot *at, uint8_t type, sysrec_fn fn, void *arg)
{
	const uint8_t from[1] = { type }, to[1] = { (uint8_t)(type + 1) };
	cleanup_db_iter struct db_iter *iter = db_iter_new_at(db, at, DB_SYS, from, 1, to, 1, 0);

	if (!iter)
		return -ENOMEM;
	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter)) {
		size_t key_len, len;
		const void *key = db_iter_key(iter, &key_len), *value = db_iter_value(iter, &len);
		struct sys_key parsed;
		int r = sys_key_parse(key, key_len, &parsed);

		if (!r)
			r = fn(arg, &parsed, value, len);
		if (r)
			return r;
	}
	return db_iter_error(iter);
}

void sysrec_put_pool(struct db *db, struct db_batch *batch, const struct pool_rec *rec)
{
	uint8_t key[KEY_MAX], value[POOL_REC_MAX];
	const size_t key_len = key_pool(key);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, pool_rec_encode(rec, value));
}

void sysrec_put_subvol(struct db *db, struct db_batch *batch, uint32_t id, const struct subvol_rec *rec)
{
	uint8_t key[KEY_MAX], value[SUBVOL_REC_MAX];
	const size_t key_len = key_subvol(key, id);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, subvol_rec_encode(rec, value));
}

void sysrec_put_node(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct node_rec *rec)
{
	uint8_t key[KEY_MAX], value[NODE_REC_MAX];
	const size_t key_len = key_node(key, tree, node);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, node_rec_encode(rec, value));
}

void sysrec_put_tree(struct db *db, struct db_batch *batch, uint32_t tree, uint64_t next_ino)
{
	uint8_t key[KEY_MAX], value[TREE_REC_LEN];
	const size_t key_len = key_tree(key, tree);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, tree_rec_encode(next_ino, value));
}

void sysrec_put_tenant(struct db *db, struct db_batch *batch, uint32_t id, const struct tenant_rec *rec)
{
	uint8_t key[KEY_MAX], value[TENANT_REC_MAX], index[INDEX_REC_LEN];
	size_t key_len = key_tenant(key, id);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, tenant_rec_encode(rec, value));
	key_len = key_tenant_name(key, rec->name, rec->name_len);
	db_batch_put(db, batch, DB_SYS, key, key_len, index, index_rec_encode(REC_TENANT_NAME, id, index));
}

void sysrec_add_counters(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct counters_rec *delta)
{
	uint8_t key[KEY_MAX], value[COUNTERS_REC_LEN];
	const size_t key_len = key_counters(key, tree, node);

	db_batch_merge(db, batch, DB_SYS, key, key_len, value, counters_rec_encode_operand(delta, value));
}
