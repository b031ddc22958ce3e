/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rename(2) and renameat2(2) with every flag. */
#include "config.h"

#include "ops.h"

#include <dirent.h>
#include <sys/sysmacros.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE 2u
#define RENAME_WHITEOUT 4u
#endif

static int ren(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void rename_file(struct t *t)
{
	ops_make(t, "a", 5000, 1);
	OK(mkdir("d", 0755));
	OK(rename("a", "b"));
	ERR(ENOENT, open("a", O_RDONLY));
	ops_see_content(t, "b");
	OK(rename("b", "d/c"));
	ERR(ENOENT, rename("b", "x"));
	ops_see_content(t, "d/c");
	RET(1, ops_nlink("d/c"));
	OK(rename("d/c", "d/c"));
	TRUE(ops_exists("d/c"));
}

static void rename_over_file(struct t *t)
{
	struct stat st;
	int old;

	ops_make(t, "a", 5000, 1);
	old = ops_file(t, "b", 700000, 2);
	OK(rename("a", "b"));
	TRUE(!ops_exists("a"));
	RET(5000, ops_size("b"));
	ops_see_content(t, "b");
	OK(fstat(old, &st));
	TRUE(st.st_nlink == 0 && st.st_size == 700000);
	TRUE(ops_reads_pattern(old, 0, 700000, 2));
	OK(close(old));
}

static void rename_over_one_of_two_links(struct t *t)
{
	ops_make(t, "a", 10, 1);
	ops_make(t, "b", 20, 2);
	OK(link("b", "b2"));
	OK(rename("a", "b"));
	RET(1, ops_nlink("b2"));
	RET(20, ops_size("b2"));
	RET(10, ops_size("b"));
}

static void rename_links_of_one_inode(struct t *t)
{
	/* POSIX: nothing happens, both names stay. */
	ops_make(t, "a", 10, 1);
	OK(link("a", "b"));
	OK(rename("a", "b"));
	TRUE(ops_exists("a") && ops_exists("b"));
	RET(2, ops_nlink("a"));
	ERR(EEXIST, ren("a", "b", RENAME_NOREPLACE));
	OK(ren("a", "b", RENAME_EXCHANGE));
	TRUE(ops_exists("a") && ops_exists("b"));
}

static void rename_dir(struct t *t)
{
	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	OK(mkdir("p/d", 0755));
	ops_make(t, "p/d/f", 10, 1);
	OK(rename("p/d", "q/e"));
	RET(2, ops_nlink("p"));
	RET(3, ops_nlink("q"));
	TRUE(ops_same_inode("q/e/..", "q"));
	ops_see_content(t, "q/e/f");
	OK(mkdir("empty", 0755));
	OK(rename("q/e", "empty"));
	RET(2, ops_nlink("q"));
	ops_see_content(t, "empty/f");
	TRUE(ops_same_inode("empty/..", "."));
}

static void rename_errors(struct t *t)
{
	ops_make(t, "f", 0, 1);
	OK(mkdir("d", 0755));
	OK(mkdir("full", 0755));
	OK(mkdir("full/x", 0755));
	OK(mkdir("d/e", 0755));
	ERR(ENOENT, rename("nothing", "x"));
	ERR(ENOENT, rename("f", "no/thing"));
	ERR(ENOTDIR, rename("f", "f/x"));
	ERR(ENOTDIR, rename("d", "f"));
	ERR(EISDIR, rename("f", "d"));
	ERR2(ENOTEMPTY, EEXIST, rename("d", "full"));
	ERR(EINVAL, rename("d", "d/e/x"));
	ERR(EINVAL, rename("d", "d/x"));
	ERR2(ENOTEMPTY, EEXIST, rename("d/e", "d"));
	ERR(EBUSY, rename("d/.", "x"));
	ERR(EBUSY, rename("d/..", "x"));
	ERR(EBUSY, rename("f", "."));
	ERR(ENOTDIR, rename("f", "new/"));
	ERR(ENOTDIR, rename("f/", "new"));
	OK(rename("d", "new/"));
	ERR(EXDEV, rename("f", "/proc/f"));
	TRUE(ops_exists("f") && ops_exists("new/e"));
}

static void rename_symlink(struct t *t)
{
	ops_make(t, "f", 10, 1);
	OK(symlink("f", "l"));
	OK(rename("l", "m"));
	TRUE(ops_exists("f") && ops_exists("m") && !ops_exists("l"));
	OK(mkdir("d", 0755));
	OK(symlink("d", "dl"));
	ERR(ENOTDIR, rename("d", "dl"));
	OK(rename("f", "dl"));
	RET(10, ops_size("dl"));
}

static void rename_noreplace(struct t *t)
{
	ops_make(t, "a", 10, 1);
	ops_make(t, "b", 20, 2);
	OK(mkdir("d", 0755));
	ERR(EEXIST, ren("a", "b", RENAME_NOREPLACE));
	ERR(EEXIST, ren("a", "d", RENAME_NOREPLACE));
	ERR(EEXIST, ren("d", "a", RENAME_NOREPLACE));
	OK(ren("a", "c", RENAME_NOREPLACE));
	OK(ren("c", "d/c", RENAME_NOREPLACE));
	ERR(ENOENT, ren("c", "x", RENAME_NOREPLACE));
	OK(symlink("nothing", "l"));
	ERR(EEXIST, ren("b", "l", RENAME_NOREPLACE));
	RET(20, ops_size("b"));
	RET(10, ops_size("d/c"));
}

static void rename_exchange(struct t *t)
{
	ops_make(t, "a", 10, 1);
	ops_make(t, "b", 20, 2);
	OK(ren("a", "b", RENAME_EXCHANGE));
	RET(20, ops_size("a"));
	RET(10, ops_size("b"));
	ops_see_content(t, "a");
	ops_see_content(t, "b");
	ERR(ENOENT, ren("a", "nothing", RENAME_EXCHANGE));
	ERR(ENOENT, ren("nothing", "a", RENAME_EXCHANGE));
	OK(ren("a", "a", RENAME_EXCHANGE));
}

static void rename_exchange_kinds(struct t *t)
{
	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	OK(mkdir("p/d", 0755));
	OK(mkdir("p/d/in", 0755));
	ops_make(t, "q/f", 10, 1);
	OK(ren("p/d", "q/f", RENAME_EXCHANGE));
	RET(2, ops_nlink("p"));
	RET(3, ops_nlink("q"));
	TRUE(ops_same_inode("q/f/..", "q"));
	RET(10, ops_size("p/d"));
	OK(symlink("where", "l"));
	OK(ren("l", "q/f", RENAME_EXCHANGE));
	TRUE(ops_same_inode("l/..", "."));
	RET(2, ops_nlink("q"));
	RET(5, ops_size("q/f"));
	/* Two full directories. */
	OK(mkdir("p/g", 0755));
	OK(mkdir("p/g/in2", 0755));
	OK(ren("l", "p/g", RENAME_EXCHANGE));
	TRUE(ops_exists("l/in2") && ops_exists("p/g/in"));
	RET(3, ops_nlink("p"));
}

static void rename_exchange_errors(struct t *t)
{
	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	ERR(EINVAL, ren("d", "d/e", RENAME_EXCHANGE));
	ERR(EINVAL, ren("d/e", "d", RENAME_EXCHANGE));
	ERR(EINVAL, ren("d", "d/e", RENAME_EXCHANGE | RENAME_NOREPLACE));
	ERR(EINVAL, ren("d", "d/e", RENAME_EXCHANGE | RENAME_WHITEOUT));
	ERR(EINVAL, ren("d", "x", 1u << 20));
	ERR(EXDEV, ren("d", "/proc/x", RENAME_NOREPLACE));
}

static void rename_whiteout(struct t *t)
{
	struct stat st;

	ops_make(t, "a", 10, 1);
	OK(mkdir("d", 0755));
	OK(ren("a", "d/b", RENAME_WHITEOUT));
	RET(10, ops_size("d/b"));
	OK(lstat("a", &st));
	TRUE(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0) && st.st_nlink == 1);
	ops_see_stat(t, "a");
	ops_make(t, "c", 30, 3);
	OK(ren("c", "d/b", RENAME_WHITEOUT));
	RET(30, ops_size("d/b"));
	OK(ren("d", "e", RENAME_WHITEOUT));
	RET(30, ops_size("e/b"));
	OK(lstat("d", &st));
	TRUE(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	OK(unlink("d"));
	ERR(EEXIST, ren("c", "a", RENAME_WHITEOUT | RENAME_NOREPLACE));
	OK(ren("e/b", "z", RENAME_WHITEOUT | RENAME_NOREPLACE));
	TRUE(ops_exists("e/b") && ops_exists("z"));
	OK(unlink("e/b"));
	OK(rmdir("e"));
}

static void rename_whiteout_dir_links(struct t *t)
{
	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	OK(mkdir("p/d", 0755));
	OK(ren("p/d", "q/d", RENAME_WHITEOUT));
	RET(2, ops_nlink("p"));
	RET(3, ops_nlink("q"));
	ERR(ENOTEMPTY, rmdir("p"));
	OK(unlink("p/d"));
	OK(rmdir("p"));
}

static void rename_whiteout_as_user(struct t *t)
{
	OK(chmod(".", 0777));
	ops_become(t, OPS_USER, OPS_GROUP);
	ops_make(t, "a", 10, 1);
	/* Making a whiteout takes CAP_MKNOD, but for the device number 0:0 (Linux 5.8). */
	OK(ren("a", "b", RENAME_WHITEOUT));
	ops_become_root(t);
	ops_see_stat(t, "a");
	ops_see_stat(t, "b");
}

static void rename_open_dir_follows(struct t *t)
{
	struct dirent *de;
	unsigned seen = 0;
	DIR *dir;
	int fd;

	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 10, 1);
	fd = FD(open("d", O_RDONLY | O_DIRECTORY));
	OK(rename("d", "e"));
	ops_make(t, "e/g", 10, 1);
	OK(faccessat(fd, "g", F_OK, 0));
	OK(unlinkat(fd, "f", 0));
	dir = fdopendir(fd);
	while (dir && (de = readdir(dir)) != NULL)
		seen += de->d_name[0] == 'g';
	TRUE(seen == 1);
}

static void rename_times(struct t *t)
{
	struct stat a, b, f0, f1;

	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	ops_make(t, "p/f", 10, 1);
	OK(stat("p", &a));
	OK(stat("p/f", &f0));
	ops_tick();
	OK(rename("p/f", "q/f"));
	OK(stat("p", &b));
	TRUE(b.st_mtim.tv_sec > a.st_mtim.tv_sec || b.st_mtim.tv_nsec != a.st_mtim.tv_nsec);
	OK(stat("q/f", &f1));
	TRUE(f0.st_mtim.tv_nsec == f1.st_mtim.tv_nsec && f0.st_mtim.tv_sec == f1.st_mtim.tv_sec);
	TRUE(f1.st_ctim.tv_sec > f0.st_ctim.tv_sec || f1.st_ctim.tv_nsec != f0.st_ctim.tv_nsec);
}

static void rename_over_keeps_new_data(struct t *t)
{
	/* The usual way to replace a file, many times over: whoever opens the name sees a whole one. */
	for (unsigned i = 0; i < 100; i++) {
		int fd;

		ops_make(t, "new", 3000 + i * 37, i);
		if (rename("new", "cur"))
			ops_fail(t, __LINE__, "rename %u: %s", i, strerror(errno));
		fd = open("cur", O_RDONLY);
		if (fd < 0 || ops_size("cur") != 3000 + i * 37 || !ops_reads_pattern(fd, 0, 3000 + i * 37, i))
			ops_fail(t, __LINE__, "round %u: wrong content", i);
		close(fd);
	}
}

const struct op_case ops_rename[] = {
	{"rename_file", rename_file, 0},
	{"rename_over_file", rename_over_file, 0},
	{"rename_over_one_of_two_links", rename_over_one_of_two_links, 0},
	{"rename_links_of_one_inode", rename_links_of_one_inode, 0},
	{"rename_dir", rename_dir, 0},
	{"rename_errors", rename_errors, 0},
	{"rename_symlink", rename_symlink, 0},
	{"rename_noreplace", rename_noreplace, 0},
	{"rename_exchange", rename_exchange, 0},
	{"rename_exchange_kinds", rename_exchange_kinds, 0},
	{"rename_exchange_errors", rename_exchange_errors, 0},
	{"rename_whiteout", rename_whiteout, OPS_ROOT},
	{"rename_whiteout_dir_links", rename_whiteout_dir_links, OPS_ROOT},
	{"rename_whiteout_as_user", rename_whiteout_as_user, OPS_ROOT},
	{"rename_open_dir_follows", rename_open_dir_follows, 0},
	{"rename_times", rename_times, 0},
	{"rename_over_keeps_new_data", rename_over_keeps_new_data, 0},
	{NULL, NULL, 0},
};
