/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes: times, modes, owners, and when the set-id bits go. */
#include "config.h"

#include "ops.h"

#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

#define NS(ts) ((long long)(ts).tv_sec * 1000000000LL + (ts).tv_nsec)

static struct stat stat_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		memset(&st, 0xff, sizeof(st));
	return st;
}

static long long mtime(const char *path)
{
	return NS(stat_of(path).st_mtim);
}

static long long ctime_ns(const char *path)
{
	return NS(stat_of(path).st_ctim);
}

static void utimens_exact(struct t *t)
{
	static const struct timespec times[] = {
		{0, 0}, {1, 1}, {1000000000, 999999999}, {1700000000, 123456789}, {-1000000, 500000000},
		{2147483647, 1}, {4102444800, 987654321},
	};
	struct timespec ts[2];
	struct stat st;

	ops_make(t, "f", 10, 1);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		ts[0] = times[i];
		ts[1] = times[sizeof(times) / sizeof(times[0]) - 1 - i];
		OK(utimensat(AT_FDCWD, "f", ts, 0));
		OK(stat("f", &st));
		if (NS(st.st_atim) != NS(ts[0]) || NS(st.st_mtim) != NS(ts[1]))
			ops_fail(t, __LINE__, "pair %zu: atime %lld.%09ld mtime %lld.%09ld", i,
				 (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec,
				 st.st_mtim.tv_nsec);
	}
	RET(10, ops_size("f"));
}

static void utimens_omit_now(struct t *t)
{
	struct timespec set[2] = {{1000, 1}, {2000, 2}}, ts[2];
	struct timespec now;
	struct stat st;

	ops_make(t, "f", 10, 1);
	OK(utimensat(AT_FDCWD, "f", set, 0));
	ts[0] = (struct timespec){5000, 5};
	ts[1] = (struct timespec){0, UTIME_OMIT};
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	st = stat_of("f");
	TRUE(NS(st.st_atim) == 5000000000005LL && NS(st.st_mtim) == 2000000000002LL);
	ts[0] = (struct timespec){0, UTIME_OMIT};
	ts[1] = (struct timespec){0, UTIME_NOW};
	clock_gettime(CLOCK_REALTIME, &now);
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	st = stat_of("f");
	TRUE(NS(st.st_atim) == 5000000000005LL);
	TRUE(NS(st.st_mtim) > NS(now) - 100000000LL && NS(st.st_mtim) < NS(now) + 10000000000LL);
	ts[0] = ts[1] = (struct timespec){0, UTIME_OMIT};
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	TRUE(NS(stat_of("f").st_mtim) == NS(st.st_mtim));
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	TRUE(NS(stat_of("f").st_atim) > NS(now) - 100000000LL);
	ts[0] = (struct timespec){0, 1000000000};
	ERR(EINVAL, utimensat(AT_FDCWD, "f", ts, 0));
	ERR(ENOENT, utimensat(AT_FDCWD, "nothing", NULL, 0));
}

static void utimens_moves_ctime(struct t *t)
{
	struct timespec ts[2] = {{1000, 1}, {2000, 2}};
	long long before;

	ops_make(t, "f", 10, 1);
	before = ctime_ns("f");
	ops_tick();
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	TRUE(ctime_ns("f") > before);
}

static void utimens_rules(struct t *t)
{
	struct timespec ts[2] = {{1000, 1}, {2000, 2}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
	struct timespec mixed[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}}, omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};

	ops_make(t, "mine", 10, 1);
	ops_make(t, "shared", 10, 1);
	OK(chmod("mine", 0644));
	OK(chmod("shared", 0666));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, utimensat(AT_FDCWD, "mine", ts, 0));
	ERR(EACCES, utimensat(AT_FDCWD, "mine", now, 0));
	ERR(EACCES, utimensat(AT_FDCWD, "mine", NULL, 0));
	ERR(EPERM, utimensat(AT_FDCWD, "shared", ts, 0));
	ERR(EPERM, utimensat(AT_FDCWD, "shared", mixed, 0));
	OK(utimensat(AT_FDCWD, "shared", now, 0));
	OK(utimensat(AT_FDCWD, "shared", NULL, 0));
	OK(utimensat(AT_FDCWD, "mine", omit, 0));
	ops_become_root(t);
}

static void chmod_bits(struct t *t)
{
	ops_make(t, "f", 10, 1);
	OK(mkdir("d", 0755));
	for (unsigned m = 0; m < 01000; m += 037) {
		if (chmod("f", m) || ops_mode("f") != (long)m || chmod("d", m) || ops_mode("d") != (long)m)
			ops_fail(t, __LINE__, "mode %o", m);
	}
	OK(chmod("f", 06755));
	RET(06755, ops_mode("f"));
	OK(chmod("d", 03777));
	RET(03777, ops_mode("d"));
	OK(chmod("d", 0755));
	ERR(ENOENT, chmod("nothing", 0600));
	ERR(ENOTDIR, chmod("f/x", 0600));
	ops_see_stat(t, "f");
	ops_see_stat(t, "d");
}

static void chmod_rules(struct t *t)
{
	OK(chmod(".", 0777));
	ops_make(t, "roots", 10, 1);
	ops_make(t, "users", 10, 1);
	OK(chown("users", OPS_USER, OPS_OTHER_GROUP));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, chmod("roots", 0666));
	/* Not a member of the file's group: the set-group-id bit does not stay. */
	OK(chmod("users", 06755));
	RET(04755, ops_mode("users"));
	ops_become(t, OPS_USER, OPS_OTHER_GROUP);
	OK(chmod("users", 06755));
	RET(06755, ops_mode("users"));
	ops_become_root(t);
}

static void chown_as_root(struct t *t)
{
	ops_make(t, "f", 10, 1);
	OK(mkdir("d", 0755));
	OK(chown("f", 12345, 54321));
	ops_see_stat(t, "f");
	TRUE(stat_of("f").st_uid == 12345 && stat_of("f").st_gid == 54321);
	OK(chown("f", (uid_t)-1, 7));
	TRUE(stat_of("f").st_uid == 12345 && stat_of("f").st_gid == 7);
	OK(chown("f", 8, (gid_t)-1));
	TRUE(stat_of("f").st_uid == 8 && stat_of("f").st_gid == 7);
	OK(chown("f", (uid_t)-1, (gid_t)-1));
	OK(chown("d", 4294967294u, 4294967294u));
	TRUE(stat_of("d").st_uid == 4294967294u && stat_of("d").st_gid == 4294967294u);
	OK(symlink("f", "l"));
	OK(lchown("l", 99, 98));
	TRUE(stat_of("l").st_uid == 99 && stat_of("f").st_uid == 8);
	OK(chown("l", 77, 76));
	TRUE(stat_of("l").st_uid == 99 && stat_of("f").st_uid == 77);
}

static void chown_rules(struct t *t)
{
	OK(chmod(".", 0777));
	ops_make(t, "users", 10, 1);
	ops_make(t, "roots", 10, 1);
	OK(chown("users", OPS_USER, OPS_GROUP));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, chown("users", OPS_OTHER, (gid_t)-1));
	ERR(EPERM, chown("users", (uid_t)-1, OPS_OTHER_GROUP));
	ERR(EPERM, chown("roots", OPS_USER, OPS_GROUP));
	OK(chown("users", OPS_USER, OPS_GROUP));
	OK(chown("users", (uid_t)-1, OPS_GROUP));
	ops_become_root(t);
}

static void chown_clears_setid(struct t *t)
{
	ops_make(t, "f", 10, 1);
	OK(mkdir("d", 0755));
	OK(chmod("f", 06755));
	OK(chmod("d", 06755));
	OK(chown("f", 1, 1));
	RET(0755, ops_mode("f"));
	OK(chown("d", 1, 1));
	RET(06755, ops_mode("d"));
	/* Without group execution the bit used to mean mandatory locking, and stays. */
	OK(chmod("f", 06745));
	OK(chown("f", 2, 2));
	RET(02745, ops_mode("f"));
	OK(chmod("f", 06755));
	SEE(chown("f", (uid_t)-1, (gid_t)-1));
	ops_see_stat(t, "f");
}

/*
 * Runs one writing step as an ordinary user on a 06777 file and leaves its mode: first as who asks for nothing else sees it, and as
 * execve(2) does, who does not ask at all.
 */
static long mode_after(struct t *t, const char *path, int (*step)(const char *path))
{
	struct statx sx;

	ops_make(t, path, 10000, 1);
	if (ops_is_root(t)) {
		OK(chown(path, OPS_USER, OPS_GROUP));
		OK(chmod(".", 0777));
	}
	OK(chmod(path, 06777));
	if (ops_is_root(t))
		ops_become(t, OPS_OTHER, OPS_OTHER_GROUP);
	OK(step(path));
	if (ops_is_root(t))
		ops_become_root(t);
	OK(statx(AT_FDCWD, path, 0, STATX_MODE, &sx));
	TRUE((sx.stx_mode & 07777) == ops_mode(path));
	return ops_mode(path);
}

static int do_write(const char *path)
{
	int fd = open(path, O_WRONLY);

	return fd < 0 || write(fd, "x", 1) != 1 ? -1 : close(fd);
}

static int do_append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	return fd < 0 || write(fd, "x", 1) != 1 ? -1 : close(fd);
}

static int do_truncate(const char *path)
{
	return truncate(path, 5);
}

static int do_open_trunc(const char *path)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	return fd < 0 ? -1 : close(fd);
}

static int do_fallocate(const char *path)
{
	int fd = open(path, O_WRONLY);

	return fd < 0 || fallocate(fd, 0, 0, 20000) ? -1 : close(fd);
}

static int do_read(const char *path)
{
	char c;
	int fd = open(path, O_RDONLY);

	return fd < 0 || read(fd, &c, 1) != 1 ? -1 : close(fd);
}

static int do_direct_write(const char *path)
{
	void *buf = aligned_alloc(OPS_BLOCK, OPS_BLOCK);
	int fd = open(path, O_WRONLY | O_DIRECT);

	memset(buf, 1, OPS_BLOCK);
	return fd < 0 || pwrite(fd, buf, OPS_BLOCK, 0) != OPS_BLOCK ? -1 : close(fd);
}

static void setid_after_write(struct t *t)
{
	RET(0777, mode_after(t, "write", do_write));
	RET(0777, mode_after(t, "append", do_append));
	RET(06777, mode_after(t, "read", do_read));
}

static void setid_after_direct_write(struct t *t)
{
	RET(0777, mode_after(t, "direct", do_direct_write));
}

static void setid_after_truncate(struct t *t)
{
	RET(0777, mode_after(t, "truncate", do_truncate));
	RET(0777, mode_after(t, "otrunc", do_open_trunc));
}

static void setid_after_fallocate(struct t *t)
{
	RET(0777, mode_after(t, "fallocate", do_fallocate));
}

static int do_copy(const char *path)
{
	int in = open("source", O_CREAT | O_RDWR, 0600), out = open(path, O_WRONLY);
	off_t from = 0, to = 0;

	return in < 0 || out < 0 || write(in, "0123456789", 10) != 10 ||
			       copy_file_range(in, &from, out, &to, 10, 0) != 10 || close(in) ?
		       -1 :
		       close(out);
}

static void setid_after_copy(struct t *t)
{
	RET(0777, mode_after(t, "copy", do_copy));
}

static void setid_kept_for_root(struct t *t)
{
	ops_make(t, "f", 100, 1);
	OK(chmod("f", 06755));
	OK(do_write("f"));
	RET(06755, ops_mode("f"));
	OK(do_truncate("f"));
	ops_see_stat(t, "f");
}

static void size_and_blocks(struct t *t)
{
	struct stat st;
	int fd = ops_file(t, "small", 50, 1);

	/* A file with data and without blocks is a hole to some programs. */
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_blocks > 0);
	fd = ops_file(t, "f", 1 << 20, 1);
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_blocks >= 2048 && st.st_blocks < 2048 + 256);
	TRUE(st.st_blksize >= 512 && (st.st_blksize & (st.st_blksize - 1)) == 0);
	OK(ftruncate(fd, 0));
	OK(fsync(fd));
	OK(fstat(fd, &st));
	/* See blocks_before_sync: a server that cannot know whether the kernel holds more says that there is something. */
	TRUE(st.st_blocks <= (ops_option("writeback") ? 8 : 0) && st.st_size == 0);
	OK(ftruncate(fd, 1 << 30));
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_blocks < 2048);
}

static void blocks_before_sync(struct t *t)
{
	struct stat st;
	int fd = ops_file(t, "f", 1 << 20, 1);

	OK(fstat(fd, &st));
	/* What the kernel's write-back cache holds is counted when it is written; but it is not nothing. */
	TRUE(st.st_blocks >= (ops_option("writeback") ? 1 : 2048));
	OK(fsync(fd));
	OK(fstat(fd, &st));
	TRUE(st.st_blocks >= 2048);
	fd = ops_file(t, "small", 50, 1);
	OK(fstat(fd, &st));
	TRUE(st.st_blocks > 0);
}

static void statfs_numbers(struct t *t)
{
	struct statvfs a, b;
	int fd;

	/* What was removed before may still be on its way out: how often that has to be asked is no result. */
	for (int i = 0; i < 100; i++) {
		if (statvfs(".", &a))
			break;
		usleep(50000);
		if (statvfs(".", &b) || (a.f_ffree == b.f_ffree && a.f_bfree == b.f_bfree))
			break;
	}
	OK(statvfs(".", &a));
	TRUE(a.f_blocks > 0 && a.f_bfree <= a.f_blocks && a.f_bavail <= a.f_bfree && a.f_namemax == 255);
	TRUE(a.f_bsize >= 512 && a.f_frsize >= 512);
	TRUE(a.f_files == 0 || a.f_ffree <= a.f_files);
	fd = ops_file(t, "f", 8 << 20, 1);
	OK(fsync(fd));
	OK(fstatvfs(fd, &b));
	/* 8 MiB less, give or take the filesystem's own records. */
	TRUE(b.f_bfree * b.f_frsize + (7 << 20) <= a.f_bfree * a.f_frsize);
	TRUE(b.f_bfree * b.f_frsize + (12 << 20) >= a.f_bfree * a.f_frsize);
	TRUE(a.f_blocks == b.f_blocks);
	TRUE(a.f_files == 0 || a.f_ffree > b.f_ffree || ops_fs(t) == OPS_FS_XFS);
}

static void statx_birth_time(struct t *t)
{
	struct statx a, b;
	int fd;

	ops_make(t, "f", 10, 1);
	OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &a));
	TRUE((a.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
	if (!(a.stx_mask & STATX_BTIME))
		ops_skip(t, "no birth time here");
	TRUE(llabs((long long)a.stx_btime.tv_sec - time(NULL)) < 60);
	ops_tick();
	fd = FD(open("f", O_RDWR));
	RET(3, write(fd, "abc", 3));
	OK(fsync(fd));
	OK(chmod("f", 0600));
	OK(rename("f", "g"));
	OK(statx(AT_FDCWD, "g", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS | STATX_BTIME, &b));
	TRUE(a.stx_btime.tv_sec == b.stx_btime.tv_sec && a.stx_btime.tv_nsec == b.stx_btime.tv_nsec);
	TRUE(b.stx_mtime.tv_sec > a.stx_mtime.tv_sec || b.stx_mtime.tv_nsec != a.stx_mtime.tv_nsec);
}

static void statx_basics(struct t *t)
{
	struct statx sx;
	struct stat st;

	ops_make(t, "f", 12345, 1);
	OK(statx(AT_FDCWD, "f", AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, &sx));
	OK(stat("f", &st));
	TRUE(sx.stx_size == 12345 && sx.stx_mode == st.st_mode && sx.stx_ino == st.st_ino && sx.stx_nlink == 1);
	TRUE(sx.stx_uid == st.st_uid && sx.stx_gid == st.st_gid && sx.stx_blksize == (unsigned)st.st_blksize);
	TRUE(makedev(sx.stx_dev_major, sx.stx_dev_minor) == st.st_dev);
	ERR(ENOENT, statx(AT_FDCWD, "nothing", 0, STATX_BASIC_STATS, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &sx));
}

/* ---- which times move with what ---- */

struct moves {
	long long fm, fc, dm, dc;
};

static struct moves times_now(void)
{
	return (struct moves){mtime("d/f"), ctime_ns("d/f"), mtime("d"), ctime_ns("d")};
}

static void log_moves(struct t *t, const char *what, int rc, struct moves a)
{
	struct moves b = times_now();

	ops_log(t, "%s = %d moves: file %s%s directory %s%s", what, rc, a.fm != b.fm ? "mtime " : "",
		a.fc != b.fc ? "ctime" : "", a.dm != b.dm ? "mtime " : "", a.dc != b.dc ? "ctime" : "");
}

#define MOVES(expr)                                                                                                    \
	do {                                                                                                           \
		struct moves before_ = times_now();                                                                    \
		ops_tick();                                                                                            \
		log_moves(t, #expr, (expr) < 0 ? -1 : 0, before_);                                                     \
	} while (0)

static void times_of_names(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 100, 1);
	MOVES(mknod("d/x", S_IFREG | 0600, 0));
	MOVES(link("d/f", "d/l"));
	MOVES(link("d/f", "outside"));
	MOVES(unlink("d/l"));
	MOVES(unlink("outside"));
	MOVES(rename("d/x", "d/y"));
	MOVES(rename("d/y", "y"));
	MOVES(rename("y", "d/y"));
	MOVES(mkdir("d/sub", 0755));
	MOVES(rmdir("d/sub"));
	MOVES(symlink("x", "d/s"));
	MOVES(unlink("d/nothing"));
	MOVES(mkdir("d/y", 0755));
	MOVES(rename("d", "e") + rename("e", "d"));
	MOVES(link("d/f", "d/z") + unlink("d/z"));
	MOVES(rename("d/y", "d/s"));
	MOVES(chmod("d", 0700));
}

static void times_of_data(struct t *t)
{
	char buf[10] = "";
	int fd;

	OK(mkdir("d", 0755));
	fd = ops_file(t, "d/f", 10000, 1);
	MOVES(pwrite(fd, "x", 1, 0));
	MOVES(pwrite(fd, "x", 1, 20000));
	MOVES(pwrite(fd, "x", 0, 0));
	MOVES(pread(fd, buf, 10, 0));
	MOVES(fsync(fd));
	MOVES(ftruncate(fd, 5000));
	MOVES(ftruncate(fd, 5000));
	MOVES(truncate("d/f", 5000));
	MOVES(ftruncate(fd, 100000));
	MOVES(fallocate(fd, 0, 0, 5000));
	MOVES(fallocate(fd, 0, 0, 200000));
	MOVES(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 400000));
	MOVES(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	MOVES(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096));
	MOVES(copy_file_range(fd, &(off_t){0}, fd, &(off_t){8192}, 4096, 0));
	MOVES(open("d/f", O_WRONLY | O_TRUNC));
	MOVES(open("d/f", O_WRONLY | O_TRUNC));
	MOVES(open("d/f", O_WRONLY | O_CREAT, 0600));
}

static void times_of_attributes(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 100, 1);
	MOVES(chmod("d/f", 0600));
	MOVES(chmod("d/f", 0600));
	MOVES(chown("d/f", ops_uid(t), ops_gid(t)));
	MOVES(chown("d/f", (uid_t)-1, (gid_t)-1));
	MOVES(utimensat(AT_FDCWD, "d/f", NULL, 0));
	MOVES(access("d/f", R_OK));
	MOVES(ops_size("d/f") >= 0 ? 0 : -1);
}

const struct op_case ops_attr[] = {
	{"utimens_exact", utimens_exact, 0},
	{"utimens_omit_now", utimens_omit_now, 0},
	{"utimens_moves_ctime", utimens_moves_ctime, 0},
	{"utimens_rules", utimens_rules, OPS_ROOT},
	{"chmod_bits", chmod_bits, 0},
	{"chmod_rules", chmod_rules, OPS_ROOT},
	{"chown_as_root", chown_as_root, OPS_ROOT},
	{"chown_rules", chown_rules, OPS_ROOT},
	{"chown_clears_setid", chown_clears_setid, OPS_ROOT},
	{"setid_after_write", setid_after_write, 0},
	{"setid_after_direct_write", setid_after_direct_write, 0},
	{"setid_after_truncate", setid_after_truncate, 0},
	{"setid_after_fallocate", setid_after_fallocate, 0},
	{"setid_after_copy", setid_after_copy, 0},
	{"setid_kept_for_root", setid_kept_for_root, OPS_ROOT},
	{"size_and_blocks", size_and_blocks, 0},
	{"blocks_before_sync", blocks_before_sync, 0},
	{"statfs_numbers", statfs_numbers, 0},
	{"statx_birth_time", statx_birth_time, 0},
	{"statx_basics", statx_basics, 0},
	{"times_of_names", times_of_names, OPS_COMPARE},
	{"times_of_data", times_of_data, OPS_COMPARE},
	{"times_of_attributes", times_of_attributes, OPS_COMPARE},
	{NULL, NULL, 0},
};
