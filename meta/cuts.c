/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reaper of cuts: takes the hidden records off, STEP_CHUNKS at a time, each step in a cycle of
 * the file, and the cut's own record with the last one. One file at a time; it waits like everybody else for the cycle and the
 * direct writes of the file. What an earlier life left is found by a scan at the start.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "meta/data_internal.h"
#include "meta/version.h"

struct cutter {
	struct data *data;
	struct op op;
	struct reactor_msg msg;
	bool busy;
	bool putting;       /* a step's cycle is waited for */
	struct file *file;  /* the one at work */
	uint64_t cut;       /* the sequence of its cut, */
	uint64_t next;      /* and the next chunk */
	uint64_t *left;     /* inodes with cuts of an earlier life */
	unsigned nleft, left_cap;
};

void cuts_enter(struct file *f)
{
	inode_pin(f->inode);
	DL_APPEND2(f->data->cut_files, f, cut_prev, cut_next);
	cutter_wake(f->data);
}

void cuts_leave(struct file *f)
{
	DL_DELETE2(f->data->cut_files, f, cut_prev, cut_next);
	if (f->data->cutter->file == f)
		f->data->cutter->file = NULL;
	inode_unpin(f->inode);
}

static struct cut *cut_to_reap(struct file *f)
{
	struct cut *cut = f->cuts;

	while (cut && (cut->done || !cut->put))
		cut = cut->next;
	return cut;
}

/* A file with a cut that can be reaped now, or NULL. */
static struct file *reap_choose(struct cutter *r)
{
	struct file *f;

	DL_FOREACH2(r->data->cut_files, f, cut_next)
		if (!f->drop && !f->inode->deleted && !f->zeroing && cut_to_reap(f))
			return f;
	return NULL;
}

static int unhide_one(void *arg, struct chunk *c)
{
	(void)arg;
	return chunk_unhide(c);
}

/* One step; its cycle is waited for then. */
static int reap_step(struct cutter *r, struct file *f, struct cut *cut)
{
	uint64_t end = cut->end < CHUNK_LAST + 1 ? cut->end : CHUNK_LAST + 1, next;
	int error = r->data->sv->gated ? op_wait(&r->op, &r->data->sv->gate_waiters) : file_exclusive(&r->op, f);

	if (r->cut != cut->sequence) {
		r->cut = cut->sequence;
		r->next = cut->first;
	}
	chunks_trim(r->data);
	if (!error)
		error = chunk_load(&r->op, f, r->next, end, STEP_CHUNKS, &next);
	if (!error)
		error = each_chunk(f, cut->first, next, unhide_one, NULL);
	if (error)
		return error;
	r->next = next;
	if (next == end)
		cut->done = true;
	file_changed(f);
	r->op.moment = 0;
	r->putting = true;
	return 0;
}

/* Cuts of an earlier life enter memory with their files. */
static int reap_left(struct cutter *r)
{
	while (r->nleft) {
		struct file *f;
		int error = file_get(&r->op, r->left[r->nleft - 1], &f);

		if (error == META_WAIT)
			return error;
		r->nleft--; /* what cannot be read now is met again when the file is used */
	}
	return 0;
}

static int reap(struct cutter *r)
{
	int error = reap_left(r);

	while (!error && !r->data->stopping) {
		struct file *f = r->file;

		if (f && r->putting) {
			error = file_put_all(&r->op, f->inode);
			if (!error)
				r->putting = false;
			continue;
		}
		if (!f || f->drop || f->zeroing || !cut_to_reap(f)) {
			r->file = f = reap_choose(r);
			r->cut = 0;
			r->putting = false;
		}
		if (!f)
			return 0;
		error = reap_step(r, f, cut_to_reap(f));
	}
	return error;
}

static void reap_run(struct op *op)
{
	struct cutter *r = (struct cutter *)((char *)op - offsetof(struct cutter, op));

	if (reap(r) == META_WAIT)
		return; /* other errors: the timer wakes it again */
	op_finish(op);
	r->busy = false;
	op_wake_all(&r->data->sync_waiters); /* those who hoped for space */
}

static void reap_begin(struct reactor *reactor, struct reactor_msg *msg)
{
	struct cutter *r = (struct cutter *)((char *)msg - offsetof(struct cutter, msg));

	(void)reactor;
	op_init(&r->op, r->data->sv, reap_run);
	reap_run(&r->op);
}

void cutter_wake(struct data *d)
{
	struct cutter *r = d->cutter;

	if (r->busy || d->stopping || (!d->cut_files && !r->nleft) || d->sv->read_only)
		return;
	r->busy = true;
	r->msg.fn = reap_begin;
	reactor_defer(d->sv->reactor, &r->msg);
}

bool cutter_waits(const struct data *d)
{
	return d->cut_files || d->cutter->nleft;
}

bool cutter_busy(const struct data *d)
{
	return d->cutter->busy;
}

static bool cut_under_way(const struct data *d, const struct file *f, uint64_t moment)
{
	const struct cut *cut = f->cuts;

	while (cut && (cut->sequence > moment || !(cut->put ? d->cutter->busy : f->list == FILE_DIRTY || f->cycle)))
		cut = cut->next;
	return cut;
}

bool cuts_under_way(const struct data *d, uint64_t moment)
{
	const struct file *f;

	if (d->cutter->busy && d->cutter->nleft)
		return true;
	DL_FOREACH2(d->cut_files, f, cut_next)
		if (!f->inode->deleted && !f->zeroing && cut_under_way(d, f, moment))
			return true;
	return false;
}

/* Inodes that have cuts, from the records `T` of all ancestors: more than are visible, which does no harm. */
static int reaper_scan(struct data *d)
{
	struct subvol *sv = d->sv;
	uint8_t lower[KEY_MAX], upper[KEY_MAX];
	size_t len = key_ns_prefix(lower, sv->tree, 0, REC_CUT);
	cleanup_db_iter struct db_iter *iter = NULL;

	key_ns_prefix(upper, sv->tree, 0, REC_CUT + 1);
	iter = db_iter_new(sv->pool->db, DB_NS, lower, len, upper, len, 0);
	if (!iter)
		return -ENOMEM;
	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter)) {
		struct ns_key key;
		size_t key_len;
		const void *bytes = db_iter_key(iter, &key_len);
		struct cutter *r = d->cutter;

		if (ns_key_parse(bytes, key_len, &key) || (r->nleft && r->left[r->nleft - 1] == key.ino))
			continue;
		if (GROW(r->left, r->left_cap, r->nleft + 1))
			return -ENOMEM;
		r->left[r->nleft++] = key.ino;
	}
	return db_iter_error(iter);
}

int cutter_start(struct data *d)
{
	int r = reaper_scan(d);

	if (!r)
		cutter_wake(d);
	return r;
}

int cutter_create(struct data *d)
{
	d->cutter = calloc(1, sizeof(*d->cutter));
	if (!d->cutter)
		return -ENOMEM;
	d->cutter->data = d;
	return 0;
}

void cutter_destroy(struct data *d)
{
	if (d->cutter)
		free(d->cutter->left);
	free(d->cutter);
	d->cutter = NULL;
}

/* The files leave memory; their cuts are in RocksDB, or were never acknowledged. */
void cutter_stop(struct data *d)
{
	while (d->cut_files) {
		struct file *f = d->cut_files;

		while (f->cuts) {
			struct cut *cut = f->cuts;

			f->cuts = cut->next;
			free(cut);
		}
		cuts_leave(f);
	}
}
