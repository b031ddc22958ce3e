/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files without a name, and names without a path: O_TMPFILE, O_PATH, file handles. */
#include "config.h"

#include "ops.h"

#include <sys/syscall.h>

static int link_fd(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

static void tmpfile_linked(struct t *t)
{
	struct stat st;
	int fd = FD(open(".", O_TMPFILE | O_RDWR, 0640));

	OK(fstat(fd, &st));
	TRUE(S_ISREG(st.st_mode) && st.st_nlink == 0 && (st.st_mode & 07777) == 0640);
	TRUE(st.st_uid == ops_uid(t) && st.st_gid == ops_gid(t));
	RET(5, write(fd, "hello", 5));
	RET(5, pwrite(fd, "hello", 5, 500000));
	OK(link_fd(fd, "f"));
	RET(1, ops_nlink("f"));
	RET(500005, ops_size("f"));
	ops_see_content(t, "f");
	ops_see_stat(t, "f");
	OK(link_fd(fd, "g"));
	RET(2, ops_nlink("f"));
	ERR(EEXIST, link_fd(fd, "g"));
	OK(close(fd));
	OK(unlink("g"));
	ops_see_content(t, "f");
}

static void tmpfile_unlinked(struct t *t)
{
	int fd = FD(open(".", O_TMPFILE | O_WRONLY, 0600)), excl;

	RET(5, write(fd, "hello", 5));
	OK(fsync(fd));
	OK(close(fd));
	excl = FD(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
	RET(5, write(excl, "hello", 5));
	ERR(ENOENT, link_fd(excl, "f"));
	TRUE(!ops_exists("f"));
}

static void tmpfile_errors(struct t *t)
{
	int fd;

	ops_make(t, "f", 0, 1);
	ERR(ENOTDIR, open("f", O_TMPFILE | O_RDWR, 0600));
	ERR(ENOENT, open("nothing", O_TMPFILE | O_RDWR, 0600));
	ERR(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0600));
	OK(mkdir("d", 0755));
	fd = FD(open("d", O_TMPFILE | O_RDWR, 0600));
	OK(rmdir("d"));
	RET(1, write(fd, "x", 1));
	OK(fsync(fd));
}

static void tmpfile_many(struct t *t)
{
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		int fd = open(".", O_TMPFILE | O_RDWR, 0600);
		uint8_t buf[6000];

		ops_fill(buf, sizeof(buf), i, 0);
		snprintf(name, sizeof(name), "f%u", i);
		if (fd < 0 || write(fd, buf, 1000 + i * 50) != (ssize_t)(1000 + i * 50) || (i % 2 && link_fd(fd, name)))
			ops_fail(t, __LINE__, "file %u: %s", i, strerror(errno));
		close(fd);
	}
	for (unsigned i = 1; i < 100; i += 2) {
		int fd;

		snprintf(name, sizeof(name), "f%u", i);
		fd = open(name, O_RDONLY);
		if (fd < 0 || ops_size(name) != 1000 + i * 50 || !ops_reads_pattern(fd, 0, 1000 + i * 50, i))
			ops_fail(t, __LINE__, "file %u: wrong content", i);
		close(fd);
	}
}

static void o_path(struct t *t)
{
	struct stat st;
	char c;
	int fd;

	ops_make(t, "f", 10, 1);
	OK(symlink("f", "l"));
	fd = FD(open("l", O_PATH | O_NOFOLLOW));
	OK(fstat(fd, &st));
	TRUE(S_ISLNK(st.st_mode));
	RET(1, readlinkat(fd, "", &c, 1));
	TRUE(c == 'f');
	fd = FD(open("f", O_PATH));
	ERR(EBADF, read(fd, &c, 1));
	OK(fstat(fd, &st));
	TRUE(st.st_size == 10);
	ERR(EBADF, fchmod(fd, 0600));
	if (ops_is_root(t))
		OK(linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH));
}

union handle {
	struct file_handle h;
	char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static int get_handle(const char *path, union handle *fh)
{
	int mount_id;

	fh->h.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, path, &fh->h, &mount_id, 0);
}

static void handle_opens(struct t *t)
{
	union handle file, dir;
	int mnt = FD(open(".", O_RDONLY)), fd;

	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	ops_make(t, "d/e/f", 5000, 1);
	OK(get_handle("d/e/f", &file));
	OK(get_handle("d/e", &dir));
	fd = FD(open_by_handle_at(mnt, &file.h, O_RDWR));
	TRUE(ops_reads_pattern(fd, 0, 5000, 1));
	RET(3, pwrite(fd, "new", 3, 0));
	OK(close(fd));
	OK(rename("d/e/f", "g"));
	fd = FD(open_by_handle_at(mnt, &file.h, O_RDONLY));
	TRUE(ops_reads_pattern(fd, 3, 4997, 1));
	OK(close(fd));
	fd = FD(open_by_handle_at(mnt, &dir.h, O_RDONLY | O_DIRECTORY));
	OK(mkdirat(fd, "sub", 0755));
	TRUE(ops_exists("d/e/sub"));
	OK(faccessat(fd, "../e/sub", F_OK, 0));
}

static void handle_without_cache(struct t *t)
{
	union handle file, dir;
	int mnt = FD(open(".", O_RDONLY)), fd, drop;

	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	ops_make(t, "d/e/f", 5000, 1);
	OK(get_handle("d/e/f", &file));
	OK(get_handle("d/e", &dir));
	drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (drop < 0 || write(drop, "2\n", 2) != 2)
		ops_skip(t, "drop_caches cannot be written");
	fd = FD(open_by_handle_at(mnt, &file.h, O_RDONLY));
	TRUE(ops_reads_pattern(fd, 0, 5000, 1));
	fd = FD(open_by_handle_at(mnt, &dir.h, O_RDONLY | O_DIRECTORY));
	OK(faccessat(fd, "f", F_OK, 0));
	OK(faccessat(fd, "../../d/e/f", F_OK, 0));
}

/*
 * A file that was opened by a message is closed by one that nobody waits for, and Linux keeps the inode until that is answered: its
 * handle opens it as long. Each try is such an opening itself.
 */
static void wait_until_stale(int mnt, struct file_handle *h)
{
	int fd;

	for (int i = 0; i < 100 && (fd = open_by_handle_at(mnt, h, O_RDONLY)) >= 0; i++) {
		close(fd);
		usleep(50000);
	}
}

static void handle_of_removed(struct t *t)
{
	union handle fh;
	int mnt = FD(open(".", O_RDONLY)), fd;

	fd = ops_file(t, "f", 5000, 1);
	OK(get_handle("f", &fh));
	OK(unlink("f"));
	OK(close(fd));
	if (ops_option("parallel_dio"))
		wait_until_stale(mnt, &fh.h);
	ERR(ESTALE, open_by_handle_at(mnt, &fh.h, O_RDONLY));
	ops_make(t, "f", 10, 1);
	ERR(ESTALE, open_by_handle_at(mnt, &fh.h, O_RDONLY));
	memset(fh.h.f_handle, 0x7f, fh.h.handle_bytes);
	ERR2(ESTALE, EINVAL, open_by_handle_at(mnt, &fh.h, O_RDONLY));
}

static void handle_errors(struct t *t)
{
	union handle fh;
	int mount_id;

	ops_make(t, "f", 10, 1);
	fh.h.handle_bytes = 0;
	ERR(EOVERFLOW, name_to_handle_at(AT_FDCWD, "f", &fh.h, &mount_id, 0));
	TRUE(fh.h.handle_bytes > 0);
	ERR(ENOENT, get_handle("nothing", &fh));
	OK(get_handle("f", &fh));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, open_by_handle_at(AT_FDCWD, &fh.h, O_RDONLY));
	ops_become_root(t);
}

const struct op_case ops_handle[] = {
	{"tmpfile_linked", tmpfile_linked, 0},
	{"tmpfile_unlinked", tmpfile_unlinked, 0},
	{"tmpfile_errors", tmpfile_errors, 0},
	{"tmpfile_many", tmpfile_many, 0},
	{"o_path", o_path, 0},
	{"handle_opens", handle_opens, OPS_ROOT},
	{"handle_without_cache", handle_without_cache, OPS_ROOT},
	{"handle_of_removed", handle_of_removed, OPS_ROOT},
	{"handle_errors", handle_errors, OPS_ROOT},
	{NULL, NULL, 0},
};
