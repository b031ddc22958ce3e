/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map of a chunk in memory against a list of what each block is, and against its records. */
#include "config.h"

#include "meta/blockmap.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#define ADDRESSES 4096u /* on each of two devices */

enum kind { HOLE, PLAIN, UNWRITTEN, PACKED };

struct ref {
	enum kind kind;
	uint64_t at;
	uint32_t crc;        /* of a compressed one: of the extent */
	uint8_t raw, stored; /* of the extent */
	uint8_t index;       /* in it */
	bool inherited;
};

struct model {
	struct blockmap map;
	struct ref block[CHUNK_BLOCKS];
	unsigned seed;
	uint64_t next; /* address that nobody has */
};

/* Holders by address. */
struct ledger {
	int count[2][ADDRESSES];
};

static unsigned rnd(struct model *m, unsigned n)
{
	m->seed = m->seed * 1103515245u + 12345u;
	return (m->seed >> 8) % n;
}

static int note(void *arg, const struct extent *e, int delta)
{
	struct ledger *l = arg;

	ck_assert_uint_lt(e->vdev, 2);
	ck_assert_uint_ge(e->blocks, 1);
	for (unsigned i = 0; i < e->blocks; i++) {
		ck_assert_uint_lt(e->block + i, ADDRESSES);
		l->count[e->vdev][e->block + i] += delta;
	}
	return 0;
}

static void same_ledgers(const struct ledger *a, const struct ledger *b)
{
	for (unsigned v = 0; v < 2; v++)
		for (unsigned i = 0; i < ADDRESSES; i++)
			if (a->count[v][i] != b->count[v][i])
				ck_abort_msg("%u:%u has %d holders and should have %d", v, i, a->count[v][i], b->count[v][i]);
}

/* What the list says: a plain block has one holder, a compressed extent one for each run of its blocks. */
static void ref_ledger(const struct model *m, struct ledger *l)
{
	memset(l, 0, sizeof(*l));
	for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
		const struct ref *r = &m->block[b], *before = b ? r - 1 : NULL;
		const bool goes_on = before && before->kind == PACKED && before->at == r->at && before->index + 1 == r->index;
		struct extent e = { .vdev = at_vdev(r->at), .block = at_block(r->at), .blocks = r->kind == PACKED ? r->stored : 1 };

		if (r->kind == PLAIN || (r->kind == PACKED && !goes_on))
			note(l, &e, 1);
	}
}

static void map_ledger(const struct blockmap *map, struct ledger *l)
{
	memset(l, 0, sizeof(*l));
	ck_assert_int_eq(blockmap_each(map, note, l), 0);
}

static uint64_t mask_of(const struct model *m, enum kind kind)
{
	uint64_t mask = 0;

	for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
		if (m->block[b].kind == kind)
			mask |= block_bit(b);
	return mask;
}

/* The map says of each block what the list says. */
static void same_blocks(const struct blockmap *map, const struct model *m)
{
	ck_assert_uint_eq(map->mapped, ~mask_of(m, HOLE));
	ck_assert_uint_eq(map->unwritten, mask_of(m, UNWRITTEN));
	ck_assert_uint_eq(map->compressed, mask_of(m, PACKED));
	ck_assert_uint_eq(blockmap_stored(map), mask_of(m, PLAIN) | mask_of(m, PACKED));
	for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
		const struct ref *r = &m->block[b];

		ck_assert_int_eq(!!(map->inherited & block_bit(b)), r->inherited);
		if (r->kind == PLAIN || r->kind == PACKED)
			ck_assert_uint_eq(map->at[b], r->at);
		if (r->kind == PLAIN)
			ck_assert_uint_eq(map->crc[b], r->crc);
		if (r->kind == PACKED) {
			const struct compressed_extent *e = blockmap_extent(map, b);

			ck_assert_uint_eq(e->at, r->at);
			ck_assert_uint_eq(e->crc, r->crc);
			ck_assert_uint_eq(e->raw, r->raw);
			ck_assert_uint_eq(e->stored, r->stored);
			ck_assert_uint_eq(blockmap_raw_index(map, b), r->index);
		}
	}
}

/* Neighbours that can be one run are one. */
static void runs_are_whole(const struct map_rec *rec)
{
	for (unsigned i = 1; i < rec->nruns; i++) {
		const struct map_run *a = &rec->runs[i - 1], *b = &rec->runs[i];

		if (a->block + a->count != b->block || a->flags != b->flags)
			continue;
		ck_assert(!(a->flags & RUN_UNWRITTEN));
		if (a->flags & RUN_COMPRESSED)
			ck_assert(a->vdev != b->vdev || a->address != b->address || a->skip + a->count != b->skip);
		else
			ck_assert(a->vdev != b->vdev || a->address + a->count != b->address);
	}
}

static void check_model(const struct model *m)
{
	static uint8_t bytes[MAP_REC_MAX];
	struct ledger want, got;
	struct blockmap again = { 0 };
	struct map_rec rec, decoded;

	same_blocks(&m->map, m);
	ref_ledger(m, &want);
	map_ledger(&m->map, &got);
	same_ledgers(&got, &want);
	blockmap_to_rec(&m->map, 77, &rec);
	runs_are_whole(&rec);
	ck_assert_int_eq(map_rec_decode(bytes, map_rec_encode(&rec, bytes), &decoded), 0);
	ck_assert_uint_eq(decoded.seq, 77);
	ck_assert_int_eq(blockmap_from_rec(&again, &decoded, false), 0);
	same_blocks(&again, m);
	map_ledger(&again, &got);
	same_ledgers(&got, &want);
	blockmap_clear(&again);
}

static uint64_t new_address(struct model *m, unsigned blocks)
{
	uint64_t at = m->next;

	m->next += blocks + rnd(m, 2);
	if (m->next > ADDRESSES - 128)
		m->next = 0;
	return blockmap_at((uint16_t)(m->seed >> 20 & 1), at);
}

/* Maps holes of dst, which the list describes; into another map for blockmap_move(). */
static void fill_holes(struct model *m, struct blockmap *dst, unsigned block, unsigned count)
{
	uint64_t at = new_address(m, count);
	unsigned what = rnd(m, 4);

	if (what == 0) {
		blockmap_set_unwritten(dst, block_mask(block, count));
		for (unsigned i = 0; i < count; i++)
			m->block[block + i] = (struct ref){ .kind = UNWRITTEN };
	} else if (what == 1 && count >= 2) {
		struct compressed_extent e = { .at = at, .crc = m->seed, .raw = (uint8_t)count, .stored = (uint8_t)(count - 1),
					       .bytes = (count - 2) * NVFS_BLOCK_SIZE + 1 + rnd(m, NVFS_BLOCK_SIZE) };

		ck_assert_int_eq(blockmap_set_compressed(dst, block, &e), 0);
		for (unsigned i = 0; i < count; i++)
			m->block[block + i] = (struct ref){ .kind = PACKED, .at = at, .crc = e.crc, .raw = e.raw,
							    .stored = e.stored, .index = (uint8_t)i };
	} else {
		for (unsigned i = 0; i < count; i++) {
			m->block[block + i] = (struct ref){ .kind = PLAIN, .at = at + i, .crc = m->seed + i };
			blockmap_set(dst, block + i, at + i, m->seed + i);
		}
	}
}

static void unmap(struct model *m, uint64_t mask)
{
	struct ledger l, want;

	mask |= blockmap_companions(&m->map, mask);
	map_ledger(&m->map, &l);
	blockmap_unmap(&m->map, mask, note, &l);
	for (uint64_t left = mask; left; left &= left - 1)
		m->block[__builtin_ctzll(left)] = (struct ref){ .kind = HOLE };
	ref_ledger(m, &want);
	same_ledgers(&l, &want);
}

static void step(struct model *m)
{
	unsigned block = rnd(m, CHUNK_BLOCKS), count = rnd(m, rnd(m, 3) ? 6 : CHUNK_BLOCKS) + 1;
	uint64_t mask;

	if (count > CHUNK_BLOCKS - block)
		count = CHUNK_BLOCKS - block;
	mask = block_mask(block, count);
	if (rnd(m, 3) == 0) {
		unmap(m, mask);
		return;
	}
	mask |= blockmap_companions(&m->map, mask);
	unmap(m, mask);
	if (rnd(m, 2)) { /* as a cycle does it: by another map */
		struct blockmap out = { 0 };

		fill_holes(m, &out, block, count);
		ck_assert_int_eq(blockmap_move(&m->map, &out), 0);
		ck_assert_uint_eq(out.mapped, 0);
		ck_assert_ptr_null(out.extents);
	} else {
		fill_holes(m, &m->map, block, count);
	}
}

START_TEST(any_history)
{
	struct model m = { .seed = (unsigned)_i + 1 };

	for (unsigned i = 0; i < 1500; i++) {
		step(&m);
		check_model(&m);
	}
	unmap(&m, BLOCKMAP_ALL);
	check_model(&m);
	blockmap_clear(&m.map);
}
END_TEST

/* What a batch does to the holders is what the new record has, less what the old one had. */
START_TEST(difference_of_two_records)
{
	struct model m = { .seed = (unsigned)_i + 100 };
	struct blockmap old = { 0 };

	for (unsigned i = 0; i < 400; i++) {
		struct ledger l, want;

		map_ledger(&old, &l);
		ck_assert_int_eq(blockmap_diff(&old, &m.map, note, &l), 0);
		map_ledger(&m.map, &want);
		same_ledgers(&l, &want);
		memset(&l, 0, sizeof(l));
		ck_assert_int_eq(blockmap_diff(NULL, &m.map, note, &l), 0);
		same_ledgers(&l, &want);
		ck_assert_int_eq(blockmap_diff(&m.map, NULL, note, &l), 0);
		memset(&want, 0, sizeof(want));
		same_ledgers(&l, &want);
		if (rnd(&m, 3) == 0) { /* a put: what is now is what RocksDB has */
			blockmap_clear(&old);
			ck_assert_int_eq(blockmap_copy(&old, &m.map), 0);
		}
		step(&m);
	}
	blockmap_clear(&old);
	blockmap_clear(&m.map);
}
END_TEST

static int count_calls(void *arg, const struct extent *e, int delta)
{
	unsigned *calls = arg;

	(void)e;
	(void)delta;
	++*calls;
	return 0;
}

/* Plain blocks that stay where they are take no part in a batch. */
START_TEST(what_stays_is_not_in_the_difference)
{
	struct blockmap old = { 0 }, new = { 0 };
	unsigned calls = 0;

	for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
		blockmap_set(&old, b, blockmap_at(0, 100 + b), b);
	ck_assert_int_eq(blockmap_copy(&new, &old), 0);
	ck_assert_int_eq(blockmap_diff(&old, &new, count_calls, &calls), 0);
	ck_assert_uint_eq(calls, 0);
	blockmap_unmap(&new, block_bit(63), count_calls, &calls);
	blockmap_set(&new, 63, blockmap_at(1, 163), 63); /* the same number on another device is another block */
	calls = 0;
	ck_assert_int_eq(blockmap_diff(&old, &new, count_calls, &calls), 0);
	ck_assert_uint_eq(calls, 2);
}
END_TEST

/* A record of a snapshot's time can have an extent in pieces; each has a holder, and they go with the last piece. */
START_TEST(extent_in_pieces)
{
	struct map_rec rec = { .seq = 5, .nruns = 2 }, out;
	struct blockmap m = { 0 };
	struct ledger l;

	rec.runs[0] = (struct map_run){ .block = 10, .count = 2, .flags = RUN_COMPRESSED, .skip = 0, .raw_blocks = 8,
					.stored_blocks = 3, .stored_bytes = 10000, .vdev = 1, .address = 500 };
	rec.runs[1] = rec.runs[0];
	rec.runs[1].block = 15;
	rec.runs[1].count = 3;
	rec.runs[1].skip = 5;
	rec.crcs[0] = rec.crcs[1] = 0xabcdef;
	ck_assert_int_eq(map_rec_validate(&rec), 0);
	ck_assert_int_eq(blockmap_from_rec(&m, &rec, true), 0);
	ck_assert_uint_eq(m.inherited, m.mapped);
	ck_assert_uint_eq(blockmap_own(&m), 0);
	ck_assert_uint_eq(blockmap_companions(&m, block_bit(11)), block_bit(10) | block_mask(15, 3));
	ck_assert_uint_eq(blockmap_companions(&m, block_bit(12)), 0);
	map_ledger(&m, &l);
	ck_assert_int_eq(l.count[1][500], 2);
	ck_assert_int_eq(l.count[1][502], 2);
	ck_assert_int_eq(l.count[1][503], 0);
	blockmap_unmap(&m, block_mask(10, 2), note, &l);
	ck_assert_int_eq(l.count[1][500], 2); /* something of it is left */
	ck_assert_uint_eq(blockmap_raw_index(&m, 16), 6);
	blockmap_to_rec(&m, 5, &out);
	ck_assert_int_eq(map_rec_validate(&out), 0);
	ck_assert_uint_eq(out.nruns, 1);
	ck_assert_uint_eq(out.runs[0].skip, 5);
	ck_assert_uint_eq(out.runs[0].raw_blocks, 8);
	ck_assert_uint_eq(out.crcs[0], 0xabcdef);
	blockmap_unmap(&m, BLOCKMAP_ALL, note, &l);
	for (unsigned i = 500; i < 503; i++)
		ck_assert_int_eq(l.count[1][i], 0);
	blockmap_clear(&m);
}
END_TEST

/* Runs that say two things of one place are refused, and leave nothing behind. */
START_TEST(contradictions_are_refused)
{
	struct map_rec rec = { .nruns = 2 };
	struct blockmap m = { 0 };

	rec.runs[0] = (struct map_run){ .block = 0, .count = 4, .flags = RUN_COMPRESSED, .raw_blocks = 4,
					.stored_blocks = 2, .stored_bytes = 8000, .address = 9 };
	rec.runs[1] = rec.runs[0];
	rec.runs[1].block = 8;
	rec.runs[1].stored_bytes = 7000;
	ck_assert_int_eq(blockmap_from_rec(&m, &rec, false), -EBADMSG);
	ck_assert_uint_eq(m.mapped, 0);
	ck_assert_ptr_null(m.extents);
	rec.nruns = 1;
	rec.runs[0] = (struct map_run){ .block = 0, .count = 1, .raw_blocks = 1, .stored_blocks = 1,
					.address = UINT64_C(1) << 48 };
	ck_assert_int_eq(blockmap_from_rec(&m, &rec, false), -EBADMSG);
	ck_assert_uint_eq(m.mapped, 0);
}
END_TEST

/* What was mapped anew is the own node's; what lies beside it keeps its flags, and is another run for it. */
START_TEST(flags_end_runs)
{
	struct map_rec rec = { .nruns = 1 }, out;
	struct blockmap m = { 0 };

	rec.runs[0] = (struct map_run){ .block = 0, .count = 64, .raw_blocks = 64, .stored_blocks = 64, .address = 1000,
					.flags = RUN_NO_CHECKSUM };
	ck_assert_int_eq(blockmap_from_rec(&m, &rec, true), 0);
	blockmap_unmap(&m, block_bit(20), count_calls, &(unsigned){ 0 });
	blockmap_set(&m, 20, blockmap_at(0, 1020), 0x1234); /* by chance where it was before */
	blockmap_to_rec(&m, 1, &out);
	ck_assert_uint_eq(out.nruns, 3);
	ck_assert_uint_eq(out.runs[0].count, 20);
	ck_assert_uint_eq(out.runs[1].flags, 0);
	ck_assert_uint_eq(out.runs[1].count, 1);
	ck_assert_uint_eq(out.crcs[0], 0x1234);
	ck_assert_uint_eq(out.runs[2].block, 21);
	ck_assert_uint_eq(out.runs[2].flags, RUN_NO_CHECKSUM | RUN_INHERITED);
	ck_assert_uint_eq(out.runs[2].address, 1021);
	ck_assert_uint_eq(blockmap_own(&m), 1);
}
END_TEST

/* Each extent of two blocks for ever: entries of the table are used again. */
START_TEST(extents_come_and_go)
{
	struct blockmap m = { 0 }, copy = { 0 };

	for (unsigned i = 0; i < 500; i++) {
		unsigned block = i * 2 % CHUNK_BLOCKS;
		struct compressed_extent e = { .at = blockmap_at(0, i + 1), .raw = 2, .stored = 1, .bytes = 100, .crc = i };

		blockmap_unmap(&m, block_mask(block, 2), count_calls, &(unsigned){ 0 });
		ck_assert_int_eq(blockmap_set_compressed(&m, block, &e), 0);
		ck_assert_uint_eq(blockmap_extent(&m, block + 1)->crc, i);
	}
	ck_assert_int_eq(blockmap_copy(&copy, &m), 0);
	blockmap_clear(&m); /* the copy has its own table */
	ck_assert_uint_eq(copy.compressed, UINT64_MAX);
	ck_assert_uint_eq(blockmap_extent(&copy, 2)->crc, 481);
	blockmap_clear(&copy);
}
END_TEST

START_TEST(masks)
{
	ck_assert_uint_eq(block_mask(0, 64), UINT64_MAX);
	ck_assert_uint_eq(block_mask(63, 1), UINT64_C(1) << 63);
	ck_assert_uint_eq(block_mask(1, 63), ~UINT64_C(1));
	ck_assert_uint_eq(mask_run(UINT64_MAX, 0), 64);
	ck_assert_uint_eq(mask_run(UINT64_MAX, 63), 1);
	ck_assert_uint_eq(mask_run(UINT64_MAX << 3, 5), 59);
	ck_assert_uint_eq(mask_run(0x0f, 2), 2);
	ck_assert_uint_eq(at_vdev(blockmap_at(65535, 7)), 65535);
	ck_assert_uint_eq(at_block(blockmap_at(65535, 7)), 7);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blockmap");

	unit_add(suite, "history", any_history, 4);
	unit_add(suite, "difference", difference_of_two_records, 2);
	unit_add(suite, "stays", what_stays_is_not_in_the_difference, 1);
	unit_add(suite, "pieces", extent_in_pieces, 1);
	unit_add(suite, "contradictions", contradictions_are_refused, 1);
	unit_add(suite, "flags", flags_end_runs, 1);
	unit_add(suite, "extents", extents_come_and_go, 1);
	unit_add(suite, "masks", masks, 1);
	return unit_run_suite(suite);
}
