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

#include "io/cleanup.h"
#include "io/crc.h"
#include "meta/namehash.h"
#include "tests/unit/check_rig.h"
#include "tests/unit/unit.h"

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

/* ---- damages ---- */

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

/* The live node got a parent that has inodes which it takes for its own. */
static void first_inode_too_low(struct rig *rig)
{
	const struct pool_rec pool = { .next_subvol = 2, .next_tree = 2, .next_node = 9, .next_tenant = 2, .next_session = 1,
				       .overcommit_percent = 100, .headroom_blocks = 100 };
	const struct subvol_rec subvol = { .flags = SUBVOL_RESERVED, .tree = TREE, .node = 7, .tenant = 1, .incarnation = 1,
					   .size_blocks = 1000, .inodes_max = 50, .name = "web", .name_len = 3 };
	struct node_rec node = { .state = NODE_SNAPSHOT, .subvol = SUBVOL, .tenant = 1, .first_ino = 1, .name = "s", .name_len = 1 };
	const struct counters_rec counters = { .referenced = 14, .meta = 4, .inodes = 6 };

	put(rig, DB_SYS, key, key_pool(key), value, pool_rec_encode(&pool, value));
	put(rig, DB_SYS, key, key_subvol(key, SUBVOL), value, subvol_rec_encode(&subvol, value));
	put(rig, DB_SYS, key, key_node(key, TREE, NODE), value, node_rec_encode(&node, value));
	node = (struct node_rec){ .state = NODE_SNAPSHOT, .subvol = SUBVOL, .tenant = 1, .parent = NODE, .first_ino = ORPHAN, .name = "t",
				  .name_len = 1 };
	put(rig, DB_SYS, key, key_node(key, TREE, 5), value, node_rec_encode(&node, value));
	put(rig, DB_SYS, key, key_counters(key, TREE, 5), value, counters_rec_encode(&counters, value));
	/* Above what its parent said: only what that should have said is too much. */
	node = (struct node_rec){ .state = NODE_LIVE, .subvol = SUBVOL, .tenant = 1, .parent = 5, .first_ino = ORPHAN + 1 };
	put(rig, DB_SYS, key, key_node(key, TREE, 7), value, node_rec_encode(&node, value));
	put(rig, DB_SYS, key, key_counters(key, TREE, 7), value, counters_rec_encode(&counters, value));
}

/* ---- whose nodes are, and what they are called ---- */

static void put_pool(struct rig *rig)
{
	const struct pool_rec pool = { .next_subvol = 9, .next_tree = 9, .next_node = 99, .next_tenant = 9, .next_session = 1,
				       .overcommit_percent = 100, .headroom_blocks = 100 };

	put(rig, DB_SYS, key, key_pool(key), value, pool_rec_encode(&pool, value));
}

/* The record alone; node 0: it was deleted. */
static void put_subvol(struct rig *rig, uint32_t id, uint32_t tree, uint32_t node, uint32_t tenant, const char *name)
{
	const struct subvol_rec subvol = { .flags = node ? 0 : SUBVOL_DELETING, .tree = tree, .node = node, .tenant = tenant,
					   .incarnation = node ? node : 30, .size_blocks = 100, .inodes_max = 50, .name = name,
					   .name_len = (uint8_t)strlen(name) };

	put(rig, DB_SYS, key, key_subvol(key, id), value, subvol_rec_encode(&subvol, value));
}

static void put_node(struct rig *rig, uint32_t tree, uint32_t id, const struct node_rec *rec)
{
	struct node_rec node = *rec;

	node.name_len = node.name ? (uint8_t)strlen(node.name) : 0;
	put(rig, DB_SYS, key, key_node(key, tree, id), value, node_rec_encode(&node, value));
}

/* The subvolume of base, with a snapshot "s" (node 1) and two more above its live node 7. */
static void put_snapshots(struct rig *rig, const struct node_rec *second, const struct node_rec *third)
{
	const struct node_rec first = { .state = NODE_SNAPSHOT, .subvol = SUBVOL, .tenant = 1, .first_ino = 1, .name = "s", .view = 1 };
	const struct node_rec live = { .state = NODE_LIVE, .subvol = SUBVOL, .tenant = 1, .parent = 6, .first_ino = NEXT_INO };
	const struct subvol_rec subvol = { .flags = SUBVOL_RESERVED, .tree = TREE, .node = 7, .tenant = 1, .incarnation = 1,
					   .size_blocks = 1000, .inodes_max = 50, .name = "web", .name_len = 3 };
	const struct counters_rec counters = { .referenced = 14, .meta = 4, .inodes = 6 };

	put_pool(rig);
	put(rig, DB_SYS, key, key_subvol(key, SUBVOL), value, subvol_rec_encode(&subvol, value));
	put_node(rig, TREE, NODE, &first);
	put_node(rig, TREE, 5, second);
	put_node(rig, TREE, 6, third);
	put_node(rig, TREE, 7, &live);
	for (uint32_t node = 5; node <= 7; node++)
		put(rig, DB_SYS, key, key_counters(key, TREE, node), value, counters_rec_encode(&counters, value));
}

#define SNAPSHOT_OF(subvol_, parent_, name_, view_, tenant_)                                                                            \
	(&(struct node_rec){ .state = NODE_SNAPSHOT, .subvol = (subvol_), .tenant = (tenant_), .parent = (parent_), .first_ino = NEXT_INO, \
			     .name = (name_), .view = (view_) })

static void put_new_tenant(struct rig *rig, uint32_t id, const char *name)
{
	const struct tenant_rec tenant = { .name = name, .name_len = (uint8_t)strlen(name) };

	put(rig, DB_SYS, key, key_tenant(key, id), value, tenant_rec_encode(&tenant, value));
}

static void put_tenant_name(struct rig *rig, uint32_t id, const char *name)
{
	put(rig, DB_SYS, key, key_tenant_name(key, name, strlen(name)), value, index_rec_encode('e', id, value));
}

static void put_subvol_name(struct rig *rig, uint32_t id, const char *name)
{
	put(rig, DB_SYS, key, key_subvol_name(key, name, strlen(name)), value, index_rec_encode('N', id, value));
}

/* One more subvolume, with a root and nothing else. */
static void put_another(struct rig *rig, uint32_t tree, const char *name)
{
	const struct node_rec live = { .state = NODE_LIVE, .subvol = 2, .tenant = 1, .first_ino = 1 };
	const struct counters_rec counters = { .inodes = 1, .inodes_born = 1 };
	const struct inode_rec root = dir_inode(0, 0, 2);

	put_pool(rig);
	put_subvol(rig, 2, tree, 20, 1, name);
	put_node(rig, tree, 20, &live);
	put(rig, DB_SYS, key, key_tree(key, tree), value, tree_rec_encode(NEXT_INO, value));
	put(rig, DB_SYS, key, key_counters(key, tree, 20), value, counters_rec_encode(&counters, value));
	put(rig, DB_NS, key, key_inode(key, tree, INO_ROOT, 20), value, inode_rec_encode(&root, value));
}

static void snapshot_of_no_tenant(struct rig *rig)
{
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 2, 8), SNAPSHOT_OF(SUBVOL, 5, "u", 3, 1));
}

static void node_of_another_tenant(struct rig *rig)
{
	put_new_tenant(rig, 2, "other");
	put_tenant_name(rig, 2, "other");
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 2, 1), SNAPSHOT_OF(SUBVOL, 5, "u", 3, 2));
}

static void live_node_of_another_tenant(struct rig *rig)
{
	const struct node_rec node = { .state = NODE_LIVE, .subvol = SUBVOL, .tenant = 2, .first_ino = 1 };

	put_pool(rig);
	put_new_tenant(rig, 2, "other");
	put_tenant_name(rig, 2, "other");
	put_node(rig, TREE, NODE, &node);
}

/* Its nodes know whose it is. */
static void subvol_of_no_tenant(struct rig *rig)
{
	put_subvol(rig, SUBVOL, TREE, NODE, 8, "web");
}

/* And when they do not agree, nobody does. */
static void nodes_disagree(struct rig *rig)
{
	put_new_tenant(rig, 2, "other");
	put_tenant_name(rig, 2, "other");
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 2, 1), SNAPSHOT_OF(SUBVOL, 5, "u", 3, 2));
	put_subvol(rig, SUBVOL, TREE, 7, 8, "web");
}

/* A clone is of its origin's tenant. */
static void clone_of_another_tenant(struct rig *rig)
{
	const struct node_rec live = { .state = NODE_LIVE, .subvol = 2, .tenant = 2, .parent = 6, .first_ino = NEXT_INO };
	const struct counters_rec counters = { .referenced = 14, .meta = 4, .inodes = 6 };

	put_new_tenant(rig, 2, "other");
	put_tenant_name(rig, 2, "other");
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 2, 1), SNAPSHOT_OF(SUBVOL, 5, "u", 3, 1));
	put_subvol(rig, 2, TREE, 8, 2, "copy");
	put_subvol_name(rig, 2, "copy");
	put_node(rig, TREE, 8, &live);
	put(rig, DB_SYS, key, key_counters(key, TREE, 8), value, counters_rec_encode(&counters, value));
}

static void two_subvols_of_a_name(struct rig *rig)
{
	put_another(rig, 2, "web");
}

/* The name leads to the younger one: that keeps it. */
static void two_subvols_and_the_second_is_found(struct rig *rig)
{
	put_another(rig, 2, "web");
	put_subvol_name(rig, 2, "web");
}

static void two_tenants_of_a_name(struct rig *rig)
{
	put_pool(rig);
	put_new_tenant(rig, 2, "default");
}

static void two_snapshots_of_a_name(struct rig *rig)
{
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "s.6", 2, 1), SNAPSHOT_OF(SUBVOL, 5, "s", 3, 1));
}

/* Of a subvolume that was deleted and one that has its name now. */
static void snapshot_of_an_earlier_subvol(struct rig *rig)
{
	const struct node_rec old = { .state = NODE_SNAPSHOT, .subvol = 3, .tenant = 1, .first_ino = 1, .name = "s", .view = 1 };
	const struct counters_rec counters = { .inodes = 1, .inodes_born = 1 };
	const struct inode_rec root = dir_inode(0, 0, 2);

	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 2, 1), SNAPSHOT_OF(SUBVOL, 5, "u", 3, 1));
	put_subvol(rig, 3, 3, 0, 1, "web");
	put_node(rig, 3, 30, &old);
	put(rig, DB_SYS, key, key_tree(key, 3), value, tree_rec_encode(NEXT_INO, value));
	put(rig, DB_SYS, key, key_counters(key, 3, 30), value, counters_rec_encode(&counters, value));
	put(rig, DB_NS, key, key_inode(key, 3, INO_ROOT, 30), value, inode_rec_encode(&root, value));
}

static void two_snapshots_of_a_number(struct rig *rig)
{
	put_snapshots(rig, SNAPSHOT_OF(SUBVOL, 1, "t", 1, 1), SNAPSHOT_OF(SUBVOL, 5, "u", 1, 1));
}

static void snapshot_of_another_tree(struct rig *rig)
{
	put_another(rig, 2, "other");
	put_subvol_name(rig, 2, "other");
	put_node(rig, TREE, 5, SNAPSHOT_OF(2, 0, "s", 1, 1));
}

static void node_in_two_trees(struct rig *rig)
{
	put_another(rig, 2, "other");
	put_subvol_name(rig, 2, "other");
	put_node(rig, 2, NODE, SNAPSHOT_OF(2, 0, "s", 1, 1));
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
	{ first_inode_too_low, "node 5: its numbers of inodes begin at 6, and older nodes have some from there on", COMPUTED },
	{ snapshot_of_no_tenant, "tree 1 node 5: its tenant 8 is not there", COMPUTED },
	{ snapshot_of_no_tenant, "tree 1 node 5: its tenant is 8, and that of subvolume web 1", COMPUTED },
	{ node_of_another_tenant, "tree 1 node 6: its tenant is 2, and that of subvolume web 1", COMPUTED },
	{ live_node_of_another_tenant, "tree 1 node 1: its tenant is 2, and that of subvolume web 1", COMPUTED },
	{ subvol_of_no_tenant, "subvolume web: its tenant 8 is not there", COMPUTED },
	{ nodes_disagree, "subvolume web: its tenant 8 is not there", LEFT },
	{ clone_of_another_tenant, "subvolume copy: its tenant is 2, and that of subvolume web, with which it shares nodes, 1", LEFT },
	{ two_subvols_of_a_name, "subvolume 2 has the name of subvolume 1, web; it needs one of its own, web.2", COMPUTED },
	{ two_subvols_and_the_second_is_found, "subvolume 1 has the name of subvolume 2, web; it needs one of its own, web.1", COMPUTED },
	{ two_tenants_of_a_name, "tenant 2 has the name of tenant 1, default; it needs one of its own, default.2", COMPUTED },
	{ two_snapshots_of_a_name, "the snapshot of node 6 has the name of the snapshot of node 1, web@s; it needs one of its own, s.6.2", COMPUTED },
	{ snapshot_of_an_earlier_subvol, "the snapshot of node 30 has the name of the snapshot of node 1, web@s; it needs one of its own, s.30",
	  COMPUTED },
	{ two_snapshots_of_a_number, "tree 1 node 5: its number below .snapshots, 1, is that of node 1", COMPUTED },
	{ two_snapshots_of_a_number, "tree 1 node 6: its number below .snapshots, 1, is that of node 1", COMPUTED },
	{ snapshot_of_another_tree, "tree 1 node 5: a snapshot of subvolume other, whose tree is 2", LEFT },
	{ node_in_two_trees, "node 1 is in trees 1 and 2", LEFT },
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

/* A node that is to be swept may have whiteouts that hide nothing any more: they go with it. */
START_TEST(whiteouts_of_what_goes)
{
	const struct pool_rec pool = { .next_subvol = 2, .next_tree = 2, .next_node = 9, .next_tenant = 2, .next_session = 1,
				       .overcommit_percent = 100, .headroom_blocks = 100 };
	const struct node_rec node = { .state = NODE_SWEEP, .subvol = SUBVOL, .tenant = 1, .first_ino = 1 };
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	put(&rig, DB_SYS, key, key_pool(key), value, pool_rec_encode(&pool, value));
	put(&rig, DB_SYS, key, key_node(key, TREE, 5), value, node_rec_encode(&node, value));
	put(&rig, DB_NS, key, key_inode(key, TREE, LINK, 5), whiteout_value, WHITEOUT_LEN);
	rig_shut(&rig);
	ck_assert_int_eq(run_check(&rig, false, false, &r), 0);
	ck_assert_msg(r.found == 0, "%s", output);
	rig_free(&rig);
}
END_TEST

static uint32_t subvol_named(struct rig *rig, const char *name)
{
	struct db_value found = { 0 };
	uint32_t id;

	ck_assert_int_eq(db_get(rig->db, DB_SYS, key, key_subvol_name(key, name, strlen(name)), 0, &found), 0);
	ck_assert_int_eq(index_rec_decode(found.data, found.len, 'N', &id), 0);
	db_value_release(&found);
	return id;
}

/* The one that is found by the name goes on being found, and the other is found by its new one, in one round. */
START_TEST(a_name_is_kept_by_who_is_found)
{
	struct check_result r;
	struct rig rig;

	rig_copy(&base, &rig);
	rig_open(&rig, false);
	two_subvols_and_the_second_is_found(&rig);
	rig_shut(&rig);
	ck_assert_int_eq(run_check(&rig, true, false, &r), 0);
	ck_assert_msg(r.found == 1 && r.repaired == 1, "%s", output);
	rig_open(&rig, false);
	ck_assert_uint_eq(subvol_named(&rig, "web"), 2);
	ck_assert_uint_eq(subvol_named(&rig, "web.1"), 1);
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

int main(void)
{
	Suite *suite = suite_create("check");
	TCase *tcase = tcase_create("check");

	log_set_sink(drop_line, NULL);
	tcase_add_checked_fixture(tcase, base_make, base_free);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, clean);
	tcase_add_test(tcase, half_a_run_keeps_its_blocks);
	tcase_add_test(tcase, whiteouts_of_what_goes);
	tcase_add_test(tcase, a_name_is_kept_by_who_is_found);
	tcase_add_loop_test(tcase, every_damage_is_found, 0, sizeof(damages) / sizeof(damages[0]));
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
