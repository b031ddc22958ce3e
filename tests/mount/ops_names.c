/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making and removing names: open(O_CREAT), mknod, mkdir, unlink, rmdir, and what a name may be. */
#include "config.h"

#include "ops.h"

#include <dirent.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void create_file(struct t *t)
{
	struct stat st;
	int fd = FD(open("f", O_RDWR | O_CREAT | O_EXCL, 0640));

	OK(fstat(fd, &st));
	TRUE(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640);
	/* With the write-back cache a server does not know whether there is nothing: see blocks_before_sync. */
	TRUE(st.st_nlink == 1 && st.st_size == 0 && st.st_blocks <= (ops_option("writeback") ? 8 : 0));
	TRUE(st.st_uid == ops_uid(t) && st.st_gid == ops_gid(t));
	ops_see_stat(t, "f");
	OK(close(fd));
	ERR(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL, 0640));
	fd = FD(open("f", O_RDWR | O_CREAT, 0600));
	OK(close(fd));
	RET(0640, ops_mode("f"));
}

static void create_excl_on_symlink(struct t *t)
{
	OK(symlink("missing", "l"));
	ERR(EEXIST, open("l", O_RDWR | O_CREAT | O_EXCL, 0644));
	ERR(ENOENT, open("l", O_RDWR));
	close(FD(open("l", O_RDWR | O_CREAT, 0644)));
	TRUE(ops_exists("missing"));
	ERR(ELOOP, open("l", O_RDONLY | O_NOFOLLOW));
}

static void create_read_only_mode(struct t *t)
{
	/* The mode of a new file does not bind the descriptor that made it. */
	int fd = FD(open("f", O_RDWR | O_CREAT | O_EXCL, 0));

	RET(3, write(fd, "abc", 3));
	RET(3, pread(fd, (char[3]){0}, 3, 0));
	OK(close(fd));
	RET(0, ops_mode("f"));
}

static void create_umask(struct t *t)
{
	umask(027);
	close(FD(open("f", O_RDWR | O_CREAT, 0666)));
	OK(mkdir("d", 0777));
	OK(mknod("p", S_IFIFO | 0666, 0));
	RET(0640, ops_mode("f"));
	RET(0750, ops_mode("d"));
	RET(0640, ops_mode("p"));
	umask(0);
	OK(mkdir("e", 01777));
	RET(01777, ops_mode("e"));
}

static void open_errors(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "f", 0, 1);
	ERR(ENOENT, open("nothing", O_RDONLY));
	ERR(ENOENT, open("no/thing", O_RDWR | O_CREAT, 0644));
	ERR(ENOTDIR, open("f/x", O_RDONLY));
	ERR(ENOTDIR, open("f/x", O_RDWR | O_CREAT, 0644));
	ERR(EISDIR, open("d", O_RDWR));
	ERR(EISDIR, open("d", O_RDONLY | O_CREAT, 0644));
	ERR(EISDIR, open("d", O_WRONLY | O_TRUNC));
	ERR(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
	ERR(ENOENT, open("", O_RDONLY));
	SEE(open("new/", O_RDWR | O_CREAT, 0644));
	SEE(open("f/", O_RDONLY));
}

static void mknod_types(struct t *t)
{
	OK(mknod("reg", S_IFREG | 0644, 0));
	OK(mknod("zero", 0600, 0));
	OK(mknod("fifo", S_IFIFO | 0600, 0));
	OK(mknod("sock", S_IFSOCK | 0600, 0));
	ERR(EEXIST, mknod("reg", S_IFREG | 0644, 0));
	ERR(EPERM, mknod("dir", S_IFDIR | 0755, 0));
	ops_see_stat(t, "reg");
	ops_see_stat(t, "zero");
	ops_see_stat(t, "fifo");
	ops_see_stat(t, "sock");
}

static void mknod_devices(struct t *t)
{
	struct stat st;

	OK(mknod("chr", S_IFCHR | 0666, makedev(1, 3)));
	OK(mknod("blk", S_IFBLK | 0660, makedev(0x1bc, 0x2edcb)));
	OK(mknod("whiteout", S_IFCHR, makedev(0, 0)));
	OK(lstat("chr", &st));
	TRUE(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	OK(lstat("blk", &st));
	TRUE(S_ISBLK(st.st_mode) && st.st_rdev == makedev(0x1bc, 0x2edcb));
	OK(lstat("whiteout", &st));
	TRUE(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	OK(rename("chr", "chr2"));
	ops_see_stat(t, "chr2");
	OK(unlink("chr2"));
	OK(unlink("blk"));
}

static void mknod_device_as_user(struct t *t)
{
	OK(chmod(".", 0777));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, mknod("chr", S_IFCHR | 0666, makedev(1, 3)));
	OK(mknod("fifo", S_IFIFO | 0666, 0));
	ops_become_root(t);
}

static void fifo_carries_data(struct t *t)
{
	char buf[4] = "";
	int r, w;

	OK(mkfifo("p", 0600));
	r = FD(open("p", O_RDONLY | O_NONBLOCK));
	w = FD(open("p", O_WRONLY));
	RET(3, write(w, "abc", 3));
	RET(3, read(r, buf, 3));
	TRUE(!strcmp(buf, "abc"));
	RET(0, ops_size("p"));
}

static void socket_is_bound(struct t *t)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "s"};
	int fd = FD(socket(AF_UNIX, SOCK_STREAM, 0)), c;

	OK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	OK(listen(fd, 1));
	c = FD(socket(AF_UNIX, SOCK_STREAM, 0));
	OK(connect(c, (struct sockaddr *)&sa, sizeof(sa)));
	ERR(EADDRINUSE, bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&sa, sizeof(sa)));
	ERR(ENXIO, open("s", O_RDWR));
	OK(unlink("s"));
	ERR(ENOENT, unlink("s"));
}

static void mkdir_and_links(struct t *t)
{
	OK(mkdir("d", 0755));
	RET(2, ops_nlink("d"));
	OK(mkdir("d/a", 0755));
	OK(mkdir("d/b", 0755));
	ops_make(t, "d/f", 0, 1);
	RET(4, ops_nlink("d"));
	OK(rmdir("d/a"));
	RET(3, ops_nlink("d"));
	ERR(EEXIST, mkdir("d/b", 0755));
	ERR(EEXIST, mkdir("d/f", 0755));
	ERR(EEXIST, mkdir("d/.", 0755));
	ERR(EEXIST, mkdir(".", 0755));
	ERR(ENOENT, mkdir("no/thing", 0755));
	ERR(ENOTDIR, mkdir("d/f/x", 0755));
	OK(mkdir("slash/", 0755));
	TRUE(ops_exists("slash"));
	TRUE(ops_same_inode("d/b/..", "d"));
	TRUE(ops_same_inode("d/b/.", "d/b"));
}

static void mkdir_over_symlink(struct t *t)
{
	OK(symlink("nothing", "l"));
	ERR(EEXIST, mkdir("l", 0755));
	ERR(EEXIST, symlink("x", "l"));
	ERR(EEXIST, mknod("l", S_IFIFO | 0600, 0));
}

static void rmdir_errors(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 0, 1);
	OK(symlink("d", "l"));
	ERR(ENOTEMPTY, rmdir("d"));
	ERR(ENOTDIR, rmdir("d/f"));
	ERR(ENOTDIR, rmdir("l"));
	ERR(ENOENT, rmdir("nothing"));
	ERR(EINVAL, rmdir("d/."));
	ERR(ENOTEMPTY, rmdir("d/.."));
	OK(unlink("d/f"));
	OK(rmdir("d"));
	ERR(ENOENT, rmdir("d"));
	ERR(ENOENT, open("d/f", O_CREAT | O_RDWR, 0644));
}

static void rmdir_while_open(struct t *t)
{
	char c;
	int fd;
	DIR *dir;

	OK(mkdir("d", 0755));
	fd = FD(open("d", O_RDONLY | O_DIRECTORY));
	OK(rmdir("d"));
	ERR(ENOENT, openat(fd, "f", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, mkdirat(fd, "f", 0755));
	ERR(ENOENT, symlinkat("x", fd, "f"));
	ERR(ENOENT, faccessat(fd, "f", F_OK, 0));
	ERR(EISDIR, read(fd, &c, 1));
	dir = fdopendir(fd);
	TRUE(dir != NULL);
	while (dir && (errno = 0, readdir(dir)))
		;
	TRUE(errno == 0 || errno == ENOENT);
	/* The name is free again, for another directory. */
	OK(mkdir("d", 0755));
	ERR(ENOENT, faccessat(dirfd(dir), "f", F_OK, 0));
}

static void rmdir_working_directory(struct t *t)
{
	char buf[PATH_MAX];

	OK(mkdir("d", 0755));
	OK(chdir("d"));
	OK(rmdir("../d"));
	ERR(ENOENT, open("f", O_CREAT | O_RDWR, 0644));
	TRUE(getcwd(buf, sizeof(buf)) == NULL && errno == ENOENT);
	OK(chdir(".."));
}

static void unlink_errors(struct t *t)
{
	OK(mkdir("d", 0755));
	ERR(EISDIR, unlink("d"));
	ERR(ENOENT, unlink("nothing"));
	ERR(ENOENT, unlink("d/nothing"));
	ops_make(t, "f", 0, 1);
	ERR(ENOTDIR, unlink("f/"));
	ERR(ENOTDIR, unlink("f/x"));
	OK(symlink("d", "l"));
	OK(unlink("l"));
	TRUE(ops_exists("d"));
	OK(unlink("f"));
	ERR(ENOENT, unlink("f"));
}

static void unlink_open_file(struct t *t)
{
	struct stat st;
	int fd = ops_file(t, "f", 300000, 7);

	OK(unlink("f"));
	ERR(ENOENT, open("f", O_RDONLY));
	OK(fstat(fd, &st));
	TRUE(st.st_nlink == 0 && st.st_size == 300000);
	TRUE(ops_reads_pattern(fd, 0, 300000, 7));
	RET(5, pwrite(fd, "hello", 5, 1000000));
	TRUE(ops_reads_zero(fd, 300000, 700000));
	OK(fchmod(fd, 0600));
	OK(fsync(fd));
	OK(ftruncate(fd, 100));
	OK(fstat(fd, &st));
	TRUE(st.st_size == 100 && st.st_nlink == 0 && (st.st_mode & 07777) == 0600);
	/* A new file of the old name is another file. */
	ops_make(t, "f", 10, 9);
	RET(10, ops_size("f"));
	TRUE(ops_reads_pattern(fd, 0, 100, 7));
	ERR(ENOENT, linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH));
	OK(close(fd));
}

static void unlink_reopen_by_proc(struct t *t)
{
	char path[64];
	int fd = ops_file(t, "f", 5000, 7), again;

	OK(unlink("f"));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = FD(open(path, O_RDWR));
	OK(close(fd));
	TRUE(ops_reads_pattern(again, 0, 5000, 7));
	RET(4, pwrite(again, "last", 4, 0));
	OK(close(again));
}

static void unlink_many_open(struct t *t)
{
	int fds[200];
	bool good = true;

	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		fds[i] = ops_file(t, name, 100 + (size_t)i * 50, (uint64_t)i);
		good = good && !unlink(name);
	}
	TRUE(good);
	for (int i = 0; i < 200; i++) {
		good = good && ops_reads_pattern(fds[i], 0, 100 + (size_t)i * 50, (uint64_t)i);
		close(fds[i]);
	}
	TRUE(good);
}

static void unlink_after_little_changes(struct t *t)
{
	/* Small, durable, and then changed in memory only: what it becomes dies with it. */
	for (unsigned i = 0; i < 24; i++) {
		int fd = ops_file(t, "f", 50, i);
		bool good = fsync(fd) == 0;

		if (i % 4 == 0)
			good = good && !fallocate(fd, 0, 600000, 32);
		else if (i % 4 == 1)
			good = good && !fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 600000) && pwrite(fd, "x", 1, 3) == 1;
		else if (i % 4 == 2)
			good = good && pwrite(fd, "x", 1, 300000) == 1 && !ftruncate(fd, 20);
		else
			good = good && !ftruncate(fd, 20) && !ftruncate(fd, 300000);
		if (!good || unlink("f") || (i & 4 && fsync(fd)))
			ops_fail(t, __LINE__, "round %u: %s", i, strerror(errno));
		close(fd);
	}
	/* Whatever became of them, the filesystem is still there. */
	ops_tick();
	ops_make(t, "after", 10, 1);
	RET(10, ops_size("after"));
}

static void unlink_after_cuts(struct t *t)
{
	/* Data that compresses, durable, then cut and overwritten in memory only. */
	uint8_t *buf = calloc(1, 262144);

	memset(buf, 'c', 262144);
	for (unsigned i = 0; i < 16; i++) {
		int fd = FD(open("f", O_CREAT | O_RDWR, 0644));
		bool good = pwrite(fd, buf, 200000, 0) == 200000 && fsync(fd) == 0;

		if (i % 2)
			good = good && !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192 + i * 512, 180000);
		else
			good = good && !ftruncate(fd, 6000 + i * 100);
		if (i & 4)
			good = good && pwrite(fd, "x", 1, 5000) == 1;
		if (!good || unlink("f"))
			ops_fail(t, __LINE__, "round %u: %s", i, strerror(errno));
		close(fd);
	}
	free(buf);
	ops_tick();
	ops_make(t, "after", 10, 1);
	RET(10, ops_size("after"));
}

static void name_of_255(struct t *t)
{
	char name[257], path[600];

	memset(name, 'n', 256);
	name[256] = 0;
	ERR(ENAMETOOLONG, open(name, O_CREAT | O_RDWR, 0644));
	ERR(ENAMETOOLONG, mkdir(name, 0755));
	ERR(ENAMETOOLONG, symlink("x", name));
	ERR(ENAMETOOLONG, mknod(name, S_IFIFO | 0600, 0));
	ERR(ENAMETOOLONG, open(name, O_RDONLY));
	ERR(ENAMETOOLONG, unlink(name));
	ERR(ENAMETOOLONG, rmdir(name));
	name[255] = 0;
	ops_make(t, name, 3, 1);
	RET(3, ops_size(name));
	ERR(EEXIST, mkdir(name, 0755));
	OK(rename(name, "short"));
	OK(link("short", name));
	OK(unlink("short"));
	OK(mkdir("d", 0755));
	snprintf(path, sizeof(path), "d/%s", name);
	OK(rename(name, path));
	name[254] = 'm';
	ERR(ENOENT, open(name, O_RDONLY));
	name[255] = 'x';
	name[256] = 0;
	ERR(ENAMETOOLONG, rename(path, name));
	ERR(ENAMETOOLONG, link(path, name));
	OK(unlink(path));
}

/* Whether the directory has exactly this name besides the dots. */
static bool lists_only(const char *name)
{
	DIR *dir = opendir(".");
	struct dirent *de;
	unsigned found = 0, others = 0;

	while (dir && (de = readdir(dir)) != NULL) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (!strcmp(de->d_name, name))
			found++;
		else
			others++;
	}
	if (dir)
		closedir(dir);
	return found == 1 && others == 0;
}

static void name_of_any_byte(struct t *t)
{
	for (int c = 1; c < 256; c++) {
		char name[8] = {(char)c, 'x', (char)c, 0};

		if (c == '/')
			continue;
		if (mknod(name, S_IFREG | 0600, 0))
			ops_fail(t, __LINE__, "byte %d: %s", c, strerror(errno));
		else if (!lists_only(name))
			ops_fail(t, __LINE__, "byte %d: readdir gives another name", c);
		if (unlink(name))
			ops_fail(t, __LINE__, "byte %d: unlink: %s", c, strerror(errno));
	}
	OK(mkdir("..a", 0755));
	OK(mkdir("...", 0755));
	OK(rmdir("..."));
	OK(mkdir(" ", 0755));
}

static void name_is_case_sensitive(struct t *t)
{
	/* Neither folded nor normalised: e acute as one code point and as two. */
	OK(mkdir("\xc3\xa9", 0755));
	OK(mkdir("e\xcc\x81", 0755));
	OK(mkdir("Name", 0755));
	OK(mkdir("name", 0755));
	ERR(ENOENT, rmdir("NAME"));
	ERR(ENOENT, rmdir("\xc3\x89"));
}

static void path_of_4095(struct t *t)
{
	char path[PATH_MAX + 8], name[201];
	size_t n = 0;

	memset(name, 'd', 200);
	name[200] = 0;
	while (n + 202 < PATH_MAX) {
		memcpy(path + n, name, 200);
		path[n + 200] = 0;
		if (mkdir(path, 0755)) {
			ops_fail(t, __LINE__, "mkdir at depth %zu: %s", n / 201, strerror(errno));
			return;
		}
		path[n + 200] = '/';
		n += 201;
	}
	memset(path + n, 'x', sizeof(path) - n);
	path[PATH_MAX] = 0;
	ERR(ENAMETOOLONG, open(path, O_CREAT | O_RDWR, 0644));
	path[PATH_MAX - 1] = 0;
	close(FD(open(path, O_CREAT | O_RDWR, 0644)));
	OK(unlink(path));
}

static void deep_tree(struct t *t)
{
	int depth = 300, fd = FD(open(".", O_RDONLY)), next;
	bool good = true;

	for (int i = 0; i < depth; i++) {
		if (mkdirat(fd, "down", 0755) || (next = openat(fd, "down", O_RDONLY)) < 0)
			good = false;
		else
			close(fd), fd = next;
	}
	TRUE(good);
	for (int i = 0; i < depth; i++) {
		next = openat(fd, "..", O_RDONLY);
		good = good && next >= 0 && !unlinkat(next, "down", AT_REMOVEDIR);
		close(fd);
		fd = next;
	}
	TRUE(good);
}

const struct op_case ops_names[] = {
	{"create_file", create_file, 0},
	{"create_excl_on_symlink", create_excl_on_symlink, 0},
	{"create_read_only_mode", create_read_only_mode, 0},
	{"create_umask", create_umask, 0},
	{"open_errors", open_errors, 0},
	{"mknod_types", mknod_types, 0},
	{"mknod_devices", mknod_devices, OPS_ROOT},
	{"mknod_device_as_user", mknod_device_as_user, OPS_ROOT},
	{"fifo_carries_data", fifo_carries_data, 0},
	{"socket_is_bound", socket_is_bound, 0},
	{"mkdir_and_links", mkdir_and_links, 0},
	{"mkdir_over_symlink", mkdir_over_symlink, 0},
	{"rmdir_errors", rmdir_errors, 0},
	{"rmdir_while_open", rmdir_while_open, 0},
	{"rmdir_working_directory", rmdir_working_directory, 0},
	{"unlink_errors", unlink_errors, 0},
	{"unlink_open_file", unlink_open_file, 0},
	{"unlink_reopen_by_proc", unlink_reopen_by_proc, 0},
	{"unlink_many_open", unlink_many_open, 0},
	{"unlink_after_little_changes", unlink_after_little_changes, 0},
	{"unlink_after_cuts", unlink_after_cuts, 0},
	{"name_of_255", name_of_255, 0},
	{"name_of_any_byte", name_of_any_byte, 0},
	{"name_is_case_sensitive", name_is_case_sensitive, 0},
	{"path_of_4095", path_of_4095, 0},
	{"deep_tree", deep_tree, 0},
	{NULL, NULL, 0},
};
