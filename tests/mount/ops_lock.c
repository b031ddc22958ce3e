/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flock, POSIX and open-file-description locks, leases. */
#include "config.h"

#include "ops.h"

#include <sys/file.h>
#include <sys/wait.h>

static int lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &fl);
}

/* The result of CMD in another process, as 0 or the errno. */
static int elsewhere(const char *path, int cmd, short type, off_t start, off_t len)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(path, O_RDWR);

		_exit(lock(fd, cmd, type, start, len) ? errno : 0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void flock_exclusive(struct t *t)
{
	int a = ops_file(t, "f", 10, 1), b = FD(open("f", O_RDONLY));

	OK(flock(a, LOCK_EX));
	ERR(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	ERR(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB));
	OK(flock(a, LOCK_SH));
	OK(flock(b, LOCK_SH | LOCK_NB));
	ERR(EWOULDBLOCK, flock(a, LOCK_EX | LOCK_NB));
	OK(flock(b, LOCK_UN));
	OK(flock(a, LOCK_EX | LOCK_NB));
	OK(close(a));
	OK(flock(b, LOCK_EX | LOCK_NB));
}

static void posix_ranges(struct t *t)
{
	int fd = ops_file(t, "f", 100, 1), other;

	OK(lock(fd, F_SETLK, F_WRLCK, 10, 20));
	OK(lock(fd, F_SETLK, F_RDLCK, 50, 0));
	RET(EAGAIN, elsewhere("f", F_SETLK, F_WRLCK, 15, 1));
	RET(EAGAIN, elsewhere("f", F_SETLK, F_RDLCK, 29, 5));
	RET(0, elsewhere("f", F_SETLK, F_WRLCK, 30, 20));
	RET(0, elsewhere("f", F_SETLK, F_RDLCK, 1000, 5));
	RET(EAGAIN, elsewhere("f", F_SETLK, F_WRLCK, 1000, 5));
	OK(lock(fd, F_SETLK, F_UNLCK, 15, 5));
	RET(0, elsewhere("f", F_SETLK, F_WRLCK, 15, 5));
	RET(EAGAIN, elsewhere("f", F_SETLK, F_WRLCK, 14, 1));
	/* Closing any descriptor of the file drops the process's locks. */
	other = FD(open("f", O_RDONLY));
	OK(close(other));
	RET(0, elsewhere("f", F_SETLK, F_WRLCK, 0, 0));
	ERR(EBADF, lock(FD(open("f", O_RDONLY)), F_SETLK, F_WRLCK, 0, 1));
}

static void posix_getlk(struct t *t)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	int fd = ops_file(t, "f", 100, 1), status;
	pid_t pid;

	OK(lock(fd, F_SETLK, F_WRLCK, 10, 20));
	pid = fork();
	if (pid == 0) {
		if (fcntl(open("f", O_RDWR), F_GETLK, &fl))
			_exit(1);
		_exit(fl.l_type == F_WRLCK && fl.l_start == 10 && fl.l_len == 20 && fl.l_pid == getppid() ? 0 : 2);
	}
	TRUE(waitpid(pid, &status, 0) == pid && status == 0);
	OK(fcntl(fd, F_GETLK, &fl));
	TRUE(fl.l_type == F_UNLCK);
}

static void posix_wait(struct t *t)
{
	int fd = ops_file(t, "f", 100, 1), ready[2], status;
	pid_t pid;
	char c;

	OK(pipe(ready));
	pid = fork();
	if (pid == 0) {
		int mine = open("f", O_RDWR);

		if (lock(mine, F_SETLK, F_WRLCK, 0, 0) || write(ready[1], "x", 1) != 1)
			_exit(1);
		ops_tick();
		ops_tick();
		_exit(pwrite(mine, "done", 4, 0) == 4 ? 0 : 2);
	}
	RET(1, read(ready[0], &c, 1));
	OK(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
	RET(1, pread(fd, &c, 1, 0));
	TRUE(c == 'd');
	TRUE(waitpid(pid, &status, 0) == pid && status == 0);
}

static void ofd_locks(struct t *t)
{
	int a = ops_file(t, "f", 100, 1), b = FD(open("f", O_RDWR)), c;

	OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 50));
	ERR(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 40, 20));
	OK(lock(b, F_OFD_SETLK, F_WRLCK, 50, 50));
	c = dup(a);
	OK(close(a));
	ERR(EAGAIN, lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
	OK(close(c));
	OK(lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
}

static void locks_follow_the_inode(struct t *t)
{
	int fd = ops_file(t, "f", 100, 1);

	OK(link("f", "g"));
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	RET(EAGAIN, elsewhere("g", F_SETLK, F_WRLCK, 0, 1));
	OK(rename("f", "h"));
	RET(EAGAIN, elsewhere("h", F_SETLK, F_WRLCK, 0, 1));
	OK(unlink("g"));
	RET(EAGAIN, elsewhere("h", F_SETLK, F_WRLCK, 0, 1));
}

const struct op_case ops_lock[] = {
	{"flock_exclusive", flock_exclusive, 0},
	{"posix_ranges", posix_ranges, 0},
	{"posix_getlk", posix_getlk, 0},
	{"posix_wait", posix_wait, 0},
	{"ofd_locks", ofd_locks, 0},
	{"locks_follow_the_inode", locks_follow_the_inode, 0},
	{NULL, NULL, 0},
};
