/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>

#include "meta/namehash.h"
#include "meta/records.h"

#define VALID(condition)                 \
	do {                             \
		if (!(condition))        \
			return -EBADMSG; \
	} while (0)

/* ---- builders ---- */

static size_t put_node(uint8_t *buf, size_t at, uint32_t node)
{
	put_be32(buf + at, ~node);
	return at + 4;
}

size_t key_ns_prefix(void *buf, uint32_t tree, uint64_t ino, uint8_t type)
{
	uint8_t *key = buf;

	put_be32(key, tree);
	put_be64(key + 4, ino);
	key[12] = type;
	return KEY_NS_PREFIX_LEN;
}

size_t key_inode(void *buf, uint32_t tree, uint64_t ino, uint32_t node)
{
	return put_node(buf, key_ns_prefix(buf, tree, ino, REC_INODE), node);
}

size_t key_size(void *buf, uint32_t tree, uint64_t ino, uint32_t node)
{
	return put_node(buf, key_ns_prefix(buf, tree, ino, REC_SIZE), node);
}

static size_t key_with_u64(void *buf, uint32_t tree, uint64_t ino, uint8_t type, uint64_t value,
			   uint32_t node)
{
	const size_t at = key_ns_prefix(buf, tree, ino, type);

	put_be64((uint8_t *)buf + at, value);
	return put_node(buf, at + 8, node);
}

size_t key_dirent(void *buf, uint32_t tree, uint64_t dir, uint64_t cookie, uint32_t node)
{
	return key_with_u64(buf, tree, dir, REC_DIRENT, cookie, node);
}

size_t key_orphan(void *buf, uint32_t tree, uint64_t ino, uint32_t node)
{
	return key_with_u64(buf, tree, 0, REC_ORPHAN, ino, node);
}

size_t key_cut(void *buf, uint32_t tree, uint64_t ino, uint64_t sequence, uint32_t node)
{
	const size_t at = key_ns_prefix(buf, tree, 0, REC_CUT);

	put_be64((uint8_t *)buf + at, ino);
	put_be64((uint8_t *)buf + at + 8, sequence);
	return put_node(buf, at + 16, node);
}

size_t key_xattr(void *buf, uint32_t tree, uint64_t ino, const char *name, size_t len, uint32_t node)
{
	const size_t at = key_ns_prefix(buf, tree, ino, REC_XATTR);
	uint8_t *key = buf;

	assert(len >= 1 && len <= NAME_BYTES_MAX);
	key[at] = len;
	memcpy(key + at + 1, name, len);
	return put_node(key, at + 1 + len, node);
}

size_t key_map(void *buf, uint32_t tree, uint64_t ino, uint64_t chunk, uint32_t node)
{
	uint8_t *key = buf;

	put_be32(key, tree);
	put_be64(key + 4, ino);
	put_be64(key + 12, chunk);
	return put_node(key, 20, node);
}

size_t key_space(void *buf, uint16_t vdev, uint32_t zone)
{
	uint8_t *key = buf;

	put_be16(key, vdev);
	put_be32(key + 2, zone);
	return KEY_SPACE_LEN;
}

static size_t key_sys_id(void *buf, uint8_t type, uint32_t id)
{
	uint8_t *key = buf;

	key[0] = type;
	put_be32(key + 1, id);
	return 5;
}

static size_t key_sys_node(void *buf, uint8_t type, uint32_t tree, uint32_t node)
{
	const size_t at = key_sys_id(buf, type, tree);

	put_be32((uint8_t *)buf + at, node);
	return at + 4;
}

static size_t key_sys_name(void *buf, uint8_t type, const char *name, size_t len)
{
	uint8_t *key = buf;

	assert(len >= 1 && len <= NAME_BYTES_MAX);
	key[0] = type;
	memcpy(key + 1, name, len);
	return 1 + len;
}

size_t key_pool(void *buf)
{
	*(uint8_t *)buf = REC_POOL;
	return 1;
}

size_t key_subvol(void *buf, uint32_t id)
{
	return key_sys_id(buf, REC_SUBVOL, id);
}

size_t key_subvol_name(void *buf, const char *name, size_t len)
{
	return key_sys_name(buf, REC_SUBVOL_NAME, name, len);
}

size_t key_tree(void *buf, uint32_t tree)
{
	return key_sys_id(buf, REC_TREE, tree);
}

size_t key_node(void *buf, uint32_t tree, uint32_t node)
{
	return key_sys_node(buf, REC_NODE, tree, node);
}

size_t key_counters(void *buf, uint32_t tree, uint32_t node)
{
	return key_sys_node(buf, REC_COUNTERS, tree, node);
}

size_t key_tenant(void *buf, uint32_t id)
{
	return key_sys_id(buf, REC_TENANT, id);
}

size_t key_tenant_name(void *buf, const char *name, size_t len)
{
	return key_sys_name(buf, REC_TENANT_NAME, name, len);
}

size_t key_result(void *buf, uint32_t session, uint16_t slot)
{
	const size_t at = key_sys_id(buf, REC_RESULT, session);

	put_be16((uint8_t *)buf + at, slot);
	return at + 2;
}

/* ---- parsers ---- */

static bool ino_valid(uint64_t ino)
{
	return ino >= INO_ROOT && ino <= INO_MAX;
}

/* What stands between the type and the node. */
static int ns_key_parse_rest(const uint8_t *rest, size_t len, struct ns_key *out)
{
	switch (out->type) {
	case REC_INODE:
	case REC_SIZE:
		VALID(len == 0);
		return 0;
	case REC_DIRENT:
		VALID(len == 8);
		out->cookie = get_be64(rest);
		VALID(out->cookie >= COOKIE_MIN && out->cookie <= COOKIE_MAX);
		return 0;
	case REC_XATTR:
		VALID(len >= 2 && len == 1u + rest[0] && !memchr(rest + 1, 0, len - 1));
		out->name = (const char *)rest + 1;
		out->name_len = len - 1;
		return 0;
	case REC_ORPHAN:
		VALID(len == 8 && out->ino == 0);
		out->ino = get_be64(rest);
		return 0;
	case REC_CUT:
		VALID(len == 16 && out->ino == 0);
		out->ino = get_be64(rest);
		out->sequence = get_be64(rest + 8);
		return 0;
	default:
		return -EBADMSG;
	}
}

int ns_key_parse(const void *key, size_t len, struct ns_key *out)
{
	const uint8_t *bytes = key;

	VALID(len >= KEY_NS_PREFIX_LEN + 4 && len <= KEY_XATTR_MAX);
	*out = (struct ns_key){
		.type = bytes[12],
		.tree = get_be32(bytes),
		.node = ~get_be32(bytes + len - 4),
		.ino = get_be64(bytes + 4),
	};
	if (ns_key_parse_rest(bytes + KEY_NS_PREFIX_LEN, len - KEY_NS_PREFIX_LEN - 4, out) < 0)
		return -EBADMSG;
	VALID(out->tree && out->node && ino_valid(out->ino));
	return 0;
}

int map_key_parse(const void *key, size_t len, struct map_key *out)
{
	const uint8_t *bytes = key;

	VALID(len == KEY_MAP_LEN);
	*out = (struct map_key){
		.tree = get_be32(bytes),
		.node = ~get_be32(bytes + 20),
		.ino = get_be64(bytes + 4),
		.chunk = get_be64(bytes + 12),
	};
	VALID(out->tree && out->node && ino_valid(out->ino) && out->chunk <= CHUNK_LAST);
	return 0;
}

int space_key_parse(const void *key, size_t len, struct space_key *out)
{
	VALID(len == KEY_SPACE_LEN);
	*out = (struct space_key){ get_be16(key), get_be32((const uint8_t *)key + 2) };
	return 0;
}

static int sys_key_parse_name(const uint8_t *rest, size_t len, struct sys_key *out)
{
	if (object_name_validate((const char *)rest, len) < 0)
		return -EBADMSG;
	out->name = (const char *)rest;
	out->name_len = len;
	return 0;
}

int sys_key_parse(const void *key, size_t len, struct sys_key *out)
{
	const uint8_t *rest = (const uint8_t *)key + 1;

	VALID(len >= 1 && len <= KEY_SYS_MAX);
	*out = (struct sys_key){ .type = *(const uint8_t *)key };
	len--;
	switch (out->type) {
	case REC_POOL:
		VALID(len == 0);
		return 0;
	case REC_SUBVOL:
	case REC_TREE:
	case REC_TENANT:
		VALID(len == 4);
		break;
	case REC_NODE:
	case REC_COUNTERS:
		VALID(len == 8);
		out->node = get_be32(rest + 4);
		VALID(out->node);
		break;
	case REC_RESULT:
		VALID(len == 6);
		out->slot = get_be16(rest + 4);
		out->id = get_be32(rest);
		return 0;
	case REC_SUBVOL_NAME:
	case REC_TENANT_NAME:
		return sys_key_parse_name(rest, len, out);
	default:
		return -EBADMSG;
	}
	out->id = get_be32(rest);
	VALID(out->id);
	return 0;
}
