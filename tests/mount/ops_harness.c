/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "ops_harness.h"

#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#define CASE_SECONDS 60
/* A process that waits for a filesystem which never answers cannot be killed: it is left behind. */
#define GIVE_UP_SECONDS 75

/* ---- what a case says ---- */

static void finish(struct t *t, enum ops_status status)
{
	t->res->status = status;
	t->res->finished = true;
	_exit(0);
}

static void set_reason(struct t *t, int line, const char *fmt, va_list ap)
{
	int n = 0;

	if (line)
		n = snprintf(t->res->reason, OPS_REASON_BYTES, "line %d: ", line);
	vsnprintf(t->res->reason + n, OPS_REASON_BYTES - (size_t)n, fmt, ap);
}

void ops_skip(struct t *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_reason(t, 0, fmt, ap);
	va_end(ap);
	finish(t, OPS_SKIPPED);
	abort();
}

void ops_fail(struct t *t, int line, const char *fmt, ...)
{
	va_list ap;

	if (t->res->status == OPS_FAILED)
		return;
	va_start(ap, fmt);
	set_reason(t, line, fmt, ap);
	va_end(ap);
	t->res->status = OPS_FAILED;
}

void ops_log(struct t *t, const char *fmt, ...)
{
	size_t room = OPS_LOG_BYTES - t->res->used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->res->log + t->res->used, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n + 2 > room)
		return;
	t->res->used += (size_t)n;
	t->res->log[t->res->used++] = '\n';
	t->res->log[t->res->used] = 0;
}

static const char *errname(long e)
{
	const char *name = strerrorname_np((int)e);

	return name ? name : "E?";
}

/* Turns -1 and errno into -errno, and logs it. */
static long result(struct t *t, const char *what, long rc)
{
	int e = errno;

	if (rc == -1) {
		ops_log(t, "%s = %s", what, errname(e));
		return -e;
	}
	ops_log(t, "%s = %ld", what, rc);
	return rc;
}

long ops_see(struct t *t, const char *what, long rc)
{
	return result(t, what, rc);
}

long ops_ok(struct t *t, int line, const char *what, long rc)
{
	rc = result(t, what, rc);
	if (rc < 0)
		ops_fail(t, line, "%s: %s", what, errname(-rc));
	return rc;
}

long ops_ret(struct t *t, int line, const char *what, long rc, long want)
{
	rc = result(t, what, rc);
	if (rc < 0 && rc != want)
		ops_fail(t, line, "%s: %s, should return %ld", what, errname(-rc), want);
	else if (rc != want)
		ops_fail(t, line, "%s: returned %ld, should return %ld", what, rc, want);
	return rc;
}

long ops_err(struct t *t, int line, const char *what, long rc, int want, int or_want)
{
	if (want != or_want && rc == -1 && (errno == want || errno == or_want)) {
		/* Either is right: so it is no difference in a comparison. */
		ops_log(t, "%s = %s or %s", what, errname(want), errname(or_want));
		return -want;
	}
	rc = result(t, what, rc);
	if (rc >= 0)
		ops_fail(t, line, "%s: returned %ld, should fail with %s", what, rc, errname(want));
	else if (rc != -want)
		ops_fail(t, line, "%s: %s, should fail with %s", what, errname(-rc), errname(want));
	return rc;
}

int ops_fd(struct t *t, int line, const char *what, long rc)
{
	int e = errno;

	if (rc >= 0) {
		ops_log(t, "%s = fd", what);
		return (int)rc;
	}
	ops_log(t, "%s = %s", what, errname(e));
	ops_fail(t, line, "%s: %s", what, errname(e));
	finish(t, OPS_FAILED);
	return -1;
}

bool ops_true(struct t *t, int line, const char *what, bool yes)
{
	ops_log(t, "%s: %s", what, yes ? "true" : "false");
	if (!yes)
		ops_fail(t, line, "not true: %s", what);
	return yes;
}

/* ---- what a case may ask ---- */

long ops_fs(const struct t *t)
{
	return t->fs;
}

static const char *mount_options = "";

void ops_set_options(const char *names)
{
	mount_options = names;
}

bool ops_option(const char *name)
{
	size_t len = strlen(name);

	for (const char *at = mount_options; (at = strstr(at, name)); at += len)
		if ((at == mount_options || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

bool ops_is_root(const struct t *t)
{
	return t->as_root;
}

uid_t ops_uid(const struct t *t)
{
	return t->uid;
}

gid_t ops_gid(const struct t *t)
{
	return t->gid;
}

void ops_see_stat(struct t *t, const char *path)
{
	struct stat st;

	if (lstat(path, &st)) {
		ops_log(t, "stat %s = %s", path, errname(errno));
		return;
	}
	ops_log(t, "stat %s: mode %o nlink %lu owner %u:%u size %lld rdev %lx", path, st.st_mode,
		(unsigned long)st.st_nlink, st.st_uid, st.st_gid, S_ISDIR(st.st_mode) ? -1LL : (long long)st.st_size,
		(unsigned long)st.st_rdev);
}

void ops_see_content(struct t *t, const char *path)
{
	uint64_t hash = 1469598103934665603ULL, total = 0;
	uint8_t buf[65536];
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		ops_log(t, "content %s = %s", path, errname(errno));
		return;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			hash = (hash ^ buf[i]) * 1099511628211ULL;
		total += (uint64_t)n;
	}
	ops_log(t, "content %s: %llu bytes, hash %016llx, %s", path, (unsigned long long)total, (unsigned long long)hash,
		n < 0 ? errname(errno) : "complete");
	close(fd);
}

static unsigned alike; /* log2 of how many bytes in a row are the same */

void ops_set_compressible(void)
{
	alike = 5;
}

uint8_t ops_byte(uint64_t seed, uint64_t offset)
{
	uint64_t x = ((offset >> alike) + 1) * 0x9E3779B97F4A7C15ULL ^ (seed * 0xD1B54A32D192ED03ULL);

	/* Never zero, so that a hole cannot be taken for data. */
	return (uint8_t)((x >> 32) % 255 + 1);
}

void ops_fill(void *buf, size_t len, uint64_t seed, uint64_t offset)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = ops_byte(seed, offset + i);
}

bool ops_is_pattern(const void *buf, size_t len, uint64_t seed, uint64_t offset)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		if (p[i] != ops_byte(seed, offset + i))
			return false;
	return true;
}

bool ops_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

int ops_file(struct t *t, const char *path, size_t len, uint64_t seed)
{
	uint8_t buf[65536];
	size_t done = 0, n;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	while (fd >= 0 && done < len) {
		n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		ops_fill(buf, n, seed, done);
		if (pwrite(fd, buf, n, (off_t)done) != (ssize_t)n) {
			close(fd);
			fd = -1;
		}
		done += n;
	}
	return ops_fd(t, 0, path, fd);
}

void ops_make(struct t *t, const char *path, size_t len, uint64_t seed)
{
	close(ops_file(t, path, len, seed));
}

static bool reads(int fd, off_t offset, size_t len, const uint64_t *seed)
{
	uint8_t buf[65536];
	size_t done = 0, n;

	while (done < len) {
		n = len - done < sizeof(buf) ? len - done : sizeof(buf);
		if (pread(fd, buf, n, offset + (off_t)done) != (ssize_t)n)
			return false;
		if (seed ? !ops_is_pattern(buf, n, *seed, (uint64_t)offset + done) : !ops_is_zero(buf, n))
			return false;
		done += n;
	}
	return true;
}

bool ops_reads_pattern(int fd, off_t offset, size_t len, uint64_t seed)
{
	return reads(fd, offset, len, &seed);
}

bool ops_reads_zero(int fd, off_t offset, size_t len)
{
	return reads(fd, offset, len, NULL);
}

long long ops_size(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? -errno : (long long)st.st_size;
}

long ops_nlink(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? -errno : (long)st.st_nlink;
}

long ops_mode(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? -errno : (long)(st.st_mode & 07777);
}

bool ops_same_inode(const char *a, const char *b)
{
	struct stat sa, sb;

	return !lstat(a, &sa) && !lstat(b, &sb) && sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}

bool ops_exists(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

void ops_tick(void)
{
	/* The kernel's coarse clock moves once a tick: at most 10 ms. */
	struct timespec ts = {0, 15000000};

	nanosleep(&ts, NULL);
}

void ops_become(struct t *t, uid_t uid, gid_t gid)
{
	if (seteuid(0) || setgroups(0, NULL) || setegid(gid) || seteuid(uid)) {
		ops_fail(t, 0, "cannot become %u:%u: %s", uid, gid, errname(errno));
		finish(t, OPS_FAILED);
	}
}

void ops_become_root(struct t *t)
{
	if (seteuid(0) || setegid(0)) {
		ops_fail(t, 0, "cannot become root again: %s", errname(errno));
		finish(t, OPS_FAILED);
	}
}

/* ---- running one ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)ftw;
	if (type == FTW_DP || type == FTW_DNR || type == FTW_D)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

/* A case may have left directories that their owner cannot read. */
static int open_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if ((type == FTW_D || type == FTW_DNR) && (st->st_mode & 0700) != 0700)
		chmod(path, 0700);
	return 0;
}

static void remove_tree(const char *path)
{
	nftw(path, open_up, 32, FTW_PHYS);
	nftw(path, remove_one, 32, FTW_PHYS | FTW_DEPTH);
}

static void child(struct t *t, const char *work)
{
	struct statfs sfs;

	signal(SIGALRM, SIG_DFL);
	signal(SIGXFSZ, SIG_IGN);
	alarm(CASE_SECONDS);
	umask(022);
	if (geteuid() == 0 && t->uid != 0 && (setgroups(0, NULL) || setgid(t->gid) || setuid(t->uid)))
		ops_skip(t, "cannot become %u:%u", t->uid, t->gid);
	t->uid = geteuid();
	t->gid = getegid();
	t->as_root = t->uid == 0;
	if (chdir(work) || statfs(".", &sfs)) {
		ops_fail(t, 0, "%s: %s", work, errname(errno));
		finish(t, OPS_FAILED);
	}
	t->fs = (long)sfs.f_type;
	if ((t->oc->flags & OPS_ROOT) && !t->as_root)
		ops_skip(t, "needs root");
	t->oc->run(t);
	finish(t, t->res->status);
}

/* Waits for PID; 0, or -ETIMEDOUT when it does not even die. */
static int wait_for(pid_t pid, int *status)
{
	struct timespec step = {0, 2000000};
	time_t end = time(NULL) + GIVE_UP_SECONDS;

	while (waitpid(pid, status, WNOHANG) == 0) {
		if (time(NULL) > end) {
			kill(pid, SIGKILL);
			return -ETIMEDOUT;
		}
		nanosleep(&step, NULL);
	}
	return 0;
}

static void set_result(struct ops_result *res, const char *fmt, int arg)
{
	if (res->status == OPS_FAILED && res->reason[0])
		return;
	res->status = OPS_FAILED;
	snprintf(res->reason, OPS_REASON_BYTES, fmt, arg);
}

void ops_run_case(const struct op_case *oc, const char *dir, uid_t uid, gid_t gid, struct ops_result *res)
{
	struct t t = {.oc = oc, .res = res, .uid = uid, .gid = gid};
	char work[PATH_MAX];
	int status = 0;
	pid_t pid;

	res->status = OPS_PASSED;
	res->finished = false;
	res->used = 0;
	res->reason[0] = res->log[0] = 0;
	snprintf(work, sizeof(work), "%s/%s.%d", dir, oc->name, (int)getpid());
	if (mkdir(work, 0755) || (geteuid() == 0 && chown(work, uid, gid))) {
		set_result(res, "cannot make the work directory: errno %d", errno);
		return;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		child(&t, work);
	if (pid < 0)
		set_result(res, "fork: errno %d", errno);
	else if (wait_for(pid, &status))
		set_result(res, "hangs for more than %d s and cannot be killed", GIVE_UP_SECONDS);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		set_result(res, "takes more than %d s", CASE_SECONDS);
	else if (WIFSIGNALED(status))
		set_result(res, "killed by signal %d", WTERMSIG(status));
	else if (!res->finished)
		set_result(res, "ended by itself with status %d", WEXITSTATUS(status));
	remove_tree(work);
}
