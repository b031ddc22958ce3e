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

#include "cli/mounted.h"
#include "cli/report.h"
#include "cli/serve.h"
#include "io/cleanup.h"

/* mount(8), "Exit status". */
enum { EX_USAGE_ = 1, EX_SYSERR = 2, EX_FAIL = 32 };

struct mount_args {
	const char *source, *dir;
	int dir_fd;
	unsigned long flags, given; /* given: those that an option set or cleared */
	bool writeback, parallel_dio, snapdir, fake, no_table;
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
	{"noatime", MS_NOATIME, 0},
	{"relatime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"nosymfollow", MS_NOSYMFOLLOW, 0},
	{"symfollow", 0, MS_NOSYMFOLLOW},
	{"diratime", 0, MS_NODIRATIME},
	{"remount", MS_REMOUNT, 0},
};

/* For mount(8), systemd and fstab(5) only, or what is so anyway. */
static const char *const ignored_options[] = {
	"defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group", "nogroup",
	"silent", "loud", "lazytime", "nolazytime", "nostrictatime", "nomand", "noiversion",
};

/* What would promise more than is kept. */
static const struct {
	const char *name, *instead;
} refused_options[] = {
	{"dirsync", "names are committed every 4 s; fsync(2) of a directory commits them at once"},
	{"strictatime", "what the page cache answers does not reach nvfs; relatime is what there is"},
	{"mand", "Linux has no mandatory locks any more"},
};

static bool take_flag(const char *opt, struct mount_args *a)
{
	for (size_t i = 0; i < sizeof(flag_options) / sizeof(flag_options[0]); i++) {
		if (strcmp(opt, flag_options[i].name) == 0) {
			a->flags |= flag_options[i].set;
			a->flags &= ~flag_options[i].clear;
			a->given |= flag_options[i].set | flag_options[i].clear;
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
	for (size_t i = 0; i < sizeof(fuse_options) / sizeof(fuse_options[0]); i++) {
		size_t len = strlen(fuse_options[i]);

		if (strncmp(opt, fuse_options[i], len) == 0 && (fuse_options[i][len - 1] == '=' || !opt[len]))
			return true;
	}
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
	for (size_t i = 0; i < sizeof(refused_options) / sizeof(refused_options[0]); i++)
		if (strcmp(opt, refused_options[i].name) == 0)
			die(EX_USAGE_, "no option \"%s\": %s", opt, refused_options[i].instead);
	if (strcmp(opt, "writeback") == 0)
		a->writeback = true;
	else if (strcmp(opt, "parallel_dio") == 0)
		a->parallel_dio = true;
	else if (strcmp(opt, "snapdir") == 0)
		a->snapdir = true;
	else
		die(EX_USAGE_, "unknown option \"%s\"; mount.nvfs(8) lists them all", opt);
}

static void take_options(char *list, struct mount_args *a)
{
	char *save = NULL;

	for (char *opt = strtok_r(list, ",", &save); opt; opt = strtok_r(NULL, ",", &save))
		take_option(opt, a);
}

static const char usage_text[] = "usage: mount -t nvfs [-o OPTIONS] POOL|DEVICE|FILE[:SUBVOLUME[@SNAPSHOT]] DIRECTORY";

static void parse_args(int argc, char **argv, struct mount_args *a)
{
	int c;

	opterr = 0; /* the line of usage is the one line */
	while ((c = getopt(argc, argv, "sfnvo:N:t:hV")) != -1) {
		switch (c) {
		case 'o':
			take_options(optarg, a);
			break;
		case 'f':
			a->fake = true;
			break;
		case 'n':
			a->no_table = true;
			break;
		case 's': case 'v': case 'N': case 't':
			break;
		case 'V':
			puts("mount.nvfs " PACKAGE_VERSION);
			exit(0);
		case 'h':
			puts(usage_text);
			exit(0);
		default:
			die(EX_USAGE_, "%s", usage_text);
		}
	}
	if (argc - optind != 2)
		die(EX_USAGE_, "%s", usage_text);
	a->source = argv[optind];
	a->dir = argv[optind + 1];
}

static const char *directory_error(int err)
{
	switch (err) {
	case ENOENT:
		return "it does not exist; make it first, with mkdir -p";
	case ENOTDIR:
		return "it is not a directory; a subvolume is mounted on one";
	case ENOTCONN:
	case ECONNABORTED:
		return "a mount whose daemon is gone is still there; unmount that first";
	default:
		return strerror(err);
	}
}

/*
 * Open it and give its absolute path (the caller's), which the daemon shows and others compare with the kernel's. The
 * descriptor is what is mounted on: starting a daemon takes time, in which somebody could put a link in the path.
 */
static char *open_directory(struct mount_args *a)
{
	char *real = NULL;
	struct statfs sf;

	a->dir_fd = open(a->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* Attributes of a dead mount may be cached; statfs(2) asks its server. */
	if (a->dir_fd >= 0 && fstatfs(a->dir_fd, &sf) == 0)
		real = realpath(a->dir, NULL);
	if (!real)
		die(EX_FAIL, "%s: %s", a->dir, directory_error(errno));
	return real;
}

/* Of a path that is no UTF-8, as JSON wants it: what people still recognise. */
static json_t *path_text(const char *path)
{
	json_t *text = json_string(path);
	cleanup_free char *copy = text ? NULL : strdup(path);

	for (char *c = copy; c && *c; c++)
		if (*c & 0x80)
			*c = '?';
	return text ? text : json_string(copy);
}

/* A session for this subvolume on fd; the reply says what mount(2) is to be given. */
static json_t *request_mount(struct client *c, const struct mount_args *a, const char *subvolume, int fd)
{
	json_t *reply = NULL, *request = json_pack("{s:s, s:s, s:o, s:b, s:b, s:b, s:b, s:b}", "op", "mount", "subvolume",
						   subvolume, "target", path_text(a->dir), "read_only",
						   !!(a->flags & MS_RDONLY),
						   "writeback", a->writeback, "parallel_dio", a->parallel_dio,
						   "noatime", !!(a->flags & MS_NOATIME), "snapdir", a->snapdir);

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
	umount2(a->dir, MNT_DETACH | UMOUNT_NOFOLLOW);
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

/*
 * The daemon cannot see the number of the device, by which the kernel is asked to write back what it has of this mount and of no other. One that
 * does not know the request goes without.
 */
static void tell_device(struct client *client, const char *dir)
{
	struct stat st;

	if (stat(dir, &st) == 0)
		client_call(client, json_pack("{s:s, s:i, s:i}", "op", "mounted", "device_major", (int)major(st.st_dev), "device_minor",
					      (int)minor(st.st_dev)), -1, NULL);
}

/* What is mounted on: the directory that was opened, or its path where /proc is not mounted. */
static const char *mount_target(const struct mount_args *a, char *buf, size_t len)
{
	snprintf(buf, len, "/proc/self/fd/%d", a->dir_fd);
	return access(buf, F_OK) ? a->dir : buf;
}

static void mount_it(const struct mount_args *a, const char *source, const char *data_options, const char *type, int fd)
{
	cleanup_free char *data = NULL;
	char target[40];

	if (asprintf(&data, "fd=%d,%s", fd, data_options) < 0)
		die(EX_SYSERR, "out of memory");
	if (mount(source, mount_target(a, target, sizeof(target)), type, a->flags, data)) {
		if (errno == EPERM)
			die(EX_FAIL, "mounting needs root (CAP_SYS_ADMIN)");
		die(EX_FAIL, "mount(2) on %s: %s", a->dir, strerror(errno));
	}
	check_mounted(a);
	if (!a->no_table)
		mounted_note(source, a->dir);
}

/* ---- Remount ---- */

static bool opened_read_only(struct client *client, const char *subvolume)
{
	json_t *reply = NULL;
	bool read_only = false;

	if (client_call(client, json_pack("{s:s, s:s}", "op", "subvolume.show", "name", subvolume), -1, &reply) == 0)
		read_only = json_is_true(json_object_get(json_object_get(reply, "subvolume"), "read_only"));
	json_decref(reply);
	return read_only;
}

/*
 * mount(8) gives the options that were there before and the new ones. What was allowed when it was mounted stays allowed unless an option
 * says otherwise: there is no word for it among mount(8)'s own.
 */
static unsigned long remount_flags(const struct mount_args *a, const struct statvfs *now)
{
	const unsigned long kept = (MS_NOSUID | MS_NODEV | MS_NOATIME) & ~a->given;

	_Static_assert((int)ST_NOSUID == (int)MS_NOSUID && (int)ST_NODEV == (int)MS_NODEV &&
			       (int)ST_NOATIME == (int)MS_NOATIME, "the same bits");
	return (a->flags & ~kept) | (now->f_flag & kept);
}

static void change_flags(const struct mount_args *a, unsigned long flags, struct client *client, const char *subvolume)
{
	if (mount(a->source, a->dir, NULL, flags, NULL))
		die(EX_FAIL, "remounting %s: %s", a->dir, strerror(errno));
	if (flags & MS_RDONLY &&
	    client_call(client, json_pack("{s:s, s:s}", "op", "unmount.prepare", "subvolume", subvolume), -1, NULL))
		die(EX_FAIL, "%s is read-only now, but not everything could be written: %s", a->dir,
		    client_message(client));
}

static void remount(const struct mount_args *a)
{
	cleanup_free char *subvolume = NULL;
	struct client *client;
	struct mounted m;
	struct statvfs now;
	unsigned long flags;
	char why[512];

	if (mounted_find(a->dir, &m, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	if (statvfs(a->dir, &now))
		die(EX_FAIL, "%s: %s", a->dir, strerror(errno));
	flags = remount_flags(a, &now);
	if ((flags ^ now.f_flag) & MS_NOATIME)
		die(EX_FAIL, "%s: noatime is decided when it is mounted; unmount it and mount it again", a->dir);
	if (mounted_reach(&m, 0, &client, &subvolume, why, sizeof(why)))
		die(EX_FAIL, "%s: %s", a->dir, why);
	if (!(flags & MS_RDONLY) && strchr(subvolume, '@'))
		die(EX_FAIL, "%s is a snapshot, which nobody changes; nvfs clone makes a subvolume of it", a->dir);
	if (!(flags & MS_RDONLY) && opened_read_only(client, subvolume))
		die(EX_FAIL, "%s was mounted read-only, and its daemon opened it so; unmount it and mount it again", a->dir);
	if (!a->fake)
		change_flags(a, flags, client, subvolume);
	client_close(client);
	mounted_free(&m);
}

/* ---- A daemon that was started for this mount alone ---- */

static struct client *started_for_this; /* until it is mounted */

/* At exit: what was refused leaves nothing behind, unless somebody else mounted something meanwhile. */
static void stop_started(void)
{
	if (started_for_this)
		client_call(started_for_this, json_pack("{s:s}", "op", "pool.stop"), -1, NULL);
}

static struct client *connect_daemon(const struct pool_ref *ref)
{
	struct client *client;
	char why[512];
	bool started;

	if (serve_connect(ref, &started, &client, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	if (started && atexit(stop_started) == 0)
		started_for_this = client;
	return client;
}

static int open_fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(EX_SYSERR, "/dev/fuse: %s; load the kernel's module with: modprobe fuse", strerror(errno));
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
	cleanup_free char *dir = open_directory(&a);
	a.dir = dir;
	if (a.flags & MS_REMOUNT) {
		remount(&a);
		return 0;
	}
	if (pool_ref_parse_snapshot(a.source, &ref, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	if (a.fake) {
		pool_ref_free(&ref);
		return 0;
	}
	client = connect_daemon(&ref);
	if (serve_subvolume(client, &ref, &subvolume, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	cleanup_fd int fd = open_fuse();
	reply = request_mount(client, &a, subvolume, fd);
	if (json_is_true(json_object_get(reply, "read_only")) && !(a.flags & MS_RDONLY)) {
		if (!ref.snapshot) /* nobody expects to write into one */
			report("%s: the pool was made by a newer nvfs and can only be read by this one: mounted read-only; update nvfs",
			       a.source);
		a.flags |= MS_RDONLY;
	}
	started_for_this = NULL; /* it has a session now, which ends with the connection if nothing comes of it */
	/* The source as it was given is what mount -a compares; one that depends on where we stand says nothing later. */
	if (ref.devices && a.source[0] != '/')
		a.source = json_string_value(json_object_get(reply, "source"));
	mount_it(&a, a.source, json_string_value(json_object_get(reply, "mount_options")),
		 json_string_value(json_object_get(reply, "type")), fd);
	tell_device(client, a.dir);
	set_read_ahead(a.dir, json_integer_value(json_object_get(reply, "read_ahead_kb")));
	json_decref(reply);
	client_close(client);
	pool_ref_free(&ref);
	return 0;
}
