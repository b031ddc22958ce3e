/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hard links, symbolic links, and paths through them. */
#include "config.h"

#include "ops.h"

#include <limits.h>

static void link_counts(struct t *t)
{
	ops_make(t, "a", 1000, 3);
	OK(mkdir("d", 0755));
	OK(link("a", "b"));
	OK(link("b", "d/c"));
	RET(3, ops_nlink("a"));
	RET(3, ops_nlink("d/c"));
	TRUE(ops_same_inode("a", "d/c"));
	OK(unlink("a"));
	RET(2, ops_nlink("b"));
	ops_see_content(t, "d/c");
	OK(chmod("b", 0600));
	RET(0600, ops_mode("d/c"));
	OK(unlink("b"));
	OK(unlink("d/c"));
}

static void link_errors(struct t *t)
{
	ops_make(t, "f", 0, 1);
	ops_make(t, "g", 0, 1);
	OK(mkdir("d", 0755));
	ERR(EEXIST, link("f", "g"));
	ERR(EEXIST, link("f", "f"));
	ERR(EEXIST, link("f", "d"));
	ERR(EPERM, link("d", "d2"));
	ERR(ENOENT, link("nothing", "x"));
	ERR(ENOENT, link("f", "no/thing"));
	ERR(ENOTDIR, link("f", "g/x"));
	ERR(ENOTDIR, link("f/x", "y"));
	ERR(EXDEV, link("f", "/nvfs-ops-none"));
	SEE(link("f", "new/"));
	RET(1, ops_nlink("f"));
}

static void link_to_symlink(struct t *t)
{
	ops_make(t, "f", 0, 1);
	OK(symlink("f", "l"));
	OK(link("l", "l2"));
	TRUE(ops_same_inode("l", "l2"));
	RET(2, ops_nlink("l"));
	OK(linkat(AT_FDCWD, "l", AT_FDCWD, "f2", AT_SYMLINK_FOLLOW));
	TRUE(ops_same_inode("f", "f2"));
}

static void link_to_specials(struct t *t)
{
	OK(mkfifo("p", 0600));
	OK(link("p", "p2"));
	RET(2, ops_nlink("p"));
	OK(mknod("s", S_IFSOCK | 0600, 0));
	OK(link("s", "s2"));
	OK(unlink("p"));
	RET(1, ops_nlink("p2"));
}

static void link_many(struct t *t)
{
	char name[16];
	int made = 0;

	ops_make(t, "f", 10, 1);
	for (; made < 2000; made++) {
		snprintf(name, sizeof(name), "l%d", made);
		if (link("f", name))
			break;
	}
	TRUE(made == 2000);
	RET(2001, ops_nlink("f"));
	OK(unlink("f"));
	for (int i = 0; i < made - 1; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		if (unlink(name))
			ops_fail(t, __LINE__, "unlink %s: %s", name, strerror(errno));
	}
	RET(1, ops_nlink("l1999"));
	ops_see_content(t, "l1999");
}

/* Links until EMLINK or a bound: either way the count is right and the file is whole. */
static void link_limit(struct t *t)
{
	char name[16];
	long made = 1;

	ops_make(t, "f", 10, 1);
	OK(mkdir("d", 0755));
	for (; made < 70000; made++) {
		snprintf(name, sizeof(name), "d/%ld", made);
		if (link("f", name))
			break;
	}
	TRUE(made == 70000 || errno == EMLINK);
	TRUE(made >= 1000);
	TRUE(ops_nlink("f") == made);
}

static void symlink_and_readlink(struct t *t)
{
	char buf[64];

	OK(symlink("some where/\xff else", "l"));
	RET(17, readlink("l", buf, sizeof(buf)));
	TRUE(!memcmp(buf, "some where/\xff else", 17));
	RET(17, ops_size("l"));
	RET(4, readlink("l", buf, 4));
	RET(0777, ops_mode("l"));
	ops_see_stat(t, "l");
	ops_make(t, "f", 0, 1);
	ERR(EINVAL, readlink("f", buf, sizeof(buf)));
	ERR(EINVAL, readlink(".", buf, sizeof(buf)));
	ERR(ENOENT, readlink("nothing", buf, sizeof(buf)));
	ERR(ENOENT, symlink("", "empty"));
	ERR(EEXIST, symlink("x", "f"));
	ERR(EEXIST, symlink("x", "l"));
	ERR(ENOENT, symlink("x", "no/thing"));
	ERR(ENOTDIR, symlink("x", "f/thing"));
}

static void symlink_of_4095(struct t *t)
{
	static char target[PATH_MAX + 1], buf[PATH_MAX + 1];
	static const size_t lengths[] = {1, 59, 60, 255, 256, 1000, 1023, 1024, 2000, 2048, 3000, 4000, 4094};
	char name[16];

	memset(target, 't', sizeof(target));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t len = lengths[i];

		target[len] = 0;
		snprintf(name, sizeof(name), "l%zu", len);
		if (ops_fs(t) == OPS_FS_XFS && len > 1023)
			break;
		OK(symlink(target, name));
		TRUE(readlink(name, buf, sizeof(buf)) == (ssize_t)len && !memcmp(buf, target, len));
		TRUE(ops_size(name) == (long long)len);
		target[len] = 't';
	}
}

static void symlink_of_4095_exactly(struct t *t)
{
	static char target[PATH_MAX + 1], buf[PATH_MAX + 1];

	memset(target, 't', PATH_MAX);
	ERR(ENAMETOOLONG, symlink(target, "long"));
	target[PATH_MAX - 1] = 0;
	OK(symlink(target, "l"));
	RET(PATH_MAX - 1, readlink("l", buf, sizeof(buf)));
	TRUE(!memcmp(buf, target, PATH_MAX - 1));
}

static void symlink_is_followed(struct t *t)
{
	ops_make(t, "f", 100, 5);
	OK(mkdir("d", 0755));
	OK(symlink("../f", "d/l"));
	OK(symlink("d", "dl"));
	ops_see_content(t, "d/l");
	ops_see_content(t, "dl/l");
	OK(chmod("dl/l", 0600));
	RET(0600, ops_mode("f"));
	OK(truncate("d/l", 10));
	RET(10, ops_size("f"));
	OK(mkdir("dl/sub", 0755));
	TRUE(ops_exists("d/sub"));
}

static void symlink_loops(struct t *t)
{
	char name[16], target[16];

	OK(symlink("a", "b"));
	OK(symlink("b", "a"));
	OK(symlink("self", "self"));
	ERR(ELOOP, open("a", O_RDONLY));
	ERR(ELOOP, open("self/x", O_RDONLY));
	ERR(ELOOP, chmod("self", 0600));
	ERR(ELOOP, mkdir("a/x", 0755));
	ERR(ELOOP, rename("a/x", "y"));
	/* 40 is the kernel's limit. */
	ops_make(t, "s0", 1, 1);
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		snprintf(target, sizeof(target), "s%d", i - 1);
		OK(symlink(target, name));
	}
	close(FD(open("s40", O_RDONLY)));
	ERR(ELOOP, open("s41", O_RDONLY));
}

static void symlink_owner_and_times(struct t *t)
{
	struct timespec ts[2] = {{.tv_sec = 1000000000, .tv_nsec = 123456789}, {.tv_sec = 1100000000, .tv_nsec = 987654321}};
	struct stat st;

	OK(symlink("nothing", "l"));
	OK(utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
	OK(lstat("l", &st));
	TRUE(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321);
	OK(lchown("l", ops_uid(t), ops_gid(t)));
	ERR(ENOENT, chown("l", ops_uid(t), ops_gid(t)));
	ERR(EOPNOTSUPP, fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
}

const struct op_case ops_links[] = {
	{"link_counts", link_counts, 0},
	{"link_errors", link_errors, 0},
	{"link_to_symlink", link_to_symlink, 0},
	{"link_to_specials", link_to_specials, 0},
	{"link_many", link_many, 0},
	{"link_limit", link_limit, 0},
	{"symlink_and_readlink", symlink_and_readlink, 0},
	{"symlink_of_4095", symlink_of_4095, 0},
	{"symlink_of_4095_exactly", symlink_of_4095_exactly, 0},
	{"symlink_is_followed", symlink_is_followed, 0},
	{"symlink_loops", symlink_loops, 0},
	{"symlink_owner_and_times", symlink_owner_and_times, 0},
	{NULL, NULL, 0},
};
