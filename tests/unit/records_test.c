/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "meta/namehash.h"
#include "meta/records.h"
#include "tests/unit/unit.h"

static const struct rec_time early = { -1, 0 };
static const struct rec_time late = { INT64_C(1) << 40, 999999999 };

/* The line that a printer makes. */
#define PRINTED(call)                                        \
	({                                                   \
		static char text_[8192];                     \
		FILE *f = fmemopen(text_, sizeof(text_), "w"); \
                                                             \
		ck_assert_ptr_nonnull(f);                    \
		call;                                        \
		fclose(f);                                   \
		text_;                                       \
	})

/* No other length of the same bytes is the record. `buf` has room for one byte more. */
#define REFUSES_OTHER_LENGTHS(decode, buf, len)                             \
	do {                                                                \
		for (size_t n_ = 0; n_ <= (len) + 1; n_++)                  \
			if (n_ != (len))                                    \
				ck_assert_int_eq(decode(buf, n_, &out), -EBADMSG); \
		(buf)[0] ^= 0x20;                                           \
		ck_assert_int_eq(decode(buf, len, &out), -EBADMSG);         \
		(buf)[0] ^= 0x20;                                           \
		(buf)[1] = 2;                                               \
		ck_assert_int_eq(decode(buf, len, &out), -EBADMSG);         \
		(buf)[1] = 1;                                               \
	} while (0)

/* The record with one field set to something is refused. */
#define REFUSED(name, rec, change)                                       \
	do {                                                             \
		struct name##_rec changed_ = (rec);                      \
		struct name##_rec *r = &changed_;                        \
                                                                         \
		change;                                                  \
		ck_assert_int_eq(name##_rec_validate(r), -EBADMSG);      \
	} while (0)

static struct inode_rec sample_inode(uint32_t type)
{
	return (struct inode_rec){
		.mode = type | 04755, .uid = 1000, .gid = UINT32_MAX, .nlink = 3, .parent = INO_MAX,
		.xattr_bytes = 77, .flags = INODE_ACCESS_ACL | INODE_CAPABILITY,
		.atime = early, .mtime = late, .ctime = late, .btime = early,
	};
}

START_TEST(inode_comes_back)
{
	static uint8_t buf[INODE_REC_MAX + 1], again[INODE_REC_MAX];
	struct inode_rec rec = sample_inode(S_IFLNK), out;
	size_t len;

	rec.target = "../some/where";
	rec.target_len = strlen(rec.target);
	len = inode_rec_encode(&rec, buf);
	ck_assert_uint_eq(len, 112 + 13);
	ck_assert_uint_eq(len, inode_rec_bytes(&rec));
	ck_assert_int_eq(inode_rec_decode(buf, len, &out), 0);
	ck_assert_mem_eq(out.target, rec.target, 13);
	ck_assert_uint_eq(out.flags, rec.flags);
	ck_assert_uint_eq(out.parent, rec.parent);
	ck_assert_int_eq(out.mtime.sec, late.sec);
	ck_assert_uint_eq(inode_rec_encode(&out, again), len);
	ck_assert_mem_eq(again, buf, len);
	REFUSES_OTHER_LENGTHS(inode_rec_decode, buf, len);
	ck_assert_ptr_nonnull(strstr(PRINTED(inode_rec_print(f, &rec)), "symlink mode 4755 uid 1000"));
}
END_TEST

START_TEST(inode_of_a_directory)
{
	struct inode_rec rec = sample_inode(S_IFDIR), out;
	uint8_t buf[256];

	rec.entries = 2;
	rec.entry_bytes = 2 * 24 + 1 + 255;
	rec.max_probe = 9;
	rec.flags |= INODE_DEFAULT_ACL;
	ck_assert_int_eq(inode_rec_decode(buf, inode_rec_encode(&rec, buf), &out), 0);
	ck_assert_uint_eq(out.entry_bytes, rec.entry_bytes);
	ck_assert_uint_eq(out.max_probe, 9);
	REFUSED(inode, rec, r->parent = 0);
	REFUSED(inode, rec, r->entry_bytes = 2 * 24 + 1);
	REFUSED(inode, rec, r->entry_bytes = 2 * 24 + 511);
	REFUSED(inode, rec, r->entries = UINT64_MAX);
	REFUSED(inode, rec, r->mode = S_IFREG);
}
END_TEST

START_TEST(inode_refuses)
{
	struct inode_rec rec = sample_inode(S_IFREG);

	ck_assert_int_eq(inode_rec_validate(&rec), 0);
	REFUSED(inode, rec, r->mode = 0644);
	REFUSED(inode, rec, r->mode |= 1 << 16);
	REFUSED(inode, rec, r->flags |= 8);
	REFUSED(inode, rec, r->flags |= INODE_DEFAULT_ACL);
	REFUSED(inode, rec, r->parent = INO_MAX + 1);
	REFUSED(inode, rec, r->rdev = 1);
	REFUSED(inode, rec, r->atime.nsec = 1000000000);
	REFUSED(inode, rec, r->btime.nsec = 1000000000);
	REFUSED(inode, rec, (r->target = "x", r->target_len = 1));
	rec = sample_inode(S_IFLNK);
	REFUSED(inode, rec, (void)r);
	REFUSED(inode, rec, (r->target = "a\0b", r->target_len = 3));
}
END_TEST

START_TEST(size_comes_back)
{
	uint8_t buf[SIZE_REC_MAX + 1];
	struct size_rec rec = {
		.size = INT64_MAX, .mtime = early, .ctime = late, .blocks = 1, .absorbed = UINT64_MAX,
	}, out;
	size_t len = size_rec_encode(&rec, buf);

	ck_assert_uint_eq(len, 64);
	ck_assert_int_eq(size_rec_decode(buf, len, &out), 0);
	ck_assert_uint_eq(out.size, rec.size);
	ck_assert_uint_eq(out.absorbed, rec.absorbed);
	ck_assert_int_eq(out.mtime.sec, -1);
	REFUSES_OTHER_LENGTHS(size_rec_decode, buf, len);
	REFUSED(size, rec, r->size++);
	REFUSED(size, rec, r->inline_len = 1);
	REFUSED(size, rec, r->inline_crc = 1);
	REFUSED(size, rec, r->blocks = UINT64_MAX);
	REFUSED(size, rec, r->ctime.nsec = UINT32_MAX);
}
END_TEST

START_TEST(size_with_inline_data)
{
	uint8_t buf[SIZE_REC_MAX], data[INLINE_BYTES_MAX + 1] = { 1, 2, 3 };
	struct size_rec rec = {
		.is_inline = true, .inline_len = INLINE_BYTES_MAX, .inline_crc = 5, .data = data,
		.size = INLINE_BYTES_MAX, .has_cuts = true, .blocks = 64,
	}, out;

	ck_assert_int_eq(size_rec_decode(buf, size_rec_encode(&rec, buf), &out), 0);
	ck_assert(out.is_inline && out.has_cuts);
	ck_assert_uint_eq(out.inline_len, INLINE_BYTES_MAX);
	ck_assert_mem_eq(out.data, data, INLINE_BYTES_MAX);
	REFUSED(size, rec, (r->inline_len++, r->size++));
	REFUSED(size, rec, r->inline_len = 0);
	REFUSED(size, rec, r->size--);
	REFUSED(size, rec, r->has_cuts = false);
}
END_TEST

START_TEST(dirent_comes_back)
{
	uint8_t buf[DIRENT_REC_MAX + 2];
	char name[256];
	struct dirent_rec rec = { .file_type = 4, .name_len = 255, .ino = INO_MAX, .name = name }, out;
	size_t len;

	memset(name, 0xff, sizeof(name));
	len = dirent_rec_encode(&rec, buf);
	ck_assert_int_eq(dirent_rec_decode(buf, len, &out), 0);
	ck_assert_uint_eq(out.ino, INO_MAX);
	ck_assert_mem_eq(out.name, name, 255);
	REFUSES_OTHER_LENGTHS(dirent_rec_decode, buf, len);
	REFUSED(dirent, rec, r->ino = INO_ROOT);
	REFUSED(dirent, rec, r->ino = INO_MAX + 1);
	REFUSED(dirent, rec, r->file_type = 3);
	REFUSED(dirent, rec, r->file_type = 20);
	REFUSED(dirent, rec, r->name_len = 0);
	REFUSED(dirent, rec, (r->name = "a/b", r->name_len = 3));
	REFUSED(dirent, rec, (r->name = "a\0b", r->name_len = 3));
	REFUSED(dirent, rec, (r->name = "..", r->name_len = 2));
	REFUSED(dirent, rec, (r->name = ".", r->name_len = 1));
	ck_assert_int_eq(dirent_name_validate("...", 3), 0);
	ck_assert_int_eq(dirent_name_validate(".a", 2), 0);
}
END_TEST

START_TEST(small_records_come_back)
{
	static uint8_t buf[XATTR_REC_MAX + 2], value[XATTR_BYTES_MAX] = { 7 };
	{
		struct xattr_rec rec = { XATTR_BYTES_MAX, value }, out;
		size_t len = xattr_rec_encode(&rec, buf);

		ck_assert_int_eq(xattr_rec_decode(buf, len, &out), 0);
		ck_assert_uint_eq(out.len, XATTR_BYTES_MAX);
		ck_assert_int_eq(xattr_rec_decode(buf, len + 1, &out), -EBADMSG);
		ck_assert_int_eq(xattr_rec_decode(buf, 2, &out), 0);
		ck_assert_uint_eq(out.len, 0);
		ck_assert_int_eq(xattr_rec_decode(buf, 1, &out), -EBADMSG);
	}
	{
		struct orphan_rec rec = { ORPHAN_REAPING }, out;
		size_t len = orphan_rec_encode(&rec, buf);

		ck_assert_int_eq(orphan_rec_decode(buf, len, &out), 0);
		ck_assert_uint_eq(out.state, ORPHAN_REAPING);
		REFUSES_OTHER_LENGTHS(orphan_rec_decode, buf, len);
		REFUSED(orphan, rec, r->state = 2);
	}
	{
		struct cut_rec rec = { CHUNK_LAST, CUT_TO_END }, out;
		size_t len = cut_rec_encode(&rec, buf);

		ck_assert_int_eq(cut_rec_decode(buf, len, &out), 0);
		ck_assert_uint_eq(out.first_chunk, CHUNK_LAST);
		ck_assert_uint_eq(out.end_chunk, CUT_TO_END);
		REFUSES_OTHER_LENGTHS(cut_rec_decode, buf, len);
		REFUSED(cut, rec, r->end_chunk = r->first_chunk);
		REFUSED(cut, rec, r->end_chunk = CHUNK_LAST + 2);
	}
}
END_TEST

static struct map_rec sample_map(void)
{
	struct map_rec rec = { .seq = UINT64_MAX, .nruns = 4 };

	rec.runs[0] = (struct map_run){ .count = 2, .raw_blocks = 2, .stored_blocks = 2, .vdev = 7,
					.address = 1000, .flags = RUN_INHERITED };
	rec.runs[1] = (struct map_run){ .block = 2, .count = 30, .flags = RUN_UNWRITTEN };
	rec.runs[2] = (struct map_run){ .block = 32, .count = 16, .skip = 4, .raw_blocks = 20,
					.stored_blocks = 3, .stored_bytes = 8193, .address = 1,
					.flags = RUN_COMPRESSED };
	rec.runs[3] = (struct map_run){ .block = 60, .count = 4, .raw_blocks = 4, .stored_blocks = 4,
					.address = 50, .flags = RUN_NO_CHECKSUM };
	rec.crcs[0] = 0x11111111;
	rec.crcs[1] = 0x22222222;
	rec.crcs[2] = 0x33333333;
	return rec;
}

/* By fields: the padding of a struct holds anything. */
static void assert_run_eq(const struct map_run *a, const struct map_run *b)
{
	ck_assert_uint_eq(a->block, b->block);
	ck_assert_uint_eq(a->count, b->count);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->skip, b->skip);
	ck_assert_uint_eq(a->raw_blocks, b->raw_blocks);
	ck_assert_uint_eq(a->stored_blocks, b->stored_blocks);
	ck_assert_uint_eq(a->vdev, b->vdev);
	ck_assert_uint_eq(a->stored_bytes, b->stored_bytes);
	ck_assert_uint_eq(a->address, b->address);
}

START_TEST(map_comes_back)
{
	uint8_t buf[MAP_REC_MAX + 1];
	struct map_rec rec = sample_map(), out;
	size_t len = map_rec_encode(&rec, buf);

	ck_assert_uint_eq(len, 16 + 4 * 24 + 3 * 4);
	ck_assert_uint_eq(len, map_rec_bytes(&rec));
	ck_assert_int_eq(map_rec_decode(buf, len, &out), 0);
	ck_assert_uint_eq(out.seq, rec.seq);
	ck_assert_uint_eq(out.nruns, 4);
	for (int i = 0; i < 4; i++)
		assert_run_eq(&out.runs[i], &rec.runs[i]);
	ck_assert_mem_eq(out.crcs, rec.crcs, 3 * sizeof(rec.crcs[0]));
	REFUSES_OTHER_LENGTHS(map_rec_decode, buf, len);
	ck_assert_str_eq(PRINTED(map_rec_print(f, &rec)),
			 "sequence 0xffffffffffffffff [0+2 @7:1000 inherited crc 11111111,22222222] "
			 "[2+30 unwritten] [32+16 @0:1 compressed (16 of 20 skip 4, 8193 bytes in 3) "
			 "crc 33333333] [60+4 @0:50 no-checksum]");
}
END_TEST

START_TEST(map_at_its_limits)
{
	uint8_t buf[MAP_REC_MAX];
	struct map_rec rec = { .nruns = MAP_RUNS_MAX }, out;

	for (unsigned i = 0; i < MAP_RUNS_MAX; i++)
		rec.runs[i] = (struct map_run){ .block = i, .count = 1, .raw_blocks = 1,
						.stored_blocks = 1, .address = 2 * i };
	ck_assert_uint_eq(map_rec_encode(&rec, buf), MAP_REC_MAX);
	ck_assert_int_eq(map_rec_decode(buf, MAP_REC_MAX, &out), 0);
	put_le16(buf + 2, MAP_RUNS_MAX + 1);
	ck_assert_int_eq(map_rec_decode(buf, MAP_REC_MAX, &out), -EBADMSG);
	rec.nruns = 0;
	ck_assert_int_eq(map_rec_decode(buf, map_rec_encode(&rec, buf), &out), 0);
	ck_assert_int_eq(map_rec_decode(whiteout_value, WHITEOUT_LEN, &out), -EBADMSG);
}
END_TEST

START_TEST(map_refuses)
{
	const struct map_rec rec = sample_map();

	ck_assert_int_eq(map_rec_validate(&rec), 0);
	REFUSED(map, rec, r->runs[0].count = 0);
	REFUSED(map, rec, r->runs[0].count = 3);
	REFUSED(map, rec, r->runs[0].raw_blocks = 3);
	REFUSED(map, rec, r->runs[0].stored_blocks = 1);
	REFUSED(map, rec, r->runs[0].skip = 1);
	REFUSED(map, rec, r->runs[0].stored_bytes = 1);
	REFUSED(map, rec, r->runs[0].flags = 16);
	REFUSED(map, rec, r->runs[0].address = UINT64_MAX / 4096);
	REFUSED(map, rec, r->runs[1].address = 1);
	REFUSED(map, rec, r->runs[1].vdev = 1);
	REFUSED(map, rec, r->runs[1].raw_blocks = 30);
	REFUSED(map, rec, r->runs[1].flags |= RUN_NO_CHECKSUM);
	REFUSED(map, rec, r->runs[1].count = 31);
	REFUSED(map, rec, r->runs[2].skip = 5);
	REFUSED(map, rec, r->runs[2].stored_bytes = 8192);
	REFUSED(map, rec, r->runs[2].stored_bytes = 3 * 4096 + 1);
	REFUSED(map, rec, r->runs[2].flags |= RUN_NO_CHECKSUM);
	REFUSED(map, rec, r->runs[2].raw_blocks = 65);
	REFUSED(map, rec, (r->runs[2].stored_blocks = 20, r->runs[2].stored_bytes = 80000));
	REFUSED(map, rec, r->runs[2].count = 2);
	REFUSED(map, rec, r->runs[3].block = 61);
	REFUSED(map, rec, r->nruns = 65);
}
END_TEST

START_TEST(map_finds_and_counts)
{
	const struct map_rec rec = sample_map();
	struct map_run s;

	ck_assert_int_eq(map_rec_find(&rec, 0), 0);
	ck_assert_int_eq(map_rec_find(&rec, 2), 1);
	ck_assert_int_eq(map_rec_find(&rec, 31), 1);
	ck_assert_int_eq(map_rec_find(&rec, 47), 2);
	ck_assert_int_eq(map_rec_find(&rec, 48), -1);
	ck_assert_int_eq(map_rec_find(&rec, 63), 3);
	ck_assert_uint_eq(map_rec_blocks(&rec), 52);
	ck_assert_uint_eq(map_rec_own_blocks(&rec), 50);
	ck_assert_uint_eq(map_crc_index(&rec, 2), 2);
	ck_assert_uint_eq(map_crc_index(&rec, 4), 3);
	s = map_run_slice(&rec.runs[0], 1, 1);
	ck_assert_uint_eq(s.address, 1001);
	ck_assert_uint_eq(s.stored_blocks, 1);
	s = map_run_slice(&rec.runs[1], 4, 2);
	ck_assert_uint_eq(s.block, 6);
	ck_assert_int_eq(map_run_validate(&s), 0);
	s = map_run_slice(&rec.runs[2], 4, 12);
	ck_assert_uint_eq(s.skip, 8);
	ck_assert_uint_eq(s.address, 1);
	ck_assert_uint_eq(s.stored_blocks, 3);
}
END_TEST

START_TEST(space_spans)
{
	const struct space_span spans[] = { { 0, 1, 1 }, { 1, 2, INT32_MAX }, { 9, 1, 1 }, { 65535, 1, -3 } };
	uint8_t buf[64];
	struct space_rec out;
	size_t len = space_rec_encode(false, spans, 4, buf);

	ck_assert_uint_eq(len, 4 + 4 * 8);
	ck_assert_int_eq(space_rec_decode(buf, len, &out), 0);
	ck_assert(!out.operand);
	for (uint32_t i = 0; i < 4; i++) {
		const struct space_span s = space_rec_span(&out, i);

		ck_assert_uint_eq(s.first, spans[i].first);
		ck_assert_uint_eq(s.blocks, spans[i].blocks);
		ck_assert_int_eq(s.holders, spans[i].holders);
	}
	ck_assert_str_eq(PRINTED(space_rec_print(f, &out)), "holders 0+1:1 1+2:2147483647 9+1:1 65535+1:-3");
	for (size_t n = 0; n < len; n++)
		ck_assert_int_eq(space_rec_decode(buf, n, &out), n >= 4 && n % 8 == 4 ? 0 : -EBADMSG);
	ck_assert_int_eq(space_rec_decode(buf, 4, &out), 0);
	put_le32(buf + 4 + 8 + 4, 1);
	ck_assert_int_eq(space_rec_decode(buf, len, &out), -EBADMSG);
	put_le32(buf + 4 + 8 + 4, 0);
	ck_assert_int_eq(space_rec_decode(buf, len, &out), -EBADMSG);
	put_le32(buf + 4 + 8 + 4, 2);
	put_le16(buf + 4 + 8, 0);
	ck_assert_int_eq(space_rec_decode(buf, len, &out), -EBADMSG);
	put_le16(buf + 4 + 8, 1);
	put_le16(buf + 4 + 3 * 8 + 2, 1);
	ck_assert_int_eq(space_rec_decode(buf, len, &out), -EBADMSG);
}
END_TEST

#define ROUND_TRIP(name, rec, bytes)                                          \
	struct name##_rec out;                                                \
	uint8_t buf[512];                                                     \
	size_t len = name##_rec_encode(&(rec), buf);                          \
                                                                              \
	ck_assert_uint_eq(len, bytes);                                        \
	ck_assert_int_eq(name##_rec_decode(buf, len, &out), 0);               \
	REFUSES_OTHER_LENGTHS(name##_rec_decode, buf, len);                   \
	ck_assert_int_eq(name##_rec_decode(buf, len, &out), 0)

START_TEST(pool_comes_back)
{
	const struct pool_rec rec = { .next_subvol = 1, .next_tree = 2, .next_node = 3, .next_tenant = 4,
				      .next_session = 5, .overcommit_percent = 250, .headroom_blocks = 9 };
	ROUND_TRIP(pool, rec, 72);

	ck_assert_uint_eq(out.next_tenant, 4);
	ck_assert_uint_eq(out.next_session, 5);
	ck_assert_uint_eq(out.overcommit_percent, 250);
	ck_assert_uint_eq(out.headroom_blocks, 9);
	REFUSED(pool, rec, r->next_subvol = 0);
	REFUSED(pool, rec, r->next_session = 0);
	REFUSED(pool, rec, r->overcommit_percent = 99);
}
END_TEST

START_TEST(subvol_comes_back)
{
	const struct subvol_rec rec = { .flags = SUBVOL_RESERVED, .compression = COMPRESSION_LZ4,
					.name = "pvc-1.a_B", .name_len = 9, .tree = 1, .node = 2,
					.tenant = 3, .incarnation = 4, .size_blocks = 5, .inodes_max = 6,
					.created_ns = -1,
					.rates = { 7, 8, 9, RATE_MAX } };
	ROUND_TRIP(subvol, rec, 96 + 9);
	ck_assert_mem_eq(&out.rates, &rec.rates, sizeof(out.rates));
	REFUSED(subvol, rec, r->rates.read_iops = RATE_MAX + 1);
	REFUSED(subvol, rec, r->rates.write_bytes_per_s = UINT64_MAX);

	ck_assert_mem_eq(out.name, "pvc-1.a_B", 9);
	ck_assert_int_eq(out.created_ns, -1);
	ck_assert_uint_eq(out.inodes_max, 6);
	REFUSED(subvol, rec, r->flags = 8);
	REFUSED(subvol, rec, r->compression = 2);
	REFUSED(subvol, rec, r->node = 0);
	REFUSED(subvol, rec, r->size_blocks = UINT64_MAX);
	REFUSED(subvol, rec, r->name = "-vc-1.a_B");
	REFUSED(subvol, rec, r->name = ".vc-1.a_B");
	REFUSED(subvol, rec, r->name = "pvc/1.a_B");
	REFUSED(subvol, rec, r->name = "pvc:1.a_B");
	REFUSED(subvol, rec, r->name_len = 0);
	ck_assert_ptr_nonnull(strstr(PRINTED(subvol_rec_print(f, &rec)),
				     "lz4 read-iops 7 write-iops 8 read-bytes/s 9 write-bytes/s 1125899906842624 reserved created 1969-12-31T23:59:59.999999999Z"));
}
END_TEST

START_TEST(node_comes_back)
{
	const struct node_rec rec = { .state = NODE_SNAPSHOT, .name = "s", .name_len = 1, .parent = 7,
				      .subvol = 8, .tenant = 9, .first_ino = 10, .size_blocks = 11,
				      .inodes_max = 12, .group = 13, .view = 14,
				      .sweep_family = SWEEP_NS, .sweep_ino = 15, .sweep_position = 16 };
	ROUND_TRIP(node, rec, 112 + 1);

	ck_assert_uint_eq(out.first_ino, 10);
	ck_assert_uint_eq(out.group, 13);
	ck_assert_uint_eq(out.view, 14);
	ck_assert_uint_eq(out.sweep_position, 16);
	REFUSED(node, rec, r->state = 0);
	REFUSED(node, rec, r->state = 5);
	REFUSED(node, rec, r->name_len = 0);
	REFUSED(node, rec, r->first_ino = 0);
	REFUSED(node, rec, r->sweep_family = 3);
	REFUSED(node, rec, r->tenant = 0);
}
END_TEST

START_TEST(counters_come_back)
{
	const struct counters_rec rec = { INT64_MIN, -2, 3, 4, 5, 6, 7 };
	ROUND_TRIP(counters, rec, 104);

	ck_assert_mem_eq(&out, &rec, sizeof(rec));
	ck_assert_int_eq(counters_rec_decode_operand(buf, len, &out), -EBADMSG);
	len = counters_rec_encode_operand(&rec, buf);
	ck_assert_int_eq(counters_rec_decode_operand(buf, len, &out), 0);
	ck_assert_mem_eq(&out, &rec, sizeof(rec));
}
END_TEST

START_TEST(tenant_comes_back)
{
	const struct tenant_rec rec = {
		.set = { .limits = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, .soft_blocks = 10, .grace_s = 11, .default_size_blocks = 12,
			 .default_inodes = 13, .default_claim = TENANT_CLAIM_THIN, .default_compression = TENANT_COMPRESSION_LZ4,
			 .uid_count = 2, .gid_count = 1, .uids = { 1000, 0 }, .gids = { UINT32_MAX - 1 } },
		.soft_since_ns = 14, .created_ns = -15, .name = "t", .name_len = 1,
	};
	ROUND_TRIP(tenant, rec, 145 + 1 + 3 * 4);

	ck_assert_mem_eq(&out.set.limits, &rec.set.limits, sizeof(rec.set.limits));
	ck_assert_uint_eq(out.set.soft_blocks, 10);
	ck_assert_uint_eq(out.set.grace_s, 11);
	ck_assert_uint_eq(out.set.default_size_blocks, 12);
	ck_assert_uint_eq(out.set.default_inodes, 13);
	ck_assert_uint_eq(out.set.default_claim, TENANT_CLAIM_THIN);
	ck_assert_uint_eq(out.set.default_compression, TENANT_COMPRESSION_LZ4);
	ck_assert_uint_eq(out.set.uid_count, 2);
	ck_assert_uint_eq(out.set.gid_count, 1);
	ck_assert_uint_eq(out.set.uids[0], 1000);
	ck_assert_uint_eq(out.set.uids[1], 0);
	ck_assert_uint_eq(out.set.gids[0], UINT32_MAX - 1);
	ck_assert_int_eq(out.soft_since_ns, 14);
	ck_assert_int_eq(out.created_ns, -15);
	ck_assert_mem_eq(out.name, "t", 1);
	REFUSED(tenant, rec, r->flags = 1);
	REFUSED(tenant, rec, r->set.grace_s = 0);
	REFUSED(tenant, rec, r->set.default_claim = 3);
	REFUSED(tenant, rec, r->set.default_compression = 3);
	REFUSED(tenant, rec, r->set.uid_count = 33);
	REFUSED(tenant, rec, r->set.gid_count = 33);
	REFUSED(tenant, rec, r->set.uids[1] = UINT32_MAX);
	REFUSED(tenant, rec, r->set.soft_blocks = UINT64_MAX / 4096);
	REFUSED(tenant, rec, r->set.limits.used_blocks = UINT64_MAX);
	/* Counts that promise more owners than there are bytes, or than there may be. */
	buf[126]++;
	ck_assert_int_eq(tenant_rec_decode(buf, len, &out), -EBADMSG);
	buf[126] = 255;
	ck_assert_int_eq(tenant_rec_decode(buf, len, &out), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(PRINTED(tenant_rec_print(f, &rec)), "write-bytes/s 9"));
}
END_TEST

/* As mkfs wrote it before there were owners and soft limits: zeros where they are now. */
START_TEST(plain_tenant_is_read)
{
	uint8_t buf[145 + 7] = { 'E', 1 };
	struct tenant_rec out;

	buf[8] = 5;
	buf[144] = 7;
	memcpy(buf + 145, "default", 7);
	ck_assert_int_eq(tenant_rec_decode(buf, sizeof(buf), &out), 0);
	ck_assert_uint_eq(out.set.limits.used_blocks, 5);
	ck_assert_uint_eq(out.set.soft_blocks, 0);
	ck_assert_uint_eq(out.set.uid_count + out.set.gid_count, 0);
	ck_assert_mem_eq(out.name, "default", 7);
	/* Nine numbers as large as a limit of bytes/s may be. */
	memset(buf + 8 + 5 * 8, 0xff, 4 * 8);
	ck_assert_int_eq(tenant_rec_decode(buf, sizeof(buf), &out), 0);
}
END_TEST

START_TEST(result_comes_back)
{
	const struct result_rec rec = { .length = 3, .error = -17, .unique = 8, .sequence = 9, .reply = "abc" };
	ROUND_TRIP(result, rec, 24 + 3);

	ck_assert_int_eq(out.error, -17);
	ck_assert_uint_eq(out.sequence, 9);
	ck_assert_mem_eq(out.reply, "abc", 3);
	REFUSED(result, rec, r->error = 1);
	REFUSED(result, rec, r->error = -4096);
}
END_TEST

START_TEST(indexes_and_trees)
{
	uint8_t buf[16];
	uint64_t ino;
	uint32_t id;

	ck_assert_uint_eq(index_rec_encode('N', 77, buf), 8);
	ck_assert_int_eq(index_rec_decode(buf, 8, 'N', &id), 0);
	ck_assert_uint_eq(id, 77);
	ck_assert_int_eq(index_rec_decode(buf, 8, 'e', &id), -EBADMSG);
	ck_assert_int_eq(index_rec_decode(buf, 7, 'N', &id), -EBADMSG);
	put_le32(buf + 4, 0);
	ck_assert_int_eq(index_rec_decode(buf, 8, 'N', &id), -EBADMSG);
	ck_assert_uint_eq(tree_rec_encode(INO_MAX + 1, buf), 16);
	ck_assert_int_eq(tree_rec_decode(buf, 16, &ino), 0);
	ck_assert_uint_eq(ino, INO_MAX + 1);
	put_le64(buf + 8, 1);
	ck_assert_int_eq(tree_rec_decode(buf, 16, &ino), -EBADMSG);
}
END_TEST

START_TEST(keys_come_back)
{
	uint8_t buf[KEY_MAX];
	struct ns_key ns;
	struct map_key map;
	struct space_key space;
	struct sys_key sys;
	char name[255];

	memset(name, 'n', sizeof(name));
	ck_assert_int_eq(ns_key_parse(buf, key_inode(buf, 1, 2, 3), &ns), 0);
	ck_assert(ns.type == 'I' && ns.tree == 1 && ns.ino == 2 && ns.node == 3);
	ck_assert_int_eq(ns_key_parse(buf, key_size(buf, 1, 2, 3), &ns), 0);
	ck_assert(ns.type == 'S');
	ck_assert_int_eq(ns_key_parse(buf, key_dirent(buf, 1, 2, COOKIE_MAX, 3), &ns), 0);
	ck_assert(ns.type == 'D' && ns.cookie == COOKIE_MAX && ns.node == 3);
	ck_assert_int_eq(ns_key_parse(buf, key_dirent(buf, 1, 2, 2, 3), &ns), -EBADMSG);
	ck_assert_int_eq(ns_key_parse(buf, key_xattr(buf, 1, 2, name, 255, 3), &ns), 0);
	ck_assert(ns.type == 'X' && ns.name_len == 255 && !memcmp(ns.name, name, 255));
	buf[KEY_NS_PREFIX_LEN]--;
	ck_assert_int_eq(ns_key_parse(buf, KEY_XATTR_MAX, &ns), -EBADMSG);
	ck_assert_int_eq(ns_key_parse(buf, key_orphan(buf, 1, 9, 3), &ns), 0);
	ck_assert(ns.type == 'O' && ns.ino == 9);
	ck_assert_int_eq(ns_key_parse(buf, key_cut(buf, 1, 9, 77, 3), &ns), 0);
	ck_assert(ns.type == 'T' && ns.ino == 9 && ns.sequence == 77);
	ck_assert_int_eq(ns_key_parse(buf, key_inode(buf, 1, INO_MAX + 1, 3), &ns), -EBADMSG);
	ck_assert_int_eq(map_key_parse(buf, key_map(buf, 1, 2, CHUNK_LAST, 3), &map), 0);
	ck_assert(map.tree == 1 && map.ino == 2 && map.chunk == CHUNK_LAST && map.node == 3);
	ck_assert_int_eq(map_key_parse(buf, key_map(buf, 1, 2, CHUNK_LAST + 1, 3), &map), -EBADMSG);
	ck_assert_int_eq(space_key_parse(buf, key_space(buf, 1, 2), &space), 0);
	ck_assert(space.vdev == 1 && space.zone == 2);
	ck_assert_int_eq(sys_key_parse(buf, key_pool(buf), &sys), 0);
	ck_assert_int_eq(sys_key_parse(buf, key_subvol(buf, 5), &sys), 0);
	ck_assert(sys.type == 'V' && sys.id == 5);
	ck_assert_int_eq(sys_key_parse(buf, key_node(buf, 5, 6), &sys), 0);
	ck_assert(sys.type == 'n' && sys.id == 5 && sys.node == 6);
	ck_assert_int_eq(sys_key_parse(buf, key_result(buf, 5, 6), &sys), 0);
	ck_assert(sys.type == 'R' && sys.id == 5 && sys.slot == 6);
	ck_assert_int_eq(sys_key_parse(buf, key_tenant_name(buf, name, 255), &sys), 0);
	ck_assert(sys.type == 'e' && sys.name_len == 255);
}
END_TEST

START_TEST(keys_sort_newest_first)
{
	uint8_t old[KEY_MAX], new[KEY_MAX], next[KEY_MAX];
	size_t n = key_map(old, 1, 2, 3, 10);

	key_map(new, 1, 2, 3, 11);
	key_map(next, 1, 2, 4, UINT32_MAX);
	ck_assert_int_lt(memcmp(new, old, n), 0);
	ck_assert_int_lt(memcmp(old, next, n), 0);
	n = key_dirent(old, 1, 2, 255, 1);
	key_dirent(next, 1, 2, 256, 1);
	ck_assert_int_lt(memcmp(old, next, n), 0);
}
END_TEST

START_TEST(entries_print)
{
	uint8_t key[KEY_MAX], value[256];
	const struct dirent_rec rec = { .file_type = 8, .name = "a\"\n", .name_len = 3, .ino = 5 };
	size_t key_len = key_dirent(key, 1, 2, 0x10, 3), len = dirent_rec_encode(&rec, value);

	ck_assert_str_eq(PRINTED(ck_assert_int_eq(rec_print(f, REC_FAMILY_NS, key, key_len, value, len), 0)),
			 "tree 1 entry of 2 cookie 0000000000000010 node 3: \"a\\x22\\x0a\" -> file 5");
	ck_assert_str_eq(PRINTED(ck_assert_int_eq(rec_print(f, REC_FAMILY_NS, key, key_len, "W", 1), 0)),
			 "tree 1 entry of 2 cookie 0000000000000010 node 3: whiteout");
	ck_assert_str_eq(PRINTED(ck_assert_int_eq(rec_print(f, REC_FAMILY_NS, key, key_len, "D", 1), -EBADMSG)),
			 "tree 1 entry of 2 cookie 0000000000000010 node 3: damaged 44");
	ck_assert_str_eq(PRINTED(ck_assert_int_eq(rec_print(f, REC_FAMILY_SYS, "?", 1, "D", 1), -EBADMSG)),
			 "damaged key 3f: 44");
}
END_TEST

/* One line for each kind, as `nvfs debug dump` shows it. */
struct printed {
	enum rec_family family;
	size_t (*make_key)(void *key);
	size_t (*make_value)(void *value);
	const char *line;
};

static size_t key_of_inode(void *k) { return key_inode(k, 1, 2, 3); }
static size_t key_of_size(void *k) { return key_size(k, 1, 2, 3); }
static size_t key_of_xattr(void *k) { return key_xattr(k, 1, 2, "user.a", 6, 3); }
static size_t key_of_orphan(void *k) { return key_orphan(k, 1, 2, 3); }
static size_t key_of_cut(void *k) { return key_cut(k, 1, 2, 16, 3); }
static size_t key_of_map(void *k) { return key_map(k, 1, 2, 4, 3); }
static size_t key_of_space(void *k) { return key_space(k, 1, 2); }
static size_t key_of_pool(void *k) { return key_pool(k); }
static size_t key_of_subvol(void *k) { return key_subvol(k, 5); }
static size_t key_of_subvol_name(void *k) { return key_subvol_name(k, "web", 3); }
static size_t key_of_tree(void *k) { return key_tree(k, 1); }
static size_t key_of_node(void *k) { return key_node(k, 1, 3); }
static size_t key_of_counters(void *k) { return key_counters(k, 1, 3); }
static size_t key_of_tenant(void *k) { return key_tenant(k, 6); }
static size_t key_of_tenant_name(void *k) { return key_tenant_name(k, "t", 1); }
static size_t key_of_result(void *k) { return key_result(k, 7, 8); }

static size_t value_of_inode(void *v)
{
	const struct inode_rec rec = { .mode = S_IFCHR | 0620, .nlink = 1, .parent = 1, .rdev = 0x501, .xattr_bytes = 9 };

	return inode_rec_encode(&rec, v);
}

static size_t value_of_size(void *v)
{
	const struct size_rec rec = { .size = 2, .is_inline = true, .inline_len = 2, .inline_crc = 10, .data = "hi",
				      .has_cuts = true, .blocks = 3, .absorbed = 17 };

	return size_rec_encode(&rec, v);
}

static size_t value_of_xattr(void *v)
{
	return xattr_rec_encode(&(struct xattr_rec){ 2, "ab" }, v);
}

static size_t value_of_orphan(void *v)
{
	return orphan_rec_encode(&(struct orphan_rec){ ORPHAN_REAPING }, v);
}

static size_t value_of_cut(void *v)
{
	return cut_rec_encode(&(struct cut_rec){ .first_chunk = 2, .end_chunk = 9 }, v);
}

static size_t value_of_map(void *v)
{
	return map_rec_encode(&(struct map_rec){ .seq = 1 }, v);
}

static size_t value_of_space(void *v)
{
	return space_rec_encode(true, &(struct space_span){ 7, 2, -1 }, 1, v);
}

static size_t value_of_pool(void *v)
{
	const struct pool_rec rec = { .next_subvol = 1, .next_tree = 2, .next_node = 3, .next_tenant = 4,
				      .next_session = 5, .overcommit_percent = 250, .headroom_blocks = 9 };

	return pool_rec_encode(&rec, v);
}

static size_t value_of_subvol(void *v)
{
	const struct subvol_rec rec = { .name = "web", .name_len = 3, .tree = 1, .node = 2, .tenant = 3, .incarnation = 4,
					.size_blocks = 5, .inodes_max = 6, .compression = COMPRESSION_LZ4 };

	return subvol_rec_encode(&rec, v);
}

static size_t value_of_subvol_name(void *v) { return index_rec_encode('N', 5, v); }
static size_t value_of_tenant_name(void *v) { return index_rec_encode('e', 6, v); }
static size_t value_of_tree(void *v) { return tree_rec_encode(4097, v); }

static size_t value_of_node(void *v)
{
	const struct node_rec rec = { .state = NODE_SNAPSHOT, .name = "s", .name_len = 1, .parent = 2, .subvol = 5, .tenant = 6,
				      .first_ino = 10, .view = 4, .size_blocks = 11, .inodes_max = 12, .group = 13,
				      .sweep_family = SWEEP_MAP, .sweep_ino = 15, .sweep_position = 16 };

	return node_rec_encode(&rec, v);
}

static size_t value_of_counters(void *v)
{
	return counters_rec_encode(&(struct counters_rec){ 1, -2, 3, 4, 5, 6, 7 }, v);
}

static size_t value_of_tenant(void *v)
{
	return tenant_rec_encode(&(struct tenant_rec){ .name = "t", .name_len = 1, .soft_since_ns = 5,
						       .set = { .limits = { 1, 0, 3, 0, 0, 0, 0, 0, 0 }, .soft_blocks = 7,
								.grace_s = 8, .uid_count = 1, .uids = { 9 } } }, v);
}

static size_t value_of_result(void *v)
{
	return result_rec_encode(&(struct result_rec){ .unique = 9, .sequence = 18, .error = -17, .length = 1, .reply = "r" }, v);
}

static const struct printed printed[] = {
	{ REC_FAMILY_NS, key_of_inode, value_of_inode,
	  "tree 1 inode 2 node 3: char device mode 0620 uid 0 gid 0 nlink 1 parent 1 rdev 0x501 xattr-bytes 9"
	  " atime 1970-01-01T00:00:00.000000000Z mtime 1970-01-01T00:00:00.000000000Z"
	  " ctime 1970-01-01T00:00:00.000000000Z btime 1970-01-01T00:00:00.000000000Z" },
	{ REC_FAMILY_NS, key_of_size, value_of_size,
	  "tree 1 size of 2 node 3: size 2 blocks 3 absorbed 0x11 mtime 1970-01-01T00:00:00.000000000Z"
	  " ctime 1970-01-01T00:00:00.000000000Z has-cuts inline 2 crc 0000000a 6869" },
	{ REC_FAMILY_NS, key_of_xattr, value_of_xattr, "tree 1 xattr of 2 \"user.a\" node 3: 2 bytes 6162" },
	{ REC_FAMILY_NS, key_of_orphan, value_of_orphan, "tree 1 orphan 2 node 3: being reaped" },
	{ REC_FAMILY_NS, key_of_cut, value_of_cut, "tree 1 cut of 2 sequence 0x10 node 3: chunks 2 to 8" },
	{ REC_FAMILY_MAP, key_of_map, value_of_map, "tree 1 map of 2 chunk 4 node 3: sequence 0x1 empty" },
	{ REC_FAMILY_SPACE, key_of_space, value_of_space, "vdev 1 zone 2: operand 7+2:-1" },
	{ REC_FAMILY_SYS, key_of_pool, value_of_pool,
	  "pool: next subvolume 1 tree 2 node 3 tenant 4 session 5 overcommit 250% headroom 9 blocks" },
	{ REC_FAMILY_SYS, key_of_subvol, value_of_subvol,
	  "subvolume 5: \"web\" tree 1 node 2 tenant 3 incarnation 4 size 5 blocks inodes-max 6 compression lz4"
	  " created 1970-01-01T00:00:00.000000000Z" },
	{ REC_FAMILY_SYS, key_of_subvol_name, value_of_subvol_name, "subvolume \"web\": is 5" },
	{ REC_FAMILY_SYS, key_of_tree, value_of_tree, "tree 1: next inode 4097" },
	{ REC_FAMILY_SYS, key_of_node, value_of_node,
	  "tree 1 node 3: snapshot \"s\" parent 2 subvolume 5 tenant 6 first-ino 10 view 4 size 11 blocks inodes-max 12"
	  " group 13 sweep at map 15 16 created 1970-01-01T00:00:00.000000000Z" },
	{ REC_FAMILY_SYS, key_of_counters, value_of_counters,
	  "counters of tree 1 node 3: born 1 referenced -2 meta 3 inodes 4 meta-born 5 inodes-born 6 unwritten 7" },
	{ REC_FAMILY_SYS, key_of_tenant, value_of_tenant, "tenant 6: \"t\" used-blocks 1 inodes 3 soft-blocks 7 grace-s 8 above-since 5 owner-uid 9" },
	{ REC_FAMILY_SYS, key_of_tenant_name, value_of_tenant_name, "tenant \"t\": is 6" },
	{ REC_FAMILY_SYS, key_of_result, value_of_result,
	  "result of session 7 slot 8: request 9 sequence 0x12 error -17 reply 1 72" },
};

START_TEST(each_kind_prints)
{
	uint8_t k[KEY_MAX], v[1024];

	for (size_t i = 0; i < sizeof(printed) / sizeof(printed[0]); i++) {
		const struct printed *p = &printed[i];
		const size_t key_len = p->make_key(k), len = p->make_value(v);

		ck_assert_str_eq(PRINTED(ck_assert_int_eq(rec_print(f, p->family, k, key_len, v, len), 0)), p->line);
		/* One bit of the type: not this kind of record, and said so. */
		v[0] ^= 4;
		ck_assert_ptr_nonnull(strstr(PRINTED(ck_assert_int_eq(rec_print(f, p->family, k, key_len, v, len), -EBADMSG)),
					     ": damaged "));
	}
}
END_TEST

/* The reference vector of SipHash-2-4: key 00..0f, message 00..0e, output a129ca6149be45e5. */
START_TEST(cookies)
{
	uint8_t key[16], message[15];

	for (unsigned i = 0; i < 16; i++)
		key[i] = i;
	memcpy(message, key, 15);
	ck_assert_uint_eq(cookie_of(key, message, 15), UINT64_C(0x2129ca6149be45e5));
	ck_assert_uint_ne(cookie_of(key, "a", 1), cookie_of(key, "b", 1));
	ck_assert_uint_eq(cookie_add(COOKIE_MAX, 1), COOKIE_MIN);
	ck_assert_uint_eq(cookie_add(COOKIE_MIN, 255), COOKIE_MIN + 255);
	ck_assert_uint_eq(cookie_distance(COOKIE_MAX - 1, COOKIE_MIN + 2), 4);
	ck_assert_uint_eq(cookie_distance(7, 7), 0);
	for (unsigned i = 0; i < 100000; i++) {
		const uint64_t c = cookie_of(key, &i, sizeof(i));

		ck_assert(c >= COOKIE_MIN && c <= COOKIE_MAX);
	}
}
END_TEST

int main(void)
{
	return unit_run("records", inode_comes_back, inode_of_a_directory, inode_refuses,
			size_comes_back, size_with_inline_data, dirent_comes_back,
			small_records_come_back, map_comes_back, map_at_its_limits, map_refuses,
			map_finds_and_counts, space_spans, pool_comes_back, subvol_comes_back,
			node_comes_back, counters_come_back, tenant_comes_back, plain_tenant_is_read, result_comes_back,
			indexes_and_trees, keys_come_back, keys_sort_newest_first, entries_print,
			each_kind_prints, cookies, NULL);
}
