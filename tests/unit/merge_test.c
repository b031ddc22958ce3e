/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The merge operators against an array of counts, and inside RocksDB. */
#include "config.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/merge.h"
#include "meta/records.h"
#include "tests/unit/unit.h"

#define ZONE 16384u

static uint32_t below(uint32_t n)
{
	return (uint32_t)random() % n;
}

struct operand {
	uint8_t bytes[64];
	size_t len;
};

/* One to three ranges that do not touch, into `counts` as well. */
static void random_operand(struct operand *op, int32_t *counts, uint32_t zone)
{
	struct space_span spans[3];
	uint32_t n = 0, at = below(zone / 2);
	const uint32_t want = 1 + below(3);

	while (n < want && at < zone) {
		const uint32_t blocks = 1 + below(zone - at < 64 ? zone - at : 64);
		const int32_t delta = below(3) ? 1 : -1;

		spans[n++] = (struct space_span){ at, blocks, delta };
		for (uint32_t b = at; b < at + blocks; b++)
			counts[b] += delta;
		at += blocks + 1 + below(zone / 4);
	}
	op->len = space_rec_encode(true, spans, n, op->bytes);
}

static void check_equals(const void *value, size_t len, const int32_t *counts, uint32_t zone)
{
	struct space_rec rec;
	uint32_t block = 0;

	ck_assert_int_eq(space_rec_decode(value, len, &rec), 0);
	for (uint32_t i = 0; i < rec.nspans; i++) {
		const struct space_span s = space_rec_span(&rec, i);

		for (; block < s.first; block++)
			ck_assert_int_eq(counts[block], 0);
		for (; block < s.first + s.blocks; block++)
			ck_assert_int_eq(counts[block], s.holders);
	}
	for (; block < zone; block++)
		ck_assert_int_eq(counts[block], 0);
}

#define OPERANDS 600

/* However the operands are grouped, the sum is that of the array. */
static void check_groups(uint32_t zone)
{
	static struct operand ops[OPERANDS];
	static int32_t counts[ZONE];
	const char *ptrs[OPERANDS];
	size_t lens[OPERANDS], len = 0, left_len, right_len;
	const unsigned n = 1 + below(OPERANDS), cut = below(n + 1), partial = below(n - cut + 1);

	memset(counts, 0, sizeof(counts));
	for (unsigned i = 0; i < n; i++) {
		random_operand(&ops[i], counts, zone);
		ptrs[i] = (const char *)ops[i].bytes;
		lens[i] = ops[i].len;
	}
	cleanup_free void *all = merge_space(NULL, 0, ptrs, lens, n, false, &len);
	check_equals(all, len, counts, zone);
	cleanup_free void *left = merge_space(NULL, 0, ptrs, lens, cut, false, &left_len);
	cleanup_free void *right = merge_space(NULL, 0, ptrs + cut, lens + cut, partial, true,
					       &right_len);
	ck_assert(left && right);
	ptrs[cut] = right;
	lens[cut] = right_len;
	if (partial) {
		memmove(ptrs + cut + 1, ptrs + cut + partial, (n - cut - partial) * sizeof(*ptrs));
		memmove(lens + cut + 1, lens + cut + partial, (n - cut - partial) * sizeof(*lens));
	}
	const unsigned rest = partial ? n - cut - partial + 1 : 0;
	if (!partial && cut < n)
		return;
	cleanup_free void *sum = merge_space(left, left_len, ptrs + cut, lens + cut, rest, false,
					     &right_len);
	ck_assert_uint_eq(right_len, len);
	ck_assert_mem_eq(sum, all, len);
}

START_TEST(space_sums)
{
	srandom(4711);
	for (unsigned i = 0; i < 150; i++)
		check_groups(i % 2 ? ZONE : 128);
}
END_TEST

static size_t one_span(uint8_t *buf, bool operand, uint16_t first, uint32_t blocks, int32_t holders)
{
	const struct space_span span = { first, blocks, holders };

	return space_rec_encode(operand, &span, 1, buf);
}

START_TEST(space_shows_negative_sums)
{
	uint8_t op[16];
	const char *ptr = (const char *)op;
	size_t len = one_span(op, true, 5, 2, -1), out_len;
	cleanup_free void *value = merge_space(NULL, 0, &ptr, &len, 1, false, &out_len);
	struct space_rec rec;

	ck_assert_int_eq(space_rec_decode(value, out_len, &rec), 0);
	ck_assert_uint_eq(rec.nspans, 1);
	ck_assert_int_eq(space_rec_span(&rec, 0).holders, -1);
	/* And the missing hold brings it back. */
	len = one_span(op, true, 5, 2, 1);
	cleanup_free void *again = merge_space(value, out_len, &ptr, &len, 1, false, &out_len);
	ck_assert_int_eq(space_rec_decode(again, out_len, &rec), 0);
	ck_assert_uint_eq(rec.nspans, 0);
}
END_TEST

START_TEST(space_never_wraps)
{
	uint8_t op[16], value[16];
	const char *ptr = (const char *)op;
	size_t len = one_span(op, true, 0, 1, INT32_MAX), value_len, out_len;
	struct space_rec rec;

	value_len = one_span(value, false, 0, 1, INT32_MAX);
	cleanup_free void *sum = merge_space(value, value_len, &ptr, &len, 1, false, &out_len);
	ck_assert_int_eq(space_rec_decode(sum, out_len, &rec), 0);
	ck_assert_int_eq(space_rec_span(&rec, 0).holders, INT32_MAX);
}
END_TEST

static void count_lines(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line;
	++*(unsigned *)arg;
}

START_TEST(malformed_is_refused)
{
	uint8_t op[16], value[16], counters[COUNTERS_REC_LEN];
	const char *ptr = (const char *)op, *cptr = (const char *)counters;
	size_t len = one_span(op, true, 0, 1, 1), value_len = one_span(value, false, 0, 1, 1), out_len;
	size_t clen = counters_rec_encode(&(struct counters_rec){ 0 }, counters);
	unsigned lines = 0;

	log_set_sink(count_lines, &lines);
	/* A value is no operand, an operand no value, and neither may be cut. */
	ck_assert_ptr_null(merge_space(op, len, &ptr, &len, 1, false, &out_len));
	ck_assert_uint_eq(out_len, 0);
	ptr = (const char *)value;
	ck_assert_ptr_null(merge_space(NULL, 0, &ptr, &value_len, 1, false, &out_len));
	ptr = (const char *)op;
	len--;
	ck_assert_ptr_null(merge_space(NULL, 0, &ptr, &len, 1, false, &out_len));
	ck_assert_ptr_null(merge_counters(NULL, 0, &cptr, &clen, 1, false, &out_len));
	ck_assert_uint_eq(out_len, 0);
	ck_assert_uint_eq(lines, 4);
	log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(counters_sum)
{
	uint8_t bytes[2][COUNTERS_REC_LEN];
	const char *ptrs[2] = { (char *)bytes[0], (char *)bytes[1] };
	const size_t lens[2] = { COUNTERS_REC_LEN, COUNTERS_REC_LEN };
	size_t len;
	struct counters_rec sum;

	counters_rec_encode_operand(&(struct counters_rec){ 1, INT64_MAX, -3, 4, 5, 6, 7 }, bytes[0]);
	counters_rec_encode_operand(&(struct counters_rec){ 10, 1, 1, -4, -6, 1, 1 }, bytes[1]);
	cleanup_free void *partial = merge_counters(NULL, 0, ptrs, lens, 2, true, &len);
	ck_assert_int_eq(counters_rec_decode_operand(partial, len, &sum), 0);
	ck_assert_mem_eq(&sum, (&(struct counters_rec){ 11, INT64_MIN, -2, 0, -1, 7, 8 }), sizeof(sum));
	ptrs[0] = partial;
	cleanup_free void *first = merge_counters(NULL, 0, ptrs, lens, 1, false, &len);
	cleanup_free void *full = merge_counters(first, len, ptrs + 1, lens, 1, false, &len);
	ck_assert_int_eq(counters_rec_decode(full, len, &sum), 0);
	ck_assert_int_eq(sum.born, 21);
	ck_assert_int_eq(sum.referenced, INT64_MIN + 1);
}
END_TEST

/* ---- inside RocksDB ---- */

struct scratch {
	char dir[64];
	rocksdb_options_t *options;
	rocksdb_t *db;
};

static void scratch_open(struct scratch *s, rocksdb_mergeoperator_t *merge)
{
	char *err = NULL;

	snprintf(s->dir, sizeof(s->dir), "/tmp/merge_test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(s->dir));
	s->options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(s->options, 1);
	rocksdb_options_set_merge_operator(s->options, merge);
	s->db = rocksdb_open(s->options, s->dir, &err);
	ck_assert_ptr_null(err);
}

static void scratch_close(struct scratch *s)
{
	char *err = NULL;

	rocksdb_close(s->db);
	rocksdb_destroy_db(s->options, s->dir, &err);
	free(err);
	rocksdb_options_destroy(s->options);
	rmdir(s->dir);
}

static void scratch_merge(struct scratch *s, const void *operand, size_t len)
{
	rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
	char *err = NULL;

	rocksdb_writeoptions_disable_WAL(wo, 1);
	rocksdb_merge(s->db, wo, "zone", 4, operand, len, &err);
	ck_assert_ptr_null(err);
	rocksdb_writeoptions_destroy(wo);
}

/* NULL with *err set by RocksDB when the merge fails. */
static char *scratch_get(struct scratch *s, size_t *len, char **err)
{
	rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
	char *value = rocksdb_get(s->db, ro, "zone", 4, len, err);

	rocksdb_readoptions_destroy(ro);
	return value;
}

START_TEST(rocksdb_merges_space)
{
	static int32_t counts[ZONE];
	struct scratch s;
	struct operand op;
	char *err = NULL, *value;
	size_t len;

	srandom(99);
	memset(counts, 0, sizeof(counts));
	scratch_open(&s, merge_space_create());
	for (unsigned i = 0; i < 3000; i++) {
		random_operand(&op, counts, ZONE);
		scratch_merge(&s, op.bytes, op.len);
		if (i % 1000 == 999)
			rocksdb_compact_range(s.db, NULL, 0, NULL, 0);
	}
	value = scratch_get(&s, &len, &err);
	ck_assert_ptr_null(err);
	check_equals(value, len, counts, ZONE);
	free(value);
	scratch_close(&s);
}
END_TEST

START_TEST(rocksdb_survives_malformed_operands)
{
	struct scratch s;
	char *err = NULL;
	unsigned lines = 0;
	size_t len;

	log_set_sink(count_lines, &lines);
	scratch_open(&s, merge_counters_create());
	scratch_merge(&s, "nonsense", 8);
	ck_assert_ptr_null(scratch_get(&s, &len, &err));
	ck_assert_ptr_nonnull(err);
	free(err);
	ck_assert_uint_gt(lines, 0);
	scratch_close(&s);
	log_set_sink(NULL, NULL);
}
END_TEST

/* What a compaction does for a busy zone, printed for the record; it must stay far from quadratic. */
START_TEST(many_operands_are_fast)
{
	enum { N = 20000 };
	struct operand *ops = calloc(N, sizeof(*ops));
	const char **ptrs = calloc(N, sizeof(*ptrs));
	size_t *lens = calloc(N, sizeof(*lens)), len;
	int32_t *counts = calloc(ZONE, sizeof(*counts));
	struct timespec a, b;
	double ms;

	ck_assert(ops && ptrs && lens && counts);
	for (unsigned i = 0; i < N; i++) {
		random_operand(&ops[i], counts, ZONE);
		ptrs[i] = (const char *)ops[i].bytes;
		lens[i] = ops[i].len;
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	void *value = merge_space(NULL, 0, ptrs, lens, N, false, &len);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	ms = (b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) / 1e6;
	printf("%d operands on one zone: %.2f ms\n", (int)N, ms);
	check_equals(value, len, counts, ZONE);
	ck_assert(ms < 1000);
	free(value);
	free(ops);
	free(ptrs);
	free(lens);
	free(counts);
}
END_TEST

int main(void)
{
	return unit_run("merge", space_sums, space_shows_negative_sums, space_never_wraps,
			malformed_is_refused, counters_sum, rocksdb_merges_space,
			rocksdb_survives_malformed_operands, many_operands_are_fast, NULL);
}
