/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One file gets exactly what is left, whatever way it is written. */
#include "config.h"

#include "exact.h"

#include <sys/mman.h>
#include <sys/uio.h>

#define MIB (1u << 20)

/* How a file is filled. */
struct way {
	int flags;
	size_t step;      /* bytes a call */
	ssize_t (*write)(int fd, const uint8_t *buf, size_t len, uint64_t at); /* NULL: write(2) */
};

static uint64_t room(void)
{
	/* The root's entry and the one of this directory. */
	return exact.blocks - 2;
}

/*
 * Writes until nothing more is taken. A call that lacks room for all of it takes what there is room for (write(2)), to
 * the block, and the one after it is refused. A direct one is taken in whole or refused: of short ones the kernel makes EIO. So its
 * steps become smaller then.
 */
static uint64_t fill(struct t *t, int fd, const struct way *way)
{
	uint8_t *buf = exact_buffer(way->step + 2 * BLOCK);
	uint64_t at = 0, first_short = 0;
	size_t step = way->step;
	ssize_t n;

	for (;;) {
		uint64_t base = at / BLOCK * BLOCK;

		exact_pattern(buf, (at - base + step + BLOCK - 1) / BLOCK * BLOCK, 1, base);
		n = way->write ? way->write(fd, buf + (at - base), step, at) : write(fd, buf + (at - base), step);
		if (n < 0 && errno == exact.full && way->flags & O_DIRECT && step > BLOCK) {
			step = step / BLOCK / 2 * BLOCK;
			continue;
		}
		if (n <= 0)
			break;
		if (first_short)
			ops_fail(t, __LINE__, "%zd bytes at %llu after a short write", n, (unsigned long long)at);
		at += (uint64_t)n;
		if ((size_t)n < step)
			first_short = at;
	}
	if (n == 0 || errno != exact.full)
		ops_fail(t, __LINE__, "after %llu bytes: %s", (unsigned long long)at, n ? strerror(errno) : "nothing written");
	munmap(buf, way->step + 2 * BLOCK);
	return at;
}

/* Each way in is closed, and nothing of a refused call is there. */
static void nothing_more(struct t *t, int fd, uint64_t size)
{
	static _Alignas(BLOCK) uint8_t block[BLOCK] = "x";

	ERR(exact.full, pwrite(fd, block, 1, (off_t)size));
	ERR(exact.full, pwrite(fd, block, BLOCK, (off_t)size + 10 * BLOCK));
	ERR(exact.full, fallocate(fd, 0, (off_t)size, 1));
	ERR(exact.full, fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)size + 100 * MIB, BLOCK));
	RET(size, ops_size("f"));
	LEFT(0);
}

static void filled(struct t *t, int fd, uint64_t bytes)
{
	RET(room() * BLOCK, bytes);
	RET(bytes, ops_size("f"));
	RET(room(), exact_blocks(fd));
	LEFT(0);
	nothing_more(t, fd, bytes);
	OK(fsync(fd));
	LEFT(0);
	RET(room(), exact_blocks(fd));
	TRUE(exact_reads(fd, 0, bytes, 1));
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	TRUE(exact_reads(fd, 0, bytes, 1));
	OK(ftruncate(fd, 0));
	LEFT(room());
}

static void by(struct t *t, const struct way *way)
{
	int fd = exact_file(t, "f", way->flags);
	int look = way->flags & O_DIRECT ? FD(open("f", O_RDWR)) : fd;

	LEFT(room());
	filled(t, look, fill(t, fd, way));
}

/* Each byte of it, and statfs(2) around each edge of a block. */
static void by_bytes(struct t *t)
{
	uint8_t block[BLOCK];
	int fd = exact_file(t, "f", 0);

	if (exact.blocks > 256)
		ops_skip(t, "too many bytes one by one");
	for (uint64_t b = 0; b < room(); b++) {
		exact_pattern(block, BLOCK, 1, b * BLOCK);
		for (unsigned i = 0; i < BLOCK; i++) {
			if (i < 2 || i == BLOCK - 1)
				LEFT(room() - b - (i > 0));
			if (write(fd, block + i, 1) != 1)
				ops_fail(t, __LINE__, "byte %u of block %llu: %s", i, (unsigned long long)b, strerror(errno));
		}
	}
	ERR(exact.full, write(fd, "x", 1));
	filled(t, fd, room() * BLOCK);
}

static void by_bytes_at_the_end(struct t *t)
{
	static uint8_t data[8 * BLOCK];
	const uint64_t few = 5, most = room() - few;
	int fd = exact_file(t, "f", O_APPEND);
	uint8_t *buf = exact_buffer(most * BLOCK);

	exact_pattern(buf, most * BLOCK, 1, 0);
	RET(most * BLOCK, write(fd, buf, most * BLOCK));
	LEFT(few);
	exact_pattern(data, sizeof(data), 1, most * BLOCK);
	for (unsigned i = 0; i < few * BLOCK; i++) {
		if (write(fd, data + i, 1) != 1)
			ops_fail(t, __LINE__, "byte %u: %s", i, strerror(errno));
		if (i % BLOCK < 2 || i % BLOCK == BLOCK - 1)
			LEFT(few - 1 - i / BLOCK);
	}
	ERR(exact.full, write(fd, "x", 1));
	filled(t, fd, room() * BLOCK);
}

static void by_4k(struct t *t)
{
	by(t, &(struct way){ .step = BLOCK });
}

static void by_1m(struct t *t)
{
	by(t, &(struct way){ .step = MIB });
}

static void by_8m(struct t *t)
{
	by(t, &(struct way){ .step = 8 * MIB });
}

static void by_odd_sizes(struct t *t)
{
	by(t, &(struct way){ .step = 10007 });
}

static void by_odd_sizes_over_chunks(struct t *t)
{
	by(t, &(struct way){ .step = 700001 });
}

static void by_appending_4k(struct t *t)
{
	by(t, &(struct way){ .flags = O_APPEND, .step = BLOCK });
}

static void by_appending_1m(struct t *t)
{
	by(t, &(struct way){ .flags = O_APPEND, .step = MIB });
}

static void by_appending_odd_sizes(struct t *t)
{
	by(t, &(struct way){ .flags = O_APPEND, .step = 33333 });
}

static void direct_4k(struct t *t)
{
	by(t, &(struct way){ .flags = O_DIRECT, .step = BLOCK });
}

static void direct_1m(struct t *t)
{
	by(t, &(struct way){ .flags = O_DIRECT, .step = MIB });
}

static void direct_12k(struct t *t)
{
	by(t, &(struct way){ .flags = O_DIRECT, .step = 3 * BLOCK });
}

static void synchronous_1m(struct t *t)
{
	by(t, &(struct way){ .flags = O_SYNC, .step = MIB });
}

static void synchronous_odd_sizes(struct t *t)
{
	by(t, &(struct way){ .flags = O_SYNC, .step = 777777 });
}

static void direct_and_dsync(struct t *t)
{
	by(t, &(struct way){ .flags = O_DIRECT | O_DSYNC, .step = MIB + 5 * BLOCK });
}

static ssize_t in_pieces(int fd, const uint8_t *buf, size_t len, uint64_t at)
{
	struct iovec v[4];
	const size_t ends[] = { 1, BLOCK, 50001, len };

	for (unsigned i = 0; i < 4; i++) {
		size_t from = i ? ends[i - 1] : 0;

		v[i] = (struct iovec){ (void *)(buf + from), ends[i] - from };
	}
	return pwritev(fd, v, 4, (off_t)at);
}

static void by_writev(struct t *t)
{
	by(t, &(struct way){ .step = 300000, .write = in_pieces });
}

static void by_sparse_blocks(struct t *t)
{
	static uint8_t block[BLOCK];
	const uint64_t step = 2 * BLOCK;
	int fd = exact_file(t, "f", 0);
	uint64_t at = 0;

	for (;; at += step) {
		exact_pattern(block, BLOCK, 1, at);
		if (pwrite(fd, block, BLOCK, (off_t)at) != BLOCK)
			break;
	}
	TRUE(errno == exact.full);
	RET(room() * step, at);
	RET(room(), exact_blocks(fd));
	LEFT(0);
	/* The holes have no room; the blocks may be overwritten. */
	ERR(exact.full, pwrite(fd, block, 1, BLOCK));
	for (uint64_t b = 0; b < room(); b++) {
		exact_pattern(block, BLOCK, 2, b * step);
		if (pwrite(fd, block, BLOCK, (off_t)(b * step)) != BLOCK)
			ops_fail(t, __LINE__, "block %llu: %s", (unsigned long long)b, strerror(errno));
	}
	OK(fsync(fd));
	LEFT(0);
	for (uint64_t b = 0; b < room(); b++)
		if (!exact_reads(fd, b * step, BLOCK, 2) || (b + 1 < room() && !ops_reads_zero(fd, (off_t)(b * step + BLOCK), BLOCK)))
			ops_fail(t, __LINE__, "block %llu is wrong", (unsigned long long)b);
	/* A write over blocks and holes gets as far as the first hole without room. */
	RET(BLOCK, pwrite(fd, (uint8_t[3 * BLOCK]){ 0 }, 3 * BLOCK, 0));
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * (off_t)step, BLOCK));
	LEFT(1);
	RET(3 * BLOCK, pwrite(fd, (uint8_t[5 * BLOCK]){ 0 }, 5 * BLOCK, 0));
	LEFT(0);
}

static void backwards(struct t *t)
{
	static uint8_t data[16 * BLOCK];
	int fd = exact_file(t, "f", 0);

	for (uint64_t at = room() * BLOCK, n; at; at -= n) {
		n = at % sizeof(data) ? at % sizeof(data) : sizeof(data);
		exact_pattern(data, n, 1, at - n);
		RET(n, pwrite(fd, data, n, (off_t)(at - n)));
		LEFT((at - n) / BLOCK);
	}
	filled(t, fd, room() * BLOCK);
}

/* A hole of three blocks in a full file: one request over all of it, with room for less. */
static void over_holes_and_blocks(struct t *t)
{
	const uint64_t size = room() * BLOCK;
	uint8_t *buf = exact_buffer(size);
	int fd = exact_file(t, "f", 0), other = exact_file(t, "g", 0);

	exact_pattern(buf, size, 1, 0);
	RET(size, write(fd, buf, size));
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * BLOCK, 3 * BLOCK));
	RET(2 * BLOCK, pwrite(other, buf, 2 * BLOCK, 0));
	LEFT(1);
	exact_pattern(buf, size, 2, 0);
	RET(6 * BLOCK, pwrite(fd, buf, 20 * BLOCK, 0));
	LEFT(0);
	TRUE(exact_reads(fd, 0, 6 * BLOCK, 2));
	TRUE(ops_reads_zero(fd, 6 * BLOCK, 2 * BLOCK));
	TRUE(exact_reads(fd, 8 * BLOCK, size - 8 * BLOCK, 1));
	/* The same past the page cache. */
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 40 * BLOCK, 4 * BLOCK));
	RET(2 * BLOCK, pwrite(other, buf, 2 * BLOCK, 2 * BLOCK));
	LEFT(2);
	OK(fsync(fd));
	fd = FD(open("f", O_RDWR | O_DIRECT));
	ERR(exact.full, pwrite(fd, buf + 30 * BLOCK, 20 * BLOCK, 30 * BLOCK));
	LEFT(2);
	RET(12 * BLOCK, pwrite(fd, buf + 30 * BLOCK, 12 * BLOCK, 30 * BLOCK));
	LEFT(0);
	fd = FD(open("f", O_RDWR));
	TRUE(exact_reads(fd, 30 * BLOCK, 12 * BLOCK, 2));
	TRUE(ops_reads_zero(fd, 42 * BLOCK, 2 * BLOCK));
	TRUE(exact_reads(fd, 44 * BLOCK, size - 44 * BLOCK, 1));
	ERR(exact.full, pwrite(fd, buf, BLOCK, 42 * BLOCK));
	LEFT(0);
}

/* Twice as much as there is room for, through a mapping: nobody is asked at the fault, so what fits is kept. */
static void by_mapping(struct t *t)
{
	const uint64_t size = 2 * room() * BLOCK;
	int fd = exact_file(t, "f", 0);
	uint64_t kept = 0;
	uint8_t *p;

	OK(ftruncate(fd, (off_t)size));
	LEFT(room());
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(p != MAP_FAILED);
	exact_pattern(p, size, 1, 0);
	ERR(exact.full, msync(p, size, MS_SYNC));
	LEFT(0);
	RET(room(), exact_blocks(fd));
	OK(munmap(p, size));
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	for (uint64_t at = 0; at < size; at += BLOCK)
		kept += exact_reads(fd, at, BLOCK, 1);
	RET(room(), kept);
	RET(size, ops_size("f"));
}

/* In a full one, a mapping of blocks and holes in turns: each block is kept, whatever happens to the holes. */
static void mapped_blocks_are_kept(struct t *t)
{
	const uint64_t blocks = room(), size = 2 * blocks * BLOCK;
	static uint8_t block[BLOCK];
	int fd = exact_file(t, "f", 0);
	uint64_t kept = 0;
	uint8_t *p;

	for (uint64_t b = 0; b < blocks; b++) {
		exact_pattern(block, BLOCK, 1, 2 * b * BLOCK);
		RET(BLOCK, pwrite(fd, block, BLOCK, (off_t)(2 * b * BLOCK)));
	}
	OK(ftruncate(fd, (off_t)size));
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(size - 2 * BLOCK), BLOCK));
	LEFT(1);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(p != MAP_FAILED);
	exact_pattern(p, size, 2, 0);
	ERR(exact.full, msync(p, size, MS_SYNC));
	LEFT(0);
	OK(munmap(p, size));
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	for (uint64_t b = 0; b + 1 < blocks; b++)
		if (!exact_reads(fd, 2 * b * BLOCK, BLOCK, 2))
			ops_fail(t, __LINE__, "the store into block %llu is lost", (unsigned long long)(2 * b));
	for (uint64_t at = 0; at < size; at += BLOCK)
		kept += exact_reads(fd, at, BLOCK, 2);
	RET(blocks, kept);
}

const struct op_case exact_fill[] = {
	{ "by_bytes", by_bytes, 0 },
	{ "by_bytes_at_the_end", by_bytes_at_the_end, 0 },
	{ "by_4k", by_4k, 0 },
	{ "by_1m", by_1m, 0 },
	{ "by_8m", by_8m, 0 },
	{ "by_odd_sizes", by_odd_sizes, 0 },
	{ "by_odd_sizes_over_chunks", by_odd_sizes_over_chunks, 0 },
	{ "by_appending_4k", by_appending_4k, 0 },
	{ "by_appending_1m", by_appending_1m, 0 },
	{ "by_appending_odd_sizes", by_appending_odd_sizes, 0 },
	{ "direct_4k", direct_4k, 0 },
	{ "direct_1m", direct_1m, 0 },
	{ "direct_12k", direct_12k, 0 },
	{ "direct_and_dsync", direct_and_dsync, 0 },
	{ "synchronous_1m", synchronous_1m, 0 },
	{ "synchronous_odd_sizes", synchronous_odd_sizes, 0 },
	{ "by_writev", by_writev, 0 },
	{ "by_sparse_blocks", by_sparse_blocks, 0 },
	{ "backwards", backwards, 0 },
	{ "over_holes_and_blocks", over_holes_and_blocks, 0 },
	{ "by_mapping", by_mapping, 0 },
	{ "mapped_blocks_are_kept", mapped_blocks_are_kept, 0 },
	{ NULL, NULL, 0 },
};
