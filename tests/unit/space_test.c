/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allocator against a model: "files" that map one run each, batches of changes in the order in
 * which they were put, commits, readers, power cuts. Every block carries the number of the write that
 * filled it last, and every mapping the number that it expects, so a block that was handed out
 * too early shows as a foreign number: in memory, in a reader, or in any state that a power cut
 * could leave at that moment.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/epoch.h"
#include "io/log.h"
#include "meta/merge.h"
#include "meta/records.h"
#include "meta/space.h"
#include "tests/unit/unit.h"

#define FILES 24
#define READERS 6
#define BATCHES_MAX 12
#define ZONES_BLOCK 100u
#define VDEVS 2
#define BLOCKS_MAX 1024

/* ---- the pool under test ---- */

static const struct space_vdev vdevs[VDEVS] = {
	{ ZONES_BLOCK, 64, 6 },
	{ ZONES_BLOCK, 128, 3 },
};
static const struct space_zones reserved[] = { { 0, 1, 2 }, { 1, 0, 1 } };
#define DATA_BLOCKS (4u * 64 + 2u * 128)

static struct epoch_domain *domain;

static uint64_t tag(void *arg)
{
	return epoch_tag(arg);
}

static bool passed(void *arg, uint64_t t)
{
	return epoch_passed(arg, t);
}

static struct space *pool_new(uint32_t discard_min)
{
	const struct space_epochs epochs = { tag, passed, domain };
	const struct space_config config = {
		.nvdevs = VDEVS, .vdevs = vdevs, .nreserved = 2, .reserved = reserved,
		.streams = 3, .discard_min_blocks = discard_min, .epochs = &epochs,
	};
	struct space *space;

	ck_assert_int_eq(space_create(&config, &space), 0);
	return space;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

static void setup(void)
{
	ck_assert_int_eq(epoch_domain_create(2, &domain), 0);
	log_set_sink(drop_line, NULL);
}

static void teardown(void)
{
	epoch_domain_destroy(domain);
	log_set_sink(NULL, NULL);
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)random() % n;
}

/* ---- the model ---- */

/* What a record maps: a run and the write that filled it. */
struct mapping {
	struct extent run; /* no blocks: a hole */
	uint64_t write;
};

struct batch {
	int file;
	struct mapping value;
	struct space_ops *ops;
};

struct reader {
	bool active;
	struct mapping of;
	struct epoch_pin pin;
};

struct operand {
	uint8_t key[KEY_SPACE_LEN];
	uint8_t bytes[256];
	size_t len;
	unsigned batch; /* number of the batch that carried it */
	struct operand *next;
};

struct model {
	struct space *space;
	struct mapping memory[FILES];    /* what is read */
	struct mapping put[FILES];       /* what RocksDB has */
	struct mapping committed[FILES]; /* what is durable for sure */
	bool dirty[FILES];
	struct batch batches[BATCHES_MAX]; /* put, not committed */
	unsigned nbatches;
	unsigned put_total; /* batches ever put */
	struct reader readers[READERS];
	uint64_t device[VDEVS][BLOCKS_MAX]; /* the write that filled each block */
	uint64_t writes;
	struct operand *operands; /* newest first */
	struct extent discarding;
	unsigned refused, reused;
};

static void check_mapping(const struct model *m, const struct mapping *of, const char *where)
{
	for (uint32_t i = 0; i < of->run.blocks; i++)
		if (m->device[of->run.vdev][of->run.block + i] != of->write)
			ck_abort_msg("%s: block %u:%" PRIu64 " was reused", where, of->run.vdev,
				     of->run.block + i);
}

/* Every state that a power cut could leave: committed and any number of the batches put since. */
static void check_crash_states(const struct model *m)
{
	struct mapping state[FILES];

	memcpy(state, m->committed, sizeof(state));
	for (unsigned n = 0;; n++) {
		for (int f = 0; f < FILES; f++)
			check_mapping(m, &state[f], "after a power cut");
		if (n == m->nbatches)
			return;
		state[m->batches[n].file] = m->batches[n].value;
	}
}

static void count_mapping(uint32_t counts[VDEVS][BLOCKS_MAX], const struct mapping *of)
{
	for (uint32_t i = 0; i < of->run.blocks; i++)
		counts[of->run.vdev][of->run.block + i]++;
}

static bool maps(const struct mapping *of, unsigned vdev, uint64_t block)
{
	return of->run.vdev == vdev && block >= of->run.block && block - of->run.block < of->run.blocks;
}

/* What a batch that is not committed adds; what it drops is not dropped yet. */
static void count_rises(uint32_t counts[VDEVS][BLOCKS_MAX], const struct model *m, unsigned batch)
{
	const struct batch *b = &m->batches[batch];
	struct mapping before = m->committed[b->file];

	for (unsigned i = 0; i < batch; i++)
		if (m->batches[i].file == b->file)
			before = m->batches[i].value;
	for (uint32_t i = 0; i < b->value.run.blocks; i++)
		if (!maps(&before, b->value.run.vdev, b->value.run.block + i))
			counts[b->value.run.vdev][b->value.run.block + i]++;
}

static void check_counts(const struct model *m)
{
	static uint32_t current[VDEVS][BLOCKS_MAX], durable[VDEVS][BLOCKS_MAX];
	uint64_t held = 0, shared = 0;
	struct space_stats stats;
	uint32_t c, d;

	memset(current, 0, sizeof(current));
	memset(durable, 0, sizeof(durable));
	for (int f = 0; f < FILES; f++) {
		count_mapping(current, &m->memory[f]);
		count_mapping(durable, &m->committed[f]);
	}
	for (unsigned i = 0; i < m->nbatches; i++)
		count_rises(durable, m, i);
	for (unsigned v = 0; v < VDEVS; v++)
		for (unsigned b = 0; b < BLOCKS_MAX; b++) {
			if (space_counts(m->space, v, b, &c, &d) < 0) {
				if (current[v][b] || durable[v][b])
					ck_abort_msg("a run outside of data zones");
				continue;
			}
			if (c != current[v][b] || d != durable[v][b])
				ck_abort_msg("block %u:%u is %u, %u and should be %u, %u", v, b, c, d,
					     current[v][b], durable[v][b]);
			held += c > 0;
			shared += c > 1 ? c - 1 : 0;
		}
	space_get_stats(m->space, &stats);
	ck_assert_uint_eq(stats.held, held);
	ck_assert_uint_eq(stats.shared, shared);
	ck_assert_uint_eq(stats.total, DATA_BLOCKS);
	ck_assert_uint_le(stats.free + stats.held, stats.total);
}

static void forget(struct model *m, int f)
{
	if (m->memory[f].run.blocks)
		ck_assert_int_eq(space_drop(m->space, &m->memory[f].run), 0);
	m->memory[f] = (struct mapping){ 0 };
	m->dirty[f] = true;
}

static void write_file(struct model *m)
{
	const int f = below(FILES);
	const uint32_t want = 1 + below(below(4) ? 20 : 140), min = below(3) ? 1 : 1 + below(want);
	struct extent run;
	int err = space_alloc(m->space, below(3), want, min, below(2) ? SPACE_RESERVE : 0, &run);

	if (err < 0) {
		ck_assert(err == -ENOSPC || err == -EAGAIN);
		m->refused++;
		return;
	}
	ck_assert(run.blocks >= min && run.blocks <= want);
	m->writes++;
	for (uint32_t i = 0; i < run.blocks; i++) {
		m->reused += m->device[run.vdev][run.block + i] != 0;
		m->device[run.vdev][run.block + i] = m->writes;
	}
	if (below(10) == 0) {
		ck_assert_int_eq(space_release_unused(m->space, &run), 0);
		return;
	}
	forget(m, f);
	m->memory[f] = (struct mapping){ run, m->writes };
}

/* A part of another file's run. */
static void share_file(struct model *m)
{
	const int from = below(FILES), to = below(FILES);
	struct mapping part = m->memory[from];
	uint32_t skip;

	if (!part.run.blocks || from == to)
		return;
	skip = below(part.run.blocks);
	part.run.block += skip;
	part.run.blocks = 1 + below(part.run.blocks - skip);
	ck_assert_int_eq(space_hold(m->space, &part.run), 0);
	forget(m, to);
	m->memory[to] = part;
}

/* ---- batches ---- */

static int keep_operand(void *arg, const void *key, size_t key_len, const void *bytes, size_t len)
{
	struct model *m = arg;
	struct operand *op = calloc(1, sizeof(*op));

	ck_assert(op && key_len == KEY_SPACE_LEN && len <= sizeof(op->bytes));
	memcpy(op->key, key, key_len);
	memcpy(op->bytes, bytes, len);
	op->len = len;
	op->batch = m->put_total;
	op->next = m->operands;
	m->operands = op;
	return 0;
}

static int refuse_operand(void *arg, const void *key, size_t key_len, const void *bytes, size_t len)
{
	(void)arg, (void)key, (void)key_len, (void)bytes, (void)len;
	return -EIO;
}

static struct space_ops *ops_for(struct model *m, int f)
{
	struct space_ops *ops = space_ops_new(m->space);

	ck_assert_ptr_nonnull(ops);
	if (m->memory[f].run.blocks)
		ck_assert_int_eq(space_ops_add(ops, &m->memory[f].run, 1), 0);
	if (m->put[f].run.blocks)
		ck_assert_int_eq(space_ops_add(ops, &m->put[f].run, -1), 0);
	return ops;
}

static void put_file(struct model *m)
{
	const int f = below(FILES);
	struct space_ops *ops;

	if (!m->dirty[f] || m->nbatches == BATCHES_MAX)
		return;
	ops = ops_for(m, f);
	if (below(8) == 0) {
		/* A batch that could not be put together, and one that RocksDB refused. */
		const int err = space_ops_emit(ops, refuse_operand, NULL);

		ck_assert(err == -EIO || (err == 0 && !m->memory[f].run.blocks) || err == 0);
		if (err == 0)
			space_ops_aborted(ops);
		space_ops_free(ops);
		return;
	}
	ck_assert_int_eq(space_ops_emit(ops, keep_operand, m), 0);
	m->batches[m->nbatches++] = (struct batch){ f, m->memory[f], ops };
	m->put_total++;
	m->put[f] = m->memory[f];
	m->dirty[f] = false;
}

static void commit(struct model *m)
{
	const unsigned n = below(m->nbatches + 1);

	for (unsigned i = 0; i < n; i++) {
		m->committed[m->batches[i].file] = m->batches[i].value;
		space_ops_committed(m->batches[i].ops);
		ck_assert(space_ops_empty(m->batches[i].ops));
		space_ops_free(m->batches[i].ops);
	}
	memmove(m->batches, m->batches + n, (m->nbatches - n) * sizeof(m->batches[0]));
	m->nbatches -= n;
}

/* ---- readers and discards ---- */

static void reader_step(struct model *m)
{
	struct reader *r = &m->readers[below(READERS)];

	if (r->active) {
		check_mapping(m, &r->of, "in a read");
		epoch_exit(domain, &r->pin);
		r->active = false;
		return;
	}
	epoch_enter(domain, 0, &r->pin);
	r->of = m->memory[below(FILES)];
	r->active = true;
}

static void readers_end(struct model *m)
{
	for (int i = 0; i < READERS; i++)
		if (m->readers[i].active) {
			epoch_exit(domain, &m->readers[i].pin);
			m->readers[i].active = false;
		}
}

/* A discard destroys; whoever maps these blocks would see it. */
static void discard_step(struct model *m)
{
	if (m->discarding.blocks) {
		space_discard_done(m->space, &m->discarding);
		m->discarding.blocks = 0;
		return;
	}
	if (!space_discard_take(m->space, &m->discarding))
		return;
	ck_assert_uint_ge(m->discarding.blocks, 8);
	for (uint32_t i = 0; i < m->discarding.blocks; i++)
		m->device[m->discarding.vdev][m->discarding.block + i] = UINT64_MAX;
}

/* ---- power cuts ---- */

/* Load what the operands of the batches up to `kept` add up to, by the merge operator's function. */
static void load_zone(struct model *m, const struct operand *of, unsigned kept)
{
	const char *ptrs[4096];
	size_t lens[4096], n = 0, len;

	for (const struct operand *op = of; op; op = op->next)
		if (op->batch < kept && !memcmp(op->key, of->key, KEY_SPACE_LEN) && n < 4096) {
			ptrs[n] = (const char *)op->bytes;
			lens[n++] = op->len;
		}
	cleanup_free void *value = merge_space(NULL, 0, ptrs, lens, (int)n, false, &len);
	ck_assert_int_eq(space_load_entry(m->space, of->key, KEY_SPACE_LEN, value, len), 0);
}

/* The first (newest) operand of each zone stands for it. */
static void load_all(struct model *m, unsigned kept)
{
	for (const struct operand *op = m->operands; op; op = op->next) {
		const struct operand *newer = m->operands;

		while (newer != op && memcmp(newer->key, op->key, KEY_SPACE_LEN))
			newer = newer->next;
		if (newer == op)
			load_zone(m, op, kept);
	}
}

static void operands_forget(struct model *m, unsigned kept)
{
	struct operand **at = &m->operands;

	while (*at) {
		struct operand *op = *at;

		if (op->batch < kept) {
			at = &op->next;
			continue;
		}
		*at = op->next;
		free(op);
	}
}

static void power_cut(struct model *m)
{
	const unsigned n = below(m->nbatches + 1), kept = m->put_total - m->nbatches + n;

	check_crash_states(m);
	for (unsigned i = 0; i < m->nbatches; i++) {
		if (i < n)
			m->committed[m->batches[i].file] = m->batches[i].value;
		space_ops_free(m->batches[i].ops);
	}
	m->nbatches = 0;
	m->put_total = kept;
	readers_end(m);
	m->discarding.blocks = 0;
	memcpy(m->memory, m->committed, sizeof(m->memory));
	memcpy(m->put, m->committed, sizeof(m->put));
	memset(m->dirty, 0, sizeof(m->dirty));
	space_destroy(m->space);
	m->space = pool_new(8);
	space_set_reserve(m->space, 20);
	operands_forget(m, kept);
	load_all(m, kept);
	check_counts(m);
}

static void model_step(struct model *m)
{
	switch (below(20)) {
	case 0: case 1: case 2: case 3: case 4:
		write_file(m);
		break;
	case 5: case 6:
		share_file(m);
		break;
	case 7:
		forget(m, below(FILES));
		break;
	case 8: case 9: case 10: case 11: case 12: case 13:
		put_file(m);
		break;
	case 14:
		commit(m);
		break;
	case 15: case 16: case 17:
		reader_step(m);
		break;
	case 18:
		discard_step(m);
		break;
	default:
		space_reap(m->space);
		break;
	}
}

static void model_run(unsigned seed, unsigned steps)
{
	struct model *m = calloc(1, sizeof(*m));

	ck_assert_ptr_nonnull(m);
	srandom(seed);
	m->space = pool_new(8);
	space_set_reserve(m->space, 20);
	for (unsigned i = 0; i < steps; i++) {
		model_step(m);
		check_crash_states(m);
		for (int f = 0; f < FILES; f++)
			check_mapping(m, &m->memory[f], "in memory");
		if (i % 16 == 0)
			check_counts(m);
		if (below(700) == 0)
			power_cut(m);
	}
	/* A model that never fills up or never reuses anything shows nothing. */
	ck_assert_uint_gt(m->refused, 0);
	ck_assert_uint_gt(m->reused, 0);
	while (m->nbatches)
		commit(m);
	readers_end(m);
	operands_forget(m, 0);
	space_destroy(m->space);
	free(m);
}

START_TEST(model)
{
	const char *more = getenv("SPACE_TEST_RUNS");
	const unsigned runs = more ? strtoul(more, NULL, 0) : 12;

	for (unsigned seed = 1; seed <= runs; seed++)
		model_run(seed, 4000);
}
END_TEST

/* ---- single cases ---- */

static struct extent must_alloc(struct space *s, unsigned stream, uint32_t want, uint32_t min)
{
	struct extent e;

	ck_assert_int_eq(space_alloc(s, stream, want, min, 0, &e), 0);
	return e;
}

START_TEST(spreads_and_runs_long)
{
	struct space *s = pool_new(0);
	struct extent a = must_alloc(s, 0, 64, 64), b = must_alloc(s, 0, 64, 64);
	struct extent c = must_alloc(s, 1, 128, 1);

	/* One stream goes on behind itself; another one begins on another device. */
	ck_assert_uint_eq(a.vdev, 0);
	ck_assert_uint_eq(b.vdev, 0);
	ck_assert_uint_ne(a.block, b.block);
	ck_assert_uint_eq(c.vdev, 1);
	ck_assert_uint_eq(c.blocks, 128);
	/* None is in the reserved zones. */
	ck_assert_uint_ge(c.block, ZONES_BLOCK + 128);
	ck_assert(b.block < ZONES_BLOCK + 64 || b.block >= ZONES_BLOCK + 3 * 64);
	space_destroy(s);
}
END_TEST

START_TEST(turns_to_the_next_device)
{
	const struct space_vdev two[2] = { { 0, 4096, 4 }, { 0, 4096, 4 } };
	const struct space_config config = { .nvdevs = 2, .vdevs = two, .streams = 1 };
	struct space *s;
	unsigned on[2] = { 0 };

	ck_assert_int_eq(space_create(&config, &s), 0);
	for (unsigned i = 0; i < 64; i++)
		on[must_alloc(s, 0, 64, 1).vdev]++;
	ck_assert_uint_eq(on[0], 32);
	ck_assert_uint_eq(on[1], 32);
	space_destroy(s);
}
END_TEST

START_TEST(takes_every_last_block)
{
	struct space *s = pool_new(0);
	struct space_stats stats;
	struct extent e;
	uint32_t got = 0;

	while (space_alloc(s, got % 3, 7, 1, 0, &e) == 0)
		got += e.blocks;
	ck_assert_uint_eq(got, DATA_BLOCKS);
	ck_assert_int_eq(space_alloc(s, 0, 1, 1, SPACE_RESERVE, &e), -ENOSPC);
	space_get_stats(s, &stats);
	ck_assert_uint_eq(stats.free, 0);
	ck_assert_uint_eq(stats.held, DATA_BLOCKS);
	space_destroy(s);
}
END_TEST

START_TEST(finds_what_fragmentation_left)
{
	struct space *s = pool_new(0);
	struct extent one[DATA_BLOCKS], e;

	for (unsigned i = 0; i < DATA_BLOCKS; i++)
		one[i] = must_alloc(s, 0, 1, 1);
	for (unsigned i = 0; i < DATA_BLOCKS; i += 2)
		ck_assert_int_eq(space_release_unused(s, &one[i]), 0);
	/* Two in a row there are not, and the number of free blocks does not suffer from the try. */
	ck_assert_int_eq(space_alloc(s, 1, 4, 2, 0, &e), -ENOSPC);
	for (unsigned i = 0; i < DATA_BLOCKS; i += 2)
		ck_assert_uint_eq(must_alloc(s, i % 3, 4, 1).blocks, 1);
	ck_assert_int_eq(space_alloc(s, 1, 1, 1, 0, &e), -ENOSPC);
	space_destroy(s);
}
END_TEST

START_TEST(reserve_is_for_write_back)
{
	struct space *s = pool_new(0);
	struct extent e;
	uint32_t got = 0;

	space_set_reserve(s, 50);
	while (space_alloc(s, 0, 64, 1, 0, &e) == 0)
		got += e.blocks;
	ck_assert_uint_eq(got, DATA_BLOCKS - 50);
	while (space_alloc(s, 0, 64, 1, SPACE_RESERVE, &e) == 0)
		got += e.blocks;
	ck_assert_uint_eq(got, DATA_BLOCKS);
	space_destroy(s);
}
END_TEST

static int ignore_operand(void *arg, const void *key, size_t key_len, const void *bytes, size_t len)
{
	(void)key, (void)key_len, (void)bytes, (void)len;
	++*(unsigned *)arg;
	return 0;
}

static bool is_free(struct space *s, uint64_t free)
{
	struct space_stats stats;

	space_get_stats(s, &stats);
	return stats.free == free;
}

START_TEST(waits_for_commit_and_readers)
{
	struct space *s = pool_new(0);
	struct extent e = must_alloc(s, 0, 10, 10), other;
	struct space_ops *add = space_ops_new(s), *del = space_ops_new(s);
	struct epoch_pin pin;
	unsigned n = 0;

	ck_assert_int_eq(space_ops_add(add, &e, 1), 0);
	ck_assert_int_eq(space_ops_emit(add, ignore_operand, &n), 0);
	ck_assert_uint_eq(n, 1);
	/* Dropped in memory before the batch that maps it is known to be durable. */
	epoch_enter(domain, 0, &pin);
	ck_assert_int_eq(space_drop(s, &e), 0);
	ck_assert(is_free(s, DATA_BLOCKS - 10));
	space_ops_committed(add);
	ck_assert(is_free(s, DATA_BLOCKS - 10));
	ck_assert_int_eq(space_ops_add(del, &e, -1), 0);
	ck_assert_int_eq(space_ops_emit(del, ignore_operand, &n), 0);
	ck_assert(is_free(s, DATA_BLOCKS - 10));
	space_ops_committed(del);
	ck_assert(is_free(s, DATA_BLOCKS - 10));
	ck_assert_int_eq(space_alloc(s, 0, DATA_BLOCKS, DATA_BLOCKS, 0, &other), -EAGAIN);
	epoch_exit(domain, &pin);
	space_reap(s);
	ck_assert(is_free(s, DATA_BLOCKS));
	space_ops_free(add);
	space_ops_free(del);
	space_destroy(s);
}
END_TEST

START_TEST(sums_cancel_within_a_batch)
{
	struct space *s = pool_new(0);
	struct extent e = must_alloc(s, 0, 10, 10), half = e;
	struct space_ops *ops = space_ops_new(s);
	uint32_t current, durable;
	unsigned n = 0;

	half.blocks = 5;
	ck_assert_int_eq(space_ops_add(ops, &e, 1), 0);
	ck_assert_int_eq(space_ops_add(ops, &half, 2), 0);
	ck_assert_int_eq(space_ops_add(ops, &half, -1), 0);
	ck_assert_int_eq(space_ops_emit(ops, ignore_operand, &n), 0);
	ck_assert_uint_eq(n, 1);
	space_counts(s, e.vdev, e.block, &current, &durable);
	ck_assert_uint_eq(durable, 2);
	space_counts(s, e.vdev, e.block + 5, &current, &durable);
	ck_assert_uint_eq(durable, 1);
	space_ops_aborted(ops);
	space_counts(s, e.vdev, e.block, &current, &durable);
	ck_assert_uint_eq(durable, 0);
	ck_assert_uint_eq(current, 1);
	ck_assert_int_eq(space_ops_add(ops, &e, 1), 0);
	ck_assert_int_eq(space_ops_add(ops, &e, -1), 0);
	ck_assert_int_eq(space_ops_emit(ops, ignore_operand, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert(space_ops_empty(ops) || n == 1);
	space_ops_free(ops);
	space_destroy(s);
}
END_TEST

/* Two zones' blocks that lie next to each other are one run to a chunk map. */
START_TEST(ranges_go_over_the_edge_of_a_zone)
{
	struct space *s = pool_new(0);
	struct extent run = { ZONES_BLOCK + 3 * 64 + 60, 8, 0 };
	struct extent bad = { ZONES_BLOCK + 5 * 64 + 60, 8, 0 }; /* its second part is nowhere */
	struct space_ops *ops = space_ops_new(s);
	uint32_t current, durable;
	unsigned n = 0;

	ck_assert_int_eq(space_claim(s, &run), 0);
	ck_assert_int_eq(space_hold(s, &run), 0);
	for (uint32_t i = 0; i < run.blocks; i++) {
		ck_assert_int_eq(space_counts(s, 0, run.block + i, &current, &durable), 0);
		ck_assert_uint_eq(current, 2);
	}
	ck_assert_int_eq(space_ops_add(ops, &run, 1), 0);
	ck_assert_int_eq(space_ops_emit(ops, ignore_operand, &n), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(space_claim(s, &bad), -EINVAL);
	ck_assert_int_eq(space_counts(s, 0, bad.block, &current, &durable), 0);
	ck_assert_uint_eq(current, 0);
	ck_assert_int_eq(space_ops_add(ops, &bad, 1), -EINVAL);
	space_ops_free(ops);
	space_destroy(s);
}
END_TEST

START_TEST(refuses_misuse)
{
	struct space *s = pool_new(0), *none;
	struct extent e = must_alloc(s, 0, 4, 4), bad = e;
	struct space_ops *ops = space_ops_new(s);
	const struct space_config empty = { 0 };
	unsigned n = 0;

	ck_assert_int_eq(space_create(&empty, &none), -EINVAL);
	ck_assert_int_eq(space_alloc(s, 3, 1, 1, 0, &bad), -EINVAL);
	ck_assert_int_eq(space_alloc(s, 0, 1, 2, 0, &bad), -EINVAL);
	bad = (struct extent){ ZONES_BLOCK + 64, 1, 0 }; /* a zone of metafs */
	ck_assert_int_eq(space_hold(s, &bad), -EINVAL);
	bad = (struct extent){ ZONES_BLOCK - 1, 2, 0 };
	ck_assert_int_eq(space_drop(s, &bad), -EINVAL);
	bad = (struct extent){ ZONES_BLOCK + 5 * 64 + 60, 5, 0 }; /* over the end */
	ck_assert_int_eq(space_ops_add(ops, &bad, 1), -EINVAL);
	bad = (struct extent){ UINT64_MAX, 2, 0 };
	ck_assert_int_eq(space_drop(s, &bad), -EINVAL);
	bad = (struct extent){ e.block, 0, 0 };
	ck_assert_int_eq(space_drop(s, &bad), -EINVAL);
	/* Nothing changes when a part does not fit. */
	bad = e;
	bad.blocks++;
	ck_assert_int_eq(space_drop(s, &bad), -EUCLEAN);
	ck_assert_int_eq(space_hold(s, &bad), -EUCLEAN);
	ck_assert_int_eq(space_release_unused(s, &bad), -EUCLEAN);
	ck_assert(is_free(s, DATA_BLOCKS - 4));
	/* A batch must not map what was not allocated. */
	ck_assert_int_eq(space_ops_add(ops, &bad, 1), 0);
	ck_assert_int_eq(space_ops_emit(ops, ignore_operand, &n), -EUCLEAN);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(space_release_unused(s, &e), 0);
	ck_assert(is_free(s, DATA_BLOCKS));
	space_ops_free(ops);
	space_destroy(s);
}
END_TEST

static int load(struct space *s, uint16_t vdev, uint32_t zone, uint16_t first, uint32_t blocks,
		int32_t holders)
{
	const struct space_span span = { first, blocks, holders };
	uint8_t key[KEY_SPACE_LEN], value[16];

	return space_load_entry(s, key, key_space(key, vdev, zone), value,
				space_rec_encode(false, &span, 1, value));
}

START_TEST(loads)
{
	struct space *s = pool_new(0);
	struct space_stats stats;
	struct extent e = { ZONES_BLOCK + 10, 4, 0 };
	uint32_t current, durable;

	ck_assert_int_eq(load(s, 0, 0, 10, 5, 3), 0);
	ck_assert_int_eq(load(s, 1, 2, 127, 1, -2), 0);
	ck_assert_int_eq(load(s, 0, 0, 63, 2, 1), -EBADMSG);
	ck_assert_int_eq(load(s, 0, 1, 0, 1, 1), -EBADMSG);
	ck_assert_int_eq(load(s, 0, 6, 0, 1, 1), -EBADMSG);
	ck_assert_int_eq(load(s, 2, 0, 0, 1, 1), -EBADMSG);
	space_get_stats(s, &stats);
	ck_assert_uint_eq(stats.held, 6);
	ck_assert_uint_eq(stats.free, DATA_BLOCKS - 6);
	ck_assert_uint_eq(stats.damaged, 1);
	ck_assert_int_eq(space_counts(s, 0, ZONES_BLOCK + 14, &current, &durable), 0);
	ck_assert_uint_eq(current, 3);
	ck_assert_uint_eq(durable, 3);
	/* A dead worker's dirty record maps a loaded block and one that was free. */
	ck_assert_int_eq(space_claim(s, &e), 0);
	e.block = ZONES_BLOCK + 20;
	ck_assert_int_eq(space_claim(s, &e), 0);
	ck_assert(is_free(s, DATA_BLOCKS - 10));
	ck_assert_int_eq(space_drop(s, &e), 0);
	space_reap(s);
	ck_assert(is_free(s, DATA_BLOCKS - 6));
	space_destroy(s);
}
END_TEST

START_TEST(discards_long_runs)
{
	struct space *s = pool_new(16);
	struct extent e[8], short_one, d, other;

	for (int i = 0; i < 8; i++)
		e[i] = must_alloc(s, 0, 8, 8);
	short_one = must_alloc(s, 0, 8, 8);
	ck_assert_int_eq(space_drop(s, &short_one), 0);
	space_reap(s);
	ck_assert(!space_discard_take(s, &d));
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(space_drop(s, &e[i]), 0);
	space_reap(s);
	ck_assert(space_discard_take(s, &d));
	ck_assert_uint_eq(d.block, e[0].block);
	ck_assert_uint_eq(d.blocks, 64);
	ck_assert(is_free(s, DATA_BLOCKS - 64));
	while (space_alloc(s, 0, 64, 1, 0, &other) == 0)
		ck_assert(other.vdev != d.vdev || other.block + other.blocks <= d.block ||
			  other.block >= d.block + d.blocks);
	space_discard_done(s, &d);
	ck_assert(is_free(s, 64));
	ck_assert(!space_discard_take(s, &d));
	space_destroy(s);
}
END_TEST

/* ---- threads ---- */

#define THREADS 4
#define THREAD_STEPS 20000

static struct space *contended;
static _Atomic uint8_t owner[2][8192];

static void own(const struct extent *e, uint8_t from, uint8_t to)
{
	for (uint32_t i = 0; i < e->blocks; i++) {
		uint8_t expected = from;

		if (!atomic_compare_exchange_strong(&owner[e->vdev][e->block + i], &expected, to))
			abort();
	}
}

static void *contend(void *arg)
{
	const unsigned me = (unsigned)(uintptr_t)arg;
	struct extent have[32] = { 0 };
	struct epoch_pin pin;
	unsigned x = me * 7919;

	for (unsigned i = 0; i < THREAD_STEPS; i++) {
		struct extent *e = &have[(x = x * 1103515245 + 12345) / 65536 % 32];

		if (i % 64 == 0)
			epoch_enter(domain, me % 2, &pin);
		if (e->blocks) {
			own(e, me, 0);
			if (space_drop(contended, e) < 0)
				abort();
			e->blocks = 0;
		} else if (space_alloc(contended, me % 2, 1 + x % 100, 1, 0, e) == 0) {
			own(e, 0, me);
		}
		if (i % 64 == 63)
			epoch_exit(domain, &pin);
	}
	for (unsigned i = 0; i < 32; i++)
		if (have[i].blocks) {
			own(&have[i], me, 0);
			space_drop(contended, &have[i]);
		}
	if (THREAD_STEPS % 64)
		epoch_exit(domain, &pin);
	return NULL;
}

START_TEST(threads_share_it)
{
	const struct space_vdev two[2] = { { 0, 1024, 4 }, { 0, 1024, 4 } };
	const struct space_epochs epochs = { tag, passed, domain };
	const struct space_config config = { .nvdevs = 2, .vdevs = two, .streams = 2,
					     .epochs = &epochs };
	pthread_t threads[THREADS];
	struct space_stats stats;
	struct extent e;
	uint32_t got = 0;

	ck_assert_int_eq(space_create(&config, &contended), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, contend, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	space_reap(contended);
	space_get_stats(contended, &stats);
	ck_assert_uint_eq(stats.free, 8192);
	ck_assert_uint_eq(stats.held, 0);
	while (space_alloc(contended, 0, 100, 1, 0, &e) == 0)
		got += e.blocks;
	ck_assert_uint_eq(got, 8192);
	space_destroy(contended);
}
END_TEST

/* ---- numbers for the record ---- */

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

START_TEST(costs)
{
	const struct space_vdev tib = { 256, 16384, 16384 };
	const struct space_config config = { .nvdevs = 1, .vdevs = &tib, .streams = 1 };
	enum { N = 100000 };
	struct extent *e = calloc(N, sizeof(*e));
	struct space_stats stats;
	struct space *s;
	double t = now_s(), alloc, drop;
	unsigned failed = 0;

	ck_assert_ptr_nonnull(e);
	ck_assert_int_eq(space_create(&config, &s), 0);
	printf("create 1 TiB: %.1f ms\n", (now_s() - t) * 1e3);
	t = now_s();
	for (unsigned i = 0; i < N; i++)
		failed += space_alloc(s, 0, 1 + i % 64, 1, 0, &e[i]) != 0;
	alloc = now_s() - t;
	t = now_s();
	for (unsigned i = 0; i < N; i++)
		failed += space_drop(s, &e[i * 7919u % N]) != 0;
	drop = now_s() - t;
	space_get_stats(s, &stats);
	printf("alloc %.0f ns, drop %.0f ns; %.1f MiB per TiB\n", alloc / N * 1e9, drop / N * 1e9,
	       stats.memory_bytes / 1048576.0);
	ck_assert_uint_eq(failed, 0);
	ck_assert_uint_eq(stats.free, stats.total);
	ck_assert_uint_le(stats.memory_bytes, 100u << 20);
	free(e);
	space_destroy(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space");
	TCase *tcase = tcase_create("space");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, model);
	tcase_add_test(tcase, spreads_and_runs_long);
	tcase_add_test(tcase, turns_to_the_next_device);
	tcase_add_test(tcase, takes_every_last_block);
	tcase_add_test(tcase, finds_what_fragmentation_left);
	tcase_add_test(tcase, reserve_is_for_write_back);
	tcase_add_test(tcase, waits_for_commit_and_readers);
	tcase_add_test(tcase, sums_cancel_within_a_batch);
	tcase_add_test(tcase, refuses_misuse);
	tcase_add_test(tcase, ranges_go_over_the_edge_of_a_zone);
	tcase_add_test(tcase, loads);
	tcase_add_test(tcase, discards_long_runs);
	tcase_add_test(tcase, threads_share_it);
	tcase_add_test(tcase, costs);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
