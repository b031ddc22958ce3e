/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging holders of a zone.
 *
 * Between two compactions a busy zone collects thousands of small operands. Adding them one after
 * the other would cost operands times spans. Instead all of them are turned into *edges*: a span
 * {first, blocks, delta} is +delta at `first` and -delta at its end. The edges of everything are
 * sorted by block once, and one sweep that adds them up gives the spans of the sum, neighbours of
 * equal holders joined. With many edges the sort is a counting one over the blocks of the
 * zone, so the whole merge is linear.
 *
 * Sums are 64 bits during the sweep and clamped to 32 at the end of each merge. Clamping is reached
 * by damage only; it keeps the sign, so an overflow cannot turn a held block into a free one.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "io/log.h"
#include "meta/merge.h"
#include "meta/records.h"

/* From this many edges on, an array over the zone's blocks is cheaper than sorting. */
#define DENSE_EDGES 512u

struct edge {
	uint32_t at;
	int64_t delta;
};

/* What the sweep gathers: bytes of the result, header included. */
struct span_out {
	uint8_t *buf;
	uint32_t n;
};

static int edge_cmp(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static int32_t clamp_holders(int64_t sum)
{
	if (sum > INT32_MAX)
		return INT32_MAX;
	return sum < -INT32_MAX ? -INT32_MAX : (int32_t)sum;
}

/* Append blocks [from, to) with this sum; spans come in order. */
static void span_append(struct span_out *out, uint32_t from, uint32_t to, int64_t sum)
{
	struct disk_span *spans = (struct disk_span *)(out->buf + sizeof(struct disk_space));
	const int32_t holders = clamp_holders(sum);

	if (from == to || holders == 0)
		return;
	if (out->n) {
		struct disk_span *last = &spans[out->n - 1];
		const uint32_t end = get_le16(&last->first) + get_le16(&last->blocks_minus_1) + 1u;

		if (end == from && (int32_t)get_le32(&last->holders) == holders) {
			put_le16(&last->blocks_minus_1, to - get_le16(&last->first) - 1);
			return;
		}
	}
	put_le16(&spans[out->n].first, from);
	put_le16(&spans[out->n].blocks_minus_1, to - from - 1);
	put_le32(&spans[out->n].holders, (uint32_t)holders);
	out->n++;
}

/* Every edge can end one span: there are at most as many spans as edges. */
static void *span_out_new(struct span_out *out, size_t nedges)
{
	out->n = 0;
	out->buf = malloc(space_rec_size(nedges));
	return out->buf;
}

static void sweep_sorted(struct edge *edges, size_t n, struct span_out *out)
{
	int64_t sum = 0;
	uint32_t from = 0;

	qsort(edges, n, sizeof(*edges), edge_cmp);
	for (size_t i = 0; i < n; i++) {
		span_append(out, from, edges[i].at, sum);
		from = edges[i].at;
		sum += edges[i].delta;
	}
}

static void sweep_dense(const int64_t *deltas, uint32_t end, struct span_out *out)
{
	int64_t sum = 0;
	uint32_t from = 0;

	for (uint32_t at = 0; at <= end; at++) {
		if (!deltas[at])
			continue;
		span_append(out, from, at, sum);
		from = at;
		sum += deltas[at];
	}
}

struct space_input {
	struct space_rec existing;
	bool has_existing;
	const char *const *operands;
	const size_t *lens;
	int n;
	size_t nedges;
	uint32_t end; /* of the last span of all */
};

static void input_count(struct space_input *in, const struct space_rec *rec)
{
	struct space_span last;

	in->nedges += 2 * (size_t)rec->nspans;
	if (!rec->nspans)
		return;
	last = space_rec_span(rec, rec->nspans - 1);
	if (last.first + last.blocks > in->end)
		in->end = last.first + last.blocks;
}

/* Check and measure everything; -EBADMSG for what is malformed. */
static int input_check(struct space_input *in, const void *existing, size_t existing_len)
{
	struct space_rec rec;

	in->has_existing = existing != NULL;
	if (existing) {
		if (space_rec_decode(existing, existing_len, &in->existing) < 0 ||
		    in->existing.operand)
			return -EBADMSG;
		input_count(in, &in->existing);
	}
	for (int i = 0; i < in->n; i++) {
		if (space_rec_decode(in->operands[i], in->lens[i], &rec) < 0 || !rec.operand)
			return -EBADMSG;
		input_count(in, &rec);
	}
	return 0;
}

static struct edge *edges_of(struct edge *edges, const struct space_rec *rec)
{
	for (uint32_t i = 0; i < rec->nspans; i++) {
		const struct space_span s = space_rec_span(rec, i);

		*edges++ = (struct edge){ s.first, s.holders };
		*edges++ = (struct edge){ s.first + s.blocks, -(int64_t)s.holders };
	}
	return edges;
}

static void deltas_of(int64_t *deltas, const struct space_rec *rec)
{
	for (uint32_t i = 0; i < rec->nspans; i++) {
		const struct space_span s = space_rec_span(rec, i);

		deltas[s.first] += s.holders;
		deltas[s.first + s.blocks] -= s.holders;
	}
}

static int merge_sparse(const struct space_input *in, struct span_out *out)
{
	struct edge *edges = malloc((in->nedges + 1) * sizeof(*edges));
	struct edge *end = edges;
	struct space_rec rec;

	if (!edges)
		return -ENOMEM;
	if (in->has_existing)
		end = edges_of(end, &in->existing);
	for (int i = 0; i < in->n; i++) {
		space_rec_decode(in->operands[i], in->lens[i], &rec);
		end = edges_of(end, &rec);
	}
	sweep_sorted(edges, end - edges, out);
	free(edges);
	return 0;
}

static int merge_dense(const struct space_input *in, struct span_out *out)
{
	int64_t *deltas = calloc(in->end + 1, sizeof(*deltas));
	struct space_rec rec;

	if (!deltas)
		return -ENOMEM;
	if (in->has_existing)
		deltas_of(deltas, &in->existing);
	for (int i = 0; i < in->n; i++) {
		space_rec_decode(in->operands[i], in->lens[i], &rec);
		deltas_of(deltas, &rec);
	}
	sweep_dense(deltas, in->end, out);
	free(deltas);
	return 0;
}

void *merge_space(const void *existing, size_t existing_len, const char *const *operands,
		  const size_t *lens, int n, bool as_operand, size_t *out_len)
{
	struct space_input in = { .operands = operands, .lens = lens, .n = n };
	struct span_out out;
	int err;

	*out_len = 0;
	if (input_check(&in, existing, existing_len) < 0) {
		log_error("space: a holders record or a change of one is malformed");
		return NULL;
	}
	if (!span_out_new(&out, in.nedges))
		return NULL;
	err = in.nedges < DENSE_EDGES ? merge_sparse(&in, &out) : merge_dense(&in, &out);
	if (err < 0) {
		free(out.buf);
		return NULL;
	}
	space_rec_encode(as_operand, NULL, 0, out.buf);
	*out_len = space_rec_size(out.n);
	return out.buf;
}

/* ---- counters ---- */

static void counters_add(struct counters_rec *sum, const struct counters_rec *add)
{
	sum->born = (int64_t)((uint64_t)sum->born + (uint64_t)add->born);
	sum->referenced = (int64_t)((uint64_t)sum->referenced + (uint64_t)add->referenced);
	sum->meta = (int64_t)((uint64_t)sum->meta + (uint64_t)add->meta);
	sum->inodes = (int64_t)((uint64_t)sum->inodes + (uint64_t)add->inodes);
	sum->meta_born = (int64_t)((uint64_t)sum->meta_born + (uint64_t)add->meta_born);
	sum->inodes_born = (int64_t)((uint64_t)sum->inodes_born + (uint64_t)add->inodes_born);
	sum->unwritten = (int64_t)((uint64_t)sum->unwritten + (uint64_t)add->unwritten);
}

void *merge_counters(const void *existing, size_t existing_len, const char *const *operands,
		     const size_t *lens, int n, bool as_operand, size_t *out_len)
{
	struct counters_rec sum = { 0 }, add;
	void *buf;

	*out_len = 0;
	if (existing && counters_rec_decode(existing, existing_len, &sum) < 0)
		goto malformed;
	for (int i = 0; i < n; i++) {
		if (counters_rec_decode_operand(operands[i], lens[i], &add) < 0)
			goto malformed;
		counters_add(&sum, &add);
	}
	buf = malloc(COUNTERS_REC_LEN);
	if (!buf)
		return NULL;
	*out_len = as_operand ? counters_rec_encode_operand(&sum, buf) :
				counters_rec_encode(&sum, buf);
	return buf;

malformed:
	log_error("counters: a record or a change of one is malformed");
	return NULL;
}

/* ---- RocksDB: without success it takes the value too, so its length must be 0 ---- */

static char *full_space(void *state, const char *key, size_t key_len, const char *existing,
			size_t existing_len, const char *const *operands, const size_t *lens, int n,
			unsigned char *success, size_t *new_len)
{
	char *value = merge_space(existing, existing_len, operands, lens, n, false, new_len);

	(void)state, (void)key, (void)key_len;
	*success = value != NULL;
	return value;
}

static char *partial_space(void *state, const char *key, size_t key_len,
			   const char *const *operands, const size_t *lens, int n,
			   unsigned char *success, size_t *new_len)
{
	char *value = merge_space(NULL, 0, operands, lens, n, true, new_len);

	(void)state, (void)key, (void)key_len;
	*success = value != NULL;
	return value;
}

static char *full_counters(void *state, const char *key, size_t key_len, const char *existing,
			   size_t existing_len, const char *const *operands, const size_t *lens,
			   int n, unsigned char *success, size_t *new_len)
{
	char *value = merge_counters(existing, existing_len, operands, lens, n, false, new_len);

	(void)state, (void)key, (void)key_len;
	*success = value != NULL;
	return value;
}

static char *partial_counters(void *state, const char *key, size_t key_len,
			      const char *const *operands, const size_t *lens, int n,
			      unsigned char *success, size_t *new_len)
{
	char *value = merge_counters(NULL, 0, operands, lens, n, true, new_len);

	(void)state, (void)key, (void)key_len;
	*success = value != NULL;
	return value;
}

static void delete_value(void *state, const char *value, size_t len)
{
	(void)state, (void)len;
	free((void *)value);
}

static void no_state(void *state)
{
	(void)state;
}

static const char *space_name(void *state)
{
	(void)state;
	return MERGE_SPACE_NAME;
}

static const char *counters_name(void *state)
{
	(void)state;
	return MERGE_COUNTERS_NAME;
}

rocksdb_mergeoperator_t *merge_space_create(void)
{
	return rocksdb_mergeoperator_create(NULL, no_state, full_space, partial_space, delete_value,
					    space_name);
}

rocksdb_mergeoperator_t *merge_counters_create(void)
{
	return rocksdb_mergeoperator_create(NULL, no_state, full_counters, partial_counters,
					    delete_value, counters_name);
}
