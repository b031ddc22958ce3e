/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount.fuse.nvfs: what umount(8) runs for mounts of the type "fuse.nvfs".
 * umount(2) does not wait for a FUSE server, so this commits first, and afterwards waits until the daemon has
 * closed the subvolume: when umount(8) returns, everything is on the devices.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>

#include "cli/mounted.h"
#include "cli/report.h"
#include "io/cleanup.h"

enum { EX_USAGE_ = 1, EX_FAIL = 32 };

#define ST_NOSYMFOLLOW_ 0x2000 /* statfs(2); the C library has no name for it */
#define CLOSE_WAIT_S 300
#define FORCED_WAIT_S 10 /* with -f and -l, for a daemon that does not answer */

struct umount_args {
	const char *dir;
	int flags;
	bool remount_ro;
};

static const char usage_text[] = "usage: umount.fuse.nvfs DIRECTORY [-flnrv]";

static void parse_args(int argc, char **argv, struct umount_args *a)
{
	int c;

	opterr = 0; /* the line of usage is the one line */
	while ((c = getopt(argc, argv, "flnrvN:t:O:hV")) != -1) {
		switch (c) {
		case 'f':
			a->flags |= MNT_FORCE;
			break;
		case 'l':
			a->flags |= MNT_DETACH;
			break;
		case 'r':
			a->remount_ro = true;
			break;
		case 'n': case 'v': case 'N': case 't': case 'O':
			break;
		case 'V':
			puts("umount.fuse.nvfs " PACKAGE_VERSION);
			exit(0);
		case 'h':
			puts(usage_text);
			exit(0);
		default:
			die(EX_USAGE_, "%s", usage_text);
		}
	}
	if (argc - optind != 1)
		die(EX_USAGE_, "%s", usage_text);
	a->dir = argv[optind];
}

static bool forced(const struct umount_args *a)
{
	return a->flags & (MNT_FORCE | MNT_DETACH);
}

/* A client and the subvolume, or NULL with a line that says why not: a mount whose daemon is gone can still be unmounted. */
static struct client *reach(const struct mounted *m, const struct umount_args *a, char **subvolume)
{
	struct client *client;
	char why[512];

	if (mounted_reach(m, forced(a) ? FORCED_WAIT_S : 0, &client, subvolume, why, sizeof(why)))
		report("%s; unmounting without a commit of it", why);
	return client;
}

/* False when it could not be and shall be unmounted nevertheless. */
static bool commit(struct client *client, const char *subvolume, const struct umount_args *a)
{
	json_t *request = json_pack("{s:s, s:s}", "op", "unmount.prepare", "subvolume", subvolume);
	int rc = client_call(client, request, -1, NULL);

	if (!rc || rc == -ENOENT)
		return true;
	if (!forced(a))
		die(EX_FAIL,
		    "%s: not everything could be written, so it stays mounted: %s (umount -f gives up what is not written)",
		    a->dir, client_message(client));
	report("%s: not everything could be written: %s", a->dir, client_message(client));
	return false;
}

/* With what was forbidden before: mount(2) allows what the flags of a remount do not name. */
static bool remount_read_only(const char *dir)
{
	const unsigned long kept = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_NOATIME | MS_NODIRATIME;
	unsigned long more = 0;
	struct statvfs now;

	_Static_assert((int)ST_NOSUID == (int)MS_NOSUID && (int)ST_NODEV == (int)MS_NODEV && (int)ST_NOEXEC == (int)MS_NOEXEC &&
			       (int)ST_SYNCHRONOUS == (int)MS_SYNCHRONOUS && (int)ST_NOATIME == (int)MS_NOATIME &&
			       (int)ST_NODIRATIME == (int)MS_NODIRATIME, "the same bits");
	if (statvfs(dir, &now))
		return false;
	if (now.f_flag & ST_NOSYMFOLLOW_)
		more = MS_NOSYMFOLLOW;
	return mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY | more | (now.f_flag & kept), NULL) == 0;
}

/* False: it is busy, and read-only now. */
static bool unmount(const struct umount_args *a, const char *target)
{
	int err;

	if (umount2(target, a->flags | UMOUNT_NOFOLLOW) == 0)
		return true;
	err = errno;
	if (err == EBUSY && a->remount_ro && remount_read_only(target)) {
		report("%s is busy, and read-only now", a->dir);
		return false;
	}
	if (err == EBUSY)
		die(EX_FAIL, "%s is busy; \"fuser -vm %s\" shows who uses it", a->dir, a->dir);
	die(EX_FAIL, "%s: cannot unmount it: %s", a->dir, strerror(err));
}

/* Unmounted and not yet closed. One that another namespace still has mounted is neither. */
static bool leaving(struct client *client, const char *subvolume)
{
	const char *at = strchr(subvolume, '@');
	json_t *reply = NULL, *request;
	bool yes = false;

	if (at)
		request = json_pack("{s:s, s:s%, s:s}", "op", "snapshot.show", "subvolume", subvolume, (size_t)(at - subvolume),
				    "snapshot", at + 1);
	else
		request = json_pack("{s:s, s:s}", "op", "subvolume.show", "name", subvolume);
	if (client_call(client, request, -1, &reply) == 0)
		yes = json_is_true(json_object_get(json_object_get(reply, at ? "snapshot" : "subvolume"), "leaving"));
	json_decref(reply);
	return yes;
}

static void wait_closed(struct client *client, const char *subvolume)
{
	struct timespec step = {.tv_nsec = 5000000};

	for (uint64_t waited_ns = 0; leaving(client, subvolume); waited_ns += (uint64_t)step.tv_nsec) {
		if (waited_ns > CLOSE_WAIT_S * UINT64_C(1000000000))
			die(EX_FAIL, "unmounted, but nvfsd has not closed %s after %u s; its log says why", subvolume,
			    CLOSE_WAIT_S);
		nanosleep(&step, NULL);
		if (step.tv_nsec < 100000000)
			step.tv_nsec *= 2;
	}
}

int main(int argc, char **argv)
{
	struct umount_args a = {0};
	struct mounted m;
	struct client *client;
	cleanup_free char *subvolume = NULL;
	char why[512];

	parse_args(argc, argv, &a);
	if (mounted_find(a.dir, &m, why, sizeof(why)))
		die(EX_FAIL, "%s", why);
	client = reach(&m, &a, &subvolume);
	if (client && !commit(client, subvolume, &a)) {
		client_close(client);
		client = NULL;
	}
	if (unmount(&a, m.target)) {
		mounted_forget(m.target);
		if (client && m.last && !(a.flags & MNT_DETACH))
			wait_closed(client, subvolume);
	} else if (client) {
		commit(client, subvolume, &a); /* of what was written until then */
	}
	client_close(client);
	mounted_free(&m);
	return 0;
}
