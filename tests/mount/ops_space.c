/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Space inside a file: fallocate and holes. */
#include "config.h"

#include "ops.h"

#ifndef FALLOC_FL_UNSHARE_RANGE
#define FALLOC_FL_UNSHARE_RANGE 0x40
#endif

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define KIB 1024
#define CHUNK (256 * KIB)

static long long blocks_of(int fd)
{
	struct stat st;

	fsync(fd);
	return fstat(fd, &st) ? -1 : (long long)st.st_blocks;
}

static void fallocate_extends(struct t *t)
{
	int fd = ops_file(t, "f", 1000, 1);

	OK(fallocate(fd, 0, 0, 500));
	RET(1000, ops_size("f"));
	OK(fallocate(fd, 0, 0, 100000));
	RET(100000, ops_size("f"));
	TRUE(ops_reads_pattern(fd, 0, 1000, 1));
	TRUE(ops_reads_zero(fd, 1000, 99000));
	OK(fallocate(fd, 0, 200000, 1));
	RET(200001, ops_size("f"));
	TRUE(ops_reads_zero(fd, 1000, 199001));
	RET(5, pwrite(fd, "hello", 5, 150000));
	OK(fsync(fd));
	TRUE(ops_reads_zero(fd, 150005, 200001 - 150005));
	ops_see_content(t, "f");
}

static void fallocate_reserves(struct t *t)
{
	int fd = ops_file(t, "f", 0, 1);

	OK(fallocate(fd, 0, 0, 4 << 20));
	TRUE(blocks_of(fd) >= 8192);
	TRUE(ops_reads_zero(fd, 0, 4 << 20));
	OK(ftruncate(fd, 1 << 20));
	TRUE(blocks_of(fd) < 8192);
}

static void fallocate_keep_size(struct t *t)
{
	int fd = ops_file(t, "f", 1000, 1);

	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	RET(1000, ops_size("f"));
	TRUE(blocks_of(fd) >= 2048);
	RET(0, pread(fd, (char[1]){0}, 1, 1000));
	RET(1, pwrite(fd, "x", 1, 500000));
	TRUE(ops_reads_zero(fd, 1000, 499000));
	RET(500001, ops_size("f"));
	OK(ftruncate(fd, 2 << 20));
	TRUE(ops_reads_zero(fd, 500001, 1500000));
}

static void fallocate_errors(struct t *t)
{
	int fd = ops_file(t, "f", 1000, 1), ro, p[2];

	ERR(EINVAL, fallocate(fd, 0, 0, 0));
	ERR(EINVAL, fallocate(fd, 0, -1, 10));
	ERR(EINVAL, fallocate(fd, 0, 0, -10));
	ERR(EFBIG, fallocate(fd, 0, INT64_MAX - 10, 100));
	ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 100));
	ERR2(EOPNOTSUPP, EINVAL, fallocate(fd, PUNCH | FALLOC_FL_ZERO_RANGE, 0, 100));
	ERR(EOPNOTSUPP, fallocate(fd, 0x4000, 0, 100));
	ro = FD(open("f", O_RDONLY));
	ERR(EBADF, fallocate(ro, 0, 0, 100));
	OK(pipe(p));
	ERR(ESPIPE, fallocate(p[1], 0, 0, 100));
	ERR(EBADF, fallocate(FD(open(".", O_RDONLY)), 0, 0, 100));
	RET(1000, ops_size("f"));
}

static void fallocate_other_modes(struct t *t)
{
	/* Done right or refused; never a wrong file. */
	int fd = ops_file(t, "f", 100000, 1);
	int rc = fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096);

	TRUE(rc == 0 || errno == EOPNOTSUPP);
	TRUE(rc == 0 ? ops_size("f") == 100000 - 4096 : ops_reads_pattern(fd, 0, 100000, 1));
	rc = fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, 4096);
	TRUE(rc == 0 || errno == EOPNOTSUPP);
	TRUE(rc != 0 || ops_reads_zero(fd, 4096, 4096));
	fd = ops_file(t, "g", 100000, 1);
	rc = fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, 50000);
	TRUE(rc == 0 || errno == EOPNOTSUPP);
	TRUE(ops_reads_pattern(fd, 0, 100000, 1));
}

static void punch_ranges(struct t *t)
{
	static const struct {
		off_t at, len;
	} holes[] = {{0, 1}, {4095, 2}, {4096, 4096}, {10000, 20000}, {CHUNK - 1, 2}, {CHUNK, CHUNK}, {3 * CHUNK - 5000, 10000},
		     {4 * CHUNK - 100, 1000000}, {5000000, 100}, {0, 4 * CHUNK}};
	enum { SIZE = 4 * CHUNK };
	uint8_t *model = malloc(SIZE), *got = malloc(SIZE);
	int fd = ops_file(t, "f", SIZE, 1);

	ops_fill(model, SIZE, 1, 0);
	for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
		if (i % 2)
			OK(fsync(fd));
		OK(fallocate(fd, PUNCH, holes[i].at, holes[i].len));
		for (off_t b = holes[i].at; b < holes[i].at + holes[i].len && b < SIZE; b++)
			model[b] = 0;
		RET(SIZE, pread(fd, got, SIZE, 0));
		if (memcmp(got, model, SIZE))
			ops_fail(t, __LINE__, "hole %zu: wrong content", i);
		RET(SIZE, ops_size("f"));
	}
	TRUE(blocks_of(fd) < 64);
}

static void punch_gives_space_back(struct t *t)
{
	int fd = ops_file(t, "f", 4 << 20, 1);
	long long before = blocks_of(fd), after;

	OK(fallocate(fd, PUNCH, 1 << 20, 2 << 20));
	after = blocks_of(fd);
	TRUE(before >= 8192 && after <= before - 4096 + 64);
	RET(4 << 20, ops_size("f"));
	TRUE(ops_reads_pattern(fd, 0, 1 << 20, 1));
	TRUE(ops_reads_pattern(fd, 3 << 20, 1 << 20, 1));
	/* What was punched can be written again. */
	RET(4, pwrite(fd, "back", 4, 2 << 20));
	TRUE(ops_reads_zero(fd, 1 << 20, 1 << 20));
	ops_see_content(t, "f");
}

static void punch_unwritten(struct t *t)
{
	/* Straight after the write, while it is still only in memory. */
	for (unsigned i = 0; i < 20; i++) {
		int fd = ops_file(t, "f", 50000, i);

		if (fallocate(fd, PUNCH, 5000, 20000) || !ops_reads_pattern(fd, 0, 5000, i) ||
		    !ops_reads_zero(fd, 5000, 20000) || !ops_reads_pattern(fd, 25000, 25000, i) || fsync(fd) ||
		    !ops_reads_zero(fd, 5000, 20000))
			ops_fail(t, __LINE__, "round %u", i);
		close(fd);
	}
}

static void zero_range(struct t *t)
{
	int fd = ops_file(t, "f", CHUNK, 1);

	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1000, 100000));
	TRUE(ops_reads_pattern(fd, 0, 1000, 1));
	TRUE(ops_reads_zero(fd, 1000, 100000));
	TRUE(ops_reads_pattern(fd, 101000, CHUNK - 101000, 1));
	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, CHUNK - 100, 10000));
	RET(CHUNK, ops_size("f"));
	TRUE(ops_reads_zero(fd, CHUNK - 100, 100));
	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, CHUNK - 200, 10000));
	RET(CHUNK + 9800, ops_size("f"));
	TRUE(ops_reads_zero(fd, CHUNK - 200, 10000));
	OK(fsync(fd));
	ops_see_content(t, "f");
	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1 << 20, 1 << 20));
	RET(2 << 20, ops_size("f"));
	ops_see_content(t, "f");
}

/* Checks by SEEK_DATA and SEEK_HOLE that no data lies in a hole; returns the number of data ranges, or -1. */
static int walk_holes(struct t *t, int fd, off_t size)
{
	off_t at = 0, data, hole;
	int ranges = 0;

	while (at < size) {
		data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return -1;
		if (!ops_reads_zero(fd, at, (size_t)((data < 0 ? size : data) - at)))
			ops_fail(t, __LINE__, "data in the hole at %lld", (long long)at);
		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data || hole > size)
			return -1;
		ranges++;
		at = hole;
	}
	return ranges;
}

static void seek_hole_data(struct t *t)
{
	int fd = FD(open("f", O_CREAT | O_RDWR, 0644));
	uint8_t block[4096];

	ops_fill(block, sizeof(block), 1, 0);
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 0, SEEK_HOLE));
	OK(ftruncate(fd, 8 << 20));
	OK(fsync(fd));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	RET(0, lseek(fd, 0, SEEK_HOLE));
	RET(4096, pwrite(fd, block, 4096, 1 << 20));
	RET(4096, pwrite(fd, block, 4096, 5 << 20));
	RET(1 << 20, lseek(fd, 0, SEEK_DATA));
	RET((1 << 20) + 10, lseek(fd, (1 << 20) + 10, SEEK_DATA));
	RET((1 << 20) + 4096, lseek(fd, 1 << 20, SEEK_HOLE));
	RET(5 << 20, lseek(fd, (1 << 20) + 4096, SEEK_DATA));
	RET(77, lseek(fd, 77, SEEK_HOLE));
	RET((5 << 20) + 4096, lseek(fd, 5 << 20, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, (5 << 20) + 4096, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 8 << 20, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, -1, SEEK_HOLE));
	OK(fsync(fd));
	RET(2, walk_holes(t, fd, 8 << 20));
	RET(1 << 20, lseek(fd, 0, SEEK_DATA));
	RET((5 << 20) + 4096, lseek(fd, 5 << 20, SEEK_HOLE));
}

static void seek_after_punch(struct t *t)
{
	int fd = ops_file(t, "f", 1 << 20, 1);

	RET(0, lseek(fd, 0, SEEK_DATA));
	RET(1 << 20, lseek(fd, 0, SEEK_HOLE));
	OK(fallocate(fd, PUNCH, 65536, 131072));
	RET(65536, lseek(fd, 0, SEEK_HOLE));
	RET(65536 + 131072, lseek(fd, 65536, SEEK_DATA));
	OK(fsync(fd));
	RET(65536, lseek(fd, 0, SEEK_HOLE));
	RET(65536 + 131072, lseek(fd, 65536, SEEK_DATA));
	RET(2, walk_holes(t, fd, 1 << 20));
}

static void seek_end_of_small_files(struct t *t)
{
	int fd = ops_file(t, "f", 100, 1);

	RET(0, lseek(fd, 0, SEEK_DATA));
	RET(100, lseek(fd, 0, SEEK_HOLE));
	RET(50, lseek(fd, 50, SEEK_DATA));
	RET(100, lseek(fd, 99, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, 100, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 100, SEEK_HOLE));
	OK(fsync(fd));
	RET(0, lseek(fd, 0, SEEK_DATA));
	RET(100, lseek(fd, 0, SEEK_HOLE));
}

static void seek_in_preallocated(struct t *t)
{
	int fd = ops_file(t, "f", 0, 1);

	OK(fallocate(fd, 0, 0, 1 << 20));
	RET(5, pwrite(fd, "abcde", 5, 500000));
	/* Reserved and unwritten space may be reported either way; what was written is data. */
	TRUE(lseek(fd, 0, SEEK_DATA) <= 500000);
	TRUE(lseek(fd, 500000, SEEK_DATA) == 500000);
	TRUE(walk_holes(t, fd, 1 << 20) >= 1);
	OK(fsync(fd));
	TRUE(walk_holes(t, fd, 1 << 20) >= 1);
}

static void many_holes(struct t *t)
{
	enum { COUNT = 1000 };
	uint8_t block[4096];
	int ranges, fd = FD(open("f", O_CREAT | O_RDWR, 0644));

	for (int i = 0; i < COUNT; i++) {
		ops_fill(block, sizeof(block), (uint64_t)i, 0);
		if (pwrite(fd, block, sizeof(block), (off_t)i * 65536) != 4096)
			ops_fail(t, __LINE__, "pwrite: %s", strerror(errno));
	}
	OK(fsync(fd));
	ranges = walk_holes(t, fd, (off_t)(COUNT - 1) * 65536 + 4096);
	/* XFS keeps what it allocated ahead of the writes. */
	TRUE(ops_fs(t) == OPS_FS_XFS ? ranges >= 1 : ranges == COUNT);
	for (int i = 0; i < COUNT; i++) {
		if (pread(fd, block, sizeof(block), (off_t)i * 65536) != 4096 ||
		    !ops_is_pattern(block, sizeof(block), (uint64_t)i, 0))
			ops_fail(t, __LINE__, "block %d", i);
	}
	ops_see_content(t, "f");
}

const struct op_case ops_space[] = {
	{"fallocate_extends", fallocate_extends, 0},
	{"fallocate_reserves", fallocate_reserves, 0},
	{"fallocate_keep_size", fallocate_keep_size, 0},
	{"fallocate_errors", fallocate_errors, 0},
	{"fallocate_other_modes", fallocate_other_modes, 0},
	{"punch_ranges", punch_ranges, 0},
	{"punch_gives_space_back", punch_gives_space_back, 0},
	{"punch_unwritten", punch_unwritten, 0},
	{"zero_range", zero_range, 0},
	{"seek_hole_data", seek_hole_data, 0},
	{"seek_after_punch", seek_after_punch, 0},
	{"seek_end_of_small_files", seek_end_of_small_files, 0},
	{"seek_in_preallocated", seek_in_preallocated, 0},
	{"many_holes", many_holes, 0},
	{NULL, NULL, 0},
};
