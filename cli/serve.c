/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/serve.h"
#include "fs/poolconf.h"
#include "io/cleanup.h"

/* Run a program to its end, its standard error to err_fd unless that is -1; its exit status, or -errno. */
static int run(char *const argv[], int err_fd)
{
	int status;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL); /* whose parent ignored it could not wait */
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (err_fd >= 0)
			dup2(err_fd, STDERR_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static bool systemd_runs(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

static int make_run_dir(void)
{
	return mkdir(NVFS_RUN_DIR, 0755) && errno != EEXIST ? -errno : 0;
}

/* nvfs.conf(5) separates devices by blanks. */
static bool can_be_configured(const char *path)
{
	for (; *path; path++)
		if (isspace((unsigned char)*path))
			return false;
	return true;
}

static int write_devices(FILE *f, char *const *devices)
{
	fputs("devices =", f);
	for (; *devices; devices++) {
		if (!can_be_configured(*devices))
			return -EILSEQ;
		fprintf(f, " %s", *devices);
	}
	fputc('\n', f);
	return fflush(f) ? -errno : 0;
}

/*
 * The unit reads /etc/nvfs/POOL.conf. For a pool that was named by its devices and has no such file, one that lasts until the next
 * boot says where it is. It is put in place whole: somebody else may start the same pool.
 */
static int write_runtime_config(const struct pool_ref *ref)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	cleanup_file FILE *f = NULL;
	int rc;

	snprintf(path, sizeof(path), "%s/%s.conf", NVFS_CONF_DIR, ref->pool);
	if (!ref->devices || access(path, F_OK) == 0)
		return 0;
	rc = make_run_dir();
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%s.conf", NVFS_RUN_DIR, ref->pool);
	snprintf(temporary, sizeof(temporary), "%s/%s.conf.%d", NVFS_RUN_DIR, ref->pool, (int)getpid());
	f = fopen(temporary, "we");
	if (!f)
		return -errno;
	rc = write_devices(f, ref->devices);
	if (!rc && rename(temporary, path))
		rc = -errno;
	if (rc)
		unlink(temporary);
	return rc;
}

static int start_by_systemd(const struct pool_ref *ref, char *why, size_t len)
{
	char program[] = "/usr/bin/systemctl", quiet[] = "--quiet", verb[] = "start", unit[128];
	char *const argv[] = {program, quiet, verb, unit, NULL};
	int rc = write_runtime_config(ref);

	if (rc == -EILSEQ)
		snprintf(why, len, "the path of a device has a blank, which nvfs.conf(5) cannot name; rename it or make a link to it");
	else if (rc)
		snprintf(why, len, "cannot write %s/%s.conf: %s", NVFS_RUN_DIR, ref->pool, strerror(-rc));
	if (rc)
		return rc;
	snprintf(unit, sizeof(unit), "nvfsd@%s.service", ref->pool);
	rc = run(argv, -1);
	if (rc == 0)
		return 0;
	snprintf(why, len, "%s did not start; \"journalctl -u %s\" says why", unit, unit);
	return -ECONNREFUSED;
}

/* nvfsd of the same build when this program was not installed, else the installed one. */
static void daemon_path(char *path, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", path, len - 1);
	char *slash;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		if (slash && (size_t)(slash - path) + sizeof("/nvfsd") <= len) {
			strcpy(slash, "/nvfsd");
			if (access(path, X_OK) == 0)
				return;
		}
	}
	snprintf(path, len, "%s/nvfsd", NVFS_SBIN_DIR);
}

/* Held by who starts a daemon: of several mounts at once the first starts it and the others find it. */
static int lock_start(const char *pool)
{
	char path[PATH_MAX];
	int fd;

	if (make_run_dir())
		return -1;
	snprintf(path, sizeof(path), "%s/%s.start", NVFS_RUN_DIR, pool);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		flock(fd, LOCK_EX);
	return fd;
}

/* Whether one line is all that a daemon which did not start has said: that is the reason then. */
static bool read_reason(int fd, char *why, size_t len)
{
	static const char ident[] = "nvfsd: ";
	char said[1024];
	ssize_t n = pread(fd, said, sizeof(said) - 1, 0);
	char *end;

	if (n <= 0)
		return false;
	said[n] = '\0';
	end = strchr(said, '\n');
	if (strncmp(said, ident, sizeof(ident) - 1) || !end || end != said + n - 1)
		return false;
	*end = '\0';
	snprintf(why, len, "%s", said + sizeof(ident) - 1);
	return true;
}

static void hand_on(int fd)
{
	char part[1024];
	off_t at = 0;

	for (ssize_t n; (n = pread(fd, part, sizeof(part), at)) > 0; at += n)
		fwrite(part, 1, (size_t)n, stderr);
}

static int start_daemon(const struct pool_ref *ref, char *why, size_t len)
{
	/* No pipe: what the daemon starts may keep its standard error open. */
	cleanup_fd int said_fd = memfd_create("nvfsd", MFD_CLOEXEC);
	char path[PATH_MAX];
	char *argv[2 + 64 + 1] = {path};
	unsigned n = 1;
	int rc;

	daemon_path(path, sizeof(path));
	if (ref->devices)
		for (char **d = ref->devices; *d && n < 65; d++)
			argv[n++] = *d;
	else
		argv[n++] = ref->pool;
	fflush(NULL);
	rc = run(argv, said_fd);
	if (rc > 0 && read_reason(said_fd, why, len))
		return -ECONNREFUSED;
	hand_on(said_fd);
	if (rc == 0)
		return 0;
	if (rc == 127)
		snprintf(why, len, "cannot run %s: is nvfs installed?", path);
	else
		snprintf(why, len, "nvfsd did not start for pool %s; its message is above", ref->pool);
	return -ECONNREFUSED;
}

static int start_and_connect(const struct pool_ref *ref, bool *started, struct client **out, char *why, size_t why_len)
{
	cleanup_fd int lock = -1;
	char path[PATH_MAX];
	int rc;

	poolconf_path(ref->pool, path, sizeof(path));
	if (!ref->devices && access(path, F_OK)) {
		snprintf(why, why_len, "nobody serves a pool %s and no %s says where it is; name its device or file instead%s%s",
			 ref->pool, path, access(ref->pool, F_OK) ? "" : ", as in ./", access(ref->pool, F_OK) ? "" : ref->pool);
		return -ENOENT;
	}
	if (ref->twice) {
		snprintf(why, why_len, "%s and another one are the same member of pool %s, one a copy; name all devices: nvfs pool start",
			 ref->twice, ref->pool);
		return -ENOTUNIQ;
	}
	lock = lock_start(ref->pool);
	rc = client_connect(ref->pool, out);
	if (rc != -ESRCH)
		return rc;
	rc = systemd_runs() ? start_by_systemd(ref, why, why_len) : start_daemon(ref, why, why_len);
	*started = !rc;
	return rc ? rc : client_connect(ref->pool, out);
}

/* ---- Whether it is that pool ---- */

#define ASK_S 10 /* a daemon that does not answer is looked into by who needs it */

/* Both are files, and not one. Of devices several names, and several devices, may be one. */
static bool other_file(const char *a, const char *b)
{
	struct stat one, two;

	return !stat(a, &one) && !stat(b, &two) && S_ISREG(one.st_mode) && S_ISREG(two.st_mode) &&
	       (one.st_dev != two.st_dev || one.st_ino != two.st_ino);
}

static bool is_copy(const struct pool_ref *ref, const json_t *devices)
{
	const char *theirs;
	const json_t *d;
	size_t i;

	json_array_foreach(devices, i, d) {
		theirs = json_string_value(d);
		if (!theirs || *theirs != '/' || !ref->devices[0] || !other_file(ref->devices[0], theirs))
			continue;
		for (char **own = ref->devices; *own; own++)
			if (!other_file(*own, theirs))
				return false;
		return true;
	}
	return false;
}

/*
 * A daemon is found by the name of its pool. Who named devices means those, and not another pool, or another copy of it, that has the
 * same name.
 */
static int check_identity(struct client *c, const struct pool_ref *ref, char *why, size_t why_len)
{
	json_t *reply = NULL, *pool, *devices;
	const char *uuid, *first;
	int rc = 0;

	client_set_timeout(c, ASK_S);
	if (client_call(c, json_pack("{s:s}", "op", "pool.show"), -1, &reply) == 0) {
		pool = json_object_get(reply, "pool");
		devices = json_object_get(pool, "devices");
		uuid = json_string_value(json_object_get(pool, "uuid"));
		first = json_string_value(json_array_get(devices, 0));
		if (uuid && (strcmp(uuid, ref->uuid) || is_copy(ref, devices))) {
			snprintf(why, why_len, "another pool with the name %s is served, from %s; stop that first: nvfs pool stop %s",
				 ref->pool, first ? first : "other devices", ref->pool);
			rc = -EEXIST;
		}
	}
	json_decref(reply);
	client_set_timeout(c, 0);
	return rc;
}

/* By its name it can be started only when a file says where it is. */
static void say_not_served(const struct pool_ref *ref, char *why, size_t why_len)
{
	const char *what = ref->pool;
	char path[PATH_MAX];

	poolconf_path(ref->pool, path, sizeof(path));
	if (ref->devices)
		what = ref->devices[0];
	else if (access(path, F_OK))
		what = "DEVICE|FILE";
	snprintf(why, why_len, "nobody serves the pool %s; start it with: nvfs pool start %s", ref->pool, what);
}

int serve_connect(const struct pool_ref *ref, bool *started, struct client **out, char *why, size_t why_len)
{
	int rc = client_connect(ref->pool, out);

	*why = '\0';
	if (started)
		*started = false;
	if (rc == -ESRCH && started)
		rc = start_and_connect(ref, started, out, why, why_len);
	if (!rc && ref->devices && *ref->uuid) {
		rc = check_identity(*out, ref, why, why_len);
		if (rc && started && *started) /* POOL.conf names other devices */
			client_call(*out, json_pack("{s:s}", "op", "pool.stop"), -1, NULL);
		if (rc) {
			client_close(*out);
			*out = NULL;
		}
	}
	if (rc && *why)
		return rc;
	if (rc == -ESRCH)
		say_not_served(ref, why, why_len);
	else if (rc == -EACCES)
		snprintf(why, why_len, "you may not use the control socket of pool %s; root and its control_group may",
			 ref->pool);
	else if (rc)
		snprintf(why, why_len, "cannot reach the daemon of pool %s: %s", ref->pool, strerror(-rc));
	return rc;
}

int serve_subvolume(struct client *c, const struct pool_ref *ref, char **name, char *why, size_t why_len)
{
	json_t *reply, *list;
	int rc;

	*name = NULL;
	snprintf(why, why_len, "out of memory");
	if (ref->subvolume)
		return asprintf(name, "%s%s%s", ref->subvolume, ref->snapshot ? "@" : "", ref->snapshot ? ref->snapshot : "") < 0 ?
			       -ENOMEM :
			       0;
	rc = client_call(c, json_pack("{s:s}", "op", "subvolume.list"), -1, &reply);
	if (rc) {
		snprintf(why, why_len, "%s", client_message(c));
		return rc;
	}
	list = json_object_get(reply, "subvolumes");
	if (json_array_size(list) == 1) {
		const char *only = json_string_value(json_object_get(json_array_get(list, 0), "name"));

		*name = only ? strdup(only) : NULL;
	} else if (json_array_size(list) == 0) {
		snprintf(why, why_len, "pool %s has no subvolume yet; make one: nvfs subvolume create %s:NAME --size SIZE",
			 ref->pool, ref->pool);
	} else {
		snprintf(why, why_len, "pool %s has %zu subvolumes; say which: %s:NAME (nvfs subvolume list %s shows them)",
			 ref->pool, json_array_size(list), ref->pool, ref->pool);
	}
	json_decref(reply);
	return *name ? 0 : -EINVAL;
}
