/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every decoder of records and every parser of keys. Input: one byte that selects, then the bytes.
 * Reserved bytes are not kept by decoding, so bytes are compared after they were encoded once.
 */
#include "config.h"

#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/merge.h"
#include "meta/records.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "records";

static FILE *nowhere(void)
{
	static FILE *f;

	if (!f)
		f = fopen("/dev/null", "w");
	if (!f)
		abort();
	return f;
}

/* decode, print, encode, decode, encode: the two encodings agree, and are as long as the input. */
#define CHECK_RECORD(name)                                                    \
	static void check_##name(const void *data, size_t len)                \
	{                                                                     \
		static uint8_t one[1 << 17], two[1 << 17];                    \
		struct name##_rec rec;                                        \
                                                                              \
		if (name##_rec_decode(data, len, &rec) < 0)                   \
			return;                                               \
		name##_rec_print(nowhere(), &rec);                            \
		FUZZ_CHECK(name##_rec_encode(&rec, one) == len);              \
		FUZZ_CHECK(name##_rec_decode(one, len, &rec) == 0);           \
		FUZZ_CHECK(name##_rec_encode(&rec, two) == len);              \
		FUZZ_CHECK(memcmp(one, two, len) == 0);                       \
	}

CHECK_RECORD(inode)
CHECK_RECORD(size)
CHECK_RECORD(dirent)
CHECK_RECORD(xattr)
CHECK_RECORD(orphan)
CHECK_RECORD(cut)
CHECK_RECORD(map)
CHECK_RECORD(pool)
CHECK_RECORD(subvol)
CHECK_RECORD(node)
CHECK_RECORD(counters)
CHECK_RECORD(tenant)
CHECK_RECORD(result)

static void check_tree(const void *data, size_t len)
{
	uint8_t buf[TREE_REC_LEN];
	uint64_t next;

	if (tree_rec_decode(data, len, &next) == 0)
		FUZZ_CHECK(tree_rec_encode(next, buf) == len);
}

static void check_index(const void *data, size_t len)
{
	uint8_t buf[INDEX_REC_LEN];
	uint32_t id;

	if (index_rec_decode(data, len, REC_SUBVOL_NAME, &id) == 0)
		FUZZ_CHECK(index_rec_encode(REC_SUBVOL_NAME, id, buf) == len);
	if (index_rec_decode(data, len, REC_TENANT_NAME, &id) == 0)
		FUZZ_CHECK(index_rec_encode(REC_TENANT_NAME, id, buf) == len);
}

/* A value, split by its first byte into an existing one and an operand of a merge. */
static void check_space(const void *data, size_t len)
{
	struct space_rec rec;

	if (space_rec_decode(data, len, &rec) == 0)
		space_rec_print(nowhere(), &rec);
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

static void check_merge(const uint8_t *data, size_t len)
{
	const size_t cut = len ? (data[0] * (size_t)4) % len : 0;
	const char *operand = (const char *)data + cut;
	const size_t operand_len = len - cut;
	struct space_rec rec;
	size_t out_len;

	if (cut < 1)
		return;
	log_set_sink(drop_line, NULL);
	for (int partial = 0; partial < 2; partial++) {
		cleanup_free void *sum = merge_space(partial ? NULL : data + 1, cut - 1, &operand,
						     &operand_len, 1, partial, &out_len);

		if (!sum)
			continue;
		FUZZ_CHECK(space_rec_decode(sum, out_len, &rec) == 0);
		FUZZ_CHECK(rec.operand == partial);
	}
	free(merge_counters(data + 1, cut - 1, &operand, &operand_len, 1, false, &out_len));
}

static void check_keys(const uint8_t *data, size_t len)
{
	struct ns_key ns;
	struct map_key map;
	struct space_key space;
	struct sys_key sys;
	uint8_t buf[KEY_MAX];

	if (ns_key_parse(data, len, &ns) == 0)
		ns_key_print(nowhere(), &ns);
	if (map_key_parse(data, len, &map) == 0) {
		map_key_print(nowhere(), &map);
		FUZZ_CHECK(key_map(buf, map.tree, map.ino, map.chunk, map.node) == len);
		FUZZ_CHECK(memcmp(buf, data, len) == 0);
	}
	if (space_key_parse(data, len, &space) == 0) {
		FUZZ_CHECK(key_space(buf, space.vdev, space.zone) == len);
		FUZZ_CHECK(memcmp(buf, data, len) == 0);
	}
	if (sys_key_parse(data, len, &sys) == 0)
		sys_key_print(nowhere(), &sys);
}

/* The first byte of the rest is the length of the key. */
static void check_entry(const uint8_t *data, size_t len)
{
	size_t key_len;

	if (!len)
		return;
	key_len = data[0] < len - 1 ? data[0] : len - 1;
	for (int family = REC_FAMILY_NS; family <= REC_FAMILY_SYS; family++)
		rec_print(nowhere(), family, data + 1, key_len, data + 1 + key_len,
			  len - 1 - key_len);
}

enum { INODE, SIZE, DIRENT, XATTR, ORPHAN, CUT, MAP, POOL, SUBVOL, NODE, COUNTERS, TENANT, RESULT,
       TREE, INDEX, SPACE, MERGE, KEYS, ENTRY, KINDS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	len--;
	switch (*data++ % KINDS) {
	case INODE: check_inode(data, len); break;
	case SIZE: check_size(data, len); break;
	case DIRENT: check_dirent(data, len); break;
	case XATTR: check_xattr(data, len); break;
	case ORPHAN: check_orphan(data, len); break;
	case CUT: check_cut(data, len); break;
	case MAP: check_map(data, len); break;
	case POOL: check_pool(data, len); break;
	case SUBVOL: check_subvol(data, len); break;
	case NODE: check_node(data, len); break;
	case COUNTERS: check_counters(data, len); break;
	case TENANT: check_tenant(data, len); break;
	case RESULT: check_result(data, len); break;
	case TREE: check_tree(data, len); break;
	case INDEX: check_index(data, len); break;
	case SPACE: check_space(data, len); break;
	case MERGE: check_merge(data, len); break;
	case KEYS: check_keys(data, len); break;
	default: check_entry(data, len); break;
	}
	return 0;
}

/* ---- seeds ---- */

static const struct rec_time now = { 1700000000, 999999999 };

static size_t seed_map(uint8_t *buf)
{
	struct map_rec rec = { .seq = 7, .nruns = 4 };

	rec.runs[0] = (struct map_run){ .block = 0, .count = 3, .raw_blocks = 3, .stored_blocks = 3,
					.vdev = 1, .address = 4711 };
	rec.runs[1] = (struct map_run){ .block = 3, .count = 5, .flags = RUN_UNWRITTEN };
	rec.runs[2] = (struct map_run){ .block = 10, .count = 8, .skip = 2, .raw_blocks = 12,
					.stored_blocks = 5, .stored_bytes = 18000, .address = 99,
					.flags = RUN_COMPRESSED };
	rec.runs[3] = (struct map_run){ .block = 63, .count = 1, .raw_blocks = 1, .stored_blocks = 1,
					.flags = RUN_NO_CHECKSUM | RUN_INHERITED, .address = 12 };
	for (unsigned i = 0; i < 4; i++)
		rec.crcs[i] = i;
	return map_rec_encode(&rec, buf);
}

static size_t seed_space(uint8_t *buf, bool operand)
{
	static const struct space_span spans[] = { { 0, 2, 1 }, { 2, 5, 3 }, { 16000, 384, 1 } };

	return space_rec_encode(operand, spans, 3, buf);
}

static size_t seed_merge(uint8_t *buf)
{
	const size_t n = 1 + seed_space(buf + 1, false);

	buf[0] = n / 4;
	memset(buf + n, 0, n % 4);
	return n + seed_space(buf + buf[0] * (size_t)4, true);
}

static size_t seed_entry(uint8_t *buf)
{
	buf[0] = key_map(buf + 1, 1, 2, 3, 4);
	return 1 + buf[0] + seed_map(buf + 1 + buf[0]);
}

static size_t seed_ns(unsigned kind, uint8_t *buf)
{
	const struct inode_rec inode = { .mode = S_IFLNK | 0777, .nlink = 1, .parent = 1,
					 .target = "a/b", .target_len = 3, .atime = now, .mtime = now,
					 .ctime = now, .btime = now };
	const struct size_rec size = { .is_inline = true, .inline_len = 5, .size = 5,
				       .data = "hello", .mtime = now, .ctime = now };
	const struct dirent_rec dirent = { .file_type = S_IFREG >> 12, .ino = 2, .name = "name",
					   .name_len = 4 };
	const struct xattr_rec xattr = { .value = "value", .len = 5 };
	const struct orphan_rec orphan = { ORPHAN_REAPING };
	const struct cut_rec cut = { 3, CUT_TO_END };

	switch (kind) {
	case INODE: return inode_rec_encode(&inode, buf);
	case SIZE: return size_rec_encode(&size, buf);
	case DIRENT: return dirent_rec_encode(&dirent, buf);
	case XATTR: return xattr_rec_encode(&xattr, buf);
	case ORPHAN: return orphan_rec_encode(&orphan, buf);
	default: return cut_rec_encode(&cut, buf);
	}
}

static size_t seed_sys(unsigned kind, uint8_t *buf)
{
	const struct pool_rec pool = { .next_subvol = 1, .next_tree = 1, .next_node = 1,
				       .next_tenant = 2, .next_session = 1, .overcommit_percent = 100 };
	const struct subvol_rec subvol = { .tree = 1, .node = 1, .tenant = 1, .incarnation = 1,
					   .size_blocks = 9, .inodes_max = 9, .rates = { 1, 2, 3, 4 }, .name = "web",
					   .name_len = 3 };
	const struct node_rec node = { .state = NODE_SNAPSHOT, .tenant = 1, .subvol = 1,
				       .first_ino = 2, .view = 1, .name = "daily", .name_len = 5 };
	const struct counters_rec counters = { .born = -1, .meta = 3 };
	const struct tenant_rec tenant = { .name = "default", .name_len = 7, .soft_since_ns = 1,
					   .set = { .limits = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, .soft_blocks = 1, .grace_s = 1,
						    .uid_count = 2, .gid_count = 1, .uids = { 1, 2 }, .gids = { 3 } } };
	const struct result_rec result = { .error = -2, .unique = 5, .reply = "ok", .length = 2 };

	switch (kind) {
	case POOL: return pool_rec_encode(&pool, buf);
	case SUBVOL: return subvol_rec_encode(&subvol, buf);
	case NODE: return node_rec_encode(&node, buf);
	case COUNTERS: return counters_rec_encode(&counters, buf);
	case TENANT: return tenant_rec_encode(&tenant, buf);
	default: return result_rec_encode(&result, buf);
	}
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	if (i >= KINDS || max < 8192)
		return 0;
	*buf++ = i;
	switch (i) {
	case MAP: return 1 + seed_map(buf);
	case TREE: return 1 + tree_rec_encode(2, buf);
	case INDEX: return 1 + index_rec_encode(REC_SUBVOL_NAME, 1, buf);
	case SPACE: return 1 + seed_space(buf, false);
	case MERGE: return 1 + seed_merge(buf);
	case KEYS: return 1 + key_xattr(buf, 1, 2, "user.x", 6, 3);
	case ENTRY: return 1 + seed_entry(buf);
	default: return 1 + (i <= CUT ? seed_ns(i, buf) : seed_sys(i, buf));
	}
}
