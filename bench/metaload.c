/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metaload [-t THREADS] [-n COUNT] [-s SECONDS] [-b BYTES] DIRECTORY PHASE[:COUNT]...: names and small
 * files, by threads that do nothing else, so that neither a shell nor an interpreter is measured.
 *
 * Phases run one after the other; in each, every thread works in a directory of its own below DIRECTORY (tN, made in
 * advance) until it has done COUNT operations or SECONDS are over. What a phase needs, an earlier one made:
 * "create stat rename unlink" handles the same files throughout, however many create managed.
 * Each phase prints a line:
 *
 *	PHASE operations seconds operations-per-second
 *
 * grow is the exception: one thread, files in directories of 10,000, a line for each 25,000 files.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define CLOCK_EVERY 16          /* operations between looks at the clock */
#define APPEND_BYTES 100
#define READ_BYTES 4096
#define READ_FILE_BYTES (16u << 20)
#define GROW_PER_DIR 10000u
#define GROW_WINDOW 25000u

struct worker {
	pthread_t thread;
	int dir;                /* descriptor of tN */
	int fd;                 /* of the phase */
	unsigned files, dirs;   /* that are there: f0.., d0.. */
	char prefix;            /* of the files: 'f', after rename 'r' */
	uint64_t done;
	uint64_t end_ns;
};

struct phase {
	const char *name;
	/* Before the clock starts and after it stopped; may be NULL. */
	void (*begin)(struct worker *w);
	void (*end)(struct worker *w);
	/* Operation number i; how many operations it counts for, 0 to end the phase. */
	unsigned (*step)(struct worker *w, unsigned i);
};

static struct worker workers[THREADS_MAX];
static unsigned threads = 1, count = 10000, phase_count, seconds = 60, file_bytes;
static const struct phase *current;
static pthread_barrier_t barrier;
static uint64_t start_ns;
static char payload[65536];

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "metaload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const char *name_of(char *buf, char prefix, unsigned i)
{
	char digits[16];
	unsigned n = 0;

	do
		digits[n++] = (char)('0' + i % 10);
	while (i /= 10);
	*buf = prefix;
	for (unsigned k = 0; k < n; k++)
		buf[1 + k] = digits[n - 1 - k];
	buf[1 + n] = '\0';
	return buf;
}

/* ---- Names ---- */

static unsigned step_create(struct worker *w, unsigned i)
{
	char name[20];
	int fd = openat(w->dir, name_of(name, 'f', i), O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (fd < 0)
		fail("create");
	if (file_bytes && write(fd, payload, file_bytes) != (ssize_t)file_bytes)
		fail("write");
	if (close(fd))
		fail("close");
	w->files = i + 1;
	w->prefix = 'f';
	return 1;
}

static unsigned step_stat(struct worker *w, unsigned i)
{
	char name[20];
	struct stat st;

	if (!w->files)
		return 0;
	if (fstatat(w->dir, name_of(name, w->prefix, i % w->files), &st, AT_SYMLINK_NOFOLLOW))
		fail("stat");
	return 1;
}

static unsigned step_openread(struct worker *w, unsigned i)
{
	char name[20], buf[sizeof(payload)];
	int fd;

	if (!w->files)
		return 0;
	fd = openat(w->dir, name_of(name, w->prefix, i % w->files), O_RDONLY);
	if (fd < 0)
		fail("open");
	if (read(fd, buf, sizeof(buf)) != (ssize_t)file_bytes)
		fail("read");
	close(fd);
	return 1;
}

static unsigned step_rename(struct worker *w, unsigned i)
{
	char from[20], to[20];

	if (i >= w->files)
		return 0;
	if (renameat(w->dir, name_of(from, w->prefix, i), w->dir, name_of(to, 'r', i)))
		fail("rename");
	return 1;
}

/* A phase that time ended leaves two prefixes: the rest is renamed off the clock. */
static void end_rename(struct worker *w)
{
	for (unsigned i = (unsigned)w->done; i < w->files; i++)
		step_rename(w, i);
	w->prefix = 'r';
}

static unsigned step_unlink(struct worker *w, unsigned i)
{
	char name[20];

	if (i >= w->files)
		return 0;
	if (unlinkat(w->dir, name_of(name, w->prefix, i), 0))
		fail("unlink");
	return 1;
}

static void end_unlink(struct worker *w)
{
	for (unsigned i = (unsigned)w->done; i < w->files; i++)
		step_unlink(w, i);
	w->files = 0;
}

static unsigned step_mkdir(struct worker *w, unsigned i)
{
	char name[20];

	if (mkdirat(w->dir, name_of(name, 'd', i), 0755))
		fail("mkdir");
	w->dirs = i + 1;
	return 1;
}

static unsigned step_rmdir(struct worker *w, unsigned i)
{
	char name[20];

	if (i >= w->dirs)
		return 0;
	if (unlinkat(w->dir, name_of(name, 'd', i), AT_REMOVEDIR))
		fail("rmdir");
	return 1;
}

static void end_rmdir(struct worker *w)
{
	for (unsigned i = (unsigned)w->done; i < w->dirs; i++)
		step_rmdir(w, i);
	w->dirs = 0;
}

/* Names that are not there, each asked for once: no negative dentry helps. */
static unsigned step_neg(struct worker *w, unsigned i)
{
	char name[20];
	struct stat st;

	if (fstatat(w->dir, name_of(name, 'n', i), &st, 0) == 0 || errno != ENOENT)
		fail("a name that should not be there");
	return 1;
}

/* The same 100 absent names again and again, as a shell's or a linker's search path asks. */
static unsigned step_negagain(struct worker *w, unsigned i)
{
	return step_neg(w, i % 100);
}

/* One pass over the directory counts for its entries. */
static unsigned step_readdir(struct worker *w, unsigned i)
{
	unsigned n = 0;
	int fd = openat(w->dir, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	(void)i;
	if (!d)
		fail("opendir");
	while (readdir(d))
		n++;
	closedir(d);
	if (n < w->files + 2)
		fail("readdir left names out");
	return n;
}

/* ---- One file ---- */

static void open_file(struct worker *w, const char *name, int flags)
{
	w->fd = openat(w->dir, name, flags | O_CREAT, 0644);
	if (w->fd < 0)
		fail(name);
}

static void close_file(struct worker *w)
{
	close(w->fd);
}

static void begin_append(struct worker *w)
{
	open_file(w, "log", O_WRONLY | O_APPEND);
}

static unsigned step_append(struct worker *w, unsigned i)
{
	(void)i;
	if (write(w->fd, payload, APPEND_BYTES) != APPEND_BYTES)
		fail("append");
	return 1;
}

/* Written and read once, so that the loop finds it in the page cache. */
static void begin_cachedread(struct worker *w)
{
	static const size_t piece = sizeof(payload);
	char buf[sizeof(payload)];

	open_file(w, "cached", O_RDWR);
	for (size_t at = 0; at < READ_FILE_BYTES; at += piece)
		if (pwrite(w->fd, payload, piece, (off_t)at) != (ssize_t)piece)
			fail("write");
	if (fsync(w->fd))
		fail("fsync");
	for (size_t at = 0; at < READ_FILE_BYTES; at += piece)
		if (pread(w->fd, buf, piece, (off_t)at) != (ssize_t)piece)
			fail("read");
}

static unsigned step_cachedread(struct worker *w, unsigned i)
{
	char buf[READ_BYTES];
	off_t at = (off_t)(i * 2654435761u % (READ_FILE_BYTES / READ_BYTES)) * READ_BYTES;

	if (pread(w->fd, buf, sizeof(buf), at) != sizeof(buf))
		fail("read");
	return 1;
}

static void begin_statcached(struct worker *w)
{
	open_file(w, "looked-at", O_RDWR);
}

static unsigned step_statcached(struct worker *w, unsigned i)
{
	struct stat st;

	(void)i;
	if (fstatat(w->dir, "looked-at", &st, 0))
		fail("stat");
	return 1;
}

static const struct phase phases[] = {
	{ "create", NULL, NULL, step_create },
	{ "stat", NULL, NULL, step_stat },
	{ "openread", NULL, NULL, step_openread },
	{ "rename", NULL, end_rename, step_rename },
	{ "unlink", NULL, end_unlink, step_unlink },
	{ "mkdir", NULL, NULL, step_mkdir },
	{ "rmdir", NULL, end_rmdir, step_rmdir },
	{ "neg", NULL, NULL, step_neg },
	{ "negagain", NULL, NULL, step_negagain },
	{ "readdir", NULL, NULL, step_readdir },
	{ "append", begin_append, close_file, step_append },
	{ "cachedread", begin_cachedread, close_file, step_cachedread },
	{ "statcached", begin_statcached, close_file, step_statcached },
};

/* ---- Running them ---- */

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t deadline;
	unsigned steps = 0, n;

	w->done = 0;
	if (current->begin)
		current->begin(w);
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		start_ns = now_ns();
	pthread_barrier_wait(&barrier);
	deadline = start_ns + (uint64_t)seconds * 1000000000u;
	while (w->done < phase_count && (n = current->step(w, steps++))) {
		w->done += n;
		if ((n > 1 || steps % CLOCK_EVERY == 0) && now_ns() > deadline)
			break;
	}
	w->end_ns = now_ns();
	if (current->end)
		current->end(w);
	return NULL;
}

static void run_phase(const struct phase *phase)
{
	uint64_t done = 0, end_ns = 0;
	double taken;

	current = phase;
	for (unsigned i = 0; i < threads; i++)
		if ((errno = pthread_create(&workers[i].thread, NULL, work, &workers[i])))
			fail("thread");
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		done += workers[i].done;
		if (workers[i].end_ns > end_ns)
			end_ns = workers[i].end_ns;
	}
	taken = (double)(end_ns - start_ns) / 1e9;
	printf("%s %llu %.6f %.1f\n", phase->name, (unsigned long long)done, taken,
	       (double)done / taken);
	fflush(stdout);
}

static int make_dir(int parent, const char *name)
{
	int fd;

	if (mkdirat(parent, name, 0755) && errno != EEXIST)
		fail(name);
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		fail(name);
	return fd;
}

static void grow(int parent)
{
	struct worker w = { .dir = -1 };
	uint64_t begun = now_ns(), window = begun, now;
	char name[20];

	for (unsigned i = 0; i < count; i++) {
		if (i % GROW_PER_DIR == 0) {
			if (w.dir >= 0)
				close(w.dir);
			w.dir = make_dir(parent, name_of(name, 'g', i / GROW_PER_DIR));
		}
		step_create(&w, i % GROW_PER_DIR);
		if ((i + 1) % GROW_WINDOW)
			continue;
		now = now_ns();
		printf("grow %u %.6f %.1f\n", i + 1, (double)(now - begun) / 1e9,
		       GROW_WINDOW * 1e9 / (double)(now - window));
		fflush(stdout);
		if (now - begun > (uint64_t)seconds * 1000000000u)
			break;
		window = now;
	}
	if (w.dir >= 0)
		close(w.dir);
}

static unsigned number(const char *s, unsigned max)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (*end || !*s || n > max) {
		fprintf(stderr, "metaload: %s is not a number up to %u\n", s, max);
		exit(2);
	}
	return (unsigned)n;
}

/* "PHASE" or "PHASE:COUNT". */
static const struct phase *parse_phase(const char *arg)
{
	size_t len = strcspn(arg, ":");

	phase_count = arg[len] ? number(arg + len + 1, UINT32_MAX) : count;
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		if (strlen(phases[i].name) == len && strncmp(arg, phases[i].name, len) == 0)
			return &phases[i];
	fprintf(stderr, "metaload: there is no phase %s\n", arg);
	exit(2);
}

static void parse_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "t:n:s:b:")) != -1) {
		if (c == 't')
			threads = number(optarg, THREADS_MAX);
		else if (c == 'n')
			count = number(optarg, UINT32_MAX);
		else if (c == 's')
			seconds = number(optarg, 86400);
		else if (c == 'b')
			file_bytes = number(optarg, sizeof(payload) - 1);
		else
			exit(2);
	}
	if (argc - optind >= 2 && threads)
		return;
	fprintf(stderr, "usage: metaload [-t THREADS] [-n COUNT] [-s SECONDS] [-b BYTES] DIRECTORY PHASE[:COUNT]...\n");
	exit(2);
}

int main(int argc, char **argv)
{
	char name[20];
	int parent;

	parse_options(argc, argv);
	parent = open(argv[optind], O_RDONLY | O_DIRECTORY);
	if (parent < 0)
		fail(argv[optind]);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (char)('a' + i % 26);
	if (strcmp(argv[optind + 1], "grow") == 0) {
		grow(parent);
		return 0;
	}
	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].dir = make_dir(parent, name_of(name, 't', i));
	}
	for (int i = optind + 1; i < argc; i++)
		run_phase(parse_phase(argv[i]));
	return 0;
}
