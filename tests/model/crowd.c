/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvfs-crowd: several processes write to one file at the same time, each to records of its own.
 *
 *     nvfs-crowd DIR [--processes N] [--ops N] [--seed S] [--size BYTES] [--no-direct] [--drop-every N]
 *
 * The first half of the file is records of 512 bytes that belong to the processes in turn, so that every block is shared by
 * all: a read-modify-write that is not atomic loses a neighbour's bytes. The second half is whole blocks in turn, which are
 * also written by O_DIRECT and punched. Meanwhile one process appends to and truncates other files and one reads all and
 * syncs. Each process knows what its records hold; at the end everything is checked by one.
 */
#include "config.h"

#include "model.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RECORD 512
#define BLOCK 4096
#define MAX_PROCESSES 32

static struct {
	uint64_t ops, seed, size, drop_every;
	unsigned processes;
	bool direct;
	char path[1024];
} opt = {.ops = 5000, .size = 2 << 20, .processes = 4, .direct = true};

/* What the last write put into each record and block: shared, so that the end can check; 0 reads as zeros. */
static uint32_t *records, *blocks;

static uint64_t half(void)
{
	return opt.size / 2;
}

static void fill(uint8_t *p, size_t len, uint64_t where, uint32_t stamp)
{
	for (size_t i = 0; i < len; i++)
		p[i] = stamp ? (uint8_t)((stamp * 131 + where * 7 + i * 3) % 255 + 1) : 0;
}

static void check(int fd, uint64_t at, size_t len, uint64_t where, uint32_t stamp, const char *how)
{
	uint8_t want[BLOCK], buf[2 * BLOCK], *got = buf + (BLOCK - (uintptr_t)buf % BLOCK) % BLOCK;

	fill(want, len, where, stamp);
	if (pread(fd, got, len, (off_t)at) != (ssize_t)len)
		model_fail("%s of %zu bytes at %#llx: %s", how, len, (unsigned long long)at, strerror(errno));
	for (size_t i = 0; i < len; i++)
		if (got[i] != want[i])
			model_fail("%s at %#llx: %02x, should be %02x (stamp %u)", how, (unsigned long long)at + i, got[i],
				   want[i], stamp);
}

static void write_record(unsigned me, int fd, uint8_t *map)
{
	uint64_t count = half() / RECORD / opt.processes, where = model_below(count) * opt.processes + me;
	uint32_t stamp = (uint32_t)model_random() | 1;
	uint8_t buf[RECORD];

	check(fd, where * RECORD, RECORD, where, records[where], "read of a record");
	fill(buf, RECORD, where, stamp);
	model_op("process %u: record %llu", me, (unsigned long long)where);
	if (model_chance(4))
		memcpy(map + where * RECORD, buf, RECORD);
	else if (pwrite(fd, buf, RECORD, (off_t)(where * RECORD)) != RECORD)
		model_fail("write of a record: %s", strerror(errno));
	records[where] = stamp;
	check(fd, where * RECORD, RECORD, where, stamp, "read back of a record");
}

static void write_block(unsigned me, int fd, int direct, uint8_t *buf)
{
	uint64_t count = half() / BLOCK / opt.processes, where = model_below(count) * opt.processes + me;
	uint64_t at = half() + where * BLOCK;
	uint32_t stamp = (uint32_t)model_random() | 1;
	int by = direct >= 0 && model_chance(2) ? direct : fd;

	check(model_chance(2) && direct >= 0 ? direct : fd, at, BLOCK, where, blocks[where], "read of a block");
	model_op("process %u: block %llu", me, (unsigned long long)where);
	if (model_chance(8)) {
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, BLOCK))
			model_fail("punch: %s", strerror(errno));
		stamp = 0;
	} else {
		fill(buf, BLOCK, where, stamp);
		if (pwrite(by, buf, BLOCK, (off_t)at) != BLOCK)
			model_fail("write of a block: %s", strerror(errno));
	}
	blocks[where] = stamp;
	check(fd, at, BLOCK, where, stamp, "read back of a block");
}

static void writer(unsigned me)
{
	int fd = open(opt.path, O_RDWR), direct = opt.direct ? open(opt.path, O_RDWR | O_DIRECT) : -1;
	uint8_t *buf = aligned_alloc(BLOCK, BLOCK);
	uint8_t *map = mmap(NULL, half(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd < 0 || (opt.direct && direct < 0) || !buf || map == MAP_FAILED)
		model_fail("open: %s", strerror(errno));
	model_seed(opt.seed + me);
	for (uint64_t n = 1; n <= opt.ops; n++) {
		if (model_chance(2))
			write_record(me, fd, map);
		else
			write_block(me, fd, direct, buf);
		if (model_chance(100) && fdatasync(fd))
			model_fail("fdatasync: %s", strerror(errno));
		if (opt.drop_every && me == 0 && n % opt.drop_every == 0)
			model_drop_caches();
	}
}

/* Keeps the filesystem busy beside the writers: eight other files of up to 2 MiB, a reader, syncs. */
static void bystander(void)
{
	static uint8_t buf[1 << 17];
	char path[1100];
	int fd = open(opt.path, O_RDONLY);

	for (unsigned i = 0;; i++) {
		int other;

		snprintf(path, sizeof(path), "%s.%u", opt.path, i % 8);
		other = open(path, O_CREAT | O_RDWR | O_APPEND | (i / 8 % 16 ? 0 : O_TRUNC), 0644);
		if (other < 0 || write(other, buf, i * 377 % sizeof(buf)) < 0 || (i % 4 == 0 && fsync(other)))
			model_fail("the bystander: %s", strerror(errno));
		close(other);
		if (i % 32 == 31)
			unlink(path);
		if (pread(fd, buf, sizeof(buf), (off_t)(i * sizeof(buf) % opt.size)) < 0)
			model_fail("read by the bystander: %s", strerror(errno));
	}
}

static void check_all(void)
{
	int fd = open(opt.path, O_RDONLY);

	for (uint64_t i = 0; i < half() / RECORD / opt.processes * opt.processes; i++)
		check(fd, i * RECORD, RECORD, i, records[i], "last read of a record");
	for (uint64_t i = 0; i < half() / BLOCK / opt.processes * opt.processes; i++)
		check(fd, half() + i * BLOCK, BLOCK, i, blocks[i], "last read of a block");
	close(fd);
}

static bool run_all(void)
{
	pid_t beside, pids[MAX_PROCESSES];
	bool good = true;
	int status;

	fflush(NULL);
	beside = fork();
	if (beside == 0)
		bystander();
	for (unsigned i = 0; i < opt.processes; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			writer(i);
			fflush(NULL);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < opt.processes; i++)
		good = waitpid(pids[i], &status, 0) == pids[i] && status == 0 && good;
	/* It ends only by itself when it failed. */
	if (waitpid(beside, &status, WNOHANG) == 0) {
		kill(beside, SIGKILL);
		waitpid(beside, &status, 0);
	} else {
		good = false;
	}
	return good;
}

static void remove_all(void)
{
	char path[1100];

	unlink(opt.path);
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "%s.%d", opt.path, i);
		unlink(path);
	}
}

static void make_file(void)
{
	size_t bytes = opt.size / RECORD * sizeof(*records);
	int fd;

	records = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	blocks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fd = open(opt.path, O_CREAT | O_TRUNC | O_RDWR, 0644);
	if (fd < 0 || ftruncate(fd, (off_t)opt.size) || records == MAP_FAILED || blocks == MAP_FAILED)
		model_fail("%s: %s", opt.path, strerror(errno));
	close(fd);
}

static const struct option longs[] = {
	{"processes", required_argument, NULL, 'p'}, {"ops", required_argument, NULL, 'o'},
	{"seed", required_argument, NULL, 's'},	     {"size", required_argument, NULL, 'S'},
	{"no-direct", no_argument, NULL, 'd'},	     {"drop-every", required_argument, NULL, 'D'},
	{NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv)
{
	int which;

	opt.seed = (uint64_t)time(NULL);
	while ((which = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (which == 'p')
			opt.processes = (unsigned)model_number("processes", optarg);
		else if (which == 'o')
			opt.ops = model_number("ops", optarg);
		else if (which == 's')
			opt.seed = model_number("seed", optarg);
		else if (which == 'S')
			opt.size = model_number("size", optarg);
		else if (which == 'D')
			opt.drop_every = model_number("drop-every", optarg);
		else if (which == 'd')
			opt.direct = false;
		else
			return 2;
	}
	if (argc - optind != 1 || !opt.processes || opt.processes > MAX_PROCESSES || opt.size % (2 * BLOCK) ||
	    opt.size / 2 / BLOCK < opt.processes)
		return 2;
	snprintf(opt.path, sizeof(opt.path), "%s/crowd.%d", argv[optind], (int)getpid());
	model_set_repeat(argc, argv, opt.seed);
	return 0;
}

int main(int argc, char **argv)
{
	time_t began = time(NULL);

	if (parse(argc, argv)) {
		fputs("usage: nvfs-crowd DIR [--processes N] [--ops N] [--seed S] [--size BYTES] [--no-direct] [--drop-every N]\n",
		      stderr);
		return 2;
	}
	printf("# nvfs-crowd %s: seed %llu, %u processes, %llu operations each\n", argv[optind],
	       (unsigned long long)opt.seed, opt.processes, (unsigned long long)opt.ops);
	make_file();
	if (!run_all())
		return 1;
	check_all();
	model_drop_caches();
	check_all();
	remove_all();
	printf("# without a difference in %ld s\n", (long)(time(NULL) - began));
	return 0;
}
