/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Idmapped mounts: the same directory seen with other owners, as pods with user namespaces get it. */
#include "config.h"

#include "ops.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Owner 0 .. 65535 of the filesystem is BASE + owner through the mount. */
#define BASE 100000u
#define COUNT 65536u

/* 0 or an errno. */
static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int error = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;

	if (fd >= 0)
		close(fd);
	return error;
}

/* Both maps of a process in a user namespace: 0 or an errno. */
static int write_maps(pid_t pid)
{
	char path[64], map[64];
	int error;

	snprintf(map, sizeof(map), "0 %u %u", BASE, COUNT);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	error = write_text(path, map);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	return error ? error : write_text(path, map);
}

/* A descriptor of a user namespace with that mapping, or -1 and errno. */
static int user_namespace(void)
{
	int fd = -1, ready[2], error;
	char path[64];
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (pid == 0) {
		error = unshare(CLONE_NEWUSER) ? errno : 0;
		if (write(ready[1], &error, sizeof(error)) == sizeof(error))
			pause();
		_exit(0);
	}
	if (read(ready[0], &error, sizeof(error)) != sizeof(error))
		error = ECHILD;
	error = error ? error : write_maps(pid);
	if (!error) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
		fd = open(path, O_RDONLY);
		error = errno;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	errno = error;
	return fd;
}

/* The working directory once more, idmapped: a descriptor of a detached mount. */
static int idmapped(struct t *t)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	int ns = user_namespace(), tree;

	if (ns < 0)
		ops_skip(t, "no user namespace can be made: %s", strerror(errno));
	tree = FD(open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	attr.userns_fd = (uint64_t)ns;
	OK(mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)));
	return tree;
}

static uid_t owner(int dir, const char *path)
{
	struct stat st;

	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) ? (uid_t)-1 : st.st_uid;
}

static gid_t group(int dir, const char *path)
{
	struct stat st;

	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) ? (gid_t)-1 : st.st_gid;
}

static void idmap_shows_other_owners(struct t *t)
{
	int dir;

	ops_make(t, "f", 10, 1);
	OK(chown("f", 5, 6));
	ops_make(t, "outside", 10, 1);
	OK(chown("outside", 70000, 70000));
	dir = idmapped(t);
	TRUE(owner(dir, "f") == BASE + 5 && group(dir, "f") == BASE + 6);
	TRUE(owner(AT_FDCWD, "f") == 5);
	TRUE(owner(dir, "outside") == 65534);
	TRUE(owner(dir, ".") == BASE);
}

static void idmap_creates(struct t *t)
{
	int dir = idmapped(t);

	ops_become(t, BASE, BASE);
	OK(mkdirat(dir, "d", 0755));
	close(FD(openat(dir, "d/f", O_CREAT | O_RDWR, 0644)));
	OK(mknodat(dir, "p", S_IFIFO | 0600, 0));
	OK(symlinkat("x", dir, "l"));
	OK(renameat2(dir, "p", dir, "q", 0));
	OK(linkat(dir, "q", dir, "r", 0));
	close(FD(openat(dir, ".", O_TMPFILE | O_RDWR, 0600)));
	ops_become_root(t);
	TRUE(owner(AT_FDCWD, "d") == 0 && group(AT_FDCWD, "d") == 0);
	TRUE(owner(AT_FDCWD, "d/f") == 0);
	TRUE(owner(AT_FDCWD, "q") == 0);
	TRUE(owner(AT_FDCWD, "l") == 0);
	TRUE(owner(dir, "d/f") == BASE);
	/* Who has no owner in the filesystem makes nothing there. */
	ERR(EOVERFLOW, openat(dir, "mine", O_CREAT | O_RDWR, 0644));
	ERR(EOVERFLOW, mkdirat(dir, "mine", 0755));
}

static void idmap_changes_owners(struct t *t)
{
	int dir;

	ops_make(t, "f", 10, 1);
	dir = idmapped(t);
	OK(fchownat(dir, "f", BASE + 7, BASE + 8, 0));
	TRUE(owner(AT_FDCWD, "f") == 7 && group(AT_FDCWD, "f") == 8);
	ERR(EOVERFLOW, fchownat(dir, "f", 7, 8, 0));
	TRUE(owner(AT_FDCWD, "f") == 7);
}

static void idmap_permissions(struct t *t)
{
	int dir;

	OK(chmod(".", 0755));
	ops_make(t, "f", 10, 1);
	OK(chown("f", 5, 5));
	OK(chmod("f", 0600));
	dir = idmapped(t);
	ops_become(t, BASE + 5, BASE + 5);
	close(FD(openat(dir, "f", O_RDWR)));
	OK(fchmodat(dir, "f", 0640, 0));
	ERR(EACCES, openat(dir, "new", O_CREAT | O_RDWR, 0644));
	ops_become(t, 5, 5);
	ERR(EACCES, openat(dir, "f", O_RDONLY));
	ERR(EPERM, fchmodat(dir, "f", 0600, 0));
	ops_become_root(t);
	RET(0640, ops_mode("f"));
}

const struct op_case ops_idmap[] = {
	{"idmap_shows_other_owners", idmap_shows_other_owners, OPS_ROOT},
	{"idmap_creates", idmap_creates, OPS_ROOT},
	{"idmap_changes_owners", idmap_changes_owners, OPS_ROOT},
	{"idmap_permissions", idmap_permissions, OPS_ROOT},
	{NULL, NULL, 0},
};
