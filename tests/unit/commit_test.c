/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commit thread: what an answer means, who shares a commit, and when space operands count. */
#include "config.h"

#include "meta/commit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/gather.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define TICKETS 50u

/* What happens in the middle of a sync: after the first write or flush of the device, once. */
struct moment {
	struct rig *rig;
	void (*fn)(struct moment *m);
	_Atomic bool armed;
	_Atomic unsigned steps;
	struct extent block;   /* of the file */
	struct space_ops *ops; /* of a batch that drops it */
	uint32_t durable_then;
	struct commit_ticket tickets[TICKETS];
	_Atomic unsigned answered, wrong;
};

static void on_step(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct moment *m = arg;

	(void)dev;
	(void)op;
	(void)step;
	atomic_fetch_add(&m->steps, 1);
	if (m->fn && atomic_exchange(&m->armed, false))
		m->fn(m);
}

static uint32_t durable(const struct moment *m)
{
	uint32_t current, count;

	ck_assert_int_eq(space_counts(m->rig->pool->space, m->block.vdev, m->block.block, &current, &count), 0);
	return count;
}

static int no_batch(void *arg, const void *key, size_t key_len, const void *operand, size_t operand_len)
{
	(void)arg, (void)key, (void)key_len, (void)operand, (void)operand_len;
	return 0;
}

static ssize_t do_settle(struct rig_call *c)
{
	return gather_settle(&c->op);
}

/* A new name, which RocksDB has: what is gathered is no commit's business. */
static void write_name(struct rig *rig, const char *name)
{
	struct rig_call settle = { .fn = do_settle };

	rig_create(rig, name);
	rig_start(rig, &settle);
	ck_assert_int_eq(rig_wait(rig, &settle), 0);
}

/* A committed file of one block, and the operands of a batch that would drop it. */
static void begin(struct rig *rig, struct moment *m, void (*fn)(struct moment *m))
{
	uint8_t buf[4096] = { 1 };
	uint64_t ino, at;

	memset(m, 0, sizeof(*m));
	rig_make(rig, NULL);
	ino = rig_create(rig, "a");
	ck_assert_int_eq(rig_write(rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(rig_sync(rig), 0);
	at = chunk_peek(inode_peek(rig->sv, ino)->file, 0)->map.at[0];
	m->rig = rig;
	m->fn = fn;
	m->block = (struct extent){ .block = at_block(at), .blocks = 1, .vdev = at_vdev(at) };
	m->ops = space_ops_new(rig->pool->space);
	ck_assert_int_eq(space_ops_add(m->ops, &m->block, -1), 0);
	ck_assert_int_eq(space_ops_emit(m->ops, no_batch, NULL), 0);
	ck_assert_uint_eq(durable(m), 1);
	write_name(rig, "b"); /* something for a commit to write */
	atomic_store(&m->armed, true);
	sim_set_step_hook(rig->dev[0], on_step, m);
}

static void end(struct rig *rig)
{
	sim_set_step_hook(rig->dev[0], NULL, NULL);
	rig_free(rig);
}

static void look(struct moment *m)
{
	m->durable_then = durable(m);
}

/* The block is not free before nothing that a power cut leaves can map it. */
START_TEST(operands_count_after_the_sync)
{
	struct rig rig;
	struct moment m;

	begin(&rig, &m, look);
	commit_put_space(rig.pool, m.ops);
	ck_assert_uint_eq(durable(&m), 1);
	ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
	ck_assert(!atomic_load(&m.armed));
	ck_assert_uint_eq(m.durable_then, 1);
	ck_assert_uint_eq(durable(&m), 0);
	end(&rig);
}
END_TEST

static void put_now(struct moment *m)
{
	commit_put_space(m->rig->pool, m->ops);
}

/* A batch that is written while a sync runs may have missed it. */
START_TEST(operands_put_meanwhile_wait_for_the_next)
{
	struct rig rig;
	struct moment m;

	begin(&rig, &m, put_now);
	ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
	ck_assert(!atomic_load(&m.armed));
	ck_assert_uint_eq(durable(&m), 1);
	ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
	ck_assert_uint_eq(durable(&m), 0);
	end(&rig);
}
END_TEST

static struct moment *asking;

static void answered(struct commit_ticket *t, int error)
{
	struct moment *m = asking;

	/* In the order in which they came, without an error. */
	if (error || t != &m->tickets[atomic_fetch_add(&m->answered, 1)])
		atomic_fetch_add(&m->wrong, 1);
}

static void ask_all(struct moment *m)
{
	for (unsigned i = 0; i < TICKETS; i++) {
		m->tickets[i].done = answered;
		pool_commit(m->rig->pool, &m->tickets[i]);
	}
}

/* Whoever asks while a commit runs gets one that begins later, and all of them the same one. */
START_TEST(those_who_ask_meanwhile_share_one)
{
	struct rig rig;
	struct moment m;
	uint64_t before;

	begin(&rig, &m, ask_all);
	asking = &m;
	before = atomic_load(&rig.pool->commits);
	ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
	ck_assert(!atomic_load(&m.armed));
	ck_assert_uint_ge(atomic_load(&rig.pool->commits), before + 1);
	while (atomic_load(&m.answered) < TICKETS)
		usleep(100);
	ck_assert_uint_eq(atomic_load(&m.wrong), 0);
	ck_assert_uint_eq(atomic_load(&rig.pool->commits), before + 2);
	space_ops_free(m.ops);
	end(&rig);
}
END_TEST

/* ---- What an answer means ---- */

struct snap {
	struct commit_ticket ticket;
	struct rig *rig, cut;
	uint64_t seed;
	int error;
	_Atomic bool done;
};

static void cut_now(struct commit_ticket *t, int error)
{
	struct snap *s = (struct snap *)((char *)t - offsetof(struct snap, ticket));

	s->error = error;
	rig_cut(s->rig, &s->cut, s->seed);
	atomic_store(&s->done, true);
}

START_TEST(an_answer_survives_a_power_cut)
{
	struct rig rig;

	rig_make(&rig, NULL);
	for (unsigned i = 0; i < 12; i++) {
		struct snap s = { .ticket.done = cut_now, .rig = &rig, .seed = i };
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		write_name(&rig, name);
		pool_commit(rig.pool, &s.ticket);
		while (!atomic_load(&s.done))
			usleep(100);
		ck_assert_int_eq(s.error, 0);
		ck_assert_int_eq(rig_open(&s.cut), 0);
		ck_assert_uint_ne(rig_lookup(&s.cut, name), 0);
		rig_free(&s.cut);
	}
	rig_free(&rig);
}
END_TEST

struct here {
	struct commit_ticket ticket;
	pthread_t thread;
	int error;
	bool done;
};

static void note_thread(struct commit_ticket *t, int error)
{
	struct here *h = (struct here *)((char *)t - offsetof(struct here, ticket));

	h->thread = pthread_self();
	h->error = error;
	h->done = true;
}

START_TEST(a_reactor_gets_its_answer_itself)
{
	struct here h = { .ticket.done = note_thread, .error = 1 };
	struct rig rig;
	uint64_t before;

	rig_make(&rig, NULL);
	write_name(&rig, "a");
	before = atomic_load(&rig.pool->commits);
	h.ticket.reactor = rig.reactor;
	pool_commit(rig.pool, &h.ticket);
	while (atomic_load(&rig.pool->commits) == before)
		usleep(100);
	usleep(1000);
	ck_assert(!h.done); /* nobody runs the reactor */
	while (!h.done)
		rig_turn(&rig, 1);
	ck_assert(pthread_equal(h.thread, pthread_self()));
	ck_assert_int_eq(h.error, 0);
	rig_free(&rig);
}
END_TEST

/* ---- Failure ---- */

static void count_lines(enum log_level level, const char *line, void *arg)
{
	unsigned *lines = arg;

	if (level <= LOG_LEVEL_ERROR && strstr(line, "a commit failed"))
		++*lines;
}

/* What is durable after it is not known: no block is freed, and the devices are left alone. */
START_TEST(an_error_is_final)
{
	struct sim_faults faults = { .fail_write_ppm = 1000000, .fail_flush_ppm = 1000000 };
	unsigned lines = 0, steps;
	struct rig rig;
	struct moment m;
	uint64_t before;

	begin(&rig, &m, NULL);
	before = atomic_load(&rig.pool->commits);
	commit_put_space(rig.pool, m.ops);
	log_set_sink(count_lines, &lines);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(pool_commit_wait(rig.pool), -EIO);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(atomic_load(&rig.pool->failed), -EIO);
	ck_assert_uint_eq(durable(&m), 1);
	steps = atomic_load(&m.steps);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pool_commit_wait(rig.pool), -EIO);
	ck_assert_uint_eq(atomic_load(&m.steps), steps);
	ck_assert_uint_eq(atomic_load(&rig.pool->commits), before);
	ck_assert_uint_eq(durable(&m), 1);
	ck_assert_uint_eq(lines, 1);
	end(&rig);
	log_set_sink(NULL, NULL);
}
END_TEST

/* ---- Hints ---- */

static uint64_t flushes(const struct rig *rig)
{
	struct device_health health;

	device_health(rig->dev[0], &health);
	return health.flushes;
}

/* A block of nobody: for a flush to have something to do. */
static void write_block(struct rig *rig)
{
	cleanup_free void *block = NULL;

	ck_assert_int_eq(posix_memalign(&block, 4096, 4096), 0);
	memset(block, 1, 4096);
	ck_assert_int_eq(device_write(rig->dev[0], block, 4096, device_geometry(rig->dev[0])->size_bytes / 2, 0), 0);
}

static void flush_ahead(struct rig *rig)
{
	const uint64_t before = flushes(rig);

	write_block(rig);
	commit_hint(rig->pool, COMMIT_SOON);
	commit_hint(rig->pool, COMMIT_WRITTEN);
	while (flushes(rig) == before)
		usleep(100);
}

/* The devices are flushed before the ticket comes, and not for it again. */
START_TEST(written_data_is_flushed_ahead)
{
	struct rig rig;

	rig_make(&rig, NULL);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t before = flushes(&rig);
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		write_name(&rig, name);
		flush_ahead(&rig);
		ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
		ck_assert_uint_eq(flushes(&rig), before + 1);
	}
	flush_ahead(&rig); /* and nobody comes */
	rig_free(&rig);
}
END_TEST

static uint64_t writes(const struct rig *rig)
{
	struct device_health health;

	device_health(rig->dev[0], &health);
	return health.writes;
}

/* An fsync says so itself: the flush comes while nobody makes its batch, and so before its ticket. */
START_TEST(an_fsync_has_its_data_flushed_ahead)
{
	uint8_t buf[4 * 4096] = { 1 };
	struct rig_call fsync = { 0 };
	uint64_t ino, written, flushed;
	struct rig rig;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	written = writes(&rig);
	flushed = flushes(&rig);
	rig_start_fsync(&rig, &fsync, ino);
	while (writes(&rig) == written)
		rig_turn(&rig, 1);
	ck_assert_int_eq(fsync.op.stage, STAGE_PUT);
	while (flushes(&rig) == flushed)
		usleep(100);
	ck_assert_int_eq(rig_wait(&rig, &fsync), 0);
	ck_assert_uint_eq(flushes(&rig), flushed + 1);
	rig_free(&rig);
}
END_TEST

/* What a flush ahead lost, no later one brings back. */
START_TEST(an_error_ahead_is_final)
{
	struct sim_faults faults = { .fail_flush_ppm = 1000000 };
	struct rig rig;

	rig_make(&rig, NULL);
	write_name(&rig, "a");
	sim_set_faults(rig.dev[0], &faults);
	flush_ahead(&rig);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(pool_commit_wait(rig.pool), -EIO);
	ck_assert_int_eq(atomic_load(&rig.pool->failed), -EIO);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	return unit_run("commit", operands_count_after_the_sync, operands_put_meanwhile_wait_for_the_next,
			those_who_ask_meanwhile_share_one, an_answer_survives_a_power_cut, a_reactor_gets_its_answer_itself,
			an_error_is_final, written_data_is_flushed_ahead, an_fsync_has_its_data_flushed_ahead,
			an_error_ahead_is_final, NULL);
}
