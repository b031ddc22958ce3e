/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ten writers at once: they never pass the limit, and together they get all of it. */
#include "config.h"

#include "exact.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#define MIB (1u << 20)
#define PROCESSES 5
#define THREADS 2
#define WRITERS (PROCESSES * THREADS)

static bool is_full(void)
{
	return errno == ENOSPC || errno == EDQUOT;
}

/* Each fills its own place as it can: 0 when it was refused at last, for want of room; else the number of the errno. */
typedef int writer(unsigned i);

static int open_own(unsigned i, int flags)
{
	char name[16];

	snprintf(name, sizeof(name), "w%u", i);
	return open(name, O_RDWR | O_CREAT | flags, 0644);
}

/* By smaller steps down to a block, when a larger one was refused. */
static int fill_by_steps(unsigned i, int flags, size_t step, uint64_t stride)
{
	int fd = open_own(i, flags);
	uint8_t *buf = exact_buffer(step);
	uint64_t at = 0;

	if (fd < 0)
		return errno;
	exact_pattern(buf, step / 8 * 8, i, 0);
	for (;;) {
		ssize_t n = pwrite(fd, buf, step, (off_t)at);

		if (n > 0)
			at += stride ? stride : (uint64_t)n;
		else if (n < 0 && !is_full())
			return errno;
		else if (step <= BLOCK)
			break;
		else
			step = step / 2 / BLOCK ? step / 2 / BLOCK * BLOCK : BLOCK;
	}
	return fsync(fd) ? errno : 0;
}

static int buffered_small(unsigned i)
{
	return fill_by_steps(i, 0, BLOCK, 0);
}

static int buffered_large(unsigned i)
{
	return fill_by_steps(i, 0, MIB, 0);
}

static int appending(unsigned i)
{
	return fill_by_steps(i, O_APPEND, 30011, 0);
}

static int direct(unsigned i)
{
	return fill_by_steps(i, O_DIRECT, 64 * BLOCK, 0);
}

static int sparse(unsigned i)
{
	return fill_by_steps(i, 0, BLOCK, 3 * BLOCK);
}

static int synchronous(unsigned i)
{
	return fill_by_steps(i, O_SYNC, 256 * BLOCK, 0);
}

static int promising(unsigned i)
{
	int fd = open_own(i, 0);
	off_t step = 300 * BLOCK, at = 0;

	if (fd < 0)
		return errno;
	for (;;) {
		if (!fallocate(fd, i % 2 ? FALLOC_FL_KEEP_SIZE : 0, at, step))
			at += step;
		else if (!is_full())
			return errno;
		else if (step == BLOCK)
			return 0;
		else
			step = step / 2 / BLOCK ? step / 2 / BLOCK * BLOCK : BLOCK;
	}
}

static int mapping(unsigned i)
{
	const size_t size = (size_t)exact.blocks * BLOCK, step = 2 * MIB;
	int fd = open_own(i, 0);
	uint8_t *p;

	/* With a block of its own: a file of holes alone says that it has one. */
	if (fd < 0 || (pwrite(fd, "x", 1, 0) != 1 && !is_full()) || (exact_blocks(fd) && ftruncate(fd, (off_t)size)))
		return errno;
	if (!exact_blocks(fd))
		return 0;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return errno;
	for (size_t at = 0; at < size; at += step) {
		size_t len = size - at < step ? size - at : step;

		exact_pattern(p + at, len, i, at);
		if (msync(p + at, len, MS_SYNC))
			return is_full() ? 0 : errno;
	}
	return EFBIG; /* more than there is */
}

static int small_ones(unsigned i)
{
	static char text[4096];
	char name[64];

	snprintf(name, sizeof(name), "d%u", i);
	if (mkdir(name, 0755))
		return is_full() ? 0 : errno;
	for (unsigned n = 0;; n++) {
		int fd, rc = 0;

		snprintf(name, sizeof(name), "d%u/%08u", i, n);
		fd = open(name, O_WRONLY | O_CREAT, 0644);
		if (fd < 0)
			return is_full() ? 0 : errno;
		if (write(fd, text, n % 3 * 2000 + 1) < 0 || (n % 2 && fsetxattr(fd, "user.x", name, 8, 0)))
			rc = errno;
		close(fd);
		if (rc) {
			errno = rc;
			return is_full() ? 0 : rc;
		}
	}
}

static int by_ten_blocks(unsigned i)
{
	return fill_by_steps(i, 0, 10 * BLOCK, 0);
}

static writer *const writers[WRITERS] = {
	buffered_small, buffered_large, direct, appending, promising, sparse, synchronous, mapping, small_ones, by_ten_blocks,
};

struct place {
	unsigned i;
	int result;
};

static void *run_writer(void *arg)
{
	struct place *p = arg;

	p->result = writers[p->i](p->i);
	return NULL;
}

static void process(unsigned first)
{
	struct place places[THREADS];
	pthread_t threads[THREADS];
	int worst = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < THREADS; i++) {
		places[i].i = first + i;
		if (pthread_create(&threads[i], NULL, run_writer, &places[i]))
			_exit(99);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		worst = places[i].result ? places[i].result : worst;
	}
	_exit(worst);
}

/* One look while they run: nothing is below 0 or above the limit. */
static bool in_bounds(struct t *t)
{
	struct statvfs st;

	if (!statvfs(".", &st) && st.f_blocks == exact.blocks + exact.beyond_blocks && st.f_bfree >= exact.beyond_blocks &&
	    st.f_bfree <= st.f_blocks && st.f_bavail <= st.f_bfree && st.f_ffree <= st.f_files)
		return true;
	ops_fail(t, __LINE__, "%llu of %llu blocks free", (unsigned long long)st.f_bfree, (unsigned long long)st.f_blocks);
	return false;
}

/* By st_blocks. */
static uint64_t blocks_below(const char *dir)
{
	char command[256], line[64];
	uint64_t sum = 0;
	FILE *f;

	snprintf(command, sizeof(command), "find %s -printf '%%b\\n'", dir);
	f = popen(command, "r");
	while (f && fgets(line, sizeof(line), f))
		sum += strtoull(line, NULL, 10) / (BLOCK / 512);
	if (f)
		pclose(f);
	return sum;
}

static void ten_writers_get_all_of_it(struct t *t)
{
	const struct timespec step = { .tv_nsec = 500000 };
	unsigned left = PROCESSES;
	uint64_t before = UINT64_MAX;
	int status;

	for (unsigned p = 0; p < PROCESSES; p++)
		if (!fork())
			process(p * THREADS);
	while (left && in_bounds(t)) {
		uint64_t now = exact_free();

		/* Nobody gives anything back. */
		if (now > before)
			ops_fail(t, __LINE__, "%llu blocks free after %llu", (unsigned long long)now, (unsigned long long)before);
		before = now;
		if (waitpid(-1, &status, WNOHANG) > 0) {
			left--;
			if (status)
				ops_fail(t, __LINE__, "a writer: status %x: %s", status, strerror(WEXITSTATUS(status)));
		}
		nanosleep(&step, NULL);
	}
	LEFT(0);
	sync();
	OK(fsync(FD(open(".", O_RDONLY))));
	LEFT(0);
	/* And the root's. */
	RET(exact.blocks, blocks_below(".") + 1);
}

/* ---- Busy for as long as somebody wants ---- */

static volatile sig_atomic_t enough;

static void on_term(int sig)
{
	(void)sig;
	enough = 1;
}

struct dice {
	uint64_t state;
};

static uint64_t roll(struct dice *d, uint64_t below)
{
	d->state = d->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (d->state >> 33) % below;
}

static int change_file(struct dice *d, int fd, uint64_t size, const uint8_t *buf)
{
	off_t at = (off_t)roll(d, size), len = (off_t)roll(d, 400000) + 1;

	switch (roll(d, 8)) {
	case 0:
		return ftruncate(fd, at);
	case 1:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len);
	case 2:
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, at, len);
	case 3:
		return fallocate(fd, FALLOC_FL_ZERO_RANGE, at, len);
	case 4:
		return roll(d, 4) ? 0 : fsync(fd);
	default:
		return pwrite(fd, buf, (size_t)len, at) < 0 ? -1 : 0;
	}
}

static int change_names(struct dice *d, unsigned i, unsigned n, const char *long_text)
{
	char name[300], other[300];
	int fd, r = 0;

	snprintf(name, sizeof(name), "busy%u.%s%u", i, roll(d, 4) ? "" : long_text, n);
	snprintf(other, sizeof(other), "busy%u.other", i);
	switch (roll(d, 6)) {
	case 0:
		return rename(name, other) && errno != ENOENT && errno != EISDIR && errno != ENOTDIR ? -1 : 0;
	case 1:
		return unlink(name) && errno != ENOENT && errno != EISDIR ? -1 : 0;
	case 2:
		return rmdir(name) && errno != ENOENT && errno != ENOTDIR ? -1 : 0;
	case 3:
		return mkdir(name, 0755) && errno != EEXIST ? -1 : 0;
	default:
		fd = open(name, O_RDWR | O_CREAT, 0644);
		if (fd < 0)
			return errno == EISDIR ? 0 : -1;
		if (write(fd, long_text, 100) < 0 || fsetxattr(fd, "user.x", name, roll(d, 300), 0))
			r = errno;
		close(fd);
		errno = r;
		return r ? -1 : 0;
	}
}

static void busy_one(unsigned i)
{
	struct dice d = { i };
	uint8_t *buf = exact_buffer(MIB);
	char name[16], long_text[151];
	int fd;

	memset(long_text, 'l', 150);
	long_text[150] = 0;
	exact_pattern(buf, MIB, i, 0);
	snprintf(name, sizeof(name), "b%u", i);
	do {
		fd = open(name, O_RDWR | O_CREAT | (i % 3 == 2 ? O_SYNC : 0), 0644);
	} while (fd < 0 && is_full() && !enough);
	while (!enough && fd >= 0) {
		int r = i % 2 ? change_file(&d, fd, exact.blocks * BLOCK / 4, buf) :
				change_names(&d, i, (unsigned)roll(&d, 50), long_text);

		if (r && !is_full() && !enough) {
			fprintf(stderr, "writer %u: %s\n", i, strerror(errno));
			_exit(1);
		}
		if (i % 2 == 0 && roll(&d, 10) == 0)
			r = change_file(&d, fd, 300000, buf);
	}
	_exit(0);
}

int exact_busy(const char *dir)
{
	struct sigaction sa = { .sa_handler = on_term };
	pid_t pids[WRITERS];
	int status, worst = 0;

	sigaction(SIGTERM, &sa, NULL);
	if (chdir(dir))
		return 2;
	for (unsigned i = 0; i < WRITERS; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			busy_one(i);
		}
	}
	/* None of them ends by itself. */
	worst = wait(&status) > 0;
	for (unsigned i = 0; i < WRITERS; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGTERM);
	while (wait(&status) > 0)
		worst |= status != 0;
	return worst;
}

const struct op_case exact_crowd[] = {
	{ "ten_writers_get_all_of_it", ten_writers_get_all_of_it, 0 },
	{ NULL, NULL, 0 },
};
