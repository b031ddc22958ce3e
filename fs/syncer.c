/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/syncer.h"
#include "io/cleanup.h"

/* To find and open it; in other namespaces anything may be in the way. */
#define FIND_S 10
#define NAMESPACES_MAX 4096u

struct search {
	dev_t dev;
	ino_t seen[NAMESPACES_MAX]; /* namespaces */
	unsigned seen_count;
};

/* mountinfo writes blanks and such as \040. */
static void unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
		    from[3] <= '7') {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The descriptor of a directory or file of that filesystem at path, below this root, or -1. */
static int open_there(int root, const char *path, dev_t dev)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	cleanup_fd int at = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	char self[40];
	struct stat st;

	/* Something else may be mounted over it. */
	if (at < 0 || fstat(at, &st) || st.st_dev != dev || !(S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)))
		return -1;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	return open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int look_in_namespace(const struct search *s, const char *process)
{
	char path[PATH_MAX];
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	cleanup_fd int root = -1;
	size_t room = 0;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%s/root", process);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%s/mountinfo", process);
	f = fopen(path, "re");
	while (root >= 0 && f && fd < 0 && getline(&line, &room, f) > 0) {
		unsigned maj, min;
		int where = 0;

		if (sscanf(line, "%*d %*d %u:%u %*s %n", &maj, &min, &where) < 2 || !where || makedev(maj, min) != s->dev)
			continue;
		line[where + (int)strcspn(line + where, " \n")] = '\0';
		unescape(line + where);
		fd = open_there(root, line + where, s->dev);
	}
	return fd;
}

static bool is_new_namespace(struct search *s, const char *process)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", process);
	if (stat(path, &st))
		return false;
	for (unsigned i = 0; i < s->seen_count; i++)
		if (s->seen[i] == st.st_ino)
			return false;
	if (s->seen_count < NAMESPACES_MAX)
		s->seen[s->seen_count++] = st.st_ino;
	return true;
}

static int find(struct search *s)
{
	const struct dirent *e;
	int fd = is_new_namespace(s, "self") ? look_in_namespace(s, "self") : -1;
	DIR *proc = fd < 0 ? opendir("/proc") : NULL;

	while (proc && fd < 0 && (e = readdir(proc)))
		if (isdigit((unsigned char)e->d_name[0]) && is_new_namespace(s, e->d_name))
			fd = look_in_namespace(s, e->d_name);
	if (proc)
		closedir(proc);
	return fd;
}

static int sync_device(dev_t dev)
{
	struct search *s = calloc(1, sizeof(*s));
	cleanup_fd int fd = -1;

	if (!s)
		return ENOMEM;
	s->dev = dev;
	alarm(FIND_S);
	fd = find(s);
	alarm(0);
	free(s);
	if (fd < 0)
		return ENOENT;
	return syncfs(fd) ? errno : 0;
}

pid_t syncer_start(dev_t dev)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid)
		return pid < 0 ? -errno : pid;
	close_range(STDERR_FILENO + 1, ~0u, 0);
	signal(SIGALRM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(sync_device(dev));
}

int syncer_result(int status)
{
	if (WIFEXITED(status))
		return -WEXITSTATUS(status);
	return WTERMSIG(status) == SIGALRM ? -ETIMEDOUT : -EINTR;
}
