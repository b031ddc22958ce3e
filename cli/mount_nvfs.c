/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount.nvfs: what mount(8) runs for the type "nvfs" (mount(8), "External
 * helpers"). It never becomes the daemon: it has it started, hands it an open /dev/fuse, calls
 * mount(2), and looks whether the root directory answers before it says that all is well.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "cli/report.h"
#include "cli/serve.h"
#include "io/cleanup.h"

/* mount(8), "Exit status". */
enum { EX_USAGE_ = 1, EX_SYSERR = 2, EX_FAIL = 32 };

struct mount_args {
	const char *source, *dir;
	unsigned long flags;
	bool writeback, parallel_dio, fake;
};

static const struct {
	const char *name;
	unsigned long set, clear;
} flag_options[] = {
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"suid", 0, MS_NOSUID},
	{"nosuid", MS_NOSUID, 0},
	{"dev", 0, MS_NODEV},
	/* mount(8) keeps "suid" and "dev" for itself, because it takes them for the default. */
	{"allow_suid", 0, MS_NOSUID},
	{"allow_dev", 0, MS_NODEV},
	{"nodev", MS_NODEV, 0},
	{"exec", 0, MS_NOEXEC},
	{"noexec", MS_NOEXEC, 0},
	{"sync", MS_SYNCHRONOUS, 0},
	{"async", 0, MS_SYNCHRONOUS},
	{"dirsync", MS_DIRSYNC, 0},
	{"noatime", MS_NOATIME, 0},
	{"relatime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"diratime", 0, MS_NODIRATIME},
	{"remount", MS_REMOUNT, 0},
};

/* For mount(8), systemd and fstab(5) only. */
static const char *const ignored_options[] = {
	"defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group", "nogroup",
};

static bool take_flag(const char *opt, struct mount_args *a)
{
	for (size_t i = 0; i < sizeof(flag_options) / sizeof(flag_options[0]); i++) {
		if (strcmp(opt, flag_options[i].name) == 0) {
			a->flags |= flag_options[i].set;
			a->flags &= ~flag_options[i].clear;
			return true;
		}
	}
	return false;
}

/* What the kernel shows of a FUSE mount; mount(8) hands it back when it remounts. */
static const char *const fuse_options[] = {
	"user_id=", "group_id=", "rootmode=", "fd=", "max_read=", "blksize=", "default_permissions", "allow_other",
};

static bool ignored(const char *opt)
{
	for (size_t i = 0; i < sizeof(fuse_options) / sizeof(fuse_options[0]); i++)
		if (strncmp(opt, fuse_options[i], strlen(fuse_options[i])) == 0)
			return true;
	if (strncmp(opt, "x-", 2) == 0 || strncmp(opt, "comment=", 8) == 0)
		return true;
	for (size_t i = 0; i < sizeof(ignored_options) / sizeof(ignored_options[0]); i++)
		if (strcmp(opt, ignored_options[i]) == 0)
			return true;
	return false;
}

static void take_option(const char *opt, struct mount_args *a)
{
	if (!*opt || take_flag(opt, a) || ignored(opt))
		return;
	if (strcmp(opt, "writeback") == 0)
		a->writeback = true;
	else if (strcmp(opt, "parallel_dio") == 0)
		a->parallel_dio = true;
	else
		die(EX_USAGE_, "unknown option \"%s\"; mount.nvfs(8) lists them all", opt);
}

static void take_options(char *list, struct mount_args *a)
{
	char *save = NULL;

	for (char *opt = strtok_r(list, ",", &save); opt; opt = strtok_r(NULL, ",", &save))
		take_option(opt, a);
}

static void parse_args(int argc, char **argv, struct mount_args *a)
{
	int c;

	while ((c = getopt(argc, argv, "sfnvo:N:t:hV")) != -1) {
		switch (c) {
		case 'o':
			take_options(optarg, a);
			break;
		case 'f':
			a->fake = true;
			break;
		case 's': case 'n': case 'v': case 'N': case 't':
			break;
		case 'V':
			puts("mount.nvfs " PACKAGE_VERSION);
			exit(0);
		default:
			die(EX_USAGE_, "usage: mount -t nvfs [-o OPTIONS] POOL|DEVICE|FILE[:SUBVOLUME] DIRECTORY");
		}
	}
	if (argc - optind != 2)
		die(EX_USAGE_, "usage: mount -t nvfs [-o OPTIONS] POOL|DEVICE|FILE[:SUBVOLUME] DIRECTORY");
	a->source = argv[optind];
	a->dir = argv[optind + 1];
}

/* Its absolute path, which the daemon shows and others compare with the kernel's; the caller's. */
static char *check_directory(const char *dir)
{
	struct stat st;
	char *real;

	if (stat(dir, &st))
		die(EX_FAIL, errno == ENOENT ? "%s does not exist; make it first: mkdir -p %s" : "%s: cannot look at it",
		    dir, dir);
	if (!S_ISDIR(st.st_mode))
		die(EX_FAIL, "%s is not a directory; a subvolume is mounted on one", dir);
	real = realpath(dir, NULL);
	if (!real)
		die(EX_FAIL, "%s: %s", dir, strerror(errno));
	return real;
}

/* A session for this subvolume on fd; the reply says what mount(2) is to be given. */
static json_t *request_mount(struct client *c, const struct mount_args *a, const char *subvolume, int fd)
{
	json_t *reply = NULL, *request = json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:b}", "op", "mount", "subvolume",
						   subvolume, "target", a->dir, "read_only", !!(a->flags & MS_RDONLY),
						   "writeback", a->writeback, "parallel_dio", a->parallel_dio,
						   "noatime", !!(a->flags & MS_NOATIME));

	if (client_call(c, request, fd, &reply))
		die(EX_FAIL, "%s: %s", a->source, client_message(c));
	return reply;
}

/* The kernel's first request is answered after mount(2): only a root directory that answers is a mount. */
static void check_mounted(const struct mount_args *a)
{
	struct statfs sf;
	struct stat st;

	if (stat(a->dir, &st) == 0 && statfs(a->dir, &sf) == 0)
		return;
	int err = errno;
	umount2(a->dir, MNT_DETACH);
	die(EX_FAIL, "%s: mounted, but it does not answer (%s); the log of nvfsd says why", a->source, strerror(err));
}

/*
 * The kernel reads 128 KiB ahead of a FUSE file unless it is told otherwise. Without /sys it stays at that, which is slower
 * and no mistake.
 */
static void set_read_ahead(const char *dir, json_int_t kib)
{
	char path[80];
	struct stat st;
	cleanup_file FILE *f = NULL;

	if (kib <= 0 || stat(dir, &st))
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	f = fopen(path, "we");
	if (f)
		fprintf(f, "%lld\n", (long long)kib);
}

static void mount_it(const struct mount_args *a, const char *data_options, const char *type, int fd)
{
	cleanup_free char *data = NULL;

	if (asprintf(&data, "fd=%d,%s", fd, data_options) < 0)
		die(EX_SYSERR, "out of memory");
	if (mount(a->source, a->dir, type, a->flags, data)) {
		if (errno == EPERM)
			die(EX_FAIL, "mounting needs root (CAP_SYS_ADMIN)");
		die(EX_FAIL, "mount(2) on %s: %s", a->dir, strerror(errno));
	}
	check_mounted(a);
}

/* What was allowed when it was mounted stays allowed; mount(8) has no word for it. */
static void remount(const struct mount_args *a)
{
	unsigned long flags = a->flags;
	struct statvfs now;

	if (statvfs(a->dir, &now))
		die(EX_FAIL, "%s: %s", a->dir, strerror(errno));
	if (!(now.f_flag & ST_NOSUID))
		flags &= ~(unsigned long)MS_NOSUID;
	if (!(now.f_flag & ST_NODEV))
		flags &= ~(unsigned long)MS_NODEV;
	if (mount(a->source, a->dir, NULL, flags, NULL))
		die(EX_FAIL, "remounting %s: %s", a->dir, strerror(errno));
}

static int open_fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(EX_FAIL, "/dev/fuse: %s; load the kernel's module with: modprobe fuse", strerror(errno));
	return fd;
}

int main(int argc, char **argv)
{
	struct mount_args a = {.flags = MS_NOSUID | MS_NODEV};
	struct pool_ref ref;
	struct client *client;
	cleanup_free char *subvolume = NULL;
	char why[512];
	json_t *reply;

	parse_args(argc, argv, &a);
	cleanup_free char *dir = check_directory(a.dir);
	a.dir = dir;
	if (a.flags & MS_REMOUNT) {
		remount(&a);
		return 0;
	}
	if (pool_ref_parse(a.source, &ref, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	if (a.fake)
		return 0;
	if (serve_connect(&ref, true, &client, why, sizeof(why)) ||
	    serve_subvolume(client, &ref, &subvolume, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	cleanup_fd int fd = open_fuse();
	reply = request_mount(client, &a, subvolume, fd);
	mount_it(&a, json_string_value(json_object_get(reply, "mount_options")),
		 json_string_value(json_object_get(reply, "type")), fd);
	set_read_ahead(a.dir, json_integer_value(json_object_get(reply, "read_ahead_kb")));
	json_decref(reply);
	client_close(client);
	pool_ref_free(&ref);
	return 0;
}
