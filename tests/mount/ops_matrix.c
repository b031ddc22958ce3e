/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every call on every kind of object, and every pair of kinds for the calls that take two paths. Nobody wrote down what
 * should come out of the two thousand combinations; the reference filesystem says it.
 */
#include "config.h"

#include "ops.h"

#include <sys/statfs.h>
#include <sys/xattr.h>

static const char *const kinds[] = {
	"missing", "no/where",	"file",	  "empty",     "dir",	 "full",      "link",	"dirlink", "dangling", "loop",
	"fifo",	   "sock",	"locked", "locked/in", "file/x", "dir/new",   "file/",	"dir/",	   "missing/", "link/",
	"dirlink/", "dangling/", ".",	  "..",	       "dir/.",	 "dir/..",    "full/f", "twin",	   "",	       "full/sub",
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void make_objects(void)
{
	int fd = open("file", O_CREAT | O_RDWR, 0644);

	if (write(fd, "content of the file", 19) != 19 || link("file", "twin"))
		return;
	close(fd);
	close(open("empty", O_CREAT | O_RDWR, 0644));
	mkdir("dir", 0755);
	mkdir("full", 0755);
	mkdir("full/sub", 0755);
	close(open("full/f", O_CREAT | O_RDWR, 0644));
	(void)!symlink("file", "link");
	(void)!symlink("dir", "dirlink");
	(void)!symlink("nothing", "dangling");
	(void)!symlink("loop", "loop");
	mkfifo("fifo", 0644);
	mknod("sock", S_IFSOCK | 0644, 0);
	mkdir("locked", 0755);
	close(open("locked/in", O_CREAT | O_RDWR, 0644));
	chmod("locked/in", 0000);
	chmod("locked", 0000);
}

/* Each combination starts from the same objects, in a directory of its own. */
static void fresh(struct t *t, unsigned n)
{
	char name[32];

	snprintf(name, sizeof(name), "../m%u", n);
	if (mkdir(name, 0755) || chdir(name))
		ops_fail(t, __LINE__, "cannot make %s", name);
	make_objects();
}

static void see_objects(struct t *t)
{
	static const char *const all[] = {"missing", "file", "empty", "dir",  "full", "link",	   "dirlink", "dangling",
					  "nothing", "loop", "fifo",  "sock", "twin", "dir/new", "full/f",  "full/sub"};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		ops_see_stat(t, all[i]);
}

static int op_open(const char *path, int flags)
{
	int fd = open(path, flags | O_NONBLOCK, 0600);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static int one_open(const char *p)
{
	return op_open(p, O_RDONLY);
}
static int one_open_write(const char *p)
{
	return op_open(p, O_RDWR);
}
static int one_creat(const char *p)
{
	return op_open(p, O_RDWR | O_CREAT);
}
static int one_excl(const char *p)
{
	return op_open(p, O_RDWR | O_CREAT | O_EXCL);
}
static int one_trunc(const char *p)
{
	return op_open(p, O_RDWR | O_TRUNC);
}
static int one_creat_trunc(const char *p)
{
	return op_open(p, O_WRONLY | O_TRUNC | O_CREAT);
}
static int one_directory(const char *p)
{
	return op_open(p, O_RDONLY | O_DIRECTORY);
}
static int one_nofollow(const char *p)
{
	return op_open(p, O_RDONLY | O_NOFOLLOW);
}
static int one_path(const char *p)
{
	return op_open(p, O_PATH | O_NOFOLLOW);
}
static int one_append(const char *p)
{
	return op_open(p, O_WRONLY | O_APPEND);
}
static int one_tmpfile(const char *p)
{
	return op_open(p, O_TMPFILE | O_RDWR);
}
static int one_mkdir(const char *p)
{
	return mkdir(p, 0755);
}
static int one_rmdir(const char *p)
{
	return rmdir(p);
}
static int one_unlink(const char *p)
{
	return unlink(p);
}
static int one_symlink(const char *p)
{
	return symlink("target", p);
}
static int one_mkfifo(const char *p)
{
	return mkfifo(p, 0600);
}
static int one_mknod(const char *p)
{
	return mknod(p, S_IFREG | 0600, 0);
}
static int one_truncate(const char *p)
{
	return truncate(p, 5);
}
static int one_truncate_negative(const char *p)
{
	return truncate(p, -5);
}
static int one_chmod(const char *p)
{
	return chmod(p, 0750);
}
static int one_chown(const char *p)
{
	return chown(p, geteuid(), getegid());
}
static int one_lchown(const char *p)
{
	return lchown(p, geteuid(), getegid());
}
static int one_utimens(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, 0);
}
static int one_utimens_nofollow(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW);
}
static int one_access(const char *p)
{
	return access(p, F_OK);
}
static int one_access_rwx(const char *p)
{
	return access(p, R_OK | W_OK | X_OK);
}
static int one_stat(const char *p)
{
	struct stat st;

	return stat(p, &st);
}
static int one_lstat(const char *p)
{
	struct stat st;

	return lstat(p, &st);
}
static int one_statfs(const char *p)
{
	struct statfs s;

	return statfs(p, &s);
}
static int one_readlink(const char *p)
{
	char buf[100];

	return (int)readlink(p, buf, sizeof(buf));
}
static int one_setxattr(const char *p)
{
	return setxattr(p, "user.m", "x", 1, 0);
}
static int one_getxattr(const char *p)
{
	return (int)getxattr(p, "user.m", NULL, 0);
}
static int one_lsetxattr(const char *p)
{
	return lsetxattr(p, "user.m", "x", 1, 0);
}
static int one_removexattr(const char *p)
{
	return removexattr(p, "user.m");
}
static int one_chdir(const char *p)
{
	int here = open(".", O_PATH), rc = chdir(p), e = errno;

	(void)!fchdir(here);
	close(here);
	errno = e;
	return rc;
}

static const struct {
	const char *name;
	int (*call)(const char *path);
	bool changes;
} ones[] = {
	{"open", one_open, false},
	{"open_write", one_open_write, false},
	{"creat", one_creat, true},
	{"excl", one_excl, true},
	{"trunc", one_trunc, true},
	{"creat_trunc", one_creat_trunc, true},
	{"directory", one_directory, false},
	{"nofollow", one_nofollow, false},
	{"path", one_path, false},
	{"append", one_append, false},
	{"tmpfile", one_tmpfile, false},
	{"mkdir", one_mkdir, true},
	{"rmdir", one_rmdir, true},
	{"unlink", one_unlink, true},
	{"symlink", one_symlink, true},
	{"mkfifo", one_mkfifo, true},
	{"mknod", one_mknod, true},
	{"truncate", one_truncate, true},
	{"truncate_negative", one_truncate_negative, false},
	{"chmod", one_chmod, true},
	{"chown", one_chown, true},
	{"lchown", one_lchown, true},
	{"utimens", one_utimens, false},
	{"utimens_nofollow", one_utimens_nofollow, false},
	{"access", one_access, false},
	{"access_rwx", one_access_rwx, false},
	{"stat", one_stat, false},
	{"lstat", one_lstat, false},
	{"statfs", one_statfs, false},
	{"readlink", one_readlink, false},
	{"setxattr", one_setxattr, false},
	{"getxattr", one_getxattr, false},
	{"lsetxattr", one_lsetxattr, false},
	{"removexattr", one_removexattr, false},
	{"chdir", one_chdir, false},
};

static void log_result(struct t *t, const char *call, const char *a, const char *b, int rc)
{
	const char *e = rc < 0 ? strerrorname_np(errno) : "";

	ops_log(t, "%s(\"%s\", \"%s\") = %d %s", call, a, b, rc, e);
}

static void one_path_calls(struct t *t)
{
	unsigned n = 0;

	OK(mkdir("w", 0755));
	OK(chdir("w"));
	for (size_t o = 0; o < sizeof(ones) / sizeof(ones[0]); o++)
		for (size_t k = 0; k < KINDS; k++) {
			/* ".." is the directory that holds the test's directories: its state is not the case's. */
			if (ones[o].changes && (!strcmp(kinds[k], "..") || !strcmp(kinds[k], ".")) &&
			    (ones[o].call == one_chmod || ones[o].call == one_chown))
				continue;
			if (ones[o].changes || n == 0)
				fresh(t, n++);
			log_result(t, ones[o].name, kinds[k], "", ones[o].call(kinds[k]));
			if (ones[o].changes)
				see_objects(t);
		}
}

static int two_link(const char *a, const char *b)
{
	return link(a, b);
}
static int two_link_follow(const char *a, const char *b)
{
	return linkat(AT_FDCWD, a, AT_FDCWD, b, AT_SYMLINK_FOLLOW);
}
/* POSIX leaves open which of the two says that the target directory is not empty. */
static int full_is_full(int rc)
{
	if (rc < 0 && errno == EEXIST)
		errno = ENOTEMPTY;
	return rc;
}
static int two_rename(const char *a, const char *b)
{
	return full_is_full(rename(a, b));
}
static int two_noreplace(const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE);
}
static int two_exchange(const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}
static int two_whiteout(const char *a, const char *b)
{
	return full_is_full(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_WHITEOUT));
}

static void two_paths(struct t *t, const char *name, int (*call)(const char *a, const char *b))
{
	unsigned n = 0;

	OK(mkdir("w", 0755));
	OK(chdir("w"));
	for (size_t a = 0; a < KINDS; a++)
		for (size_t b = 0; b < KINDS; b++) {
			/* Only a call that did something needs new objects for the next one. */
			static bool changed = true;
			int rc;

			if (changed)
				fresh(t, n++);
			rc = call(kinds[a], kinds[b]);
			log_result(t, name, kinds[a], kinds[b], rc);
			changed = rc == 0;
			if (changed)
				see_objects(t);
		}
}

static void link_pairs(struct t *t)
{
	two_paths(t, "link", two_link);
}
static void link_follow_pairs(struct t *t)
{
	two_paths(t, "link_follow", two_link_follow);
}
static void rename_pairs(struct t *t)
{
	two_paths(t, "rename", two_rename);
}
static void noreplace_pairs(struct t *t)
{
	two_paths(t, "noreplace", two_noreplace);
}
static void exchange_pairs(struct t *t)
{
	two_paths(t, "exchange", two_exchange);
}
static void whiteout_pairs(struct t *t)
{
	two_paths(t, "whiteout", two_whiteout);
}

const struct op_case ops_matrix[] = {
	{"one_path_calls", one_path_calls, OPS_COMPARE},
	{"link_pairs", link_pairs, OPS_COMPARE},
	{"link_follow_pairs", link_follow_pairs, OPS_COMPARE},
	{"rename_pairs", rename_pairs, OPS_COMPARE},
	{"noreplace_pairs", noreplace_pairs, OPS_COMPARE},
	{"exchange_pairs", exchange_pairs, OPS_COMPARE},
	{"whiteout_pairs", whiteout_pairs, OPS_COMPARE},
	{NULL, NULL, 0},
};
