/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transport and the operations through a real kernel mount, over the tree in
 * memory of tests/fake: what the server has can be compared with what the kernel shows.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/reactor_ring.h"
#include "tests/unit/session_rig.h"

static struct rig_mount m;

static void begin(const struct fake_options *fake, const struct session_options *options)
{
	rig_begin();
	rig_add(&m, fake, options);
}

static void begin_mounted(const struct fake_options *fake)
{
	static const struct session_options options = { .name = "test", .number = 1 };

	begin(fake, &options);
	rig_mount(&m);
}

static void finish(int reason)
{
	rig_wait_end(&m, reason);
	rig_end();
	rig_remove(&m);
}

static void unmount(void)
{
	ck_assert_int_eq(umount(m.mnt), 0);
	finish(0);
}

static const char *at(const char *name)
{
	return rig_at(&m, name);
}

static uint64_t requests(void)
{
	return rig_requests(&m);
}

/* ---- Life of a session ---- */

START_TEST(ends_with_the_mount)
{
	begin_mounted(&(struct fake_options){ 0 });
	ck_assert_int_eq(access(m.mnt, F_OK), 0);
	unmount();
}
END_TEST

START_TEST(waits_for_the_mount_until_abandoned)
{
	begin(&(struct fake_options){ 0 }, &(struct session_options){ .name = "t", .number = 1 });
	poll(NULL, 0, 50);
	rig_on_reactor(rig_abandon, m.session);
	finish(-ECANCELED);
}
END_TEST

START_TEST(abandoning_a_mounted_one_does_nothing)
{
	begin_mounted(&(struct fake_options){ 0 });
	rig_on_reactor(rig_abandon, m.session);
	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	unmount();
}
END_TEST

START_TEST(stops_when_told)
{
	begin_mounted(&(struct fake_options){ 0 });
	rig_on_reactor(rig_stop, m.session);
	finish(-ESHUTDOWN);
}
END_TEST

/* ---- Data of every size ---- */

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((i * 2654435761u + seed) >> 11);
}

static void round_trip(int fd, off_t offset, size_t len, uint8_t *a, uint8_t *b)
{
	fill(a, len, (unsigned)(offset + (off_t)len));
	ck_assert_int_eq(pwrite(fd, a, len, offset), (ssize_t)len);
	memset(b, 0xee, len);
	ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	ck_assert_int_eq(pread(fd, b, len, offset), (ssize_t)len);
	ck_assert_int_eq(memcmp(a, b, len), 0);
}

START_TEST(carries_data_of_every_size)
{
	static const size_t sizes[] = { 1, 511, 4096, 4097, 32768, 32769, 36864, 65536, 131072,
					1048576, 1048577, 3145728 };
	uint8_t *a = aligned_alloc(4096, 4u << 20), *b = aligned_alloc(4096, 4u << 20);
	int fd, direct;

	begin_mounted(&(struct fake_options){ .wait_every = 3 });
	fd = open(at("f"), O_RDWR | O_CREAT, 0644);
	direct = open(at("f"), O_RDWR | O_DIRECT);
	ck_assert(fd >= 0 && direct >= 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		round_trip(fd, (off_t)i * 77777, sizes[i], a, b);
		if (sizes[i] % 4096 == 0)
			round_trip(direct, (off_t)i * 8192, sizes[i], a, b);
	}
	close(fd);
	close(direct);
	free(a);
	free(b);
	unmount();
}
END_TEST

static void *write_much(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint8_t *a = aligned_alloc(4096, 1u << 20), *b = aligned_alloc(4096, 1u << 20);
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "f%u", me);
	fd = open(at(name), O_RDWR | O_CREAT | O_DIRECT, 0644);
	ck_assert_int_ge(fd, 0);
	for (unsigned i = 0; i < 4; i++) {
		fill(a, 1u << 20, me * 16 + i);
		ck_assert_int_eq(pwrite(fd, a, 1u << 20, (off_t)i << 20), 1 << 20);
	}
	for (unsigned i = 0; i < 4; i++) {
		fill(a, 1u << 20, me * 16 + i);
		ck_assert_int_eq(pread(fd, b, 1u << 20, (off_t)i << 20), 1 << 20);
		ck_assert_int_eq(memcmp(a, b, 1u << 20), 0);
	}
	close(fd);
	free(a);
	free(b);
	return NULL;
}

/* More large requests than there are buffers: reading pauses and goes on. */
START_TEST(goes_on_when_buffers_run_out)
{
	pthread_t threads[2 * REQUEST_LARGE];

	begin_mounted(&(struct fake_options){ .wait_every = 1, .wait_us = 1500 });
	for (uintptr_t i = 0; i < 2 * REQUEST_LARGE; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_much, (void *)i), 0);
	for (unsigned i = 0; i < 2 * REQUEST_LARGE; i++)
		pthread_join(threads[i], NULL);
	unmount();
}
END_TEST

/* ---- Names ---- */

START_TEST(lists_every_name_once)
{
	enum { COUNT = 3000 };
	bool seen[COUNT] = { false };
	unsigned found = 0, number;
	struct dirent *e;
	char name[32];
	DIR *d;

	begin_mounted(&(struct fake_options){ .wait_every = 2 });
	ck_assert_int_eq(mkdir(at("d"), 0755), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "d/name-%u", i);
		ck_assert_int_eq(mknod(at(name), S_IFREG | 0644, 0), 0);
	}
	d = opendir(at("d"));
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		if (sscanf(e->d_name, "name-%u", &number) != 1)
			continue;
		ck_assert_uint_lt(number, COUNT);
		ck_assert(!seen[number]);
		seen[number] = true;
		found++;
	}
	closedir(d);
	ck_assert_uint_eq(found, COUNT);
	unmount();
}
END_TEST

START_TEST(opens_as_posix_says)
{
	struct stat st;
	int fd;

	begin_mounted(&(struct fake_options){ .wait_every = 4 });
	fd = open(at("f"), O_RDWR | O_CREAT | O_EXCL, 0640);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "0123456789", 10), 10);
	close(fd);
	ck_assert_int_lt(open(at("f"), O_RDWR | O_CREAT | O_EXCL, 0640), 0);
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_int_lt(open(at("g"), O_RDWR), 0);
	ck_assert_int_eq(errno, ENOENT);
	fd = open(at("f"), O_WRONLY | O_APPEND);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 11);
	close(fd);
	fd = open(at("f"), O_RDWR | O_TRUNC);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	close(fd);
	fd = open(m.mnt, O_TMPFILE | O_RDWR, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "t", 1), 1);
	ck_assert_int_eq(linkat(AT_FDCWD, at("x"), AT_FDCWD, at("y"), 0), -1);
	close(fd);
	unmount();
}
END_TEST

/* ---- What the kernel caches ---- */

struct attr_query {
	uint64_t ino;
	struct inode_attr attr;
	bool found;
};

static void query(void *arg)
{
	struct attr_query *q = arg;

	q->found = fake_attr(m.volume.sv, q->ino, &q->attr);
}

/* What stat(2) says is what the server has. */
static void same_as_server(const char *name)
{
	struct attr_query q = { 0 };
	struct stat st;

	ck_assert_int_eq(lstat(at(name), &st), 0);
	q.ino = st.st_ino;
	rig_on_reactor(query, &q);
	ck_assert(q.found);
	ck_assert_msg(st.st_nlink == q.attr.nlink, "%s: nlink %lu, not %u", name,
		      (unsigned long)st.st_nlink, q.attr.nlink);
	ck_assert_msg(st.st_mode == q.attr.mode, "%s: mode %o, not %o", name, st.st_mode,
		      q.attr.mode);
	ck_assert_msg(st.st_size == (off_t)q.attr.size_bytes, "%s: size", name);
	ck_assert_msg(st.st_blocks == (blkcnt_t)q.attr.blocks512, "%s: blocks", name);
	ck_assert_msg(!memcmp(&st.st_mtim, &q.attr.mtime, sizeof(st.st_mtim)), "%s: mtime", name);
	ck_assert_msg(!memcmp(&st.st_ctim, &q.attr.ctime, sizeof(st.st_ctim)), "%s: ctime", name);
}

static void all_same(void)
{
	static const char *const names[] = { ".", "d", "d/f", "d/h", "e", "e/g", "s" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!faccessat(AT_FDCWD, at(names[i]), F_OK, AT_SYMLINK_NOFOLLOW))
			same_as_server(names[i]);
	}
	poll(NULL, 0, 6); /* the server's clock is a coarse one: let times differ */
}

#define STEP(call)                                                       \
	do {                                                             \
		all_same();                                              \
		ck_assert_msg((call) >= 0, #call ": %s", strerror(errno)); \
		all_same();                                              \
	} while (0)

/* Attributes are valid for a year: each operation has to refresh what it changes. */
START_TEST(attributes_stay_true)
{
	int fd;

	begin_mounted(&(struct fake_options){ 0 });
	STEP(mkdir(at("d"), 02755));
	STEP(mkdir(at("e"), 0755));
	STEP(mknod(at("d/f"), S_IFREG | 0644, 0));
	STEP(symlink("d/f", at("s")));
	fd = open(at("d/f"), O_RDWR);
	STEP(pwrite(fd, "hello", 5, 10000));
	STEP(ftruncate(fd, 100));
	STEP(fallocate(fd, 0, 0, 50000));
	STEP(link(at("d/f"), at("d/h")));
	STEP(chmod(at("d/f"), 04755));
	STEP(chown(at("d/f"), 1000, 1000));
	STEP(unlink(at("d/h")));
	STEP(mknod(at("e/g"), S_IFREG | 0644, 0));
	STEP(link(at("e/g"), at("d/h")));
	STEP(rename(at("d/f"), at("e/g")));          /* over one with another link */
	STEP(rename(at("e/g"), at("d/f")));
	STEP(mkdir(at("e/x"), 0755));
	STEP(rename(at("e/x"), at("d/x")));          /* link counts of both parents */
	STEP(renameat2(AT_FDCWD, at("d/x"), AT_FDCWD, at("s"), RENAME_EXCHANGE));
	STEP(renameat2(AT_FDCWD, at("d/x"), AT_FDCWD, at("s"), RENAME_EXCHANGE));
	STEP(rmdir(at("d/x")));
	STEP(copy_file_range(fd, NULL, fd, &(off_t){ 200000 }, 100, 0));
	STEP(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
	STEP(utimensat(AT_FDCWD, at("d"), NULL, 0));
	close(fd);
	unmount();
}
END_TEST

START_TEST(pages_survive_close_and_stat)
{
	static char buf[65536], copy[65536];
	struct stat st;
	uint64_t before;
	int fd;

	begin_mounted(&(struct fake_options){ 0 });
	memset(buf, 'x', sizeof(buf));
	fd = open(at("f"), O_RDWR | O_CREAT, 0644);
	ck_assert_int_eq(write(fd, buf, sizeof(buf)), (ssize_t)sizeof(buf));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(pread(fd, copy, sizeof(copy), 0), (ssize_t)sizeof(copy));
	before = requests();
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(pread(fd, copy, sizeof(copy), 0), (ssize_t)sizeof(copy));
	close(fd);
	fd = open(at("f"), O_RDONLY);
	ck_assert_int_eq(pread(fd, copy, sizeof(copy), 0), (ssize_t)sizeof(copy));
	close(fd);
	ck_assert_int_eq(stat(at("f"), &st), 0);
	ck_assert_int_lt(access(at("nothing"), F_OK), 0);
	before++; /* the first question for a name that is not there */
	ck_assert_int_lt(access(at("nothing"), F_OK), 0);
	/* And the first FLUSH, which is answered ENOSYS; the atime of a read may be asked for once. */
	ck_assert_uint_le(requests(), before + 2);
	unmount();
}
END_TEST

/* An uncached read of a file with old times, and what stat(2) says afterwards. */
static struct stat after_read(const char *name)
{
	static uint8_t buf[4096] __attribute__((aligned(4096)));
	int fd = open(at(name), O_RDONLY | O_DIRECT);
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(read(fd, buf, sizeof(buf)), sizeof(buf));
	close(fd);
	ck_assert_int_eq(stat(at(name), &st), 0);
	return st;
}

START_TEST(reads_move_the_atime_and_nothing_else)
{
	const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 500 } };
	struct stat before, after;
	int fd;

	m.volume.relatime = true;
	begin_mounted(&(struct fake_options){ .wait_every = 1 });
	fd = open(at("f"), O_RDWR | O_CREAT, 0644);
	ck_assert_int_eq(ftruncate(fd, 8192), 0);
	ck_assert_int_eq(futimens(fd, old), 0);
	ck_assert_int_eq(fstat(fd, &before), 0);
	poll(NULL, 0, 20);
	after = after_read("f");
	ck_assert_int_gt(after.st_atime, 1000);
	ck_assert_int_eq(after.st_mtime, 500);
	ck_assert(!memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)));
	close(fd);
	unmount();
}
END_TEST

START_TEST(lookups_are_given_back)
{
	char name[32];

	begin_mounted(&(struct fake_options){ .wait_every = 3 });
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(open(at(name), O_CREAT | O_RDWR, 0644));
	}
	ck_assert_uint_ge(fake_lookups(m.volume.sv), 200);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert_int_eq(unlink(at(name)), 0);
	}
	for (int i = 0; i < 6000 && fake_lookups(m.volume.sv); i++)
		poll(NULL, 0, 10);
	ck_assert_uint_eq(fake_lookups(m.volume.sv), 0);
	unmount();
}
END_TEST

START_TEST(parallel_direct_opens_work)
{
	uint8_t *a = aligned_alloc(4096, 1u << 20), *b = aligned_alloc(4096, 1u << 20);
	int fd, cached;

	begin(&(struct fake_options){ .wait_every = 3 },
	      &(struct session_options){ .name = "t", .number = 1, .parallel_dio = true });
	rig_mount(&m);
	fd = open(at("f"), O_RDWR | O_CREAT | O_DIRECT, 0644);
	cached = open(at("f"), O_RDWR);
	ck_assert(fd >= 0 && cached >= 0);
	round_trip(fd, 0, 1u << 20, a, b);
	round_trip(fd, 4096, 8192, a, b);
	ck_assert_int_eq(pread(cached, b, 8192, 4096), 8192);
	ck_assert_int_eq(memcmp(a, b, 8192), 0);
	close(fd);
	close(cached);
	free(a);
	free(b);
	unmount();
}
END_TEST

/* ---- A busy neighbour ---- */

#define NEIGHBOUR_REQUESTS 16u

/* Asked before the session, and always with requests for its device. */
struct neighbour {
	struct reactor_source source; /* first */
	struct reactor_op op;
};

static void neighbour_done(struct reactor *r, struct reactor_op *op, const struct io_uring_cqe *cqe)
{
	(void)r;
	(void)op;
	(void)cqe;
}

static bool neighbour_poll(struct reactor *r, struct reactor_source *source)
{
	struct neighbour *n = (struct neighbour *)source;

	for (unsigned i = 0; i < NEIGHBOUR_REQUESTS; i++) {
		struct io_uring_sqe *sqe = reactor_get_sqe(r);

		if (!sqe)
			break;
		io_uring_prep_nop(sqe);
		reactor_start_sqe(r, sqe, &n->op);
	}
	return true;
}

static struct neighbour neighbour = { .source = { .poll = neighbour_poll, .fd = -1 }, .op.complete = neighbour_done };

static void neighbour_come(void *arg)
{
	(void)arg;
	ck_assert_int_eq(reactor_source_add(rig_reactor, &neighbour.source), 0);
}

static void neighbour_go(void *arg)
{
	(void)arg;
	reactor_source_remove(rig_reactor, &neighbour.source);
}

/* Whoever has its batch ended by the requests of another still reads one of its own each time. */
START_TEST(busy_neighbour_starves_nobody)
{
	begin_mounted(&(struct fake_options){ 0 });
	rig_on_reactor(neighbour_come, NULL);
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(mkdir(at(name), 0755), 0);
	}
	rig_on_reactor(neighbour_go, NULL);
	unmount();
}
END_TEST

/* ---- Another party ---- */

/* Always with work. */
static bool other_poll(struct reactor *r, struct reactor_source *source)
{
	(void)r;
	(void)source;
	return true;
}

static struct reactor_source other = { .poll = other_poll, .party = &other, .fd = -1 };

static void other_comes(void *arg)
{
	(void)arg;
	ck_assert_int_eq(reactor_source_add(rig_reactor, &other), 0);
}

static void other_goes(void *arg)
{
	(void)arg;
	reactor_source_remove(rig_reactor, &other);
}

#define STORM 16

static void *make_directories(void *arg)
{
	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "s%d-%d", (int)(intptr_t)arg, i);
		ck_assert_int_eq(mkdir(at(name), 0755), 0);
	}
	return NULL;
}

/* However many requests a session has, it reads none after its turn, and there is one turn in an iteration. */
START_TEST(a_turn_ends_the_batch)
{
	pthread_t thread[STORM];

	begin_mounted(&(struct fake_options){ .slow_creates = true });
	rig_on_reactor(other_comes, NULL);
	for (intptr_t i = 0; i < STORM; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, make_directories, (void *)i), 0);
	for (int i = 0; i < STORM; i++)
		pthread_join(thread[i], NULL);
	rig_on_reactor(other_goes, NULL);
	ck_assert_uint_eq(fake_most_creates(m.volume.sv), 1);
	unmount();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		ends_with_the_mount, waits_for_the_mount_until_abandoned,
		abandoning_a_mounted_one_does_nothing, stops_when_told, carries_data_of_every_size,
		goes_on_when_buffers_run_out, lists_every_name_once, opens_as_posix_says,
		attributes_stay_true, pages_survive_close_and_stat,
		reads_move_the_atime_and_nothing_else, lookups_are_given_back,
		parallel_direct_opens_work, busy_neighbour_starves_nobody, a_turn_ends_the_batch,
	};
	Suite *suite = suite_create("session");
	TCase *tcase = tcase_create("session");

	rig_skip_if_impossible();
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
