/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <libmount/libmount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mounted.h"
#include "cli/serve.h"

#define FUSE_TYPE "fuse.nvfs"

/* ---- What the kernel shows ---- */

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

static int take(struct libmnt_table *tb, const char *dir, struct mounted *m, char *why, size_t why_len)
{
	struct libmnt_fs *fs = mnt_table_find_target(tb, dir, MNT_ITER_BACKWARD);
	const char *type = fs ? mnt_fs_get_fstype(fs) : NULL, *source = fs ? mnt_fs_get_source(fs) : NULL;

	if (!fs) {
		snprintf(why, why_len, "%s is not mounted", dir);
		return -ENOENT;
	}
	if (!type || strcmp(type, FUSE_TYPE)) {
		snprintf(why, why_len, "%s is no mount of nvfs but of type %s", dir, type ? type : "unknown");
		return -EMEDIUMTYPE;
	}
	m->source = strdup(source ? source : "");
	m->target = strdup(mnt_fs_get_target(fs));
	m->last = count_mounts(tb, mnt_fs_get_devno(fs)) <= 1;
	return m->source && m->target ? 0 : -ENOMEM;
}

int mounted_find(const char *dir, struct mounted *m, char *why, size_t why_len)
{
	struct libmnt_table *tb = mnt_new_table_from_file("/proc/self/mountinfo");
	struct libmnt_cache *cache = mnt_new_cache();
	int rc = -ENOMEM;

	memset(m, 0, sizeof(*m));
	snprintf(why, why_len, "cannot read /proc/self/mountinfo");
	if (tb && cache) {
		mnt_table_set_cache(tb, cache);
		rc = take(tb, dir, m, why, why_len);
	}
	mnt_unref_table(tb);
	mnt_unref_cache(cache);
	return rc;
}

void mounted_free(struct mounted *m)
{
	free(m->source);
	free(m->target);
	memset(m, 0, sizeof(*m));
}

/* ---- Its daemon ---- */

/*
 * The source may name no subvolume, because the pool had only one when it was mounted: then the daemon knows which one is
 * mounted there. NULL: it does not.
 */
static char *session_on(struct client *client, const char *target)
{
	json_t *reply = NULL, *sessions, *s;
	char *name = NULL;
	size_t i;

	if (client_call(client, json_pack("{s:s}", "op", "pool.show"), -1, &reply))
		return NULL;
	sessions = json_object_get(reply, "sessions");
	json_array_foreach(sessions, i, s) {
		const char *on = json_string_value(json_object_get(s, "target"));
		const char *subvolume = json_string_value(json_object_get(s, "subvolume"));

		if (!name && on && subvolume && (!strcmp(on, target) || json_array_size(sessions) == 1))
			name = strdup(subvolume);
	}
	json_decref(reply);
	return name;
}

int mounted_reach(const struct mounted *m, unsigned timeout_s, struct client **client, char **subvolume, char *why,
		  size_t why_len)
{
	struct pool_ref ref;
	int rc = pool_ref_parse_snapshot(m->source, &ref, why, why_len);

	*client = NULL;
	*subvolume = NULL;
	if (!rc)
		rc = serve_connect(&ref, NULL, client, why, why_len);
	if (!rc)
		client_set_timeout(*client, timeout_s);
	if (!rc && !ref.subvolume)
		*subvolume = session_on(*client, m->target);
	if (!rc && !*subvolume)
		rc = serve_subvolume(*client, &ref, subvolume, why, why_len);
	if (rc) {
		client_close(*client);
		*client = NULL;
	}
	pool_ref_free(&ref);
	return rc;
}

/* ---- libmount's table ---- */

static void update(struct libmnt_fs *fs, const char *gone)
{
	struct libmnt_update *u = mnt_new_update();

	if (u && mnt_update_set_fs(u, 0, gone, fs) == 0)
		mnt_update_table(u, NULL);
	mnt_free_update(u);
}

void mounted_note(const char *source, const char *dir)
{
	struct libmnt_fs *fs = mnt_new_fs();

	mounted_forget(dir); /* a line may be left of one that was unmounted without libmount */
	if (fs && !mnt_fs_set_source(fs, source) && !mnt_fs_set_target(fs, dir) && !mnt_fs_set_fstype(fs, FUSE_TYPE) &&
	    !mnt_fs_set_attributes(fs, "nvfs"))
		update(fs, NULL);
	mnt_unref_fs(fs);
}

void mounted_forget(const char *dir)
{
	update(NULL, dir);
}
