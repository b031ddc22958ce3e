/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check on a small pool that is made here record by record: clean at first, then with one kind of damage at
 * a time, each on a copy. Every damage must be found by its own message; what can be computed
 * must be repaired, and a check after that must find nothing.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <lz4.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"
#include "io/log.h"
#include "io/sim.h"
#include "meta/check.h"
#include "meta/db.h"
#include "meta/dump.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "meta/metafs_table.h"
#include "meta/namehash.h"
#include "meta/records.h"
#include "tests/unit/unit.h"

#define DEVICES 2
#define DEVICE_BYTES (64ull << 20)
#define TREE 1u
#define NODE 1u
#define SUBVOL 1u

enum { FOLDER = 2, FILE_PLAIN = 3, FILE_INLINE = 4, LINK = 5, ORPHAN = 6, NEXT_INO = 100 };

struct rig {
	struct device *dev[DEVICES];
	struct label labels[LABEL_DEVICES_MAX];
	struct metafs *mf;
	struct db *db;
	uint64_t data_block; /* of device 0: the first of data */
	uint32_t data_zone;
};

static struct rig base;
static char output[1 << 16];

/* ---- making it ---- */

static void rig_open(struct rig *rig, bool create)
{
	struct metafs_options options = { .devices = rig->dev, .labels = rig->labels };
	struct db_options dbo = { .create = create };

	ck_assert_int_eq(metafs_open(&options, &rig->mf), 0);
	ck_assert_int_eq(db_open(rig->mf, &dbo, &rig->db), 0);
}

static void rig_shut(struct rig *rig)
{
	ck_assert_int_eq(db_sync(rig->db), 0);
	db_close(rig->db);
	metafs_close(rig->mf);
	rig->db = NULL;
	rig->mf = NULL;
}

static void rig_free(struct rig *rig)
{
	for (unsigned i = 0; i < DEVICES; i++)
		device_close(rig->dev[i]);
}

static void rig_copy(const struct rig *from, struct rig *to)
{
	*to = *from;
	for (unsigned i = 0; i < DEVICES; i++)
		ck_assert_int_eq(sim_snapshot_current(from->dev[i], &to->dev[i]), 0);
}

static void put(struct rig *rig, enum db_cf cf, const void *key, size_t key_len, const void *value, size_t len)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_put(rig->db, b, cf, key, key_len, value, len);
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

static void del(struct rig *rig, enum db_cf cf, const void *key, size_t key_len)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_delete(rig->db, b, cf, key, key_len);
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

static uint8_t key[KEY_MAX];
static uint8_t value[1 << 17];

static void put_inode(struct rig *rig, uint64_t ino, const struct inode_rec *rec)
{
	put(rig, DB_NS, key, key_inode(key, TREE, ino, NODE), value, inode_rec_encode(rec, value));
}

static uint64_t cookie(const struct rig *rig, const char *name)
{
	return cookie_of(rig->labels[0].hash_key, name, strlen(name));
}

static void put_entry(struct rig *rig, uint64_t dir, const char *name, uint64_t ino, uint32_t mode)
{
	const struct dirent_rec rec = { .file_type = mode >> 12, .ino = ino, .name = name,
					.name_len = strlen(name) };

	put(rig, DB_NS, key, key_dirent(key, TREE, dir, cookie(rig, name), NODE), value,
	    dirent_rec_encode(&rec, value));
}

static void put_sys(struct rig *rig)
{
	const struct pool_rec pool = { .next_subvol = 2, .next_tree = 2, .next_node = 2, .next_tenant = 2,
				       .next_session = 1, .overcommit_percent = 100, .headroom_blocks = 100 };
	const struct subvol_rec subvol = { .flags = SUBVOL_RESERVED, .tree = TREE, .node = NODE, .tenant = 1,
					   .incarnation = 1, .size_blocks = 1000, .inodes_max = 50,
					   .name = "web", .name_len = 3 };
	const struct node_rec node = { .state = NODE_LIVE, .subvol = SUBVOL, .tenant = 1, .first_ino = 1 };
	const struct tenant_rec tenant = { .name = "default", .name_len = 7 };
	const struct counters_rec counters = { .born = 14, .referenced = 14, .meta = 4, .inodes = 6,
					       .meta_born = 4, .inodes_born = 6, .unwritten = 2 };

	put(rig, DB_SYS, key, key_pool(key), value, pool_rec_encode(&pool, value));
	put(rig, DB_SYS, key, key_subvol(key, SUBVOL), value, subvol_rec_encode(&subvol, value));
	put(rig, DB_SYS, key, key_subvol_name(key, "web", 3), value, index_rec_encode('N', SUBVOL, value));
	put(rig, DB_SYS, key, key_tree(key, TREE), value, tree_rec_encode(NEXT_INO, value));
	put(rig, DB_SYS, key, key_node(key, TREE, NODE), value, node_rec_encode(&node, value));
	put(rig, DB_SYS, key, key_tenant(key, 1), value, tenant_rec_encode(&tenant, value));
	put(rig, DB_SYS, key, key_tenant_name(key, "default", 7), value, index_rec_encode('e', 1, value));
	put(rig, DB_SYS, key, key_counters(key, TREE, NODE), value, counters_rec_encode(&counters, value));
}

static struct inode_rec dir_inode(uint64_t entries, uint64_t bytes, uint32_t nlink)
{
	return (struct inode_rec){ .mode = S_IFDIR | 0755, .nlink = nlink, .parent = INO_ROOT,
				   .entries = entries, .entry_bytes = bytes };
}

static const struct xattr_rec acl = { .value = "acl", .len = 3 };
#define ACL_NAME "system.posix_acl_access"

static struct inode_rec file_inode(void)
{
	return (struct inode_rec){ .mode = S_IFREG | 0644, .nlink = 1, .parent = FOLDER,
				   .flags = INODE_ACCESS_ACL, .xattr_bytes = sizeof(ACL_NAME) - 1 + 3 };
}

static struct size_rec inline_size(void)
{
	return (struct size_rec){ .is_inline = true, .inline_len = 5, .size = 5, .data = "hello",
				  .inline_crc = crc32c(0, "hello", 5) };
}

static void put_size(struct rig *rig, uint64_t ino, const struct size_rec *rec)
{
	put(rig, DB_NS, key, key_size(key, TREE, ino, NODE), value, size_rec_encode(rec, value));
}

/* /dir/file (maps), /inline and /dir/hard (one inode), /link, and an orphan. */
static void put_ns(struct rig *rig)
{
	const struct inode_rec root = dir_inode(3, 3 * 24 + 3 + 6 + 4, 3), dir = dir_inode(2, 2 * 24 + 4 + 4, 2);
	const struct inode_rec file = file_inode();
	const struct inode_rec twice = { .mode = S_IFREG | 0600, .nlink = 2, .parent = INO_ROOT };
	const struct inode_rec link = { .mode = S_IFLNK | 0777, .nlink = 1, .parent = INO_ROOT, .target = "dir",
					.target_len = 3 };
	const struct inode_rec orphan = { .mode = S_IFREG, .nlink = 0, .parent = INO_ROOT };
	const struct size_rec size = { .size = 20 * 4096, .blocks = 14 }, in = inline_size();

	put_inode(rig, INO_ROOT, &root);
	put_inode(rig, FOLDER, &dir);
	put_inode(rig, FILE_PLAIN, &file);
	put_inode(rig, FILE_INLINE, &twice);
	put_inode(rig, LINK, &link);
	put_inode(rig, ORPHAN, &orphan);
	put_entry(rig, INO_ROOT, "dir", FOLDER, S_IFDIR);
	put_entry(rig, INO_ROOT, "inline", FILE_INLINE, S_IFREG);
	put_entry(rig, INO_ROOT, "link", LINK, S_IFLNK);
	put_entry(rig, FOLDER, "file", FILE_PLAIN, S_IFREG);
	put_entry(rig, FOLDER, "hard", FILE_INLINE, S_IFREG);
	put_size(rig, FILE_PLAIN, &size);
	put_size(rig, FILE_INLINE, &in);
	put(rig, DB_NS, key, key_xattr(key, TREE, FILE_PLAIN, ACL_NAME, sizeof(ACL_NAME) - 1, NODE), value,
	    xattr_rec_encode(&acl, value));
	put(rig, DB_NS, key, key_orphan(key, TREE, ORPHAN, NODE), value,
	    orphan_rec_encode(&(struct orphan_rec){ ORPHAN_UNLINKED }, value));
}

/* Four plain blocks, two unwritten ones, eight that are compressed into one. */
static struct map_rec sample_map(struct rig *rig, bool write)
{
	static uint8_t block[4 * 4096] __attribute__((aligned(4096)));
	static uint8_t raw[8 * 4096], packed[4096] __attribute__((aligned(4096)));
	struct map_rec rec = { .seq = 1, .nruns = 3 };
	int len;

	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = i * 31 + i / 4096;
	len = LZ4_compress_default((const char *)raw, (char *)packed, sizeof(raw), sizeof(packed));
	rec.runs[0] = (struct map_run){ .count = 4, .raw_blocks = 4, .stored_blocks = 4,
					.address = rig->data_block };
	rec.runs[1] = (struct map_run){ .block = 4, .count = 2, .flags = RUN_UNWRITTEN };
	rec.runs[2] = (struct map_run){ .block = 6, .count = 8, .raw_blocks = 8, .stored_blocks = 1,
					.stored_bytes = len, .address = rig->data_block + 4,
					.flags = RUN_COMPRESSED };
	for (unsigned i = 0; i < 4; i++)
		rec.crcs[i] = crc32c(0, block + i * 4096, 4096);
	rec.crcs[4] = crc32c(0, packed, len);
	if (write) {
		ck_assert_int_eq(device_write(rig->dev[0], block, sizeof(block), rig->data_block * 4096, 0), 0);
		ck_assert_int_eq(device_write(rig->dev[0], packed, 4096, (rig->data_block + 4) * 4096, 0), 0);
	}
	return rec;
}

static void put_map(struct rig *rig, uint64_t ino, uint64_t chunk, const struct map_rec *rec)
{
	put(rig, DB_MAP, key, key_map(key, TREE, ino, chunk, NODE), value, map_rec_encode(rec, value));
}

static void put_holders(struct rig *rig, uint32_t zone, uint16_t first, uint32_t blocks, int32_t holders)
{
	const struct space_span span = { first, blocks, holders };

	put(rig, DB_SPACE, key, key_space(key, 0, zone), value, space_rec_encode(false, &span, 1, value));
}

/* A data zone of device 0 is one that metafs does not own. */
static void find_data(struct rig *rig)
{
	const struct metafs_range *ranges;
	const unsigned n = metafs_ranges(rig->mf, &ranges);

	for (rig->data_zone = 0;; rig->data_zone++) {
		bool taken = false;

		for (unsigned i = 0; i < n; i++)
			taken |= ranges[i].vdev == 0 && rig->data_zone >= ranges[i].first &&
				 rig->data_zone - ranges[i].first < ranges[i].count;
		if (!taken)
			break;
	}
	rig->data_block = label_zone_block(&rig->labels[0], rig->data_zone);
}

static void base_make(void)
{
	struct label_plan plan = { .name = "tank", .devices = DEVICES, .inodes_max = 1000 };
	struct label_share share;
	struct map_rec map;
	char why[200] = "";

	for (unsigned i = 0; i < DEVICES; i++) {
		plan.size_bytes[i] = DEVICE_BYTES;
		ck_assert_int_eq(device_sim_create(DEVICE_BYTES, NULL, &base.dev[i]), 0);
	}
	ck_assert_msg(!label_layout(&plan, base.labels, &share, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(metafs_format(base.dev, base.labels, &share), 0);
	for (unsigned i = 0; i < DEVICES; i++)
		ck_assert_int_eq(label_write(base.dev[i], &base.labels[i]), 0);
	rig_open(&base, true);
	find_data(&base);
	put_sys(&base);
	put_ns(&base);
	map = sample_map(&base, true);
	put_map(&base, FILE_PLAIN, 0, &map);
	put_holders(&base, base.data_zone, 0, 5, 1);
	rig_shut(&base);
}

static void base_free(void)
{
	rig_free(&base);
}

/* ---- running it ---- */

static int run_check(struct rig *rig, bool repair, bool data, struct check_result *result)
{
	struct check_options options = { .repair = repair, .data = data };
	int err;

	options.out = fmemopen(output, sizeof(output), "w");
	ck_assert_ptr_nonnull(options.out);
	err = check_pool(rig->dev, DEVICES, &options, result);
	fclose(options.out);
	if (err)
		printf("%s", output);
	return err;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

START_TEST(clean)
{
	struct check_result r;

	ck_assert_int_eq(run_check(&base, false, true, &r), 0);
	ck_assert_msg(r.found == 0, "%s", output);
	ck_assert_str_eq(r.pool, "tank");
	ck_assert_uint_eq(r.inodes, 6);
	ck_assert_uint_eq(r.data_blocks, 5);
	/* Repairing a clean pool changes nothing that a check could find. */
	ck_assert_int_eq(run_check(&base, true, true, &r), 0);
	ck_assert_uint_eq(r.found, 0);
	ck_assert_int_eq(run_check(&base, false, false, &r), 0);
	ck_assert_uint_eq(r.found, 0);
}
END_TEST

/* ---- damages of records ---- */

enum outcome {
	COMPUTED, /* repaired, and clean after that */
	LEFT,     /* found, and still there after a repair */
};

struct damage {
	void (*fn)(struct rig *rig);
	const char *message;
	enum outcome outcome;
};

static void no_pool_record(struct rig *rig)
{
	del(rig, DB_SYS, key, key_pool(key));
}

static void malformed_sys(struct rig *rig)
{
	put(rig, DB_SYS, key, key_tenant(key, 1), "E", 1);
}

static void no_name_index(struct rig *rig)
{
	del(rig, DB_SYS, key, key_subvol_name(key, "web", 3));
}

static void stray_name_index(struct rig *rig)
{
	put(rig, DB_SYS, key, key_subvol_name(key, "gone", 4), value, index_rec_encode('N', 9, value));
}

static void stray_tenant_index(struct rig *rig)
{
	put(rig, DB_SYS, key, key_tenant_name(key, "gone", 4), value, index_rec_encode('e', 9, value));
}

static void wrong_counters(struct rig *rig)
{
	const struct counters_rec delta = { .born = 3, .meta = -1 };
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_merge(rig->db, b, DB_SYS, key, key_counters(key, TREE, NODE), value,
		       counters_rec_encode_operand(&delta, value));
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

static void no_counters(struct rig *rig)
{
	del(rig, DB_SYS, key, key_counters(key, TREE, NODE));
}

static void stray_counters(struct rig *rig)
{
	put(rig, DB_SYS, key, key_counters(key, TREE, 7), value,
	    counters_rec_encode(&(struct counters_rec){ 0 }, value));
}

static void stray_result(struct rig *rig)
{
	const struct result_rec rec = { .unique = 1 };

	put(rig, DB_SYS, key, key_result(key, 9, 0), value, result_rec_encode(&rec, value));
}

static void next_ino_too_low(struct rig *rig)
{
	put(rig, DB_SYS, key, key_tree(key, TREE), value, tree_rec_encode(5, value));
}

static void over_its_limit(struct rig *rig)
{
	const struct subvol_rec subvol = { .tree = TREE, .node = NODE, .tenant = 1, .incarnation = 1,
					   .size_blocks = 10, .inodes_max = 50, .name = "web", .name_len = 3 };

	put(rig, DB_SYS, key, key_subvol(key, SUBVOL), value, subvol_rec_encode(&subvol, value));
}

static void no_node(struct rig *rig)
{
	del(rig, DB_SYS, key, key_node(key, TREE, NODE));
}

/* A record that inherits asks for its nearest ancestor: the way up must end. */
static void parents_in_circle(struct rig *rig)
{
	struct node_rec node = { .state = NODE_INTERIOR, .subvol = SUBVOL, .tenant = 1, .first_ino = 1 };
	struct map_rec rec = sample_map(rig, false);

	node.parent = 7;
	put(rig, DB_SYS, key, key_node(key, TREE, 5), value, node_rec_encode(&node, value));
	node.parent = 5;
	put(rig, DB_SYS, key, key_node(key, TREE, 7), value, node_rec_encode(&node, value));
	rec.runs[0].flags |= RUN_INHERITED;
	put(rig, DB_MAP, key, key_map(key, TREE, FILE_PLAIN, 0, 7), value, map_rec_encode(&rec, value));
}

static void entries_miscounted(struct rig *rig)
{
	const struct inode_rec dir = dir_inode(3, 3 * 24 + 4 + 4 + 4, 2);

	put_inode(rig, FOLDER, &dir);
}

static void entry_of_nothing(struct rig *rig)
{
	const struct inode_rec dir = dir_inode(3, 3 * 24 + 4 + 4 + 4, 2);

	put_inode(rig, FOLDER, &dir);
	put_entry(rig, FOLDER, "gone", 77, S_IFREG);
}

static void entry_of_wrong_type(struct rig *rig)
{
	put_entry(rig, FOLDER, "file", FILE_PLAIN, S_IFIFO);
}

static void entry_at_wrong_cookie(struct rig *rig)
{
	const struct dirent_rec rec = { .file_type = 8, .ino = FILE_PLAIN, .name = "file", .name_len = 4 };

	del(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie(rig, "file"), NODE));
	put(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie_add(cookie(rig, "file"), 1000), NODE), value,
	    dirent_rec_encode(&rec, value));
}

static void entry_moved_further(struct rig *rig)
{
	const struct dirent_rec rec = { .file_type = 8, .ino = FILE_PLAIN, .name = "file", .name_len = 4 };

	del(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie(rig, "file"), NODE));
	put(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie_add(cookie(rig, "file"), 3), NODE), value,
	    dirent_rec_encode(&rec, value));
}

static void same_name_twice(struct rig *rig)
{
	const struct dirent_rec rec = { .file_type = 8, .ino = FILE_INLINE, .name = "hard", .name_len = 4 };
	struct inode_rec dir = dir_inode(3, 3 * 24 + 4 + 4 + 4, 2);
	const struct inode_rec thrice = { .mode = S_IFREG | 0600, .nlink = 3, .parent = INO_ROOT };

	dir.max_probe = 1;
	put_inode(rig, FOLDER, &dir);
	put_inode(rig, FILE_INLINE, &thrice);
	put(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie_add(cookie(rig, "hard"), 1), NODE), value,
	    dirent_rec_encode(&rec, value));
}

static void no_entry_leads_here(struct rig *rig)
{
	const struct inode_rec dir = dir_inode(1, 24 + 4, 2);

	put_inode(rig, FOLDER, &dir);
	del(rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie(rig, "file"), NODE));
}

static void wrong_nlink(struct rig *rig)
{
	const struct inode_rec once = { .mode = S_IFREG | 0600, .nlink = 1, .parent = INO_ROOT };

	put_inode(rig, FILE_INLINE, &once);
}

static void wrong_nlink_of_directory(struct rig *rig)
{
	const struct inode_rec root = dir_inode(3, 3 * 24 + 3 + 6 + 4, 7);

	put_inode(rig, INO_ROOT, &root);
}

static void directory_elsewhere(struct rig *rig)
{
	struct inode_rec dir = dir_inode(2, 2 * 24 + 4 + 4, 2);

	dir.parent = FOLDER;
	put_inode(rig, FOLDER, &dir);
}

static void lost_inode(struct rig *rig)
{
	del(rig, DB_NS, key, key_inode(key, TREE, LINK, NODE));
}

static void malformed_inode(struct rig *rig)
{
	put(rig, DB_NS, key, key_inode(key, TREE, FILE_PLAIN, NODE), "Inode", 5);
}

static void malformed_key(struct rig *rig)
{
	put(rig, DB_NS, "what", 4, "X\1", 2);
}

static void leftover_size(struct rig *rig)
{
	const struct size_rec size = { .size = 0 };

	put_size(rig, 50, &size);
}

static void orphan_without_inode(struct rig *rig)
{
	put(rig, DB_NS, key, key_orphan(key, TREE, 51, NODE), value,
	    orphan_rec_encode(&(struct orphan_rec){ ORPHAN_UNLINKED }, value));
}

static void orphan_not_listed(struct rig *rig)
{
	del(rig, DB_NS, key, key_orphan(key, TREE, ORPHAN, NODE));
}

static void orphan_with_links(struct rig *rig)
{
	put(rig, DB_NS, key, key_orphan(key, TREE, LINK, NODE), value,
	    orphan_rec_encode(&(struct orphan_rec){ ORPHAN_UNLINKED }, value));
}

static void whiteout_of_nothing(struct rig *rig)
{
	put(rig, DB_NS, key, key_size(key, TREE, LINK, NODE), whiteout_value, WHITEOUT_LEN);
}

static void xattr_bytes_wrong(struct rig *rig)
{
	del(rig, DB_NS, key, key_xattr(key, TREE, FILE_PLAIN, ACL_NAME, sizeof(ACL_NAME) - 1, NODE));
}

static void inline_crc_wrong(struct rig *rig)
{
	struct size_rec in = inline_size();

	in.inline_crc ^= 1;
	put_size(rig, FILE_INLINE, &in);
}

static void size_blocks_wrong(struct rig *rig)
{
	const struct size_rec size = { .size = 20 * 4096, .blocks = 15 };

	put_size(rig, FILE_PLAIN, &size);
}

#define NEVER_GIVEN (UINT64_C(0x123456) << 40)

static void size_of_the_future(struct rig *rig)
{
	const struct size_rec size = { .size = 20 * 4096, .blocks = 14, .absorbed = NEVER_GIVEN };

	put_size(rig, FILE_PLAIN, &size);
}

static void map_of_the_future(struct rig *rig)
{
	struct map_rec rec = sample_map(rig, false);

	rec.seq = NEVER_GIVEN;
	put_map(rig, FILE_PLAIN, 0, &rec);
}

static void cut_of_the_future(struct rig *rig)
{
	const struct cut_rec rec = { .first_chunk = 1, .end_chunk = 2 };

	put(rig, DB_NS, key, key_cut(key, TREE, FILE_PLAIN, NEVER_GIVEN, NODE), value, cut_rec_encode(&rec, value));
}

static void result_of_the_future(struct rig *rig)
{
	const struct result_rec rec = { .unique = 1, .sequence = NEVER_GIVEN };

	put(rig, DB_SYS, key, key_result(key, 0, 0), value, result_rec_encode(&rec, value));
}

static void tenant_of_the_future(struct rig *rig)
{
	const struct tenant_rec tenant = { .name = "later", .name_len = 5 };

	put(rig, DB_SYS, key, key_tenant(key, 2), value, tenant_rec_encode(&tenant, value));
}

static void cuts_flag_wrong(struct rig *rig)
{
	const struct size_rec size = { .size = 20 * 4096, .blocks = 14, .has_cuts = true };

	put_size(rig, FILE_PLAIN, &size);
}

static void map_without_size(struct rig *rig)
{
	del(rig, DB_NS, key, key_size(key, TREE, FILE_PLAIN, NODE));
}

static void map_of_inline_file(struct rig *rig)
{
	struct map_rec rec = { .nruns = 1 };

	rec.runs[0] = (struct map_run){ .count = 1, .flags = RUN_UNWRITTEN };
	put_map(rig, FILE_INLINE, 0, &rec);
}

static void map_of_nothing(struct rig *rig)
{
	struct map_rec rec = { .nruns = 1 };

	rec.runs[0] = (struct map_run){ .count = 1, .flags = RUN_UNWRITTEN };
	put_map(rig, 60, 0, &rec);
}

static void empty_map(struct rig *rig)
{
	const struct map_rec rec = { 0 };

	put_map(rig, FILE_PLAIN, 3, &rec);
}

static void map_into_metafs(struct rig *rig)
{
	struct map_rec rec = sample_map(rig, false);

	rec.runs[0].address = UINT32_MAX;
	put_map(rig, FILE_PLAIN, 0, &rec);
}

static void map_half_into_metafs(struct rig *rig)
{
	struct map_rec rec = sample_map(rig, false);

	rec.runs[0].address = rig->data_block - 2;
	put_map(rig, FILE_PLAIN, 0, &rec);
}

static void map_inherits_nothing(struct rig *rig)
{
	struct map_rec rec = sample_map(rig, false);

	rec.runs[1].flags |= RUN_INHERITED;
	put_map(rig, FILE_PLAIN, 0, &rec);
}

static void malformed_map(struct rig *rig)
{
	put(rig, DB_MAP, key, key_map(key, TREE, FILE_PLAIN, 0, NODE), "M\1\1", 3);
}

static void holders_too_many(struct rig *rig)
{
	put_holders(rig, rig->data_zone, 0, 6, 1);
}

static void holders_below_zero(struct rig *rig)
{
	put_holders(rig, rig->data_zone, 0, 5, -1);
}

static void holders_missing(struct rig *rig)
{
	del(rig, DB_SPACE, key, key_space(key, 0, rig->data_zone));
}

static void holders_of_metafs(struct rig *rig)
{
	uint32_t zone = 0;

	while (zone == rig->data_zone)
		zone++;
	put_holders(rig, 1000000, 0, 1, 1);
}

static void holders_malformed(struct rig *rig)
{
	put(rig, DB_SPACE, key, key_space(key, 0, rig->data_zone), "Z\1\0\0\1", 5);
}

static void no_holders_malformed(struct rig *rig)
{
	put(rig, DB_SPACE, key, key_space(key, 0, rig->data_zone + 1), "Z\1\0\0\1", 5);
}

static const struct damage damages[] = {
	{ no_pool_record, "the pool's record is missing", LEFT },
	{ malformed_sys, "sys: tenant 1: damaged", LEFT },
	{ no_name_index, "subvolume web: its name does not lead to it", COMPUTED },
	{ stray_name_index, "the name gone leads to subvolume 9", COMPUTED },
	{ stray_tenant_index, "the name gone leads to tenant 9", COMPUTED },
	{ wrong_counters, "subvolume web: born is 17, and 14 by its records", COMPUTED },
	{ wrong_counters, "subvolume web: meta is 3, and 4 by its records", COMPUTED },
	{ no_counters, "subvolume web: inodes is 0, and 6 by its records", COMPUTED },
	{ stray_counters, "counters of tree 1 node 7", COMPUTED },
	{ stray_result, "a result of session 9, which never was", COMPUTED },
	{ next_ino_too_low, "inode 6 is not below the tree's next number", LEFT },
	{ over_its_limit, "18 blocks are used of 10", LEFT },
	{ no_node, "its node 1 is not there", LEFT },
	{ parents_in_circle, "node 5: its parent 7 is not there or not older", LEFT },
	{ entries_miscounted, "inode 2: entries is 3, and 2 by its records", COMPUTED },
	{ entry_of_nothing, "the entry gone leads to inode 77, which is not there", COMPUTED },
	{ entry_of_wrong_type, "the entry file is of another type than inode 3", COMPUTED },
	{ entry_at_wrong_cookie, "the cookie of an entry is not of its name", LEFT },
	{ entry_moved_further, "inode 2: max_probe is 0, and 3 by its records", COMPUTED },
	{ same_name_twice, "directory 2 has the name hard twice", LEFT },
	{ no_entry_leads_here, "inode 3 has links, and no entry leads to it", LEFT },
	{ wrong_nlink, "inode 4: 1 links, and 2 by the entries", COMPUTED },
	{ wrong_nlink_of_directory, "inode 1: 7 links, and 3 by the entries", COMPUTED },
	{ directory_elsewhere, "directory 2 says that it is in 2, and is in 1", LEFT },
	{ directory_elsewhere, "directory 2 cannot be reached from the root", LEFT },
	{ lost_inode, "the entry link leads to inode 5, which is not there", COMPUTED },
	{ malformed_inode, "ns: tree 1 inode 3 node 1: damaged", LEFT },
	{ malformed_key, "ns: damaged key", LEFT },
	{ leftover_size, "inode 50 is not there, and has entries, a size or xattrs", COMPUTED },
	{ orphan_without_inode, "inode 51 is an orphan and not there", COMPUTED },
	{ orphan_not_listed, "inode 6 has no links and is not among the orphans", COMPUTED },
	{ orphan_with_links, "inode 5 is an orphan and has links", COMPUTED },
	{ whiteout_of_nothing, "inode 5: a whiteout that hides nothing", COMPUTED },
	{ xattr_bytes_wrong, "inode 3: xattr bytes is 26, and 0 by its records", COMPUTED },
	{ xattr_bytes_wrong, "inode 3: the set of flags is 2, and 0 by its records", COMPUTED },
	{ inline_crc_wrong, "inode 4: the checksum of its inline data is wrong", LEFT },
	{ size_blocks_wrong, "inode 3: 15 blocks, and 14 by its maps", COMPUTED },
	{ size_of_the_future, "inode 3: sequence 0x1234560000000000 was never given", LEFT },
	{ map_of_the_future, "inode 3 chunk 0: its sequence 0x1234560000000000 was never given", LEFT },
	{ cut_of_the_future, "inode 3: sequence 0x1234560000000000 was never given", LEFT },
	{ result_of_the_future, "a result of session 0: its sequence 0x1234560000000000 was never given", LEFT },
	{ tenant_of_the_future, "tenant later is newer than the pool's next", LEFT },
	{ cuts_flag_wrong, "inode 3: its size record speaks of cuts, and there are none", COMPUTED },
	{ map_without_size, "inode 3 maps 14 blocks and has no size", LEFT },
	{ map_of_inline_file, "inode 4 has inline data and maps 1 blocks", LEFT },
	{ map_of_nothing, "inode 60 is not there, and has maps", COMPUTED },
	{ empty_map, "inode 3 chunk 3: an empty record that hides nothing", COMPUTED },
	{ map_into_metafs, "inode 3 chunk 0: blocks 4294967295+4 of device 0 are not in zones for data", LEFT },
	{ map_half_into_metafs, "+4 of device 0 are not in zones for data", LEFT },
	{ map_inherits_nothing, "inode 3 chunk 0: inherited, and nothing to inherit from", LEFT },
	{ malformed_map, "map: tree 1 map of 3 chunk 0 node 1: damaged", LEFT },
	{ holders_too_many, "block 5 has 1 holders, and 0 by the maps, 1 blocks differ", COMPUTED },
	{ holders_below_zero, "block 0 has -1 holders, and 1 by the maps, 5 blocks differ", COMPUTED },
	{ holders_missing, "block 0 has 0 holders, and 1 by the maps, 5 blocks differ", COMPUTED },
	{ holders_of_metafs, "holders of device 0 zone 1000000, which is not for data", COMPUTED },
	{ holders_malformed, "its holders are malformed", COMPUTED },
	{ no_holders_malformed, "its holders are malformed", COMPUTED },
};

/* What a run has in zones for data stays held when the rest of it is nowhere. */
START_TEST(half_a_run_keeps_its_blocks)
{
	struct check_result r;
	struct space_rec rec;
	struct db_value found = { 0 };
	struct rig rig;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	ck_assert_uint_gt(rig.data_zone, 0);
	map_half_into_metafs(&rig);
	rig_shut(&rig);
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_msg(strstr(output, "are not in zones for data") != NULL, "%s", output);
	rig_open(&rig, false);
	ck_assert_int_eq(db_get(rig.db, DB_SPACE, key, key_space(key, 0, rig.data_zone), 0, &found), 0);
	ck_assert_int_eq(space_rec_decode(found.data, found.len, &rec), 0);
	/* Blocks 0 and 1 of the run that begins outside, 4 of the compressed one. */
	ck_assert_uint_eq(rec.nspans, 2);
	ck_assert_uint_eq(space_rec_span(&rec, 0).first, 0);
	ck_assert_uint_eq(space_rec_span(&rec, 0).blocks, 2);
	ck_assert_int_eq(space_rec_span(&rec, 0).holders, 1);
	ck_assert_uint_eq(space_rec_span(&rec, 1).first, 4);
	db_value_release(&found);
	rig_shut(&rig);
	rig_free(&rig);
}
END_TEST

START_TEST(every_damage_is_found)
{
	const struct damage *d = &damages[_i];
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	d->fn(&rig);
	rig_shut(&rig);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_msg(strstr(output, d->message) != NULL, "not found: %s\nin: %s", d->message, output);
	ck_assert_uint_gt(r.left, 0);
	ck_assert_uint_eq(r.repaired, 0);
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_msg((r.left == 0) == (d->outcome == COMPUTED), "%s: %s", d->message, output);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_msg((r.found == 0) == (d->outcome == COMPUTED), "after the repair of %s: %s", d->message,
		      output);
	rig_free(&rig);
}
END_TEST

/* ---- damages of devices ---- */

static void flip(struct device *dev, uint64_t at_bytes)
{
	static uint8_t block[4096] __attribute__((aligned(4096)));

	ck_assert_int_eq(device_read(dev, block, 4096, at_bytes & ~4095ull), 0);
	block[at_bytes & 4095] ^= 4;
	ck_assert_int_eq(device_write(dev, block, 4096, at_bytes & ~4095ull, 0), 0);
}

START_TEST(labels_are_repaired)
{
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[1], DEVICE_BYTES - 65536 + 300);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_ptr_nonnull(strstr(output, "label B is damaged"));
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_uint_eq(r.left, 0);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_uint_eq(r.found, 0);
	flip(rig.dev[1], 80);
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_ptr_nonnull(strstr(output, "label A is damaged"));
	flip(rig.dev[1], 80);
	flip(rig.dev[1], DEVICE_BYTES - 65536 + 300);
	ck_assert_int_eq(run_check(&rig, true, false, &r), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(output, "both labels are damaged"));
	rig_free(&rig);
}
END_TEST

/* What a later version has added may be looked past, but not be written past. */
START_TEST(newer_pools_are_not_repaired)
{
	struct label_found copies;
	struct check_result r;
	struct label label;
	struct rig rig;

	for (unsigned kind = 0; kind < 2; kind++) {
		rig_copy(&base, &rig);
		rig_open(&rig, false);
		wrong_counters(&rig);
		rig_shut(&rig);
		for (unsigned i = 0; i < DEVICES; i++) {
			label = rig.labels[i];
			label.minor += kind;
			label.ro_compat |= kind ? 0 : UINT64_C(1) << 60;
			ck_assert_int_eq(label_write(rig.dev[i], &label), 0);
		}
		flip(rig.dev[0], 80);
		ck_assert_int_eq(run_check(&rig, true, false, &r), -EROFS);
		ck_assert_msg(strstr(output, "a newer version") != NULL, "%s", output);
		ck_assert_int_eq(label_read(rig.dev[0], &label, &copies), 0);
		ck_assert_int_eq(copies.error[0], -EBADMSG);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(strstr(output, "born is 17, and 14") != NULL, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

START_TEST(tables_are_repaired)
{
	struct check_result r;
	struct rig rig;

	for (unsigned slot = 0; slot < 2; slot++) {
		rig_copy(&base, &rig);
		flip(rig.dev[0], label_slot_offset(&rig.labels[0], slot) + 40);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_ptr_nonnull(strstr(output, "of the file table is damaged"));
		ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
		ck_assert_msg(r.left == 0, "%s", output);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(r.found == 0, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

/* "repaired" is said of what was: not of a slot when the pool cannot be opened to write it. */
START_TEST(what_is_not_repaired_is_not_called_so)
{
	const struct sim_faults broken = { .fail_write_ppm = 1000000 };
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[0], label_slot_offset(&rig.labels[0], 0) + 40);
	flip(rig.dev[1], 80);
	for (unsigned i = 0; i < DEVICES; i++)
		sim_set_faults(rig.dev[i], &broken);
	ck_assert_int_ne(run_check(&rig, true, false, &r), 0);
	ck_assert_msg(strstr(output, "slot 0 of the file table is damaged") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "label A is damaged") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "the label cannot be written") != NULL, "%s", output);
	ck_assert_ptr_null(strstr(output, "repaired"));
	ck_assert_uint_eq(r.repaired, 0);
	ck_assert_uint_eq(r.left, r.found);
	rig_free(&rig);
}
END_TEST

/* A slot whose table cannot be is one problem, and gets another table. */
START_TEST(impossible_tables_are_repaired)
{
	static uint8_t slot[2 << 20] __attribute__((aligned(4096)));
	struct check_result r;
	struct rig rig;
	uint64_t at;

	for (unsigned kind = 0; kind < 2; kind++) {
		rig_copy(&base, &rig);
		at = label_slot_offset(&rig.labels[0], 1);
		ck_assert_uint_le(rig.labels[0].slot_bytes, sizeof(slot));
		ck_assert_int_eq(device_read(rig.dev[0], slot, rig.labels[0].slot_bytes, at), 0);
		if (kind)
			slot[24] ^= 1;             /* the pool's UUID */
		else
			put_le32(slot + 96 + 8, 0); /* zones of the first range */
		put_le32(slot + 8, 0);
		put_le32(slot + 8, crc32c(0, slot, get_le32(slot + 12)));
		ck_assert_int_eq(device_write(rig.dev[0], slot, rig.labels[0].slot_bytes, at, 0), 0);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(strstr(output, kind ? "slot 1 of the file table is of another pool" :
						    "slot 1 of the file table is invalid: zones 0+0") != NULL, "%s", output);
		ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
		ck_assert_msg(r.left == 0 && r.found == r.repaired, "%s", output);
		ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
		ck_assert_msg(r.found == 0, "%s", output);
		rig_free(&rig);
	}
}
END_TEST

/* The address in bytes of what begins a file whose name ends like this, by the newest table. */
static uint64_t file_address(struct rig *rig, const char *ending, unsigned *vdev)
{
	const struct label *label = &rig->labels[0];
	cleanup_free void *buf = aligned_alloc(4096, label->slot_bytes);
	uint64_t newest = 0, address = 0;

	for (unsigned slot = 0; slot < 2; slot++) {
		struct metafs_table t;

		ck_assert_int_eq(device_read(rig->dev[0], buf, label->slot_bytes, label_slot_offset(label, slot)), 0);
		if (metafs_table_decode(buf, label->slot_bytes, &t))
			continue;
		for (unsigned i = 0; t.generation > newest && i < t.files; i++) {
			const struct metafs_table_file *f = &t.file[i];
			const size_t len = strlen(ending);

			if (f->name_len < len || memcmp(f->name + f->name_len - len, ending, len) || !f->extents ||
			    f->size < 600)
				continue;
			address = f->extent[0].block * 4096;
			*vdev = f->extent[0].vdev;
		}
		if (t.generation > newest)
			newest = t.generation;
		metafs_table_free(&t);
	}
	ck_assert_uint_ne(address, 0);
	return address;
}

START_TEST(tables_of_rocksdb_are_read)
{
	struct check_result r;
	struct rig rig;
	unsigned vdev = 0;
	uint64_t at;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	ck_assert_int_eq(db_flush(rig.db), 0);
	rig_shut(&rig);
	at = file_address(&rig, ".sst", &vdev);
	flip(rig.dev[vdev], at + 100);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_msg(strstr(output, "RocksDB cannot read all of "), "%s", output);
	ck_assert_uint_gt(r.left, 0);
	/* What cannot be read must not be taken for what is not there. */
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_uint_eq(r.repaired, 0);
	flip(rig.dev[vdev], at + 100);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_msg(r.found == 0, "%s", output);
	rig_free(&rig);
}
END_TEST

START_TEST(members_are_needed)
{
	struct check_options options = { 0 };
	struct check_result r;
	struct device *twice[2] = { base.dev[0], base.dev[0] }, *empty;
	struct label_found copies;
	struct label label;
	struct rig rig;

	ck_assert_int_eq(check_pool(base.dev, 1, &options, &r), -ENXIO);
	/* Who named too few gets an error, and nothing is changed. */
	rig_copy(&base, &rig);
	flip(rig.dev[0], 80);
	options.repair = true;
	ck_assert_int_eq(check_pool(rig.dev, 1, &options, &r), -ENXIO);
	ck_assert_int_eq(label_read(rig.dev[0], &label, &copies), 0);
	ck_assert_int_eq(copies.error[0], -EBADMSG);
	options.repair = false;
	rig_free(&rig);
	ck_assert_int_eq(check_pool(twice, 2, &options, &r), -EINVAL);
	ck_assert_int_eq(device_sim_create(DEVICE_BYTES, NULL, &empty), 0);
	ck_assert_int_eq(check_pool(&empty, 1, &options, &r), -ENOENT);
	device_close(empty);
}
END_TEST

/* Names come from the device, and lines go to a terminal. */
START_TEST(names_are_shown_harmless)
{
	static const char clear[] = "\x1b[2J\ngone";
	const struct dump_request request = { .what = DUMP_INODE, .inode = "3" };
	struct check_result r;
	struct rig rig;
	FILE *f;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	put_entry(&rig, FOLDER, clear, 77, S_IFREG);
	del(&rig, DB_NS, key, key_dirent(key, TREE, FOLDER, cookie(&rig, "file"), NODE));
	put_entry(&rig, FOLDER, "f\xc3\xbc\x9b", FILE_PLAIN, S_IFREG);
	rig_shut(&rig);
	flip(rig.dev[0], rig.data_block * 4096);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_msg(strstr(output, "the entry \\x1b[2J\\x0agone leads to inode 77") != NULL, "%s", output);
	ck_assert_msg(strstr(output, "(/dir/f\xc3\xbc\\x9b) offset 0: wrong checksum") != NULL, "%s", output);
	ck_assert_ptr_null(strchr(output, '\x1b'));
	f = fmemopen(output, sizeof(output), "w");
	ck_assert_int_eq(dump_pool(rig.dev, DEVICES, &request, f, f), 0);
	fclose(f);
	ck_assert_msg(strstr(output, "inode 3 path /dir/f\xc3\xbc\\x9b\n") != NULL, "%s", output);
	rig_free(&rig);
}
END_TEST

START_TEST(data_is_read)
{
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	flip(rig.dev[0], rig.data_block * 4096 + 2 * 4096 + 17);
	flip(rig.dev[0], (rig.data_block + 4) * 4096 + 1);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_uint_eq(r.found, 0);
	ck_assert_int_eq(run_check(&rig, false, true, &r), 0);
	ck_assert_uint_eq(r.found, 2);
	ck_assert_uint_eq(r.left, 2);
	ck_assert_msg(strstr(output, "subvolume web: inode 3 (/dir/file) offset 8192: wrong checksum at "),
		      "%s", output);
	ck_assert_msg(strstr(output, "offset 24576: wrong checksum at "), "%s", output);
	rig_free(&rig);
}
END_TEST

/* ---- dump ---- */

static void dump(enum dump_what what, const char *inode, int expected)
{
	const struct dump_request request = { .what = what, .inode = inode };
	FILE *f = fmemopen(output, sizeof(output), "w");

	ck_assert_int_eq(dump_pool(base.dev, DEVICES, &request, f, f), expected);
	fclose(f);
}

START_TEST(dump_prints)
{
	enum dump_what what;

	ck_assert_int_eq(dump_what_parse("map", &what), 0);
	ck_assert_uint_eq(what, DUMP_MAP);
	ck_assert_int_eq(dump_what_parse("maps", &what), -EINVAL);
	dump(DUMP_ALL, NULL, 0);
	ck_assert_ptr_nonnull(strstr(output, "label B"));
	ck_assert_ptr_nonnull(strstr(output, "slot 1"));
	ck_assert_ptr_nonnull(strstr(output, "subvolume 1: \"web\" tree 1 node 1"));
	ck_assert_ptr_nonnull(strstr(output, "tree 1 map of 3 chunk 0 node 1: sequence 0x1 [0+4 @0:"));
	ck_assert_ptr_nonnull(strstr(output, "\"hard\" -> file 4"));
	dump(DUMP_INODE, "/dir/file", 0);
	ck_assert_ptr_nonnull(strstr(output, "subvolume web inode 3 path /dir/file\n"));
	ck_assert_ptr_nonnull(strstr(output, "xattr of 3 \"system.posix_acl_access\""));
	ck_assert_ptr_nonnull(strstr(output, "[4+2 unwritten]"));
	ck_assert_ptr_null(strstr(output, "inode 4"));
	dump(DUMP_INODE, "6", 0);
	ck_assert_ptr_nonnull(strstr(output, "orphan 6 node 1: unlinked"));
	dump(DUMP_INODE, "/dir/none", -ENOENT);
	dump(DUMP_INODE, "999", -ENOENT);
	ck_assert_ptr_nonnull(strstr(output, "subvolume web has no inode 999"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("check");
	TCase *tcase = tcase_create("check");

	log_set_sink(drop_line, NULL);
	tcase_add_checked_fixture(tcase, base_make, base_free);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, clean);
	tcase_add_loop_test(tcase, every_damage_is_found, 0, sizeof(damages) / sizeof(damages[0]));
	tcase_add_test(tcase, half_a_run_keeps_its_blocks);
	tcase_add_test(tcase, labels_are_repaired);
	tcase_add_test(tcase, newer_pools_are_not_repaired);
	tcase_add_test(tcase, tables_are_repaired);
	tcase_add_test(tcase, what_is_not_repaired_is_not_called_so);
	tcase_add_test(tcase, impossible_tables_are_repaired);
	tcase_add_test(tcase, tables_of_rocksdb_are_read);
	tcase_add_test(tcase, members_are_needed);
	tcase_add_test(tcase, names_are_shown_harmless);
	tcase_add_test(tcase, data_is_read);
	tcase_add_test(tcase, dump_prints);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
