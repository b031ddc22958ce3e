/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount.fuse.nvfs: what umount(8) runs for mounts of the type "fuse.nvfs".
 * umount(2) does not wait for a FUSE server, so this commits first, and afterwards waits until the daemon has
 * closed the subvolume: when umount(8) returns, everything is on the devices.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <libmount/libmount.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

#include "cli/report.h"
#include "cli/serve.h"
#include "io/cleanup.h"

enum { EX_USAGE_ = 1, EX_SYSERR = 2, EX_FAIL = 32 };

#define CLOSE_WAIT_S 300

struct umount_args {
	const char *dir;
	int flags;
	bool remount_ro;
};

struct mounted {
	char *source;
	bool last; /* no other mount of the same filesystem */
};

static void parse_args(int argc, char **argv, struct umount_args *a)
{
	int c;

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
		default:
			die(EX_USAGE_, "usage: umount.fuse.nvfs DIRECTORY [-flnrv]");
		}
	}
	if (argc - optind != 1)
		die(EX_USAGE_, "usage: umount.fuse.nvfs DIRECTORY [-flnrv]");
	a->dir = argv[optind];
}

static unsigned count_mounts(struct libmnt_table *tb, dev_t dev)
{
	struct libmnt_iter *it = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;
	unsigned n = 0;

	while (it && mnt_table_next_fs(tb, it, &fs) == 0)
		if (mnt_fs_get_devno(fs) == dev)
			n++;
	mnt_free_iter(it);
	return n;
}

static void find_mount(const char *dir, struct mounted *m)
{
	struct libmnt_table *tb = mnt_new_table_from_file("/proc/self/mountinfo");
	struct libmnt_cache *cache = mnt_new_cache();
	struct libmnt_fs *fs;

	if (!tb || !cache)
		die(EX_SYSERR, "cannot read /proc/self/mountinfo");
	mnt_table_set_cache(tb, cache);
	fs = mnt_table_find_target(tb, dir, MNT_ITER_BACKWARD);
	if (!fs)
		die(EX_FAIL, "%s is not mounted", dir);
	if (!mnt_fs_get_fstype(fs) || strcmp(mnt_fs_get_fstype(fs), "fuse.nvfs"))
		die(EX_FAIL, "%s is no mount of nvfs but of type %s", dir, mnt_fs_get_fstype(fs));
	m->source = strdup(mnt_fs_get_source(fs) ? mnt_fs_get_source(fs) : "");
	m->last = count_mounts(tb, mnt_fs_get_devno(fs)) <= 1;
	mnt_unref_table(tb);
	mnt_unref_cache(cache);
}

/* A client and the subvolume, or NULL with a line that says why not: a mount whose daemon is gone can still be unmounted. */
static struct client *reach(const struct mounted *m, char **subvolume)
{
	struct client *client = NULL;
	struct pool_ref ref;
	char why[512];

	if (pool_ref_parse(m->source, &ref, why, sizeof(why)) ||
	    serve_connect(&ref, false, &client, why, sizeof(why)) ||
	    serve_subvolume(client, &ref, subvolume, why, sizeof(why))) {
		report("%s; unmounting without a commit of it", why);
		client_close(client);
		client = NULL;
	}
	pool_ref_free(&ref);
	return client;
}

static void commit(struct client *client, const char *subvolume, const struct umount_args *a)
{
	json_t *request = json_pack("{s:s, s:s}", "op", "unmount.prepare", "subvolume", subvolume);
	int rc = client_call(client, request, -1, NULL);

	if (!rc || rc == -ENOENT)
		return;
	if (a->flags & (MNT_FORCE | MNT_DETACH)) {
		report("%s: not everything could be written: %s", a->dir, client_message(client));
		return;
	}
	die(EX_FAIL, "%s: not everything could be written, so it stays mounted: %s (umount -f gives up what is not written)",
	    a->dir, client_message(client));
}

static bool still_open(struct client *client, const char *subvolume)
{
	json_t *reply = NULL;
	bool open = false;

	if (client_call(client, json_pack("{s:s, s:s}", "op", "subvolume.show", "name", subvolume), -1, &reply) == 0)
		open = json_is_true(json_object_get(json_object_get(reply, "subvolume"), "mounted"));
	json_decref(reply);
	return open;
}

static void wait_closed(struct client *client, const char *subvolume)
{
	struct timespec step = {.tv_nsec = 5000000};

	for (uint64_t waited_ns = 0; still_open(client, subvolume); waited_ns += (uint64_t)step.tv_nsec) {
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

	parse_args(argc, argv, &a);
	find_mount(a.dir, &m);
	client = reach(&m, &subvolume);
	if (client)
		commit(client, subvolume, &a);
	if (umount2(a.dir, a.flags | UMOUNT_NOFOLLOW)) {
		if (errno == EBUSY && a.remount_ro && mount(NULL, a.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
			return 0;
		die(EX_FAIL, errno == EBUSY ? "%s is in use; \"fuser -vm %s\" shows by whom" : "%s: cannot unmount it", a.dir,
		    a.dir);
	}
	if (client && m.last && !(a.flags & MNT_DETACH))
		wait_closed(client, subvolume);
	client_close(client);
	free(m.source);
	return 0;
}
