/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/poolconf.h"
#include "fs/server.h"
#include "fs/supervisor.h"
#include "fs/worker.h"
#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
#include "meta/label.h"

/*
 * nvfsd(8): finds out what to serve, goes to the background when it shall, and becomes the supervisor; or, as
 * `nvfsd --worker`, the worker, which is given everything found out by arguments.
 */

struct arguments {
	bool foreground, debug, worker, restart, to_syslog;
	const char *config, *options, *name;
	char **what; /* pool or devices */
	int count;
};

static const char usage[] =
	"usage: nvfsd [-f] [-d] [-o OPTIONS] [--config FILE] POOL|DEVICE...\n"
	"Serves a pool that /etc/nvfs/POOL.conf describes, or the one on these devices or files.\n"
	"  -f, --foreground  stay in the foreground and log to standard error\n"
	"  -d, --debug       log more\n"
	"  -o OPTIONS        dirty=SIZE,cache=SIZE,reactors=N,...: see nvfs.conf(5)\n";

enum { OPT_CONFIG = 256, OPT_WORKER, OPT_RESTART, OPT_SYSLOG, OPT_NAME, OPT_VERSION };

static int parse(int argc, char **argv, struct arguments *a)
{
	static const struct option longs[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "debug", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "worker", no_argument, NULL, OPT_WORKER },
		{ "restart", no_argument, NULL, OPT_RESTART },
		{ "syslog", no_argument, NULL, OPT_SYSLOG },
		{ "name", required_argument, NULL, OPT_NAME },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "fdo:h", longs, NULL)) != -1) {
		switch (opt) {
		case 'f': a->foreground = true; break;
		case 'd': a->debug = true; break;
		case 'o': a->options = optarg; break;
		case 'h': fputs(usage, stdout); exit(0);
		case OPT_VERSION: puts("nvfsd " PACKAGE_VERSION); exit(0);
		case OPT_CONFIG: a->config = optarg; break;
		case OPT_WORKER: a->worker = true; break;
		case OPT_RESTART: a->restart = true; break;
		case OPT_SYSLOG: a->to_syslog = true; break;
		case OPT_NAME: a->name = optarg; break;
		default: return -EINVAL;
		}
	}
	a->what = argv + optind;
	a->count = argc - optind;
	return a->count > 0 || a->config ? 0 : -EINVAL;
}

/* ---- What to serve ---- */

static int read_config(struct poolconf *c, const char *path)
{
	char why[1024];
	int err = poolconf_read(c, path, why, sizeof(why));

	if (err)
		log_error("%s", why);
	return err;
}

/* The file of a pool, if there is one. */
static bool find_config(const char *pool, char *path, size_t len)
{
	poolconf_path(pool, path, len);
	return !access(path, F_OK);
}

static int add_device(struct poolconf *c, const char *path)
{
	char real[PATH_MAX];
	int err;

	if (!realpath(path, real)) {
		err = -errno;
		log_error("%s: %s", path, strerror(errno));
		return err;
	}
	err = poolconf_add_device(c, real);
	if (err)
		log_error("%s is given twice, or there are more than %d devices", path,
			  POOLCONF_DEVICES_MAX);
	return err;
}

/* The pool's name as its first device has it, which this file names unless it is NULL. */
static int read_label(const char *path, const char *config, char *name, size_t len)
{
	struct device *dev;
	struct label label;
	int err = device_open(path, DEVICE_READONLY, &dev);

	if (err) {
		log_error("%s%s%s cannot be opened: %s", path, config ? ", which is named in " : "",
			  config ? config : "",
			  err == -ENXIO ? "it is empty"
			  : err == -ENOTBLK ? "it is neither a block device nor a file"
					    : strerror(-err));
		return err;
	}
	err = label_read(dev, &label, NULL);
	device_close(dev);
	switch (err) {
	case 0:
		snprintf(name, len, "%s", label.name);
		return 0;
	case -ENOENT:
		log_error("%s is no part of an nvfs pool; mkfs.nvfs makes one", path);
		return err;
	case -EBADMSG:
		log_error("%s: both copies of the label are damaged; bring them back from a copy of it", path);
		return err;
	case -EPROTONOSUPPORT:
		log_error("%s: format %u.%u is newer than this nvfsd; install a newer nvfs", path,
			  label.major, label.minor);
		return err;
	case -ENODATA:
		log_error("%s is smaller than its label says: it was cut off; bring the whole of it back from a copy",
			  path);
		return err;
	default:
		log_error("%s: the label cannot be read: %s", path, strerror(-err));
		return err;
	}
}

static bool is_pool_name(const char *what)
{
	char path[PATH_MAX];

	return label_name_valid(what) && (find_config(what, path, sizeof(path)) || access(what, F_OK));
}

static int by_pool(struct poolconf *c, const char *pool)
{
	char path[PATH_MAX], name[64] = "";
	int err;

	if (!find_config(pool, path, sizeof(path))) {
		log_error("pool %s is unknown: there is no %s; give its devices instead", pool, path);
		return -ENOENT;
	}
	err = read_config(c, path);
	if (err)
		return err;
	if (!c->device_count) {
		log_error("%s names no devices", path);
		return -EINVAL;
	}
	err = read_label(c->devices[0], path, name, sizeof(name));
	if (!err && strcmp(name, pool)) {
		log_error("%s: %s belongs to pool %s", path, c->devices[0], name);
		err = -EINVAL;
	}
	snprintf(c->pool, sizeof(c->pool), "%s", name);
	return err;
}

/* By the devices; a file for the pool that is on them still gives the options. */
static int by_devices(struct poolconf *c, char **paths, int count)
{
	char path[PATH_MAX];
	int err = 0;

	for (int i = 0; i < count && !err; i++)
		err = add_device(c, paths[i]);
	if (!err)
		err = read_label(c->devices[0], NULL, c->pool, sizeof(c->pool));
	if (!err && find_config(c->pool, path, sizeof(path))) {
		struct poolconf file;

		poolconf_init(&file);
		err = read_config(&file, path);
		poolconf_free(&file);
		for (unsigned i = 0; i < c->device_count; i++)
			file.devices[i] = c->devices[i];
		file.device_count = c->device_count;
		memcpy(file.pool, c->pool, sizeof(file.pool));
		*c = file;
	}
	return err;
}

static int by_config(struct poolconf *c, const char *path)
{
	int err = read_config(c, path);

	if (err)
		return err;
	if (!c->device_count) {
		log_error("%s names no devices", path);
		return -EINVAL;
	}
	return read_label(c->devices[0], path, c->pool, sizeof(c->pool));
}

static int resolve(const struct arguments *a, struct poolconf *c)
{
	char why[512];
	int err;

	if (a->config)
		err = by_config(c, a->config);
	else if (a->count == 1 && is_pool_name(a->what[0]))
		err = by_pool(c, a->what[0]);
	else
		err = by_devices(c, a->what, a->count);
	if (!err && a->options) {
		err = poolconf_options(c, a->options, why, sizeof(why));
		if (err)
			log_error("-o: %s", why);
	}
	return err;
}

/* ---- Supervisor and worker ---- */

/* The parent ends when the pool is served, or with the reason why not on its terminal. */
static int go_to_background(int *ready_fd)
{
	int fds[2], status;
	char byte;
	pid_t pid;

	if (pipe(fds))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		if (read(fds[0], &byte, 1) == 1)
			_exit(0);
		_exit(waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									    : 1);
	}
	/* What the caller had open is none of ours: a daemon must not keep its locks and pipes. */
	if (dup2(fds[1], STDERR_FILENO + 1) < 0)
		_exit(1);
	close_range(STDERR_FILENO + 2, ~0u, 0);
	*ready_fd = STDERR_FILENO + 1;
	setsid();
	return chdir("/") ? -errno : 0;
}

/* A mount takes a descriptor here and one in the worker: as many as we are allowed to have, and not only what the caller left us. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warn("the limit of open files stays at what it is: %s", strerror(errno));
}

static int supervise(const struct arguments *a, char *program)
{
	char worker[] = "--worker", debug[] = "-d", syslog[] = "--syslog", o[] = "-o",
	     name[] = "--name", end[] = "--", options[POOLCONF_OPTIONS_MAX];
	char *args[16 + POOLCONF_DEVICES_MAX];
	struct supervisor_options s = { .worker_args = args, .ready_fd = -1 };
	struct poolconf c;
	unsigned n = 0;
	int status;

	raise_descriptors();
	poolconf_init(&c);
	if (resolve(a, &c) || (!a->foreground && go_to_background(&s.ready_fd))) {
		poolconf_free(&c);
		return 1;
	}
	poolconf_format_options(&c, options, sizeof(options));
	args[n++] = program;
	args[n++] = worker;
	args[n++] = name;
	args[n++] = c.pool;
	args[n++] = o;
	args[n++] = options;
	if (a->debug)
		args[n++] = debug;
	if (!a->foreground)
		args[n++] = syslog;
	s.restart_at = n;
	args[n++] = end;
	for (unsigned i = 0; i < c.device_count; i++)
		args[n++] = c.devices[i];
	s.worker_argc = n;
	s.conf = &c;
	s.area_bytes = server_area_bytes(&c);
	status = supervisor_run(&s);
	poolconf_free(&c);
	return status;
}

static int work(const struct arguments *a)
{
	struct poolconf c;
	char why[512];
	int status;

	/* It was executed as /proc/self/exe, and would be called "exe" everywhere. */
	prctl(PR_SET_NAME, "nvfsd-worker");
	poolconf_init(&c);
	snprintf(c.pool, sizeof(c.pool), "%s", a->name ? a->name : "");
	if (poolconf_options(&c, a->options ? a->options : "", why, sizeof(why)))
		return 1;
	for (int i = 0; i < a->count; i++) {
		if (poolconf_add_device(&c, a->what[i]))
			return 1;
	}
	status = worker_run(&c, a->restart, a->to_syslog);
	poolconf_free(&c);
	return status;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };

	log_set_ident("nvfsd");
	if (parse(argc, argv, &a)) {
		fputs(usage, stderr);
		return 2;
	}
	if (a.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	return a.worker ? work(&a) : supervise(&a, argv[0]);
}
