/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * meta_bench FILE-OR-DEVICE COUNT: what the namespace costs without FUSE, on a pool made there (what is on it is
 * lost). COUNT creates over directories of 10,000, lookups of all in random order, readdirs with attributes, and
 * unlinks; and the process's resident memory after each.
 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/device.h"
#include "io/log.h"
#include "io/reactor.h"
#include "meta/data.h"
#include "meta/mkfs.h"
#include "meta/names.h"
#include "meta/pool.h"
#include "meta/subvol.h"

#define PER_DIR 10000u

static struct reactor *reactor;
static struct subvol *sv;

static void die(const char *what, int r) __attribute__((noreturn));
static void die(const char *what, int r)
{
	fprintf(stderr, "meta_bench: %s: %s\n", what, strerror(-r));
	exit(1);
}

static void check(const char *what, int r)
{
	if (r < 0)
		die(what, r);
}

struct bench_op {
	struct op op;
	int (*fn)(struct op *op, void *arg);
	void *arg;
	int result;
};

static void step(struct op *op)
{
	struct bench_op *b = (struct bench_op *)op;

	b->result = b->fn(op, b->arg);
}

static int run(int (*fn)(struct op *op, void *arg), void *arg)
{
	struct bench_op b = { .fn = fn, .arg = arg };

	op_init(&b.op, sv, step);
	step(&b.op);
	while (b.result == META_WAIT)
		check("reactor", reactor_run_once(reactor, REACTOR_NEVER_NS));
	op_finish(&b.op);
	return b.result;
}

struct name_arg {
	uint64_t dir;
	char name[32];
	struct inode_attr attr;
	uint32_t mode;
	uint64_t count;
};

static int do_create(struct op *op, void *arg)
{
	struct name_arg *a = arg;
	const struct names_new what = { .mode = a->mode };

	return names_create(op, a->dir, a->name, strlen(a->name), &what, &a->attr);
}

static int do_lookup(struct op *op, void *arg)
{
	struct name_arg *a = arg;

	return names_lookup(op, a->dir, a->name, strlen(a->name), &a->attr);
}

static int do_unlink(struct op *op, void *arg)
{
	struct name_arg *a = arg;

	return names_unlink(op, a->dir, a->name, strlen(a->name));
}

static int do_sync(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

static void reset(void *arg)
{
	(void)arg;
}

static bool emit(void *arg, const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie,
		 const struct inode_attr *attr)
{
	struct name_arg *a = arg;

	(void)name;
	(void)len;
	(void)ino;
	(void)mode;
	(void)attr;
	if (a->count == 128)
		return false;
	a->count++;
	a->attr.ino = cookie;
	return true;
}

static int do_readdir(struct op *op, void *arg)
{
	struct name_arg *a = arg;
	const struct names_emit e = { .reset = reset, .emit = emit, .arg = a, .attrs = a->mode };

	a->count = 0;
	return names_readdir(op, a->dir, a->attr.ino, &e);
}

static unsigned resident_mib(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f) {
		if (fscanf(f, "%*u %lu", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (unsigned)(pages / 256);
}

static void report(const char *what, uint64_t count, uint64_t from_ns)
{
	const double s = (double)(monotonic_now_ns() - from_ns) / 1e9;

	printf("%-20s %9.0f/s  %6u MiB resident\n", what, (double)count / s, resident_mib());
	fflush(stdout);
}

static uint64_t *dirs;

static void name_of(struct name_arg *a, uint64_t n)
{
	a->dir = dirs[n / PER_DIR];
	snprintf(a->name, sizeof(a->name), "file-%08lu.txt", (unsigned long)n);
}

/* The reactor's own work (timers, the end of reaping) runs now and then, as it would between requests. */
static void breathe(uint64_t i)
{
	if (i % 16 == 0)
		reactor_run_once(reactor, 0);
}

static void bench(uint64_t count)
{
	struct name_arg a = { .mode = S_IFREG | 0644 };
	uint64_t start, seen = 0;

	dirs = calloc(count / PER_DIR + 1, sizeof(*dirs));
	for (uint64_t d = 0; d <= count / PER_DIR; d++) {
		struct name_arg dir = { .dir = 1, .mode = S_IFDIR | 0755 };

		snprintf(dir.name, sizeof(dir.name), "d%lu", (unsigned long)d);
		check("mkdir", run(do_create, &dir));
		dirs[d] = dir.attr.ino;
	}
	start = monotonic_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		name_of(&a, i);
		check("create", run(do_create, &a));
		breathe(i);
	}
	report("create", count, start);
	start = monotonic_now_ns();
	check("sync", run(do_sync, NULL));
	report("sync", 1, start);
	start = monotonic_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		name_of(&a, i * 7919 % count);
		check("lookup", run(do_lookup, &a));
		breathe(i);
	}
	report("lookup, random", count, start);
	for (unsigned attrs = 0; attrs < 2; attrs++) {
		start = monotonic_now_ns();
		seen = 0;
		for (uint64_t d = 0; d <= count / PER_DIR; d++) {
			a = (struct name_arg){ .dir = dirs[d], .mode = attrs };
			do {
				check("readdir", run(do_readdir, &a));
				seen += a.count;
			} while (a.count);
			breathe(0);
		}
		report(attrs ? "readdir with attrs" : "readdir", seen, start);
	}
	start = monotonic_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		name_of(&a, i);
		check("unlink", run(do_unlink, &a));
		breathe(i);
	}
	report("unlink", count, start);
	check("sync", run(do_sync, NULL));
	report("and reaped", count, start);
	free(dirs);
}

int main(int argc, char **argv)
{
	struct pool_create_options po = { .name = "bench" };
	struct subvol_options so = { .size_bytes = UINT64_C(1) << 30, .thin = true };
	struct pool_options opts = { .reactors = 1, .reactor = &reactor };
	char why[512] = "";
	struct device *dev;
	struct pool *pool;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: meta_bench FILE-OR-DEVICE COUNT\n");
		return 2;
	}
	log_set_level(LOG_LEVEL_WARN);
	po.inodes_max = strtoull(argv[2], NULL, 0) * 3 / 2;
	so.inodes_max = po.inodes_max;
	check("reactor", reactor_create(NULL, &reactor));
	check(argv[1], device_open(argv[1], DEVICE_EXCLUSIVE, &dev));
	r = pool_create(&dev, 1, &po, why, sizeof(why));
	if (r)
		die(why, r);
	check("pool", pool_open(&dev, 1, &opts, &pool));
	check("subvolume", subvol_create(pool, "b", &so, why, sizeof(why)));
	check("open", subvol_open(pool, "b", false, &sv));
	printf("%-20s %9s    %6u MiB resident\n", "open", "", resident_mib());
	bench(strtoull(argv[2], NULL, 0));
	check("close", subvol_close(sv));
	check("close", pool_close(pool));
	reactor_destroy(reactor);
	device_close(dev);
	return 0;
}
