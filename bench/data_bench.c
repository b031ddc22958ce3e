/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * data_bench FILE-OR-DEVICE SECONDS [MIB]: what file data costs without FUSE, on a pool made there (what is
 * on it is lost): sequential buffered writes, 4 KiB direct reads and writes at random with 32 in flight, and
 * 4 KiB overwrites with a sync each. One line each, with the CPU time of an operation.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "io/device.h"
#include "io/log.h"
#include "io/reactor.h"
#include "meta/data.h"
#include "meta/mkfs.h"
#include "meta/names.h"
#include "meta/pool.h"
#include "meta/subvol.h"

#define DEPTH 32u
#define BLOCK 4096u
#define SEQUENTIAL (1u << 20)

enum kind { READ, WRITE, SEQ_WRITE, SYNC_WRITE };

static struct reactor *reactor;
static struct subvol *sv;
static uint64_t ino, file_blocks, done_ops, seed = 1, next_offset;
static bool stop;

struct job {
	struct op op;
	enum kind kind;
	uint64_t offset;
	uint8_t *buf;
	bool idle;
};

static void check(const char *what, int64_t r)
{
	if (r >= 0)
		return;
	fprintf(stderr, "data_bench: %s: %s\n", what, strerror((int)-r));
	exit(1);
}

static uint64_t random_offset(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (seed >> 20) % file_blocks * BLOCK;
}

static ssize_t job_call(struct job *j)
{
	struct iovec *iov;
	unsigned n;

	switch (j->kind) {
	case READ:
		return data_read(&j->op, ino, j->offset, BLOCK, DATA_DIRECT, &iov, &n);
	case WRITE:
		return data_write(&j->op, ino, j->offset, j->buf, BLOCK, DATA_DIRECT);
	case SYNC_WRITE:
		return data_write(&j->op, ino, j->offset, j->buf, BLOCK, DATA_DIRECT | DATA_DSYNC);
	default:
		return data_write(&j->op, ino, j->offset, j->buf, SEQUENTIAL, 0);
	}
}

static void job_run(struct op *op);

static void job_start(struct job *j)
{
	op_init(&j->op, sv, job_run);
	j->offset = random_offset();
	if (j->kind == SEQ_WRITE) {
		j->offset = next_offset;
		next_offset += SEQUENTIAL;
		stop |= next_offset >= file_blocks * BLOCK;
	}
	j->idle = false;
}

static void job_run(struct op *op)
{
	struct job *j = (struct job *)op;
	ssize_t r;

	while ((r = job_call(j)) != META_WAIT) {
		check("request", r);
		op_finish(op);
		done_ops++;
		j->idle = true;
		if (stop)
			return;
		job_start(j);
	}
}

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_THREAD, &ru);
	return seconds(&ru.ru_utime) + seconds(&ru.ru_stime);
}

static void bench(const char *name, enum kind kind, unsigned depth, double limit)
{
	struct job *jobs = calloc(depth, sizeof(*jobs));
	uint64_t begin = monotonic_now_ns();
	double cpu = cpu_seconds(), elapsed;
	unsigned busy = depth;

	stop = false;
	done_ops = 0;
	for (unsigned i = 0; i < depth; i++) {
		jobs[i].kind = kind;
		jobs[i].buf = aligned_alloc(BLOCK, SEQUENTIAL);
		memset(jobs[i].buf, (int)i + 1, SEQUENTIAL);
		job_start(&jobs[i]);
		job_run(&jobs[i].op);
	}
	while (busy) {
		check("reactor", reactor_run_once(reactor, 100000000));
		stop |= limit > 0 && (double)(monotonic_now_ns() - begin) / 1e9 > limit;
		busy = 0;
		for (unsigned i = 0; i < depth; i++)
			busy += !jobs[i].idle;
	}
	elapsed = (double)(monotonic_now_ns() - begin) / 1e9;
	cpu = cpu_seconds() - cpu;
	printf("%-24s %9.0f /s  %8.2f us of CPU each\n", name, (double)done_ops / elapsed,
	       cpu / (double)(done_ops ? done_ops : 1) * 1e6);
	for (unsigned i = 0; i < depth; i++)
		free(jobs[i].buf);
	free(jobs);
}

struct create {
	struct op op;
	struct inode_attr attr;
	int result;
};

static void create_run(struct op *op)
{
	struct create *c = (struct create *)op;
	const struct names_new what = { .mode = S_IFREG | 0644 };

	c->result = names_create(op, INO_ROOT, "f", 1, &what, &c->attr);
}

static void create_file(void)
{
	struct create c;

	op_init(&c.op, sv, create_run);
	create_run(&c.op);
	while (c.result == META_WAIT)
		check("reactor", reactor_run_once(reactor, REACTOR_NEVER_NS));
	op_finish(&c.op);
	check("create", c.result);
	ino = c.attr.ino;
	lookup_add(sv, ino, 1);
}

int main(int argc, char **argv)
{
	struct pool_create_options po = { .name = "bench" };
	struct subvol_options so = { .thin = true };
	struct pool_options opts = { .reactors = 1, .reactor = &reactor };
	uint64_t bytes = (argc > 3 ? strtoull(argv[3], NULL, 0) : 256) << 20;
	char why[512] = "";
	struct device *dev;
	struct pool *pool;
	double limit;

	if (argc < 3) {
		fprintf(stderr, "usage: data_bench FILE-OR-DEVICE SECONDS [MIB]\n");
		return 2;
	}
	limit = strtod(argv[2], NULL);
	file_blocks = bytes / BLOCK;
	so.size_bytes = bytes * 2;
	log_set_level(LOG_LEVEL_WARN);
	check("reactor", reactor_create(NULL, &reactor));
	check(argv[1], device_open(argv[1], DEVICE_EXCLUSIVE, &dev));
	if (pool_create(&dev, 1, &po, why, sizeof(why))) {
		fprintf(stderr, "data_bench: %s\n", why);
		return 1;
	}
	check("pool", pool_open(&dev, 1, &opts, &pool));
	check("subvolume", subvol_create(pool, "b", &so, why, sizeof(why)));
	check("open", subvol_open(pool, "b", false, &sv));
	create_file();
	bench("1 MiB writes, buffered", SEQ_WRITE, 1, 0);
	bench("4 KiB reads", READ, DEPTH, limit);
	bench("4 KiB direct writes", WRITE, DEPTH, limit);
	bench("4 KiB reads, 1 deep", READ, 1, limit);
	bench("4 KiB synced writes", SYNC_WRITE, 1, limit);
	bench("4 KiB synced, 32 deep", SYNC_WRITE, DEPTH, limit);
	check("close", subvol_close(sv));
	check("close", pool_close(pool));
	reactor_destroy(reactor);
	device_close(dev);
	return 0;
}
