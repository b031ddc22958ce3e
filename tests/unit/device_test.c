/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/device.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/buffers.h"
#include "io/log.h"

#include "tests/unit/device_io.h"

#define BLOCKS 512u
#define SIZE (BLOCKS * BLOCK)

static char dir[64];
static char path[2][96];

static bool in_memory(const char *where)
{
	struct statfs fs;

	return !statfs(where, &fs) && fs.f_type == TMPFS_MAGIC;
}

static void setup_in(const char *where)
{
	snprintf(dir, sizeof(dir), "%s/nvfs-device-test-XXXXXX", where);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned i = 0; i < 2; i++)
		snprintf(path[i], sizeof(path[i]), "%s/pool%u", dir, i);
}

static void setup(void)
{
	setup_in("/var/tmp"); /* /tmp is a tmpfs on newer systems */
}

static void setup_memory(void)
{
	setup_in("/dev/shm");
}

static void teardown(void)
{
	for (unsigned i = 0; i < 2; i++)
		unlink(path[i]);
	rmdir(dir);
}

static struct device *new_file(unsigned i, unsigned flags)
{
	struct device *dev;

	ck_assert_int_eq(device_create_file(path[i], SIZE), 0);
	ck_assert_int_eq(device_open(path[i], flags, &dev), 0);
	return dev;
}

/* ---- Making and opening ---- */

START_TEST(create_file)
{
	struct stat st;

	ck_assert_int_eq(device_create_file(path[0], SIZE + 100), 0);
	ck_assert_int_eq(stat(path[0], &st), 0);
	ck_assert_int_eq(st.st_size, SIZE);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_ge(st.st_blocks * 512, SIZE);
	ck_assert_int_eq(device_create_file(path[0], SIZE), -EEXIST);
	ck_assert_int_eq(device_create_file(path[1], 100), -EINVAL);
	ck_assert_int_ne(device_create_file(path[1], 1ull << 60), 0);
	ck_assert_int_ne(access(path[1], F_OK), 0);
	ck_assert_int_eq(device_create_file("/nonexistent/pool", SIZE), -ENOENT);
}
END_TEST

START_TEST(open_refuses)
{
	struct device *dev;
	int fd;

	ck_assert_int_eq(device_open(path[0], 0, &dev), -ENOENT);
	ck_assert_int_eq(device_open(dir, 0, &dev), -ENOTBLK);
	ck_assert_int_eq(device_open("/dev/null", 0, &dev), -ENOTBLK);
	fd = open(path[0], O_CREAT | O_RDWR, 0600);
	ck_assert_int_eq(device_open(path[0], 0, &dev), -ENXIO);
	ck_assert_int_eq(ftruncate(fd, BLOCK - 1), 0);
	ck_assert_int_eq(device_open_fd(fd, path[0], 0, &dev), -ENXIO);
	ck_assert_int_eq(ftruncate(fd, 2 * BLOCK + 1), 0); /* fd was left open */
	ck_assert_int_eq(device_open_fd(fd, path[0], 0, &dev), 0);
	ck_assert_uint_eq(device_geometry(dev)->size_bytes, 2 * BLOCK);
	device_close(dev);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* and then it was the device's */
	device_close(NULL);
}
END_TEST

START_TEST(geometry_of_a_file)
{
	struct device *dev = new_file(0, 0);
	const struct device_geometry *g = device_geometry(dev);

	ck_assert_int_eq(device_kind(dev), DEVICE_FILE);
	ck_assert_str_eq(device_name(dev), path[0]);
	ck_assert_uint_eq(g->size_bytes, SIZE);
	ck_assert_uint_eq(BLOCK % g->logical_block_bytes, 0);
	ck_assert_uint_gt(g->max_io_bytes, 0);
	ck_assert(g->volatile_cache);
	ck_assert(!device_readonly(dev));
	device_close(dev);
}
END_TEST

START_TEST(exclusive_and_lock)
{
	struct device *dev = new_file(0, DEVICE_EXCLUSIVE), *other;
	int fd;

	ck_assert_int_eq(device_open(path[0], DEVICE_EXCLUSIVE, &other), -EBUSY);
	fd = open(path[0], O_RDWR);
	ck_assert_int_eq(device_open_fd(fd, path[0], DEVICE_EXCLUSIVE, &other), -EBUSY);
	ck_assert_int_eq(fcntl(fd, F_GETFD), 0);
	close(fd);
	ck_assert_int_eq(device_open(path[0], 0, &other), 0);
	ck_assert_int_eq(device_lock(other, false), -EBUSY);
	device_close(dev);
	ck_assert_int_eq(device_lock(other, true), 0);
	device_close(other);
}
END_TEST

/* The ring's own reference to the file goes with device_detach(). */
START_TEST(detach_lets_go_of_the_lock)
{
	struct device *dev = new_file(0, DEVICE_EXCLUSIVE), *other;
	uint8_t *mem = io_memory(16 * BLOCK);
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, 16, mem, 1);
	device_detach(r, dev);
	device_detach(r, dev);
	device_close(dev);
	ck_assert_int_eq(device_open(path[0], DEVICE_EXCLUSIVE, &other), 0);
	io_round_trip(r, other, 16, mem, 2);
	reactor_destroy(r);
	device_close(other);
	ck_assert_int_eq(device_open(path[0], DEVICE_EXCLUSIVE, &dev), 0);
	device_close(dev);
	munmap(mem, 16 * BLOCK);
}
END_TEST

/* Even a caller that forgot to detach never gets at another device's data. */
START_TEST(no_stale_registered_file)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(16 * BLOCK);
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, 16, mem, 1);
	device_close(dev);
	dev = new_file(1, 0);
	io_round_trip(r, dev, 16, mem, 2);
	ck_assert_int_eq(device_read(dev, mem, BLOCK, 0), 0);
	ck_assert(io_matches(mem, 0, 2));
	device_close(dev);
	ck_assert_int_eq(device_open(path[0], 0, &dev), 0);
	ck_assert_int_eq(device_read(dev, mem, BLOCK, 0), 0);
	ck_assert(io_matches(mem, 0, 1));
	device_close(dev);
	reactor_destroy(r);
	munmap(mem, 16 * BLOCK);
}
END_TEST

/* ---- Synchronous ---- */

START_TEST(synchronous)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(4 * BLOCK);
	struct device_health h;

	io_pattern(mem, 1, 1);
	io_pattern(mem + BLOCK, 2, 1);
	ck_assert_int_eq(device_write(dev, mem, 2 * BLOCK, SIZE - 2 * BLOCK, 0), 0);
	ck_assert_int_eq(device_write(dev, mem, BLOCK, 0, IO_FUA), 0);
	ck_assert_int_eq(device_flush(dev), 0);
	ck_assert_int_eq(device_read(dev, mem + 2 * BLOCK, 2 * BLOCK, SIZE - 2 * BLOCK), 0);
	ck_assert_mem_eq(mem, mem + 2 * BLOCK, 2 * BLOCK);
	ck_assert_int_eq(device_write(dev, mem, BLOCK, SIZE, 0), -EINVAL);
	ck_assert_int_eq(device_read(dev, mem + 512, BLOCK, 0), -EINVAL);
	ck_assert_int_eq(device_discard(dev, 0, BLOCK), 0);
	ck_assert_int_eq(device_read(dev, mem, BLOCK, 0), 0);
	ck_assert_uint_eq(mem[5], 0);
	device_health(dev, &h);
	ck_assert_uint_eq(h.writes, 2);
	ck_assert_uint_eq(h.written_bytes, 3 * BLOCK);
	ck_assert_uint_eq(h.reads, 2);
	ck_assert_uint_eq(h.flushes, 1);
	ck_assert_uint_eq(h.discarded_bytes, BLOCK);
	device_close(dev);
	munmap(mem, 4 * BLOCK);
}
END_TEST

START_TEST(readonly)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(BLOCK);
	struct io_request req;
	struct reactor *r;

	device_close(dev);
	ck_assert_int_eq(device_open(path[0], DEVICE_READONLY, &dev), 0);
	ck_assert(device_readonly(dev));
	ck_assert_int_eq(device_read(dev, mem, BLOCK, 0), 0);
	ck_assert_int_eq(device_write(dev, mem, BLOCK, 0, 0), -EROFS);
	ck_assert_int_eq(device_flush(dev), -EROFS);
	ck_assert_int_eq(device_discard(dev, 0, BLOCK), -EROFS);
	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	req = (struct io_request){ .device = dev, .op = IO_WRITE, .buf = mem, .len = BLOCK };
	ck_assert_int_eq(io_one(r, &req), -EROFS);
	req = (struct io_request){ .device = dev, .op = IO_READ, .buf = mem, .len = BLOCK };
	ck_assert_int_eq(io_one(r, &req), 0);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, BLOCK);
}
END_TEST

/* ---- Asynchronous ---- */

START_TEST(asynchronous)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(SIZE);
	struct reactor_stats stats;
	struct buffers *pool;
	struct reactor *r;
	void *registered;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, BLOCKS, mem, 1);
	reactor_stats(r, &stats);
	ck_assert_uint_eq(stats.fixed_ios, 0);
	io_vectors(r, dev, mem);
	ck_assert_int_eq(buffers_create(r, NULL, 2 * SIZE, &pool), 0);
	registered = buffers_get(pool, BUFFER_MAX_BYTES);
	io_round_trip(r, dev, 256, registered, 2);
	io_vectors(r, dev, registered);
	reactor_stats(r, &stats);
	if (!stats.fixed_ios)
		printf("note: buffers could not be registered\n");
	else
		ck_assert_uint_ge(stats.fixed_ios, 512);
	reactor_destroy(r);
	buffers_put(pool, registered, BUFFER_MAX_BYTES);
	buffers_destroy(pool);
	device_close(dev);
	munmap(mem, SIZE);
}
END_TEST

/* A ring with the large entries that an NVMe command needs does everything else as well. */
START_TEST(wide_entries)
{
	struct reactor_options opts = { .entries = 64, .wide_entries = true };
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(SIZE);
	struct reactor *r;

	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	io_round_trip(r, dev, BLOCKS, mem, 1);
	io_vectors(r, dev, mem);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, SIZE);
}
END_TEST

/* 8 entries, 512 requests at once: they wait for each other and all get there. */
START_TEST(more_requests_than_the_ring_holds)
{
	struct reactor_options opts = { .entries = 8 };
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(SIZE);
	struct reactor_stats stats;
	struct reactor *r;

	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	io_round_trip(r, dev, BLOCKS, mem, 1);
	io_round_trip(r, dev, BLOCKS, mem, 2);
	reactor_stats(r, &stats);
	if (!in_memory(dir))
		ck_assert_uint_gt(stats.queued_ios, BLOCKS);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, SIZE);
}
END_TEST

static void never(struct reactor *r, struct reactor_poll *p, unsigned revents)
{
	(void)r;
	(void)p;
	(void)revents;
	ck_abort_msg("nothing is ever written there");
}

/* More than its completion queue holds. */
START_TEST(polls_leave_requests_their_room)
{
	static struct reactor_poll polls[BLOCKS];
	struct reactor_options opts = { .entries = 8 };
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(SIZE);
	struct reactor *r;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		ck_assert_int_eq(reactor_poll_add(r, &polls[i], fds[0], POLLIN, never), 0);
	reactor_run_once(r, 1);
	io_round_trip(r, dev, BLOCKS, mem, 1);
	for (unsigned i = 0; i < BLOCKS; i++)
		reactor_poll_remove(r, &polls[i]);
	reactor_run_once(r, 1);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, SIZE);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(asynchronous_discard_and_errors)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(8 * BLOCK);
	struct iovec odd = { mem, 100 };
	struct io_request req;
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, 8, mem, 1);
	req = (struct io_request){ .device = dev, .op = IO_DISCARD, .offset = BLOCK, .len = 2 * BLOCK };
	ck_assert_int_eq(io_one(r, &req), 0);
	ck_assert_int_eq(device_read(dev, mem, 4 * BLOCK, 0), 0);
	ck_assert(io_matches(mem, 0, 1));
	ck_assert_uint_eq(mem[BLOCK], 0);
	ck_assert(io_matches(mem + 3 * BLOCK, 3, 1));

	req = (struct io_request){ .device = dev, .op = IO_READ, .buf = mem, .len = BLOCK,
				   .offset = SIZE };
	ck_assert_int_eq(io_one(r, &req), -EINVAL);
	req = (struct io_request){ .device = dev, .op = IO_READ, .buf = mem + 1, .len = BLOCK };
	ck_assert_int_eq(io_one(r, &req), -EINVAL);
	req = (struct io_request){ .device = dev, .op = IO_READ, .iov = &odd, .iovcnt = 1 };
	ck_assert_int_eq(io_one(r, &req), -EINVAL);
	req = (struct io_request){ .device = dev, .op = IO_WRITE, .buf = mem };
	ck_assert_int_eq(io_one(r, &req), -EINVAL);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, 8 * BLOCK);
}
END_TEST

/* Somebody truncated the pool's file: a short read is resumed and then ends with an error. */
START_TEST(truncated_file)
{
	struct device *dev = new_file(0, 0);
	uint8_t *mem = io_memory(8 * BLOCK);
	struct iovec iov[2] = { { mem, 3 * BLOCK }, { mem + 3 * BLOCK, 5 * BLOCK } };
	struct io_request req;
	struct device_health h;
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, 8, mem, 1);
	ck_assert_int_eq(truncate(path[0], 4 * BLOCK), 0);
	memset(mem, 0, 8 * BLOCK);
	req = (struct io_request){ .device = dev, .op = IO_READ, .buf = mem, .len = 8 * BLOCK };
	ck_assert_int_eq(io_one(r, &req), -ENODATA);
	ck_assert(io_matches(mem + 3 * BLOCK, 3, 1));
	memset(mem, 0, 8 * BLOCK);
	req = (struct io_request){ .device = dev, .op = IO_READ, .iov = iov, .iovcnt = 2 };
	ck_assert_int_eq(io_one(r, &req), -ENODATA);
	ck_assert(io_matches(mem + 3 * BLOCK, 3, 1));
	ck_assert_int_eq(device_read(dev, mem, 8 * BLOCK, 0), -ENODATA);
	device_health(dev, &h);
	ck_assert_uint_eq(h.read_errors, 3);
	ck_assert_uint_eq(h.short_ios, 3);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, 8 * BLOCK);
}
END_TEST

/* ---- Two reactors, one device ---- */

struct looper {
	struct io_request req;
	struct reactor *r;
	uint8_t *mem;
	unsigned base, round;
	int bad;
};

static void looper_next(struct io_request *req, int res)
{
	struct looper *l = (struct looper *)req;

	l->bad |= res;
	if (req->op == IO_READ)
		l->bad |= !io_matches(l->mem, l->base + l->round % 8, l->round);
	if (req->op == IO_READ && ++l->round == 200) {
		reactor_stop(l->r);
		return;
	}
	req->op = req->op == IO_WRITE ? IO_READ : IO_WRITE;
	req->offset = (uint64_t)(l->base + l->round % 8) * BLOCK;
	if (req->op == IO_WRITE)
		io_pattern(l->mem, l->base + l->round % 8, l->round);
	else
		memset(l->mem, 0, BLOCK);
	device_submit(l->r, req);
}

START_TEST(two_reactors)
{
	struct device *dev = new_file(0, DEVICE_EXCLUSIVE);
	struct looper l[2] = { 0 };

	for (unsigned i = 0; i < 2; i++) {
		l[i].mem = io_memory(BLOCK);
		l[i].base = i * 8;
		l[i].req = (struct io_request){ .device = dev, .op = IO_WRITE, .buf = l[i].mem,
						.len = BLOCK, .offset = (uint64_t)l[i].base * BLOCK,
						.done = looper_next };
		io_pattern(l[i].mem, l[i].base, 0);
		ck_assert_int_eq(reactor_create(NULL, &l[i].r), 0);
		device_submit(l[i].r, &l[i].req);
		ck_assert_int_eq(reactor_start_thread(l[i].r, "io"), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(reactor_join(l[i].r), 0);
		ck_assert_int_eq(l[i].bad, 0);
		reactor_destroy(l[i].r);
		munmap(l[i].mem, BLOCK);
	}
	device_close(dev);
	/* The rings let go of the file when they stopped. */
	ck_assert_int_eq(device_open(path[0], DEVICE_EXCLUSIVE, &dev), 0);
	device_close(dev);
}
END_TEST

/* ---- Without the right to lock memory ---- */

static unsigned warnings;

static void count_warnings(enum log_level level, const char *line, void *arg)
{
	(void)line;
	(void)arg;
	warnings += level == LOG_LEVEL_WARN;
}

static int without_memlock(void)
{
	struct rlimit small = { 64 << 10, 64 << 10 };
	struct device *dev = new_file(0, 0);
	struct reactor_stats stats;
	struct buffers *pool;
	struct reactor *r;
	void *mem;

	log_set_sink(count_warnings, NULL);
	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	if (!geteuid() && setresuid(65534, 65534, 65534))
		return UNIT_SKIP;
	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	ck_assert_int_eq(buffers_create(r, NULL, 8 << 20, &pool), 0);
	mem = buffers_get(pool, BUFFER_MAX_BYTES);
	io_round_trip(r, dev, 256, mem, 1);
	reactor_stats(r, &stats);
	ck_assert_uint_eq(stats.fixed_ios, 0);
	ck_assert_uint_eq(warnings, 1);
	buffers_put(pool, mem, BUFFER_MAX_BYTES);
	reactor_destroy(r);
	buffers_destroy(pool);
	device_close(dev);
	return 0;
}

START_TEST(buffers_that_cannot_be_registered)
{
	int status;
	pid_t pid;

	pid = fork(); /* what is given up here does not come back */
	if (!pid)
		_exit(without_memlock());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* A file in tmpfs does without the ring, and behaves no different. */
static TCase *memory_tcase(void)
{
	TCase *tcase = tcase_create("memory");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup_memory, teardown);
	tcase_add_test(tcase, geometry_of_a_file);
	tcase_add_test(tcase, exclusive_and_lock);
	tcase_add_test(tcase, synchronous);
	tcase_add_test(tcase, readonly);
	tcase_add_test(tcase, asynchronous);
	tcase_add_test(tcase, more_requests_than_the_ring_holds);
	tcase_add_test(tcase, asynchronous_discard_and_errors);
	tcase_add_test(tcase, truncated_file);
	tcase_add_test(tcase, two_reactors);
	return tcase;
}

int main(void)
{
	Suite *suite = suite_create("device");
	TCase *tcase = tcase_create("device");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, create_file);
	tcase_add_test(tcase, open_refuses);
	tcase_add_test(tcase, geometry_of_a_file);
	tcase_add_test(tcase, exclusive_and_lock);
	tcase_add_test(tcase, detach_lets_go_of_the_lock);
	tcase_add_test(tcase, no_stale_registered_file);
	tcase_add_test(tcase, synchronous);
	tcase_add_test(tcase, readonly);
	tcase_add_test(tcase, asynchronous);
	tcase_add_test(tcase, wide_entries);
	tcase_add_test(tcase, more_requests_than_the_ring_holds);
	tcase_add_test(tcase, polls_leave_requests_their_room);
	tcase_add_test(tcase, asynchronous_discard_and_errors);
	tcase_add_test(tcase, truncated_file);
	tcase_add_test(tcase, two_reactors);
	tcase_add_test(tcase, buffers_that_cannot_be_registered);
	suite_add_tcase(suite, tcase);
	if (in_memory("/dev/shm"))
		suite_add_tcase(suite, memory_tcase());
	else
		printf("note: /dev/shm is no tmpfs: files in memory are not tested\n");
	return unit_run_suite(suite);
}
