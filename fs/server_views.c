/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/server.h"
#include "io/cleanup.h"
#include "io/log.h"

/* The snapshots of a mounted subvolume, for fs/views.c; and what administration tells that. */

static struct volume *volume_of(struct ops_volume *ops)
{
	return (struct volume *)((char *)ops - offsetof(struct volume, ops));
}

static int open_view(struct ops_volume *v, const char *snapshot, uint16_t *number, struct subvol **out)
{
	int err = snapshot_open_view(v->sv, snapshot, number, out);

	if (err && err != -ENOENT)
		log_error("%s: snapshot %s@%s cannot be entered: %s", pool_name(subvol_pool(v->sv)), subvol_name(v->sv), snapshot,
			  strerror(-err));
	return err;
}

static void close_view(struct subvol *sv)
{
	subvol_close(sv);
}

struct listing {
	uint32_t subvol;
	struct view_entry *entries;
	unsigned count, room;
};

static int add_entry(const struct snapshot_info *info, void *arg)
{
	struct listing *l = arg;
	struct view_entry *e;

	if (info->subvol_id != l->subvol) /* of an earlier one with that name */
		return 0;
	if (l->count == l->room) {
		l->room = l->room ? 2 * l->room : 16;
		e = realloc(l->entries, l->room * sizeof(*e));
		if (!e)
			return -ENOMEM;
		l->entries = e;
	}
	e = &l->entries[l->count++];
	e->number = info->view;
	e->node = info->node;
	memcpy(e->name, info->name, sizeof(e->name));
	return 0;
}

static int list_views(struct ops_volume *v, struct view_entry **out, unsigned *count)
{
	struct listing l = { .subvol = subvol_id(v->sv) };
	int err = snapshot_each(subvol_pool(v->sv), subvol_name(v->sv), add_entry, &l);

	if (err) {
		free(l.entries);
		return err;
	}
	*out = l.entries;
	*count = l.count;
	return 0;
}

static void hold(struct ops_volume *ops)
{
	struct volume *v = volume_of(ops);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&v->server->lock);

	v->users++;
}

static void unhold(struct ops_volume *ops)
{
	server_put_volume(volume_of(ops));
}

const struct view_source server_view_source = {
	.open = open_view,
	.close = close_view,
	.list = list_views,
	.hold = hold,
	.unhold = unhold,
};

/* ---- Administration ---- */

struct view_barrier {
	struct view_ban ban;
	struct reactor_msg msg;
	struct volume *volume;
	char name[SNAPSHOT_NAME_MAX + 1];
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done; /* lock */
};

static void set_done(struct view_barrier *b)
{
	pthread_mutex_lock(&b->lock);
	b->done = true;
	pthread_cond_signal(&b->cond);
	pthread_mutex_unlock(&b->lock);
}

static void on_banned(struct view_ban *ban)
{
	set_done((struct view_barrier *)((char *)ban - offsetof(struct view_barrier, ban)));
}

static void ban_on_reactor(struct reactor *r, struct reactor_msg *msg)
{
	struct view_barrier *b = (void *)((char *)msg - offsetof(struct view_barrier, msg));

	(void)r;
	views_ban(&b->volume->ops, &b->ban);
}

static void unban_on_reactor(struct reactor *r, struct reactor_msg *msg)
{
	struct view_barrier *b = (void *)((char *)msg - offsetof(struct view_barrier, msg));

	(void)r;
	views_unban(&b->volume->ops, &b->ban);
	set_done(b);
}

static void wait_done(struct view_barrier *b)
{
	pthread_mutex_lock(&b->lock);
	while (!b->done)
		pthread_cond_wait(&b->cond, &b->lock);
	b->done = false;
	pthread_mutex_unlock(&b->lock);
}

struct view_barrier *server_ban_view(struct server *s, const char *subvolume, const char *snapshot)
{
	struct volume *v = server_get_volume(s, subvolume);
	struct view_barrier *b = v && v->ops.views.source ? calloc(1, sizeof(*b)) : NULL;

	if (!b) {
		if (v)
			server_put_volume(v);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->cond, NULL);
	snprintf(b->name, sizeof(b->name), "%s", snapshot);
	b->volume = v;
	b->ban = (struct view_ban){ .name = b->name, .done = on_banned };
	b->msg.fn = ban_on_reactor;
	reactor_post(subvol_reactor(v->ops.sv), &b->msg);
	wait_done(b);
	/* Nobody finds the name from now on. */
	session_name_gone(v->session, VIEWS_DIR_NODE, b->name);
	return b;
}

void server_unban_view(struct view_barrier *b)
{
	if (!b)
		return;
	b->msg.fn = unban_on_reactor;
	reactor_post(subvol_reactor(b->volume->ops.sv), &b->msg);
	wait_done(b);
	session_dir_changed(b->volume->session, VIEWS_DIR_NODE);
	server_put_volume(b->volume);
	pthread_cond_destroy(&b->cond);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void server_views_changed(struct server *s, const char *subvolume)
{
	struct volume *v = server_get_volume(s, subvolume);

	if (v && v->ops.views.source)
		session_dir_changed(v->session, VIEWS_DIR_NODE);
	if (v)
		server_put_volume(v);
}
