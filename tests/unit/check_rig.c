/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <lz4.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"
#include "io/sim.h"
#include "meta/metafs.h"
#include "meta/namehash.h"
#include "tests/unit/check_rig.h"
#include "tests/unit/unit.h"

struct rig base;
char output[1 << 16];

/* ---- making it ---- */

void rig_open(struct rig *rig, bool create)
{
	struct metafs_options options = { .devices = rig->dev, .labels = rig->labels };
	struct db_options dbo = { .create = create };

	ck_assert_int_eq(metafs_open(&options, &rig->mf), 0);
	ck_assert_int_eq(db_open(rig->mf, &dbo, &rig->db), 0);
}

void rig_shut(struct rig *rig)
{
	ck_assert_int_eq(db_sync(rig->db), 0);
	db_close(rig->db);
	ck_assert_int_eq(metafs_seal(rig->mf), 0);
	metafs_close(rig->mf);
	rig->db = NULL;
	rig->mf = NULL;
}

void rig_free(struct rig *rig)
{
	for (unsigned i = 0; i < DEVICES; i++)
		device_close(rig->dev[i]);
}

void rig_copy(const struct rig *from, struct rig *to)
{
	*to = *from;
	for (unsigned i = 0; i < DEVICES; i++)
		ck_assert_int_eq(sim_snapshot_current(from->dev[i], &to->dev[i]), 0);
}

void put(struct rig *rig, enum db_cf cf, const void *k, size_t k_len, const void *v, size_t len)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_put(rig->db, b, cf, k, k_len, v, len);
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

void del(struct rig *rig, enum db_cf cf, const void *k, size_t k_len)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_delete(rig->db, b, cf, k, k_len);
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

uint8_t key[KEY_MAX];
uint8_t value[1 << 17];

void put_inode(struct rig *rig, uint64_t ino, const struct inode_rec *rec)
{
	put(rig, DB_NS, key, key_inode(key, TREE, ino, NODE), value, inode_rec_encode(rec, value));
}

uint64_t cookie(const struct rig *rig, const char *name)
{
	return cookie_of(rig->labels[0].hash_key, name, strlen(name));
}

void put_entry(struct rig *rig, uint64_t dir, const char *name, uint64_t ino, uint32_t mode)
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

struct inode_rec dir_inode(uint64_t entries, uint64_t bytes, uint32_t nlink)
{
	return (struct inode_rec){ .mode = S_IFDIR | 0755, .nlink = nlink, .parent = INO_ROOT,
				   .entries = entries, .entry_bytes = bytes };
}

static const struct xattr_rec acl = { .value = "acl", .len = 3 };

struct inode_rec file_inode(void)
{
	return (struct inode_rec){ .mode = S_IFREG | 0644, .nlink = 1, .parent = FOLDER,
				   .flags = INODE_ACCESS_ACL, .xattr_bytes = sizeof(ACL_NAME) - 1 + 3 };
}

struct size_rec inline_size(void)
{
	return (struct size_rec){ .is_inline = true, .inline_len = 5, .size = 5, .data = "hello",
				  .inline_crc = crc32c(0, "hello", 5) };
}

void put_size(struct rig *rig, uint64_t ino, const struct size_rec *rec)
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
struct map_rec sample_map(struct rig *rig, bool write)
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

void put_map(struct rig *rig, uint64_t ino, uint64_t chunk, const struct map_rec *rec)
{
	put(rig, DB_MAP, key, key_map(key, TREE, ino, chunk, NODE), value, map_rec_encode(rec, value));
}

void put_holders(struct rig *rig, uint32_t zone, uint16_t first, uint32_t blocks, int32_t holders)
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

void base_make(void)
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

void base_free(void)
{
	rig_free(&base);
}

/* ---- running it ---- */

int run_check(struct rig *rig, bool repair, bool data, struct check_result *result)
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

void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}


void flip(struct device *dev, uint64_t at_bytes)
{
	static uint8_t block[4096] __attribute__((aligned(4096)));

	ck_assert_int_eq(device_read(dev, block, 4096, at_bytes & ~4095ull), 0);
	block[at_bytes & 4095] ^= 4;
	ck_assert_int_eq(device_write(dev, block, 4096, at_bytes & ~4095ull, 0), 0);
}
