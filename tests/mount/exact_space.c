/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Space that is promised, shared, given back, and held by what has no name; and what a full subvolume must still be able to do. */
#include "config.h"

#include "exact.h"

#include <sys/mman.h>
#include <sys/xattr.h>

#define MIB (1u << 20)
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static uint64_t room(void)
{
	return exact.blocks - 2;
}

/* f, full of the pattern of that seed: all that is left. */
static int full_file(struct t *t, uint64_t seed)
{
	uint8_t *buf = exact_buffer(MIB);
	int fd = exact_file(t, "f", 0);
	uint64_t at = 0;
	ssize_t n;

	do {
		exact_pattern(buf, MIB, seed, at);
		n = pwrite(fd, buf, MIB, (off_t)at);
		at += n > 0 ? (uint64_t)n : 0;
	} while (n == MIB);
	munmap(buf, MIB);
	RET(room() * BLOCK, at);
	LEFT(0);
	return fd;
}

static void fallocate_to_the_last_block(struct t *t)
{
	const off_t all = (off_t)(room() * BLOCK);
	int fd = exact_file(t, "f", 0);

	ERR(exact.full, fallocate(fd, 0, 0, all + 1));
	LEFT(room());
	RET(0, ops_size("f"));
	ERR(exact.full, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, all + 1));
	ERR(exact.full, fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, all + 1));
	ERR(ENOSPC, fallocate(fd, 0, 0, 100 * all + (off_t)exact.beyond_blocks * BLOCK));
	LEFT(room());
	OK(fallocate(fd, 0, 0, all));
	LEFT(0);
	RET(all, ops_size("f"));
	RET(room(), exact_blocks(fd));
	/* Twice is once. */
	OK(fallocate(fd, 0, 0, all));
	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, all));
	LEFT(0);
	ERR(exact.full, fallocate(fd, 0, all, 1));
	ERR(exact.full, pwrite(fd, "x", 1, all));
	OK(fallocate(fd, PUNCH, 0, all));
	LEFT(room());
}

static void fallocate_by_steps(struct t *t)
{
	const uint64_t step = 37 * BLOCK;
	int fd = exact_file(t, "f", 0);
	uint64_t at = 0;

	while (at + step <= room() * BLOCK) {
		OK(fallocate(fd, 0, (off_t)at, (off_t)step));
		at += step;
		LEFT(room() - at / BLOCK);
	}
	ERR(exact.full, fallocate(fd, 0, (off_t)at, (off_t)step));
	for (; at < room() * BLOCK; at += BLOCK)
		OK(fallocate(fd, 0, (off_t)at, 1));
	ERR(exact.full, fallocate(fd, 0, (off_t)at, 1));
	LEFT(0);
}

/* What is refused of a range, however much of it there is already, leaves the file as it was. */
static void refused_ranges_change_nothing(struct t *t)
{
	const uint64_t data = room() / 4, first = 5 * BLOCK + 100, one_too_many = (room() + 1) * BLOCK - first;
	static const int modes[] = { FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE, 0 };
	uint8_t *buf = exact_buffer(data * BLOCK), zeros[BLOCK] = { 0 }, block[BLOCK];
	int fd = exact_file(t, "f", 0);
	struct stat before, after;

	exact_pattern(buf, data * BLOCK, 1, 0);
	RET(data * BLOCK, pwrite(fd, buf, data * BLOCK, 0));
	OK(fsync(fd));
	OK(fstat(fd, &before));
	for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		ERR(exact.full, fallocate(fd, modes[i], (off_t)first, (off_t)one_too_many));
		LEFT(room() - data);
		OK(fstat(fd, &after));
		RET(before.st_size, after.st_size);
		RET(before.st_blocks, after.st_blocks);
		TRUE(before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
		TRUE(exact_reads(fd, 0, data * BLOCK, 1));
	}
	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)first, (off_t)(one_too_many - BLOCK)));
	LEFT(0);
	RET(room(), exact_blocks(fd));
	RET(room() * BLOCK, ops_size("f"));
	TRUE(exact_reads(fd, 0, 5 * BLOCK, 1));
	for (uint64_t at = 6; at < room(); at++) {
		RET(BLOCK, pread(fd, block, BLOCK, (off_t)(at * BLOCK)));
		TRUE(!memcmp(block, zeros, BLOCK));
	}
}

/* What was promised to a file is its own, whoever fills the rest. */
static void promised_can_be_written(struct t *t)
{
	const uint64_t half = room() / 2;
	uint8_t *buf = exact_buffer(room() * BLOCK);
	int fd = exact_file(t, "f", 0), other = exact_file(t, "g", 0);

	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(half * BLOCK)));
	RET(0, ops_size("f"));
	LEFT(room() - half);
	exact_pattern(buf, room() * BLOCK, 1, 0);
	RET((room() - half) * BLOCK, pwrite(other, buf, room() * BLOCK, 0));
	LEFT(0);
	ERR(exact.full, pwrite(other, buf, 1, (off_t)(room() * BLOCK)));
	OK(fsync(other));
	/* Growing is free, and so is writing then. */
	OK(ftruncate(fd, (off_t)(half * BLOCK)));
	RET(half, exact_blocks(fd));
	RET(half * BLOCK, pwrite(fd, buf, half * BLOCK, 0));
	LEFT(0);
	ERR(exact.full, pwrite(fd, buf, 1, (off_t)(half * BLOCK)));
	OK(fsync(fd));
	LEFT(0);
	TRUE(exact_reads(fd, 0, half * BLOCK, 1));
	/* Shrinking to its size gives back what was promised behind it. */
	OK(ftruncate(fd, 0));
	LEFT(half);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(half * BLOCK)));
	LEFT(0);
	OK(ftruncate(fd, 0));
	LEFT(half);
}

static void growing_is_free(struct t *t)
{
	int fd = exact_file(t, "f", 0);

	OK(ftruncate(fd, (off_t)1 << 40));
	LEFT(room());
	OK(ftruncate(fd, INT64_MAX));
	LEFT(room());
	OK(ftruncate(fd, (off_t)1 << 40));
	RET(1, pwrite(fd, "x", 1, (off_t)1 << 39));
	LEFT(room() - 1);
	OK(fallocate(fd, PUNCH, 0, (off_t)1 << 40));
	COMES_BACK(room());
}

static void copies_of_ranges_are_charged(struct t *t)
{
	const uint64_t piece = 20 * BLOCK + 100, source = room() / 3;
	uint8_t *buf = exact_buffer(source * BLOCK);
	int in = exact_file(t, "in", 0), out = exact_file(t, "f", 0);
	uint64_t done = 0;
	ssize_t n;

	exact_pattern(buf, source * BLOCK, 1, 0);
	RET(source * BLOCK, write(in, buf, source * BLOCK));
	LEFT(room() - source);
	/* Whole blocks: shared, and charged like others. Again and again to the same source. */
	for (;;) {
		off_t from = (off_t)(done % (source * BLOCK)), to = (off_t)done;

		n = copy_file_range(in, &from, out, &to, piece / BLOCK * BLOCK, 0);
		if (n <= 0)
			break;
		done += (uint64_t)n;
		LEFT(room() - source - (done + BLOCK - 1) / BLOCK);
	}
	TRUE(n < 0 && errno == exact.full);
	RET((room() - source) * BLOCK, done);
	LEFT(0);
	/* Over what is there it is free; and bytes that fit no block are copied. */
	RET(piece, copy_file_range(in, &(loff_t){ 7 }, out, &(loff_t){ 3 * BLOCK + 1 }, piece, 0));
	LEFT(0);
	RET(source / 2 * BLOCK, copy_file_range(in, &(loff_t){ 0 }, out, &(loff_t){ 0 }, source / 2 * BLOCK, 0));
	LEFT(0);
	OK(fsync(out));
	LEFT(0);
	TRUE(exact_reads(out, 0, source / 2 * BLOCK, 1));
	/* Shared blocks are given back like others. */
	OK(ftruncate(out, BLOCK));
	LEFT(room() - source - 1);
}

/* ---- A full one ---- */

static void full_is_overwritten(struct t *t)
{
	const uint64_t size = room() * BLOCK;
	int fd = full_file(t, 1), direct;
	uint8_t *buf = exact_buffer(size), *p;

	for (uint64_t seed = 2; seed < 4; seed++) {
		exact_pattern(buf, size, seed, 0);
		RET(size, pwrite(fd, buf, size, 0));
		LEFT(0);
		if (seed == 3)
			OK(fsync(fd));
		TRUE(exact_reads(fd, 0, size, seed));
	}
	OK(fsync(fd));
	direct = FD(open("f", O_RDWR | O_DIRECT));
	exact_pattern(buf, size, 4, 0);
	RET(size, pwrite(direct, buf, size, 0));
	LEFT(0);
	TRUE(exact_reads(fd, 0, size, 4));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(p != MAP_FAILED);
	exact_pattern(p, size, 5, 0);
	OK(msync(p, size, MS_SYNC));
	OK(munmap(p, size));
	OK(fsync(fd));
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	TRUE(exact_reads(fd, 0, size, 5));
	LEFT(0);
	RET(room(), exact_blocks(fd));
	/* In pieces, so that old and new lie side by side. */
	for (uint64_t at = 0; at + 3 * BLOCK < size; at += 7 * BLOCK + 11)
		if (pwrite(fd, "some bytes", 10, (off_t)at) != 10)
			ops_fail(t, __LINE__, "at %llu: %s", (unsigned long long)at, strerror(errno));
	OK(fsync(fd));
	LEFT(0);
}

/* Noise over what was compressed: the charge was that of the blocks all the time. */
static void full_of_alike_is_overwritten_with_noise(struct t *t)
{
	const uint64_t size = room() * BLOCK;
	uint8_t *buf = exact_buffer(size);
	int fd = exact_file(t, "f", 0), direct;

	memset(buf, 'a', size);
	RET(size, pwrite(fd, buf, size, 0));
	LEFT(0);
	OK(fsync(fd));
	LEFT(0);
	RET(room(), exact_blocks(fd));
	for (uint64_t at = 0; at + MIB < size; at += MIB)
		RET(1, pwrite(fd, "b", 1, (off_t)(at + 5 * BLOCK)));
	LEFT(0);
	exact_pattern(buf, size, 2, 0);
	RET(size, pwrite(fd, buf, size, 0));
	OK(fsync(fd));
	LEFT(0);
	TRUE(exact_reads(fd, 0, size, 2));
	memset(buf, 'c', size);
	RET(size, pwrite(fd, buf, size, 0));
	OK(fsync(fd));
	direct = FD(open("f", O_RDWR | O_DIRECT));
	exact_pattern(buf, size, 3, 0);
	RET(size, pwrite(direct, buf, size, 0));
	LEFT(0);
	TRUE(exact_reads(fd, 0, size, 3));
}

static void full_gives_back(struct t *t)
{
	int fd = full_file(t, 1), g;

	OK(fallocate(fd, PUNCH, 10 * BLOCK, BLOCK));
	LEFT(1);
	RET(BLOCK, pwrite(fd, (uint8_t[BLOCK]){ 1 }, BLOCK, 10 * BLOCK));
	LEFT(0);
	OK(ftruncate(fd, (off_t)((room() - 5) * BLOCK)));
	LEFT(5);
	g = exact_file(t, "g", 0);
	RET(5 * BLOCK, pwrite(g, (uint8_t[6 * BLOCK]){ 1 }, 6 * BLOCK, 0));
	LEFT(0);
	OK(close(g));
	OK(unlink("g"));
	COMES_BACK(5);
	OK(ftruncate(fd, (off_t)(room() * BLOCK)));
	RET(5 * BLOCK, pwrite(fd, (uint8_t[5 * BLOCK]){ 1 }, 5 * BLOCK, (off_t)((room() - 5) * BLOCK)));
	LEFT(0);
	/* A new name in a directory that has a block costs none. */
	exact_file(t, "empty", 0);
	LEFT(0);
	OK(close(fd));
	OK(rename("empty", "f"));
	COMES_BACK(room());
}

static void full_can_be_emptied(struct t *t)
{
	static const char *const ways[] = { "unlink", "O_TRUNC", "truncate", "punch" };

	for (unsigned i = 0; i < 4; i++) {
		int fd = full_file(t, i);

		ops_log(t, "%s", ways[i]);
		if (i % 2)
			OK(fsync(fd));
		if (i == 0)
			OK(unlink("f"));
		else if (i == 1)
			FD(open("f", O_RDWR | O_TRUNC));
		else if (i == 2)
			OK(truncate("f", 0));
		else
			OK(fallocate(fd, PUNCH, 0, (off_t)(room() * BLOCK)));
		OK(close(fd));
		COMES_BACK(room() + (i == 0));
		/* All of it can be had again at once. */
		exact_file(t, "f", 0);
	}
}

/* ---- Without a name ---- */

static void unlinked_counts_until_it_is_closed(struct t *t)
{
	uint8_t *buf = exact_buffer(room() * BLOCK);
	int fd = exact_file(t, "f", 0), other;
	uint64_t inodes = exact.inodes - 3;

	exact_pattern(buf, room() * BLOCK, 1, 0);
	RET(100, pwrite(fd, buf, 100, 0));
	RET(9 * BLOCK, pwrite(fd, buf, 9 * BLOCK, 0));
	OK(link("f", "again"));
	OK(unlink("f"));
	OK(unlink("again"));
	LEFT(room() + 1 - 9);
	INODES_LEFT(inodes);
	other = exact_file(t, "g", 0);
	RET((room() - 9) * BLOCK, pwrite(other, buf, room() * BLOCK, 0));
	LEFT(0);
	ERR(exact.full, pwrite(other, buf, 1, (off_t)(room() * BLOCK)));
	/* It lives: it can be written over, and shrunk, and grow into what is left. */
	OK(ftruncate(fd, 8 * BLOCK));
	LEFT(1);
	RET(BLOCK, pwrite(fd, buf, 2 * BLOCK, 20 * BLOCK));
	LEFT(0);
	OK(fsync(fd));
	LEFT(0);
	INODES_LEFT(inodes - 1);
	OK(close(fd));
	COMES_BACK(9);
	INODES_LEFT(inodes);
	/* Mapped, but closed. */
	fd = exact_file(t, "f", 0);
	RET(9 * BLOCK, pwrite(fd, buf, 9 * BLOCK, 0));
	void *p = mmap(NULL, BLOCK, PROT_READ, MAP_SHARED, fd, 0);
	OK(close(fd));
	OK(unlink("f"));
	LEFT(0);
	OK(munmap(p, BLOCK));
	COMES_BACK(9);
}

static void tmpfile_counts(struct t *t)
{
	uint8_t *buf = exact_buffer(room() * BLOCK + BLOCK);
	int fd = FD(open(".", O_TMPFILE | O_RDWR, 0600));

	/* It needs no entry, so the directory has no block. */
	LEFT(room() + 1);
	INODES_LEFT(exact.inodes - 3);
	exact_pattern(buf, room() * BLOCK, 1, 0);
	RET(room() * BLOCK, pwrite(fd, buf, room() * BLOCK, 0));
	LEFT(1);
	RET(BLOCK, pwrite(fd, buf, BLOCK + 1, (off_t)(room() * BLOCK)));
	LEFT(0);
	/* A name for it needs the directory's first block. */
	ERR(exact.full, linkat(fd, "", AT_FDCWD, "x", AT_EMPTY_PATH));
	OK(ftruncate(fd, (off_t)(room() * BLOCK)));
	OK(linkat(fd, "", AT_FDCWD, "x", AT_EMPTY_PATH));
	LEFT(0);
	OK(unlink("x"));
	LEFT(1);
	OK(close(fd));
	COMES_BACK(room() + 1);
	INODES_LEFT(exact.inodes - 2);
}

/* st_blocks of all there is, together with what statfs(2) says. */
static void sums_agree(struct t *t)
{
	static const unsigned sizes[] = { 0, 1, 2048, 2049, 4096, 4097, 262144, 262145, 100000 };
	uint64_t sum = 1; /* the root's */
	char name[64];
	struct stat st;

	OK(mkdir("d", 0755));
	for (unsigned i = 0; i < 60; i++) {
		int fd;

		if (exact_free() < 100)
			break;
		snprintf(name, sizeof(name), "d/file with some name of its own %03u", i);
		fd = exact_file(t, name, 0);
		OK(ftruncate(fd, sizes[i % 9]));
		/* A file of holes alone says that it has a block: tar(1) would leave it out. */
		if (sizes[i % 9])
			RET(1, pwrite(fd, "x", 1, sizes[i % 9] - 1));
		if (i % 4 == 1)
			OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 12000));
		if (i % 5 == 2)
			OK(fsetxattr(fd, "user.x", name, i, 0));
		if (i % 7 == 2)
			OK(fsetxattr(fd, "user.y", (char[5000]){ 1 }, 5000, 0));
		close(fd);
	}
	OK(symlink("short", "d/a"));
	OK(symlink((char[200]){ [0 ... 198] = 'x' }, "d/b"));
	OK(mknod("d/fifo", S_IFIFO | 0644, 0));
	sync();
	for (unsigned i = 0; i < 64; i++) {
		static const char *const others[] = { "d/a", "d/b", "d", "." };

		snprintf(name, sizeof(name), "d/file with some name of its own %03u", i - 4);
		if (lstat(i < 4 ? others[i] : name, &st))
			continue;
		sum += (uint64_t)st.st_blocks / (BLOCK / 512);
	}
	LEFT(exact.blocks - sum);
}

const struct op_case exact_space[] = {
	{ "fallocate_to_the_last_block", fallocate_to_the_last_block, 0 },
	{ "fallocate_by_steps", fallocate_by_steps, 0 },
	{ "refused_ranges_change_nothing", refused_ranges_change_nothing, 0 },
	{ "promised_can_be_written", promised_can_be_written, 0 },
	{ "growing_is_free", growing_is_free, 0 },
	{ "copies_of_ranges_are_charged", copies_of_ranges_are_charged, 0 },
	{ "full_is_overwritten", full_is_overwritten, 0 },
	{ "full_of_alike_is_overwritten_with_noise", full_of_alike_is_overwritten_with_noise, 0 },
	{ "full_gives_back", full_gives_back, 0 },
	{ "full_can_be_emptied", full_can_be_emptied, 0 },
	{ "unlinked_counts_until_it_is_closed", unlinked_counts_until_it_is_closed, 0 },
	{ "tmpfile_counts", tmpfile_counts, 0 },
	{ "sums_agree", sums_agree, 0 },
	{ NULL, NULL, 0 },
};
