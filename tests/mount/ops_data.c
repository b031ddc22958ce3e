/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading, writing, appending, truncating, synchronising. */
#include "config.h"

#include "ops.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define MAX_FILE ((off_t)INT64_MAX)

static void write_and_read(struct t *t)
{
	static const size_t sizes[] = {0, 1, 511, 2047, 2048, 2049, 4095, 4096, 4097, 65535, 262143, 262144, 262145, 3000001};
	char name[32];
	int fd;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(name, sizeof(name), "f%zu", sizes[i]);
		fd = ops_file(t, name, sizes[i], i);
		TRUE(ops_reads_pattern(fd, 0, sizes[i], i));
		TRUE(ops_size(name) == (long long)sizes[i]);
		TRUE(read(fd, name, 1) == (sizes[i] ? 1 : 0));
		TRUE(pread(fd, name, 1, (off_t)sizes[i]) == 0);
		OK(fsync(fd));
		TRUE(ops_reads_pattern(fd, 0, sizes[i], i));
		OK(close(fd));
	}
}

static void overwrite_pieces(struct t *t)
{
	enum { SIZE = 600000 };
	uint8_t *model = malloc(SIZE), *got = malloc(SIZE);
	int fd = ops_file(t, "f", SIZE, 1);
	uint64_t x = 12345;
	bool good = true;

	ops_fill(model, SIZE, 1, 0);
	for (unsigned i = 0; i < 500; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		size_t at = (x >> 33) % (SIZE - 10000), len = (x >> 20) % 10000;

		ops_fill(model + at, len, i + 2, 0);
		good = good && pwrite(fd, model + at, len, (off_t)at) == (ssize_t)len;
		if (i % 100 == 50)
			good = good && !fsync(fd);
	}
	TRUE(good);
	RET(SIZE, pread(fd, got, SIZE, 0));
	TRUE(!memcmp(model, got, SIZE));
	OK(close(fd));
	ops_see_content(t, "f");
}

static void append_writes(struct t *t)
{
	char buf[16];
	int a = ops_file(t, "f", 10, 1), b;

	OK(close(a));
	a = FD(open("f", O_RDWR | O_APPEND));
	b = FD(open("f", O_RDWR | O_APPEND));
	RET(3, write(a, "abc", 3));
	RET(3, write(b, "def", 3));
	RET(3, write(a, "ghi", 3));
	/* Linux appends with pwrite too. */
	RET(3, pwrite(a, "jkl", 3, 0));
	RET(22, ops_size("f"));
	RET(12, pread(b, buf, 12, 10));
	TRUE(!memcmp(buf, "abcdefghijkl", 12));
	RET(19, lseek(a, 0, SEEK_CUR));
	OK(ftruncate(a, 5));
	RET(1, write(b, "x", 1));
	RET(6, ops_size("f"));
	OK(fcntl(a, F_SETFL, 0));
	RET(1, pwrite(a, "y", 1, 0));
	RET(6, ops_size("f"));
}

static void append_concurrently(struct t *t)
{
	enum { PROCS = 4, EACH = 500, RECORD = 37 };
	uint8_t seen[PROCS] = {0}, rec[RECORD];
	bool good = true;
	int fd, status;

	close(FD(open("f", O_CREAT | O_RDWR, 0644)));
	for (int p = 0; p < PROCS; p++) {
		if (fork())
			continue;
		fd = open("f", O_WRONLY | O_APPEND);
		memset(rec, 'a' + p, RECORD);
		for (int i = 0; i < EACH; i++)
			if (write(fd, rec, RECORD) != RECORD)
				_exit(1);
		_exit(0);
	}
	for (int p = 0; p < PROCS; p++)
		good = wait(&status) > 0 && status == 0 && good;
	TRUE(good);
	RET(PROCS * EACH * RECORD, ops_size("f"));
	fd = FD(open("f", O_RDONLY));
	while (read(fd, rec, RECORD) == RECORD) {
		for (int i = 1; i < RECORD; i++)
			good = good && rec[i] == rec[0];
		seen[(rec[0] - 'a') & (PROCS - 1)]++;
	}
	TRUE(good);
	TRUE(seen[0] == (uint8_t)EACH && seen[3] == (uint8_t)EACH);
}

static void open_trunc(struct t *t)
{
	struct stat st;
	int fd, old = ops_file(t, "f", 700000, 1);

	OK(fsync(old));
	fd = FD(open("f", O_RDWR | O_TRUNC));
	OK(fstat(fd, &st));
	TRUE(st.st_size == 0);
	RET(0, pread(old, &st, 1, 0));
	RET(3, write(fd, "abc", 3));
	OK(close(fd));
	RET(3, ops_size("f"));
	OK(ftruncate(old, 700000));
	/* The old tail must not come back. */
	TRUE(ops_reads_zero(old, 3, 699997));
	fd = FD(open("f", O_WRONLY | O_TRUNC | O_CREAT, 0600));
	OK(close(fd));
	RET(0, ops_size("f"));
	RET(0644, ops_mode("f"));
}

static void open_trunc_unwritten(struct t *t)
{
	/* Truncated while what was written is still in memory. */
	for (unsigned i = 0; i < 20; i++) {
		int fd = ops_file(t, "f", 100000, i);

		close(fd);
		fd = open("f", O_RDWR | O_TRUNC);
		if (ops_size("f") != 0 || ftruncate(fd, 100000) || !ops_reads_zero(fd, 0, 100000))
			ops_fail(t, __LINE__, "round %u: the old content is still there", i);
		close(fd);
	}
}

static void truncate_down_and_up(struct t *t)
{
	static const off_t cuts[] = {700000, 262145, 262144, 262143, 100001, 4097, 4096, 4095, 2049, 2048, 2047, 1, 0};
	int fd = ops_file(t, "f", 800000, 1);

	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		if (i % 2)
			OK(fsync(fd));
		if (i % 3 == 0)
			OK(ftruncate(fd, cuts[i]));
		else
			OK(truncate("f", cuts[i]));
		TRUE(ops_size("f") == cuts[i]);
		OK(ftruncate(fd, 800000));
		TRUE(ops_reads_pattern(fd, 0, (size_t)cuts[i], 1));
		TRUE(ops_reads_zero(fd, cuts[i], (size_t)(800000 - cuts[i])));
	}
}

static void truncate_then_write_beyond(struct t *t)
{
	int fd = ops_file(t, "f", 10000, 1);

	/* The gap from a cut in the middle of a block to a later write reads as zeros. */
	OK(ftruncate(fd, 5000));
	RET(1, pwrite(fd, "x", 1, 9000));
	TRUE(ops_reads_pattern(fd, 0, 5000, 1));
	TRUE(ops_reads_zero(fd, 5000, 4000));
	OK(ftruncate(fd, 5001));
	OK(ftruncate(fd, 20000));
	TRUE(ops_reads_zero(fd, 5000, 15000));
	OK(fsync(fd));
	TRUE(ops_reads_zero(fd, 5000, 15000));
}

static void truncate_errors(struct t *t)
{
	int fd;

	OK(mkdir("d", 0755));
	ops_make(t, "f", 10, 1);
	fd = FD(open("f", O_RDONLY));
	ERR(EINVAL, ftruncate(fd, 0));
	ERR(EINVAL, truncate("f", -1));
	ERR(EISDIR, truncate("d", 0));
	ERR(ENOENT, truncate("nothing", 0));
	ERR(EBADF, write(fd, "x", 1));
	OK(close(fd));
	fd = FD(open("f", O_WRONLY));
	ERR(EBADF, read(fd, &fd, 1));
	ERR(EINVAL, lseek(fd, -1, SEEK_SET));
	ERR(EINVAL, pwrite(fd, "x", 1, -1));
	ERR(EINVAL, lseek(fd, 0, 99));
	OK(mkfifo("p", 0600));
	ERR(EINVAL, truncate("p", 0));
}

static void sparse_to_the_limit(struct t *t)
{
	struct stat st;
	char c = 0;
	int fd = FD(open("f", O_CREAT | O_RDWR, 0644));

	OK(ftruncate(fd, MAX_FILE));
	OK(fstat(fd, &st));
	TRUE(st.st_size == MAX_FILE);
	RET(1, pread(fd, &c, 1, MAX_FILE - 1));
	TRUE(c == 0);
	/* The position behind the last byte does not fit into an off_t. */
	ERR2(EINVAL, EOVERFLOW, pread(fd, &c, 1, MAX_FILE));
	RET(1, pwrite(fd, "x", 1, MAX_FILE - 1));
	RET(1, pwrite(fd, "y", 1, MAX_FILE / 2));
	RET(1, pread(fd, &c, 1, MAX_FILE - 1));
	TRUE(c == 'x');
	ERR2(EFBIG, EINVAL, pwrite(fd, "x", 1, MAX_FILE));
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_size == MAX_FILE && st.st_blocks < 4096);
	RET(1, pread(fd, &c, 1, MAX_FILE / 2));
	TRUE(c == 'y');
	OK(ftruncate(fd, 10));
	RET(10, ops_size("f"));
	OK(unlink("f"));
}

static void sparse_terabyte(struct t *t)
{
	int fd = FD(open("f", O_CREAT | O_RDWR, 0644));
	off_t tib = (off_t)1 << 40;

	RET(5, pwrite(fd, "first", 5, 0));
	RET(4, pwrite(fd, "last", 4, tib));
	TRUE(ops_size("f") == (long long)tib + 4);
	TRUE(ops_reads_zero(fd, tib - 100000, 100000));
	OK(fsync(fd));
	TRUE(ops_reads_zero(fd, 5, 100000));
	OK(ftruncate(fd, tib));
	OK(ftruncate(fd, tib + 4));
	TRUE(ops_reads_zero(fd, tib, 4));
}

static void limit_of_the_process(struct t *t)
{
	struct rlimit lim = {10000, 10000};
	int fd = ops_file(t, "f", 0, 1);
	char buf[8192] = "";

	OK(setrlimit(RLIMIT_FSIZE, &lim));
	RET(8192, write(fd, buf, sizeof(buf)));
	RET(10000 - 8192, write(fd, buf, sizeof(buf)));
	ERR(EFBIG, write(fd, buf, sizeof(buf)));
	ERR(EFBIG, ftruncate(fd, 10001));
	RET(10000, ops_size("f"));
}

static void vectors(struct t *t)
{
	char a[3] = "ab", b[5000], c[10] = "";
	struct iovec out[3] = {{a, 2}, {b, sizeof(b)}, {c, 0}}, in[2] = {{c, 4}, {b, sizeof(b)}};
	int fd = FD(open("f", O_CREAT | O_RDWR, 0644));

	ops_fill(b, sizeof(b), 5, 0);
	RET(5002, pwritev(fd, out, 3, 100));
	RET(5102, ops_size("f"));
	memset(b, 0, sizeof(b));
	RET(5002, preadv(fd, in, 2, 100));
	TRUE(!memcmp(c, "ab", 2) && ops_is_pattern(c + 2, 2, 5, 0) && ops_is_pattern(b, 4998, 5, 2));
	RET(5002, pwritev2(fd, out, 3, 0, RWF_DSYNC));
	RET(5002, pwritev2(fd, out, 3, 0, RWF_APPEND));
	RET(10104, ops_size("f"));
}

static void sync_writes(struct t *t)
{
	static const int flags[] = {O_SYNC, O_DSYNC, O_SYNC | O_APPEND};
	char name[16];

	for (unsigned i = 0; i < 3; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%u", i);
		fd = FD(open(name, O_CREAT | O_RDWR | flags[i], 0644));
		RET(5, write(fd, "first", 5));
		RET(6, write(fd, "second", 6));
		RET(11, ops_size(name));
		RET(3, pwrite(fd, "new", 3, 0));
		OK(close(fd));
		ops_see_content(t, name);
	}
}

static void sync_calls(struct t *t)
{
	int fd = ops_file(t, "f", 1000000, 1), dir = FD(open(".", O_RDONLY));
	int ro = FD(open("f", O_RDONLY));

	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(fsync(ro));
	RET(1, pwrite(fd, "x", 1, 0));
	OK(fdatasync(ro));
	OK(fsync(dir));
	OK(fdatasync(dir));
	OK(syncfs(fd));
	OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	OK(unlink("f"));
	RET(1, pwrite(fd, "y", 1, 500));
	OK(fsync(fd));
	OK(mkfifo("p", 0600));
	ERR(EINVAL, fsync(open("p", O_RDWR)));
}

static void many_descriptors_one_file(struct t *t)
{
	int fds[50];
	char c;

	ops_make(t, "f", 50, 1);
	for (int i = 0; i < 50; i++)
		fds[i] = FD(open("f", O_RDWR));
	for (int i = 0; i < 50; i++) {
		char x = (char)('A' + i);

		if (pwrite(fds[i], &x, 1, i) != 1 || pread(fds[49 - i], &c, 1, i) != 1 || c != x)
			ops_fail(t, __LINE__, "descriptor %d: another one does not see its write", i);
	}
	ops_see_content(t, "f");
}

static void lseek_rules(struct t *t)
{
	int fd = ops_file(t, "f", 1000, 1);

	RET(1000, lseek(fd, 0, SEEK_END));
	RET(900, lseek(fd, -100, SEEK_END));
	RET(950, lseek(fd, 50, SEEK_CUR));
	ERR(EINVAL, lseek(fd, -1001, SEEK_END));
	RET(5000, lseek(fd, 5000, SEEK_SET));
	RET(0, read(fd, &fd, 0));
	RET(1, write(fd, "x", 1));
	RET(5001, ops_size("f"));
	TRUE(ops_reads_zero(fd, 1000, 4000));
	/* The end is the file's true one, also when another descriptor moved it. */
	OK(truncate("f", 10));
	RET(10, lseek(fd, 0, SEEK_END));
}

static void splice_and_sendfile(struct t *t)
{
	int pipes[2], in = ops_file(t, "in", 50000, 3), out = FD(open("out", O_CREAT | O_RDWR, 0644));
	off_t off = 0;

	RET(50000, sendfile(out, in, &off, 50000));
	TRUE(ops_reads_pattern(out, 0, 50000, 3));
	OK(pipe(pipes));
	off = 1000;
	RET(4096, splice(in, &off, pipes[1], NULL, 4096, 0));
	off = 60000;
	RET(4096, splice(pipes[0], NULL, out, &off, 4096, 0));
	RET(64096, ops_size("out"));
	TRUE(ops_reads_zero(out, 50000, 10000));
	ops_see_content(t, "out");
}

static void poll_and_ioctl(struct t *t)
{
	int fd = ops_file(t, "f", 100, 3), n = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};

	RET(1, poll(&p, 1, 0));
	TRUE((p.revents & (POLLIN | POLLOUT)) == (POLLIN | POLLOUT));
	ERR(ENOTTY, ioctl(fd, TIOCGWINSZ, &n));
	OK(lseek(fd, 40, SEEK_SET));
	RET(0, ioctl(fd, FIONREAD, &n));
	TRUE(n == 60);
}

static void advice(struct t *t)
{
	int fd = ops_file(t, "f", 500000, 3);

	OK(fsync(fd));
	RET(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	TRUE(ops_reads_pattern(fd, 0, 500000, 3));
	RET(0, posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	RET(0, posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	OK(readahead(fd, 0, 100000));
	TRUE(ops_reads_pattern(fd, 0, 500000, 3));
}

const struct op_case ops_data[] = {
	{"write_and_read", write_and_read, 0},
	{"overwrite_pieces", overwrite_pieces, 0},
	{"append_writes", append_writes, 0},
	{"append_concurrently", append_concurrently, 0},
	{"open_trunc", open_trunc, 0},
	{"open_trunc_unwritten", open_trunc_unwritten, 0},
	{"truncate_down_and_up", truncate_down_and_up, 0},
	{"truncate_then_write_beyond", truncate_then_write_beyond, 0},
	{"truncate_errors", truncate_errors, 0},
	{"sparse_to_the_limit", sparse_to_the_limit, 0},
	{"sparse_terabyte", sparse_terabyte, 0},
	{"limit_of_the_process", limit_of_the_process, 0},
	{"vectors", vectors, 0},
	{"sync_writes", sync_writes, 0},
	{"sync_calls", sync_calls, 0},
	{"many_descriptors_one_file", many_descriptors_one_file, 0},
	{"lseek_rules", lseek_rules, 0},
	{"splice_and_sendfile", splice_and_sendfile, 0},
	{"poll_and_ioctl", poll_and_ioctl, 0},
	{"advice", advice, 0},
	{NULL, NULL, 0},
};
