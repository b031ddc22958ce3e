/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/unit.h"

#define BLOCK 4096u
#define SECTOR 512u
#define BLOCKS 64u
#define SIZE (BLOCKS * BLOCK)
#define MS 1000000ull

static _Alignas(BLOCK) uint8_t buf[SIZE];

static struct device *new_sim(const struct sim_options *opts)
{
	struct device *dev;

	ck_assert_int_eq(device_sim_create(SIZE, opts, &dev), 0);
	return dev;
}

static void fill(struct device *dev, unsigned block, unsigned blocks, uint8_t value, unsigned flags)
{
	memset(buf, value, (size_t)blocks * BLOCK);
	ck_assert_int_eq(device_write(dev, buf, (size_t)blocks * BLOCK, (uint64_t)block * BLOCK,
				      flags),
			 0);
}

/* The value that a whole block has, or -1 when it is mixed. */
static int value_of(struct device *dev, unsigned block)
{
	static _Alignas(BLOCK) uint8_t got[BLOCK];

	ck_assert_int_eq(device_read(dev, got, BLOCK, (uint64_t)block * BLOCK), 0);
	for (unsigned i = 1; i < BLOCK; i++)
		if (got[i] != got[0])
			return -1;
	return got[0];
}

START_TEST(reads_what_was_written)
{
	struct device *dev = new_sim(NULL);

	ck_assert_int_eq(device_kind(dev), DEVICE_SIM);
	ck_assert_uint_eq(device_geometry(dev)->size_bytes, SIZE);
	ck_assert_int_eq(value_of(dev, 3), 0);
	fill(dev, 3, 4, 0x55, 0);
	ck_assert_int_eq(value_of(dev, 2), 0);
	ck_assert_int_eq(value_of(dev, 3), 0x55);
	ck_assert_int_eq(value_of(dev, 6), 0x55);
	ck_assert_int_eq(value_of(dev, 7), 0);
	ck_assert_int_eq(device_discard(dev, 4 * BLOCK, BLOCK), 0);
	ck_assert_int_eq(value_of(dev, 4), 0);
	ck_assert_int_eq(value_of(dev, 5), 0x55);
	device_close(dev);
}
END_TEST

START_TEST(bad_ranges)
{
	struct device *dev = new_sim(NULL);

	ck_assert_int_eq(device_read(dev, buf, BLOCK, SIZE), -EINVAL);
	ck_assert_int_eq(device_read(dev, buf, 2 * BLOCK, SIZE - BLOCK), -EINVAL);
	ck_assert_int_eq(device_read(dev, buf, 0, 0), -EINVAL);
	ck_assert_int_eq(device_read(dev, buf, SECTOR, 0), -EINVAL);
	ck_assert_int_eq(device_write(dev, buf, BLOCK, SECTOR, 0), -EINVAL);
	ck_assert_int_eq(device_write(dev, buf + 1, BLOCK, 0, 0), -EINVAL);
	ck_assert_int_eq(device_write(dev, buf, BLOCK, UINT64_MAX - BLOCK + 1, 0), -EINVAL);
	ck_assert_int_eq(device_discard(dev, 0, SIZE + BLOCK), -EINVAL);
	device_close(dev);
	ck_assert_int_eq(device_sim_create(0, NULL, &dev), -EINVAL);
}
END_TEST

/* Every sector of the block is one of the two. (An assertion a byte would take minutes.) */
static bool old_or_new(const uint8_t *block, uint8_t old, uint8_t new)
{
	for (unsigned i = 0; i < BLOCK; i++)
		if ((block[i] != old && block[i] != new) || block[i] != block[i - i % SECTOR])
			return false;
	return true;
}

/* Whatever the seed: flushed and FUA writes survive, the others are old or new by sectors. */
START_TEST(cut_keeps_what_was_promised)
{
	unsigned lost = 0, kept = 0, torn = 0;

	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct device *dev = new_sim(NULL);

		fill(dev, 0, 16, 1, 0);
		ck_assert_int_eq(device_flush(dev), 0);
		fill(dev, 8, 8, 2, 0); /* over flushed data */
		fill(dev, 16, 8, 3, 0);
		fill(dev, 24, 4, 4, IO_FUA);
		fill(dev, 14, 4, 5, IO_FUA); /* over unflushed data */
		ck_assert_uint_eq(sim_unflushed(dev), 2);
		sim_power_cut(dev, seed);
		ck_assert_int_eq(device_read(dev, buf, BLOCK, 0), -EIO);
		ck_assert_int_eq(device_write(dev, buf, BLOCK, 0, 0), -EIO);
		ck_assert_int_eq(device_flush(dev), -EIO);
		sim_power_on(dev);
		for (unsigned b = 0; b < 8; b++)
			ck_assert_int_eq(value_of(dev, b), 1);
		for (unsigned b = 14; b < 18; b++)
			ck_assert_int_eq(value_of(dev, b), 5);
		for (unsigned b = 24; b < 28; b++)
			ck_assert_int_eq(value_of(dev, b), 4);
		for (unsigned b = 8; b < 24; b++) {
			uint8_t old = b < 16 ? 1 : 0, new = b < 16 ? 2 : 3;
			int is = value_of(dev, b);

			if (b >= 14 && b < 18)
				continue;
			device_read(dev, buf, BLOCK, (uint64_t)b * BLOCK);
			ck_assert(old_or_new(buf, old, new));
			lost += is == old;
			kept += is == new;
			torn += is == -1;
		}
		ck_assert_uint_eq(sim_unflushed(dev), 0);
		device_close(dev);
	}
	/* All kinds of luck occur. */
	ck_assert_uint_gt(lost, 300);
	ck_assert_uint_gt(kept, 300);
	ck_assert_uint_gt(torn, 300);
}
END_TEST

START_TEST(cut_tears_at_the_sector_size)
{
	struct sim_options opts = { .sector_bytes = 4096 };

	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct device *dev = new_sim(&opts);

		fill(dev, 0, BLOCKS, 9, 0);
		sim_power_cut(dev, seed);
		sim_power_on(dev);
		for (unsigned b = 0; b < BLOCKS; b++)
			ck_assert_int_ge(value_of(dev, b), 0);
		device_close(dev);
	}
}
END_TEST

START_TEST(write_through_loses_nothing)
{
	struct sim_options opts = { .write_through = true };
	struct device *dev = new_sim(&opts);

	ck_assert(!device_geometry(dev)->volatile_cache);
	for (uint64_t seed = 1; seed < 50; seed++) {
		fill(dev, 0, BLOCKS, (uint8_t)seed, 0);
		sim_power_cut(dev, seed);
		sim_power_on(dev);
		for (unsigned b = 0; b < BLOCKS; b++)
			ck_assert_int_eq(value_of(dev, b), (int)seed);
	}
	device_close(dev);
}
END_TEST

START_TEST(same_seed_same_result)
{
	struct device *dev = new_sim(NULL), *a, *b;
	static _Alignas(BLOCK) uint8_t other[SIZE];

	for (unsigned i = 0; i < BLOCKS; i++)
		fill(dev, i, 1, (uint8_t)(i + 1), 0);
	for (uint64_t seed = 0; seed < 50; seed++) {
		ck_assert_int_eq(sim_snapshot_cut(dev, seed, &a), 0);
		ck_assert_int_eq(sim_snapshot_cut(dev, seed, &b), 0);
		ck_assert_int_eq(device_read(a, buf, SIZE, 0), 0);
		ck_assert_int_eq(device_read(b, other, SIZE, 0), 0);
		ck_assert_mem_eq(buf, other, SIZE);
		device_close(b);
		sim_power_cut(a, 1); /* nothing left to lose */
		sim_power_on(a);
		ck_assert_int_eq(device_read(a, other, SIZE, 0), 0);
		ck_assert_mem_eq(buf, other, SIZE);
		device_close(a);
	}
	device_close(dev);
}
END_TEST

START_TEST(snapshots_are_independent)
{
	struct device *dev = new_sim(NULL), *now, *cut;

	fill(dev, 0, 8, 1, 0);
	ck_assert_int_eq(device_flush(dev), 0);
	ck_assert_int_eq(sim_snapshot_current(dev, &now), 0);
	ck_assert_int_eq(sim_snapshot_cut(dev, 3, &cut), 0);
	fill(dev, 0, 8, 2, 0);
	fill(now, 0, 4, 3, 0);
	fill(cut, 4, 4, 4, 0);
	ck_assert_int_eq(value_of(dev, 0), 2);
	ck_assert_int_eq(value_of(dev, 7), 2);
	ck_assert_int_eq(value_of(now, 0), 3);
	ck_assert_int_eq(value_of(now, 4), 1);
	ck_assert_int_eq(value_of(cut, 0), 1);
	ck_assert_int_eq(value_of(cut, 4), 4);
	device_close(now);
	ck_assert_int_eq(value_of(dev, 0), 2);
	device_close(dev);
	ck_assert_int_eq(value_of(cut, 0), 1);
	device_close(cut);
}
END_TEST

static unsigned hooked[4];

static void hook(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct device *copy;

	hooked[op]++;
	ck_assert_uint_eq(step, hooked[IO_WRITE] + hooked[IO_FLUSH] + hooked[IO_DISCARD]);
	ck_assert_ptr_eq(arg, hooked);
	ck_assert_int_eq(sim_snapshot_cut(dev, step, &copy), 0);
	device_close(copy);
}

START_TEST(hook_sees_every_step)
{
	struct device *dev = new_sim(NULL);

	sim_set_step_hook(dev, hook, hooked);
	fill(dev, 0, 8, 1, 0);
	fill(dev, 0, 1, 1, IO_FUA);
	ck_assert_int_eq(device_flush(dev), 0);
	ck_assert_int_eq(device_discard(dev, 0, BLOCK), 0);
	ck_assert_int_eq(value_of(dev, 1), 1);
	ck_assert_uint_eq(hooked[IO_WRITE], 2);
	ck_assert_uint_eq(hooked[IO_FLUSH], 1);
	ck_assert_uint_eq(hooked[IO_DISCARD], 1);
	ck_assert_uint_eq(hooked[IO_READ], 0);
	device_close(dev);
}
END_TEST

START_TEST(injected_errors)
{
	struct device *dev = new_sim(NULL);
	struct sim_faults faults = { .fail_write_at = 2, .fail_read_at = 3, .fail_flush_at = 1 };
	struct device_health health;
	unsigned failed = 0;

	fill(dev, 0, 1, 1, 0);
	sim_set_faults(dev, &faults);
	fill(dev, 0, 1, 2, 0);
	ck_assert_int_eq(device_write(dev, buf, BLOCK, 0, 0), -EIO);
	fill(dev, 1, 1, 2, 0);
	ck_assert_int_eq(device_read(dev, buf, BLOCK, 0), 0);
	ck_assert_int_eq(device_read(dev, buf, BLOCK, 0), 0);
	ck_assert_int_eq(device_read(dev, buf, BLOCK, 0), -EIO);
	ck_assert_int_eq(device_flush(dev), -EIO);
	ck_assert_uint_eq(sim_unflushed(dev), 3);
	ck_assert_int_eq(device_flush(dev), 0);
	device_health(dev, &health);
	ck_assert_uint_eq(health.writes, 4);
	ck_assert_uint_eq(health.write_errors, 1);
	ck_assert_uint_eq(health.read_errors, 1);
	ck_assert_uint_eq(health.flush_errors, 1);
	ck_assert_uint_eq(health.written_bytes, 3 * BLOCK);

	faults = (struct sim_faults){ .seed = 5, .fail_write_ppm = 250000, .error = ENOSPC };
	sim_set_faults(dev, &faults);
	for (unsigned i = 0; i < 1000; i++) {
		int rc = device_write(dev, buf, BLOCK, 0, 0);

		ck_assert(rc == 0 || rc == -ENOSPC);
		failed += rc != 0;
	}
	ck_assert_uint_gt(failed, 180);
	ck_assert_uint_lt(failed, 320);
	sim_set_faults(dev, NULL);
	ck_assert_int_eq(device_write(dev, buf, BLOCK, 0, 0), 0);
	device_close(dev);
}
END_TEST

START_TEST(short_transfers_are_resumed)
{
	struct device *dev = new_sim(NULL);
	struct sim_faults faults = { .seed = 1, .short_ppm = 700000 };
	struct device_health health;
	static _Alignas(BLOCK) uint8_t other[SIZE];

	sim_set_faults(dev, &faults);
	for (unsigned i = 0; i < SIZE; i++)
		buf[i] = (uint8_t)(i / 97);
	ck_assert_int_eq(device_write(dev, buf, SIZE, 0, 0), 0);
	ck_assert_int_eq(device_read(dev, other, SIZE, 0), 0);
	ck_assert_mem_eq(buf, other, SIZE);
	device_health(dev, &health);
	ck_assert_uint_gt(health.short_ios, 0);
	device_close(dev);
}
END_TEST

static unsigned differing_bits(const uint8_t *p, uint8_t value, size_t len)
{
	unsigned bits = 0;

	for (size_t i = 0; i < len; i++)
		bits += (unsigned)__builtin_popcount((unsigned)(p[i] ^ value));
	return bits;
}

START_TEST(damaged_reads)
{
	struct device *dev = new_sim(NULL);
	struct sim_faults faults = { .seed = 1, .bit_flip_ppm = 1000000 };

	fill(dev, 0, 8, 0xaa, 0);
	fill(dev, 8, 8, 0xbb, 0);
	sim_set_faults(dev, &faults);
	ck_assert_int_eq(device_read(dev, buf, 8 * BLOCK, 0), 0);
	ck_assert_uint_eq(differing_bits(buf, 0xaa, 8 * BLOCK), 1);
	faults = (struct sim_faults){ .misdirect_ppm = 1000000 };
	sim_set_faults(dev, &faults);
	ck_assert_int_eq(value_of(dev, 8), 0xaa);
	sim_set_faults(dev, NULL);
	ck_assert_int_eq(value_of(dev, 8), 0xbb); /* the medium is whole */
	sim_flip_bit(dev, 8 * BLOCK + 77, 3);
	ck_assert_int_eq(device_read(dev, buf, BLOCK, 8 * BLOCK), 0);
	ck_assert_uint_eq(differing_bits(buf, 0xbb, BLOCK), 1);
	ck_assert_uint_eq(buf[77], 0xbb ^ 1u << 3);
	device_close(dev);
}
END_TEST

START_TEST(discard_options)
{
	struct sim_options garbage = { .discard_garbage = true }, none = { .no_discard = true };
	struct device *dev = new_sim(&garbage);

	fill(dev, 0, 8, 1, 0);
	ck_assert_int_eq(device_discard(dev, 0, 4 * BLOCK), 0);
	ck_assert_int_eq(value_of(dev, 0), -1);
	ck_assert_int_eq(value_of(dev, 4), 1);
	device_close(dev);
	dev = new_sim(&none);
	ck_assert(!device_geometry(dev)->discard);
	ck_assert_int_eq(device_discard(dev, 0, BLOCK), -EOPNOTSUPP);
	device_close(dev);
}
END_TEST

/* ---- Asynchronous ---- */

#define REQUESTS 32u

struct async {
	struct io_request req;
	struct async *next_done;
	int res;
	bool done;
};

static unsigned answers;
static unsigned order[REQUESTS];
static struct async async[REQUESTS];

static void async_done(struct io_request *req, int res)
{
	struct async *a = (struct async *)req;

	ck_assert(!a->done);
	ck_assert_ptr_nonnull(reactor_current());
	a->done = true;
	a->res = res;
	order[answers++] = (unsigned)(a - async);
}

static void submit(struct reactor *r, struct device *dev, unsigned i, enum io_op op, void *p)
{
	async[i] = (struct async){
		.req = { .device = dev, .op = op, .buf = p, .len = BLOCK,
			 .offset = (uint64_t)i * BLOCK, .done = async_done },
	};
	device_submit(r, &async[i].req);
	ck_assert(!async[i].done);
}

static void run_all(struct reactor *r, unsigned n)
{
	while (answers < n)
		ck_assert_int_ge(reactor_run_once(r, 1000 * MS), 0);
	ck_assert_uint_eq(device_inflight(r), 0);
}

START_TEST(async_with_latency_is_reordered)
{
	struct device *dev = new_sim(NULL);
	struct sim_faults faults = { .seed = 3, .latency_min_ns = 100000, .latency_max_ns = 5 * MS };
	struct reactor *r;
	unsigned overtaken = 0;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	sim_set_faults(dev, &faults);
	answers = 0;
	for (unsigned i = 0; i < REQUESTS; i++) {
		memset(buf + i * BLOCK, (int)i + 1, BLOCK);
		submit(r, dev, i, IO_WRITE, buf + i * BLOCK);
	}
	run_all(r, REQUESTS);
	for (unsigned i = 0; i < REQUESTS; i++) {
		ck_assert_int_eq(async[i].res, 0);
		overtaken += order[i] != i;
	}
	ck_assert_uint_gt(overtaken, 4);
	memset(buf, 0, sizeof(buf));
	answers = 0;
	for (unsigned i = 0; i < REQUESTS; i++)
		submit(r, dev, i, IO_READ, buf + i * BLOCK);
	run_all(r, REQUESTS);
	for (unsigned i = 0; i < REQUESTS; i++)
		ck_assert_uint_eq(differing_bits(buf + i * BLOCK, (uint8_t)(i + 1), BLOCK), 0);
	reactor_destroy(r);
	device_close(dev);
}
END_TEST

/* A flush promises nothing about writes that were answered after it began. */
START_TEST(flush_covers_only_what_was_answered_before)
{
	unsigned lost = 0;

	for (uint64_t seed = 0; seed < 40; seed++) {
		struct device *dev = new_sim(NULL);
		struct sim_faults slow = { .latency_min_ns = 3 * MS, .latency_max_ns = 3 * MS };
		struct reactor *r;

		ck_assert_int_eq(reactor_create(NULL, &r), 0);
		fill(dev, 1, 1, 1, 0);
		sim_set_faults(dev, &slow);
		answers = 0;
		submit(r, dev, 0, IO_FLUSH, NULL);
		sim_set_faults(dev, NULL);
		fill(dev, 2, 1, 2, 0);
		run_all(r, 1);
		sim_power_cut(dev, seed);
		sim_power_on(dev);
		ck_assert_int_eq(value_of(dev, 1), 1);
		lost += value_of(dev, 2) != 2;
		reactor_destroy(r);
		device_close(dev);
	}
	ck_assert_uint_gt(lost, 5);
}
END_TEST

/* In flight at the cut: the caller gets -EIO, and later nothing more happens to the medium. */
START_TEST(cut_hits_requests_in_flight)
{
	unsigned reached = 0;

	for (uint64_t seed = 0; seed < 40; seed++) {
		struct device *dev = new_sim(NULL);
		struct sim_faults slow = { .latency_min_ns = 2 * MS, .latency_max_ns = 2 * MS };
		struct reactor *r;
		int before;

		ck_assert_int_eq(reactor_create(NULL, &r), 0);
		sim_set_faults(dev, &slow);
		memset(buf, 7, BLOCK);
		answers = 0;
		submit(r, dev, 0, IO_WRITE, buf);
		submit(r, dev, 1, IO_READ, buf + BLOCK);
		submit(r, dev, 2, IO_FLUSH, NULL);
		sim_power_cut(dev, seed);
		sim_power_on(dev);
		sim_set_faults(dev, NULL);
		before = value_of(dev, 0);
		reached += before != 0;
		run_all(r, 3);
		for (unsigned i = 0; i < 3; i++)
			ck_assert_int_eq(async[i].res, -EIO);
		ck_assert_int_eq(value_of(dev, 0), before);
		reactor_destroy(r);
		device_close(dev);
	}
	ck_assert_uint_gt(reached, 5);
}
END_TEST

START_TEST(async_vectors_short_and_failing)
{
	struct device *dev = new_sim(NULL);
	struct sim_faults faults = { .seed = 9, .short_ppm = 600000 };
	struct iovec iov[5];
	struct async a;
	struct reactor *r;
	static _Alignas(BLOCK) uint8_t other[SIZE];

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	sim_set_faults(dev, &faults);
	for (unsigned i = 0; i < SIZE; i++)
		buf[i] = (uint8_t)(i * 7 / 1000);
	for (unsigned round = 0; round < 50; round++) {
		size_t at = 0;

		for (unsigned i = 0; i < 5; i++) {
			iov[i].iov_base = buf + at;
			iov[i].iov_len = BLOCK * ((i + round) % 4);
			at += iov[i].iov_len;
		}
		for (unsigned op = 0; op < 2; op++) {
			a = (struct async){
				.req = { .device = dev, .op = op ? IO_READ : IO_WRITE, .iov = iov,
					 .iovcnt = 5, .offset = BLOCK, .done = async_done },
			};
			for (unsigned i = 0; op && i < 5; i++)
				iov[i].iov_base = other + ((uint8_t *)iov[i].iov_base - buf);
			answers = 0;
			device_submit(r, &a.req);
			run_all(r, 1);
			ck_assert_int_eq(a.res, 0);
		}
		ck_assert_mem_eq(buf, other, at);
	}
	faults = (struct sim_faults){ .fail_write_ppm = 1000000 };
	sim_set_faults(dev, &faults);
	a.req.op = IO_WRITE;
	a.done = false;
	answers = 0;
	device_submit(r, &a.req);
	run_all(r, 1);
	ck_assert_int_eq(a.res, -EIO);
	reactor_destroy(r);
	device_close(dev);
}
END_TEST

/* ---- Threads ---- */

static struct device *common;

static void *hammer(void *arg)
{
	unsigned mine = (unsigned)(uintptr_t)arg * 16;
	_Alignas(BLOCK) uint8_t data[BLOCK], back[BLOCK];
	struct device *copy;

	for (unsigned i = 0; i < 300; i++) {
		memset(data, (int)i, sizeof(data));
		ck_assert_int_eq(device_write(common, data, BLOCK, (uint64_t)(mine + i % 16) * BLOCK,
					      i % 5 ? 0 : IO_FUA),
				 0);
		ck_assert_int_eq(device_read(common, back, BLOCK, (uint64_t)(mine + i % 16) * BLOCK),
				 0);
		ck_assert_mem_eq(data, back, BLOCK);
		if (i % 10 == 0)
			ck_assert_int_eq(device_flush(common), 0);
		if (i % 20 == 0) {
			ck_assert_int_eq(sim_snapshot_cut(common, i, &copy), 0);
			ck_assert_int_eq(device_write(copy, data, BLOCK, 0, 0), 0);
			device_close(copy);
		}
	}
	return NULL;
}

START_TEST(four_threads)
{
	pthread_t thread[4];

	common = new_sim(NULL);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, hammer, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	device_close(common);
}
END_TEST

int main(void)
{
	return unit_run("sim", reads_what_was_written, bad_ranges, cut_keeps_what_was_promised,
			cut_tears_at_the_sector_size, write_through_loses_nothing,
			same_seed_same_result, snapshots_are_independent, hook_sees_every_step,
			injected_errors, short_transfers_are_resumed, damaged_reads,
			discard_options, async_with_latency_is_reordered,
			flush_covers_only_what_was_answered_before, cut_hits_requests_in_flight,
			async_vectors_short_and_failing, four_threads, NULL);
}
