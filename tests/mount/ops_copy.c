/* SPDX-License-Identifier: GPL-2.0-or-later */
/* copy_file_range(2): between files, within one, over what is already there. */
#include "config.h"

#include "ops.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#define SIZE 1000000

/* Copies everything, in as many calls as it takes; 0, or -1. */
static int copy_all(int in, off_t from, int out, off_t to, size_t len)
{
	while (len) {
		ssize_t n = copy_file_range(in, &from, out, &to, len, 0);

		if (n <= 0)
			return -1;
		len -= (size_t)n;
	}
	return 0;
}

static void copy_whole(struct t *t)
{
	int in = ops_file(t, "in", SIZE, 1), out = FD(open("out", O_CREAT | O_RDWR, 0644));

	OK(copy_all(in, 0, out, 0, SIZE));
	RET(SIZE, ops_size("out"));
	TRUE(ops_reads_pattern(out, 0, SIZE, 1));
	/* Independent of each other afterwards, whatever they share. */
	RET(3, pwrite(in, "new", 3, 500000));
	TRUE(ops_reads_pattern(out, 0, SIZE, 1));
	RET(3, pwrite(out, "own", 3, 100));
	TRUE(ops_reads_pattern(in, 0, 500000, 1));
	OK(fsync(in));
	OK(fsync(out));
	OK(unlink("in"));
	OK(close(in));
	TRUE(ops_reads_pattern(out, 103, SIZE - 103, 1));
	ops_see_content(t, "out");
}

static void copy_pieces(struct t *t)
{
	static const struct {
		off_t from, to;
		size_t len;
	} pieces[] = {{0, 0, 4096}, {4096, 8192, 65536}, {1, 300000, 100000}, {5000, 300001, 4096}, {262144, 524288, 262144},
		      {0, 2000000, 10}, {999000, 100, 1000}, {100, 1500000, 1}};
	enum { MODEL = 2100000 };
	uint8_t *model = calloc(1, MODEL), *src = malloc(SIZE), *got = malloc(MODEL);
	int in = ops_file(t, "in", SIZE, 1), out = FD(open("out", O_CREAT | O_RDWR, 0644));
	off_t end = 0;

	ops_fill(src, SIZE, 1, 0);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		if (i % 2)
			OK(fsync(in));
		OK(copy_all(in, pieces[i].from, out, pieces[i].to, pieces[i].len));
		memcpy(model + pieces[i].to, src + pieces[i].from, pieces[i].len);
		if (end < pieces[i].to + (off_t)pieces[i].len)
			end = pieces[i].to + (off_t)pieces[i].len;
		TRUE(ops_size("out") == end);
		TRUE(pread(out, got, MODEL, 0) == end && !memcmp(got, model, (size_t)end));
	}
	OK(close(out));
	ops_see_content(t, "out");
}

static void copy_at_the_end(struct t *t)
{
	int in = ops_file(t, "in", 1000, 1), out = FD(open("out", O_CREAT | O_RDWR, 0644));
	off_t from = 900, to = 0;

	RET(100, copy_file_range(in, &from, out, &to, 500, 0));
	TRUE(from == 1000 && to == 100);
	RET(0, copy_file_range(in, &from, out, &to, 500, 0));
	from = 5000;
	RET(0, copy_file_range(in, &from, out, &to, 500, 0));
	RET(100, ops_size("out"));
	TRUE(ops_reads_pattern(in, 900, 100, 1));
}

static void copy_by_file_positions(struct t *t)
{
	int in = ops_file(t, "in", 10000, 1), out = FD(open("out", O_CREAT | O_RDWR, 0644));

	OK(lseek(in, 2000, SEEK_SET));
	OK(lseek(out, 100, SEEK_SET));
	RET(3000, copy_file_range(in, NULL, out, NULL, 3000, 0));
	RET(5000, lseek(in, 0, SEEK_CUR));
	RET(3100, lseek(out, 0, SEEK_CUR));
	ops_see_content(t, "out");
}

static void copy_within_a_file(struct t *t)
{
	uint8_t *model = malloc(SIZE), *got = malloc(SIZE);
	int fd = ops_file(t, "f", SIZE, 1);

	ops_fill(model, SIZE, 1, 0);
	OK(copy_all(fd, 0, fd, 500000, 300000));
	memcpy(model + 500000, model, 300000);
	OK(copy_all(fd, 600001, fd, 3, 100000));
	memcpy(model + 3, model + 600001, 100000);
	OK(copy_all(fd, 0, fd, 262144, 262144 - 1));
	memcpy(model + 262144, model, 262144 - 1);
	RET(SIZE, pread(fd, got, SIZE, 0));
	TRUE(!memcmp(got, model, SIZE));
	OK(fsync(fd));
	RET(SIZE, pread(fd, got, SIZE, 0));
	TRUE(!memcmp(got, model, SIZE));
	ops_see_content(t, "f");
}

static void copy_overlapping(struct t *t)
{
	int fd = ops_file(t, "f", 100000, 1);
	off_t from = 0, to = 4096;

	ERR(EINVAL, copy_file_range(fd, &from, fd, &to, 8192, 0));
	to = 0;
	ERR(EINVAL, copy_file_range(fd, &from, fd, &to, 4096, 0));
	to = 4095;
	ERR(EINVAL, copy_file_range(fd, &from, fd, &to, 4096, 0));
	from = 8192;
	to = 4097;
	ERR(EINVAL, copy_file_range(fd, &from, fd, &to, 4096, 0));
	to = 4096;
	OK(copy_file_range(fd, &from, fd, &to, 4096, 0));
	RET(100000, ops_size("f"));
}

static void copy_errors(struct t *t)
{
	int in = ops_file(t, "in", 10000, 1), out = ops_file(t, "out", 10, 2), fd, p[2];
	off_t zero = 0, to = 0;

	fd = FD(open("out", O_RDONLY));
	ERR(EBADF, copy_file_range(in, &zero, fd, &to, 10, 0));
	fd = FD(open("in", O_WRONLY));
	ERR(EBADF, copy_file_range(fd, &zero, out, &to, 10, 0));
	fd = FD(open("out", O_WRONLY | O_APPEND));
	ERR(EBADF, copy_file_range(in, &zero, fd, &to, 10, 0));
	ERR(EINVAL, copy_file_range(in, &zero, out, &to, 10, 1));
	fd = FD(open(".", O_RDONLY));
	ERR(EISDIR, copy_file_range(fd, &zero, out, &to, 10, 0));
	OK(pipe(p));
	ERR(EINVAL, copy_file_range(p[0], NULL, out, &to, 10, 0));
	RET(0, copy_file_range(in, &zero, out, &to, 0, 0));
	RET(10, ops_size("out"));
}

static void copy_holes(struct t *t)
{
	int in = FD(open("in", O_CREAT | O_RDWR, 0644)), out = ops_file(t, "out", 4 << 20, 3);

	OK(ftruncate(in, 4 << 20));
	RET(4, pwrite(in, "data", 4, 1 << 20));
	OK(copy_all(in, 0, out, 0, 4 << 20));
	/* What was there is gone, also where the source has a hole. */
	TRUE(ops_reads_zero(out, 0, 1 << 20));
	TRUE(ops_reads_zero(out, (1 << 20) + 4, (3 << 20) - 4));
	OK(fsync(out));
	ops_see_content(t, "out");
}

static void copy_of_unwritten(struct t *t)
{
	/* Source and target both dirty. */
	for (unsigned i = 0; i < 20; i++) {
		int in = ops_file(t, "in", 100000, i), out = ops_file(t, "out", 200000, i + 100);

		if (copy_all(in, 0, out, 50000, 100000) || !ops_reads_pattern(in, 0, 100000, i) ||
		    !ops_reads_pattern(out, 0, 50000, i + 100) || !ops_reads_pattern(out, 150000, 50000, i + 100))
			ops_fail(t, __LINE__, "round %u", i);
		close(in);
		close(out);
	}
	ops_see_content(t, "out");
}

static void copy_then_change_many_times(struct t *t)
{
	enum { LEN = 262144 };
	int a = ops_file(t, "a", LEN, 1), b = FD(open("b", O_CREAT | O_RDWR, 0644));

	for (unsigned i = 0; i < 30; i++) {
		off_t at = (off_t)i * 8000;

		if (copy_all(a, 0, b, 0, LEN) || pwrite(a, "A", 1, at) != 1 || pwrite(b, "B", 1, at + 4000) != 1 ||
		    copy_all(b, at + 4000, a, at + 4000, 1) || fsync(i % 2 ? a : b))
			ops_fail(t, __LINE__, "round %u: %s", i, strerror(errno));
	}
	ops_see_content(t, "a");
	ops_see_content(t, "b");
	for (unsigned i = 0; i < 30; i++) {
		char c = 0;

		if (pread(a, &c, 1, (off_t)i * 8000) != 1 || c != 'A' || pread(a, &c, 1, (off_t)i * 8000 + 4000) != 1 || c != 'B')
			ops_fail(t, __LINE__, "position %u is wrong in a", i);
	}
}

static void clone_ioctl(struct t *t)
{
	/* Where FICLONE works it clones; elsewhere it must refuse and change nothing. */
	int in = ops_file(t, "in", 100000, 1), out = ops_file(t, "out", 10, 2);
	int rc = ioctl(out, FICLONE, in);

	TRUE(rc == 0 || errno == EOPNOTSUPP || errno == ENOTTY);
	TRUE(rc == 0 ? ops_reads_pattern(out, 0, 100000, 1) : ops_size("out") == 10);
}

const struct op_case ops_copy[] = {
	{"copy_whole", copy_whole, 0},
	{"copy_pieces", copy_pieces, 0},
	{"copy_at_the_end", copy_at_the_end, 0},
	{"copy_by_file_positions", copy_by_file_positions, 0},
	{"copy_within_a_file", copy_within_a_file, 0},
	{"copy_overlapping", copy_overlapping, 0},
	{"copy_errors", copy_errors, 0},
	{"copy_holes", copy_holes, 0},
	{"copy_of_unwritten", copy_of_unwritten, 0},
	{"copy_then_change_many_times", copy_then_change_many_times, 0},
	{"clone_ioctl", clone_ioctl, 0},
	{NULL, NULL, 0},
};
