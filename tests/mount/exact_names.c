/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks of what is no file data, and inodes. */
#include "config.h"

#include "exact.h"

#include <sys/xattr.h>

#define ENTRY_BYTES 24 /* and the name's */

static uint64_t blocks_of(uint64_t bytes)
{
	return (bytes + BLOCK - 1) / BLOCK;
}

/* All but `blocks` blocks are taken by a file "fill" (4 bytes), which must be there already. */
static void leave(struct t *t, uint64_t blocks)
{
	int fd = FD(open("fill", O_RDWR));

	OK(fallocate(fd, 0, 0, (off_t)((exact_free() - blocks) * BLOCK)));
	LEFT(blocks);
	OK(close(fd));
}

/* One block for each file with a few bytes, and a block of the directory for as many as fit. */
static void small_files(struct t *t)
{
	uint64_t n = 0;
	char name[9];
	int fd = -1;

	exact_file(t, "fill", 0);
	leave(t, 150);
	OK(rename("fill", "filefill"));
	for (;; n++) {
		uint64_t left = exact_free();

		snprintf(name, sizeof(name), "%08llu", (unsigned long long)n);
		fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, "x", 1) != 1)
			break;
		OK(close(fd));
		/* The block of the file, and now and then one of the directory. */
		if (exact_free() != left - 1 - (blocks_of((n + 2) * 32) - blocks_of((n + 1) * 32)))
			ops_fail(t, __LINE__, "file %llu: %llu left, were %llu", (unsigned long long)n,
				 (unsigned long long)exact_free(), (unsigned long long)left);
	}
	TRUE(errno == exact.full);
	LEFT(0);
	TRUE(n >= 148);
	/* Inline data becomes a block without another charge. */
	fd = FD(open("00000003", O_RDWR));
	RET(BLOCK, pwrite(fd, (uint8_t[BLOCK + 1]){ 1 }, BLOCK + 1, 0));
	OK(fsync(fd));
	LEFT(0);
	OK(unlink("00000005"));
	COMES_BACK(1);
	/* And a shrunk one is a block again. */
	OK(ftruncate(fd, 10));
	OK(fsync(fd));
	LEFT(1);
	OK(ftruncate(fd, 0));
	LEFT(2);
}

static void long_names(struct t *t)
{
	char name[220];
	uint64_t n = 1;

	exact_file(t, "fill", 0);
	leave(t, 4);
	memset(name, 'n', 200);
	name[200] = 0;
	/* 28 and 224 bytes each; the directory has its first block. */
	for (;; n++) {
		snprintf(name + 190, sizeof(name) - 190, "%010llu", (unsigned long long)n);
		if (n % 2 ? mkdir(name, 0755) : symlink("x", name))
			break;
		LEFT(4 + 1 - blocks_of(28 + n * 224));
	}
	TRUE(errno == exact.full);
	LEFT(0);
	TRUE(28 + n * 224 > 5 * BLOCK && 28 + (n - 1) * 224 <= 5 * BLOCK);
	/* A shorter name needs nothing; and what is there can go. */
	snprintf(name + 190, sizeof(name) - 190, "%010d", 1);
	OK(rename(name, "short"));
	OK(rmdir("short"));
	for (uint64_t i = 2; i < n; i++) {
		snprintf(name + 190, sizeof(name) - 190, "%010llu", (unsigned long long)i);
		OK(i % 2 ? rmdir(name) : unlink(name));
		LEFT(4 + 1 - blocks_of(28 + (n - 1 - i) * 224));
	}
	LEFT(4);
}

static void moved_between_directories(struct t *t)
{
	OK(mkdir("a", 0755));
	OK(mkdir("b", 0755));
	LEFT(exact.blocks - 2);
	exact_file(t, "a/f", 0);
	LEFT(exact.blocks - 3);
	exact_file(t, "fill", 0);
	leave(t, 0);
	/* b's first block is a's last one. */
	OK(rename("a/f", "b/f"));
	LEFT(0);
	exact_file(t, "b/g", 0);
	ERR(exact.full, rename("b/f", "a/f"));
	ERR(exact.full, link("b/f", "a/f"));
	ERR(exact.full, mkdir("a/d", 0755));
	ERR(exact.full, symlink("x", "a/l"));
	ERR(exact.full, open("a/f", O_CREAT | O_WRONLY, 0644));
	LEFT(0);
	OK(unlink("b/f"));
	OK(rename("b/g", "a/g"));
	LEFT(0);
	OK(unlink("a/g"));
	LEFT(1);
	OK(rmdir("a"));
	OK(rmdir("b"));
}

static void xattrs(struct t *t)
{
	static char value[60001];
	uint64_t bytes = 0, n = 0;
	char name[16];
	int fd = exact_file(t, "f", 0);

	exact_file(t, "fill", 0);
	leave(t, 40);
	memset(value, 'v', sizeof(value));
	for (;; n++) {
		unsigned len = 100 + (unsigned)n * 611;

		snprintf(name, sizeof(name), "user.%03llu", (unsigned long long)n);
		if (fsetxattr(fd, name, value, len, XATTR_CREATE))
			break;
		bytes += 8 + len;
		LEFT(40 - blocks_of(bytes));
	}
	TRUE(errno == exact.full);
	TRUE(blocks_of(bytes + 8 + 100 + n * 611) > 40);
	/* To the last byte of the last block. */
	OK(fsetxattr(fd, "user.xyz", value, 40 * BLOCK - bytes - 8, 0));
	LEFT(0);
	ERR(exact.full, fsetxattr(fd, "user.a", "", 0, 0));
	ERR(exact.full, fsetxattr(fd, "user.000", value, 101, 0));
	OK(fsetxattr(fd, "user.000", value, 100, XATTR_REPLACE));
	OK(fsetxattr(fd, "user.000", "w", 1, XATTR_REPLACE));
	OK(fsetxattr(fd, "user.000", value, 100, XATTR_REPLACE));
	LEFT(0);
	OK(fsync(fd));
	LEFT(0);
	OK(fremovexattr(fd, "user.xyz"));
	LEFT(40 - blocks_of(bytes));
	OK(unlink("f"));
	/* Open, so it counts. */
	LEFT(40 - blocks_of(bytes));
	OK(close(fd));
	COMES_BACK(40);
}

static void symlinks(struct t *t)
{
	char target[130] = "", name[16];
	uint64_t n = 0;

	exact_file(t, "fill", 0);
	leave(t, 30);
	memset(target, 't', 128);
	OK(symlink(target, "free"));
	LEFT(30);
	target[128] = 't';
	do {
		snprintf(name, sizeof(name), "%04llu", (unsigned long long)n);
	} while (!symlink(target, name) && ++n);
	TRUE(errno == exact.full);
	RET(30, n);
	LEFT(0);
	target[128] = 0;
	OK(symlink(target, "one more"));
	OK(unlink("0000"));
	COMES_BACK(1);
}

/* ---- inodes ---- */

static void inodes_to_the_last_one(struct t *t)
{
	uint64_t n = 0, most = exact.inodes - 2;
	char name[32];
	int fd, open_fd;

	if (most / 128 + 8 > exact.blocks)
		ops_skip(t, "there are more inodes than directory entries fit");
	OK(mkdir("d", 0755));
	for (n = 1; n < most; n++) {
		int r = 0;

		snprintf(name, sizeof(name), "d/%08llu", (unsigned long long)n);
		if (n % 4 == 0)
			r = mkdir(name, 0755);
		else if (n % 4 == 1)
			r = mknod(name, S_IFREG | 0644, 0);
		else if (n % 4 == 2)
			r = symlink("x", name);
		else
			r = mknod(name, S_IFIFO | 0644, 0);
		if (r) {
			ops_fail(t, __LINE__, "inode %llu: %s", (unsigned long long)n, strerror(errno));
			return;
		}
		if (n % 64 == 0 || n + 5 > most)
			INODES_LEFT(most - n - 1);
	}
	INODES_LEFT(0);
	ERR(exact.full, open("x", O_CREAT | O_WRONLY, 0644));
	ERR(exact.full, mkdir("x", 0755));
	ERR(exact.full, symlink("x", "x"));
	ERR(exact.full, mknod("x", S_IFIFO | 0644, 0));
	ERR(exact.full, open(".", O_TMPFILE | O_RDWR, 0644));
	INODES_LEFT(0);
	/* What is there can have names, be renamed, written and replaced. */
	OK(link("d/00000001", "again"));
	OK(rename("again", "moved"));
	OK(unlink("moved"));
	fd = FD(open("d/00000001", O_RDWR));
	RET(5000, write(fd, (char[5000]){ 1 }, 5000));
	OK(rename("d/00000001", "d/00000005"));
	INODES_COME_BACK(1);
	OK(mkdir("x", 0755));
	INODES_LEFT(0);
	OK(rmdir("x"));
	INODES_COME_BACK(1);
	/* An open one counts until it is closed. */
	open_fd = FD(open("x", O_CREAT | O_RDWR, 0644));
	OK(unlink("x"));
	INODES_LEFT(0);
	ERR(exact.full, mkdir("x", 0755));
	OK(close(open_fd));
	INODES_COME_BACK(1);
	OK(mkdir("x", 0755));
	INODES_LEFT(0);
	OK(fsync(fd));
	OK(unlink("d/00000009"));
	INODES_COME_BACK(1);
	OK(mkdir("y", 0755));
	INODES_LEFT(0);
}

const struct op_case exact_names[] = {
	{ "small_files", small_files, 0 },
	{ "long_names", long_names, 0 },
	{ "moved_between_directories", moved_between_directories, 0 },
	{ "xattrs", xattrs, 0 },
	{ "symlinks", symlinks, 0 },
	{ "inodes_to_the_last_one", inodes_to_the_last_one, 0 },
	{ NULL, NULL, 0 },
};
