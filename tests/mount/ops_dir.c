/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading directories: complete, each name once, and positions that stay good while entries come and go. */
#include "config.h"

#include "ops.h"

#include <dirent.h>

#define MANY 10000

static bool make_many(int count)
{
	char name[32];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "entry-%05d", i);
		if (mknod(name, S_IFREG | 0600, 0))
			return false;
	}
	return true;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Number of the entry, -1 for a foreign name. */
static int number_of(const char *name)
{
	int n = -1;

	return sscanf(name, "entry-%05d", &n) == 1 && n >= 0 && n < MANY ? n : -1;
}

/* Counts how often each entry is met from the present position to the end; false on a foreign name or an error. */
static bool count_entries(DIR *dir, uint8_t *seen)
{
	struct dirent *de;

	errno = 0;
	while ((de = readdir(dir)) != NULL) {
		int n = number_of(de->d_name);

		if (is_dots(de->d_name))
			continue;
		if (n < 0)
			return false;
		seen[n]++;
	}
	return errno == 0;
}

static bool all_are(const uint8_t *seen, int from, int to, int step, uint8_t want)
{
	for (int i = from; i < to; i += step)
		if (seen[i] != want)
			return false;
	return true;
}

static void readdir_empty(struct t *t)
{
	struct dirent *de;
	unsigned dots = 0, other = 0;
	DIR *dir;

	OK(mkdir("d", 0755));
	dir = opendir("d");
	TRUE(dir != NULL);
	while (dir && (de = readdir(dir)) != NULL) {
		if (is_dots(de->d_name)) {
			dots++;
			TRUE(de->d_type == DT_DIR || de->d_type == DT_UNKNOWN);
		} else {
			other++;
		}
	}
	TRUE(dots == 2 && other == 0);
}

static void readdir_10k(struct t *t)
{
	uint8_t *seen = calloc(1, MANY);
	DIR *dir;

	TRUE(make_many(MANY));
	dir = opendir(".");
	TRUE(dir != NULL && count_entries(dir, seen));
	TRUE(all_are(seen, 0, MANY, 1, 1));
	rewinddir(dir);
	TRUE(count_entries(dir, seen));
	TRUE(all_are(seen, 0, MANY, 1, 2));
}

static void readdir_types(struct t *t)
{
	struct dirent *de;
	struct stat st;
	DIR *dir;

	OK(mkdir("d", 0755));
	OK(symlink("x", "l"));
	OK(mkfifo("p", 0600));
	OK(mknod("s", S_IFSOCK | 0600, 0));
	ops_make(t, "f", 0, 1);
	dir = opendir(".");
	while (dir && (de = readdir(dir)) != NULL) {
		if (is_dots(de->d_name))
			continue;
		if (lstat(de->d_name, &st) || st.st_ino != de->d_ino)
			ops_fail(t, __LINE__, "%s: d_ino is not st_ino", de->d_name);
		if (de->d_type != DT_UNKNOWN && de->d_type != IFTODT(st.st_mode))
			ops_fail(t, __LINE__, "%s: d_type %u", de->d_name, de->d_type);
	}
	TRUE(dir != NULL);
}

static void readdir_dots_inodes(struct t *t)
{
	ino_t dot = 0, dotdot = 0;
	struct dirent *de;
	struct stat up, here;
	DIR *dir;

	OK(mkdir("p", 0755));
	OK(mkdir("p/d", 0755));
	OK(stat("p", &up));
	OK(stat("p/d", &here));
	dir = opendir("p/d");
	while (dir && (de = readdir(dir)) != NULL) {
		if (!strcmp(de->d_name, "."))
			dot = de->d_ino;
		if (!strcmp(de->d_name, ".."))
			dotdot = de->d_ino;
	}
	TRUE(dot == here.st_ino && dotdot == up.st_ino);
	TRUE(dir != NULL);
}

static void seekdir_everywhere(struct t *t)
{
	enum { COUNT = 500 };
	static long at[COUNT + 4];
	static char names[COUNT + 4][32];
	struct dirent *de;
	int n = 0;
	DIR *dir;

	TRUE(make_many(COUNT));
	dir = opendir(".");
	for (at[n] = telldir(dir); n < COUNT + 2 && (de = readdir(dir)) != NULL; at[n] = telldir(dir))
		strcpy(names[n++], de->d_name);
	TRUE(n == COUNT + 2);
	for (int i = n - 1; i >= 0; i -= 7) {
		seekdir(dir, at[i]);
		de = readdir(dir);
		if (!de || strcmp(de->d_name, names[i]))
			ops_fail(t, __LINE__, "seekdir to entry %d gives %s", i, de ? de->d_name : "the end");
	}
	seekdir(dir, at[n]);
	TRUE(readdir(dir) == NULL);
}

static void seekdir_while_deleting(struct t *t)
{
	uint8_t *seen = calloc(1, MANY);
	struct dirent *de;
	char name[32];
	DIR *dir;
	int met = 0;

	TRUE(make_many(MANY));
	dir = opendir(".");
	/* A third of the way in, remove every even entry; then go on from the same place, by seekdir in another stream. */
	while (met < MANY / 3 && (de = readdir(dir)) != NULL)
		if (number_of(de->d_name) >= 0)
			met++, seen[number_of(de->d_name)]++;
	for (int i = 0; i < MANY; i += 2) {
		snprintf(name, sizeof(name), "entry-%05d", i);
		if (unlink(name))
			ops_fail(t, __LINE__, "unlink %s: %s", name, strerror(errno));
	}
	seekdir(dir, telldir(dir));
	TRUE(count_entries(dir, seen));
	/* What stayed all the time is met exactly once; what went at most once. */
	TRUE(all_are(seen, 1, MANY, 2, 1));
	for (int i = 0; i < MANY; i += 2)
		if (seen[i] > 1)
			ops_fail(t, __LINE__, "entry %d met %u times", i, seen[i]);
	memset(seen, 0, MANY);
	rewinddir(dir);
	TRUE(count_entries(dir, seen));
	TRUE(all_are(seen, 1, MANY, 2, 1) && all_are(seen, 0, MANY, 2, 0));
}

static void readdir_while_creating(struct t *t)
{
	uint8_t *seen = calloc(1, MANY);
	struct dirent *de;
	char name[32];
	DIR *dir;
	int met = 0;

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "entry-%05d", i);
		if (mkdir(name, 0755))
			ops_fail(t, __LINE__, "mkdir: %s", strerror(errno));
	}
	dir = opendir(".");
	while (met < 1000 && (de = readdir(dir)) != NULL)
		if (number_of(de->d_name) >= 0)
			met++, seen[number_of(de->d_name)]++;
	for (int i = 3000; i < 6000; i++) {
		snprintf(name, sizeof(name), "entry-%05d", i);
		if (mkdir(name, 0755))
			ops_fail(t, __LINE__, "mkdir: %s", strerror(errno));
	}
	TRUE(count_entries(dir, seen));
	TRUE(all_are(seen, 0, 3000, 1, 1));
	for (int i = 3000; i < 6000; i++)
		if (seen[i] > 1)
			ops_fail(t, __LINE__, "entry %d met %u times", i, seen[i]);
}

/* What `rm -r` does: read and remove as it goes. */
static void remove_while_reading(struct t *t)
{
	struct dirent *de;
	int removed = 0;
	DIR *dir;

	TRUE(make_many(5000));
	dir = opendir(".");
	while ((de = readdir(dir)) != NULL)
		if (!is_dots(de->d_name) && !unlink(de->d_name))
			removed++;
	TRUE(removed == 5000);
	rewinddir(dir);
	removed = 0;
	while ((de = readdir(dir)) != NULL)
		removed++;
	TRUE(removed == 2);
}

static void rename_while_reading(struct t *t)
{
	uint8_t seen[1000] = {0};
	struct dirent *de;
	char name[32];
	DIR *dir;
	int n;

	TRUE(make_many(1000));
	dir = opendir(".");
	while ((de = readdir(dir)) != NULL) {
		if ((n = number_of(de->d_name)) < 0)
			continue;
		seen[n]++;
		snprintf(name, sizeof(name), "moved-%05d", n);
		if (rename(de->d_name, name))
			ops_fail(t, __LINE__, "rename: %s", strerror(errno));
	}
	TRUE(all_are(seen, 0, 1000, 1, 1));
}

static void readdir_small_buffer(struct t *t)
{
	static uint8_t seen[2000];
	struct {
		uint64_t ino;
		int64_t off;
		uint16_t reclen;
		uint8_t type;
		char name[];
	} __attribute__((packed)) *de;
	char buf[128];
	ssize_t n;
	int fd = FD(open(".", O_RDONLY | O_DIRECTORY));

	TRUE(make_many(2000));
	ERR(EINVAL, getdents64(fd, buf, 8));
	while ((n = getdents64(fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n; at += de->reclen) {
			de = (void *)(buf + at);
			if (number_of(de->name) >= 0)
				seen[number_of(de->name)]++;
		}
	TRUE(n == 0);
	TRUE(all_are(seen, 0, 2000, 1, 1));
}

static void directory_descriptor(struct t *t)
{
	char c;
	int fd;

	OK(mkdir("d", 0755));
	fd = FD(open("d", O_RDONLY));
	ERR(EISDIR, read(fd, &c, 1));
	ERR(EBADF, write(fd, "x", 1));
	ERR2(EINVAL, EBADF, ftruncate(fd, 0));
	ERR(EISDIR, truncate("d", 0));
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(fchmod(fd, 0700));
	RET(0700, ops_mode("d"));
	OK(mkdirat(fd, "e", 0755));
	OK(fchdir(fd));
	TRUE(ops_exists("e"));
}

const struct op_case ops_dir[] = {
	{"readdir_empty", readdir_empty, 0},
	{"readdir_10k", readdir_10k, 0},
	{"readdir_types", readdir_types, 0},
	{"readdir_dots_inodes", readdir_dots_inodes, 0},
	{"seekdir_everywhere", seekdir_everywhere, 0},
	{"seekdir_while_deleting", seekdir_while_deleting, 0},
	{"readdir_while_creating", readdir_while_creating, 0},
	{"remove_while_reading", remove_while_reading, 0},
	{"rename_while_reading", rename_while_reading, 0},
	{"readdir_small_buffer", readdir_small_buffer, 0},
	{"directory_descriptor", directory_descriptor, 0},
	{NULL, NULL, 0},
};
