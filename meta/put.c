/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cycles whose data is on the device enter RocksDB here: `S`, all changed chunk records, cuts, the space
 * operands and the counters of each file in one WriteBatch, several files in one batch as long as it is not larger
 * than 4 MiB. There is one batch at a time for a subvolume; a stalled RocksDB holds it, and later ones, back.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/crc.h"
#include "meta/data_internal.h"
#include "meta/version.h"

struct put {
	struct data *data;
	struct op op;
	struct db_batch *batch;
	struct space_ops *ops;
	struct counters_delta delta;
	struct cycle *cycles, *tail; /* in the batch */
	struct reactor_msg msg;
	bool scheduled, busy;
};

static struct rec_time time_to_rec(struct timespec t)
{
	return (struct rec_time){ .sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec };
}

/* ---- One file ---- */

static int op_add(void *arg, const struct extent *extent, int delta)
{
	return space_ops_add(arg, extent, delta);
}

static unsigned own_unwritten(const struct blockmap *m)
{
	return m ? mask_count(m->unwritten & ~m->inherited) : 0;
}

/* Whether the record of this chunk is put even when it maps nothing. */
static bool keeps_record(const struct subvol *sv, const struct chunk *c)
{
	return c->map.mapped || (sv->ancestor_count > 1 && c->file->inode->ino < sv->first_ino);
}

static int put_chunk(struct put *p, struct cycle *cycle, struct chunk *c)
{
	struct subvol *sv = p->data->sv;
	uint8_t key[KEY_MAP_LEN], value[MAP_REC_MAX];
	size_t key_len = key_map(key, sv->tree, c->file->inode->ino, c->no, sv->node);
	struct map_rec rec;
	int64_t born;

	if (keeps_record(sv, c)) {
		blockmap_to_rec(&c->map, cycle->T, &rec);
		db_batch_put(sv->pool->db, p->batch, DB_MAP, key, key_len, value, map_rec_encode(&rec, value));
	} else if (chunk_own(c)) {
		db_batch_delete(sv->pool->db, p->batch, DB_MAP, key, key_len);
	}
	born = (int64_t)blockmap_own(&c->map) - (c->base ? blockmap_own(c->base) : 0);
	p->delta.born += born;
	cycle->born += born;
	p->delta.unwritten += (int64_t)own_unwritten(&c->map) - own_unwritten(c->base);
	return blockmap_diff(c->base, &c->map, op_add, p->ops);
}

static const void *inline_content(const struct cycle *c)
{
	return c->nchunks ? dirty_data(data_pool(c->file->data)->dirty, c->chunks[0]->back->slot[0]) :
			    c->file->inline_data;
}

static bool stays_inline(const struct cycle *c)
{
	return c->to_inline || c->file->is_inline;
}

static void put_size(struct put *p, struct cycle *c)
{
	struct file *f = c->file;
	struct subvol *sv = p->data->sv;
	uint8_t key[KEY_SIZE_LEN], value[SIZE_REC_MAX];
	bool is_inline = stays_inline(c);
	struct size_rec rec = {
		.is_inline = is_inline,
		.has_cuts = !f->cuts_known, /* new times need no cuts, and leave them as they are */
		.size = c->size,
		.mtime = time_to_rec(c->mtime),
		.ctime = time_to_rec(c->ctime),
		.blocks = f->mapped,
		.absorbed = c->T,
	};

	for (const struct cut *cut = f->cuts; cut; cut = cut->next)
		rec.has_cuts |= !cut->done;
	if (is_inline) {
		rec.data = c->to_inline ? inline_content(c) : f->inline_data;
		rec.inline_len = c->to_inline ? c->inline_len : f->inline_len;
		rec.inline_crc = crc32c(0, rec.data, rec.inline_len);
		if (f->inline_bad && !(c->to_inline && c->nchunks)) /* damaged data must not become good data */
			rec.inline_crc = ~rec.inline_crc;
	}
	db_batch_put(sv->pool->db, p->batch, DB_NS, key, key_size(key, sv->tree, f->inode->ino, sv->node), value,
		     size_rec_encode(&rec, value));
	p->delta.referenced += (int64_t)f->mapped - (int64_t)f->put_mapped;
	p->delta.meta += is_inline - f->put_inline;
	p->delta.meta_born += is_inline - (file_put_own(f) && f->put_inline);
	c->born += is_inline - (file_put_own(f) && f->put_inline);
}

static void put_cuts(struct put *p, struct file *f)
{
	struct subvol *sv = p->data->sv;

	for (struct cut *cut = f->cuts; cut; cut = cut->next) {
		struct cut_rec rec = { .first_chunk = cut->first, .end_chunk = cut->end };
		uint8_t key[KEY_MAX], value[CUT_REC_MAX];
		size_t key_len = key_cut(key, sv->tree, f->inode->ino, cut->sequence, sv->node);

		if (cut->done && cut->put)
			version_delete(sv, p->batch, DB_NS, key, key_len);
		else if (!cut->done && !cut->put)
			db_batch_put(sv->pool->db, p->batch, DB_NS, key, key_len, value, cut_rec_encode(&rec, value));
	}
}

static int put_cycle(struct put *p, struct cycle *cycle)
{
	struct file *f = cycle->file;
	int r = cycle_apply(cycle);

	for (struct chunk *c = f->changed; c && !r; c = c->changed_next)
		r = put_chunk(p, cycle, c);
	if (r)
		return r;
	put_cuts(p, f);
	put_size(p, cycle);
	return 0;
}

/* ---- The end of a batch ---- */

static void cuts_put_done(struct file *f)
{
	struct cut **at = &f->cuts;
	bool had = f->cuts;

	while (*at) {
		struct cut *cut = *at;

		if (cut->done) {
			*at = cut->next;
			free(cut);
			continue;
		}
		if (!cut->put) {
			cut->put = true;
			cutter_wake(f->data);
		}
		at = &cut->next;
	}
	if (had && !f->cuts)
		cuts_leave(f);
}

static void file_put_done(struct put *p, struct cycle *c)
{
	struct file *f = c->file;

	if (c->to_inline) {
		if (c->nchunks) {
			memcpy(f->inline_data, inline_content(c), c->inline_len);
			f->inline_bad = false;
		}
		f->is_inline = true;
		f->inline_len = c->inline_len;
	}
	f->put_inline = stays_inline(c);
	f->put_mapped = f->mapped;
	f->put_rec = true;
	f->put_node = p->data->sv->node;
	f->inline_taken = false;
	f->absorbed = c->T;
	f->own -= c->born;
	f->own_taken -= c->born;
	file_release(f);
	while (f->changed)
		chunk_put_done(f->changed, keeps_record(p->data->sv, f->changed));
	cuts_put_done(f);
}

static void put_end(struct put *p, int error)
{
	struct cycle *c = p->cycles;

	p->cycles = p->tail = NULL;
	p->busy = false;
	if (!error && !space_ops_empty(p->ops)) {
		commit_put_space(data_pool(p->data), p->ops);
		p->ops = NULL;
	}
	while (c) {
		struct cycle *next = c->next;

		if (!error)
			file_put_done(p, c);
		cycle_end(c, error);
		c = next;
	}
}

/* ---- The batch ---- */

static int put_begin(struct put *p)
{
	if (!p->batch)
		p->batch = db_batch_new();
	if (!p->ops)
		p->ops = space_ops_new(data_pool(p->data)->space);
	if (!p->batch || !p->ops)
		return -ENOMEM;
	db_batch_clear(p->batch);
	memset(&p->delta, 0, sizeof(p->delta));
	return 0;
}

/* Move ready cycles into the batch, up to its size. */
static int put_fill(struct put *p)
{
	struct data *d = p->data;
	int r = put_begin(p);

	while (d->ready && !r && db_batch_bytes(p->batch) < BATCH_BYTES_MAX) {
		struct cycle *c = d->ready;

		d->ready = c->next;
		c->next = NULL;
		*(p->cycles ? &p->tail->next : &p->cycles) = c;
		p->tail = c;
		r = put_cycle(p, c);
	}
	if (!r)
		r = space_ops_put(p->ops, data_pool(d)->db, p->batch);
	if (!r)
		subvol_put_counters(d->sv, p->batch, &p->delta);
	else if (p->ops)
		space_ops_clear(p->ops);
	if (r && !p->cycles && d->ready) { /* nothing could be begun: the first one fails, so that this ends */
		p->cycles = d->ready;
		d->ready = d->ready->next;
		p->cycles->next = NULL;
	}
	return r;
}

/* Write the batch. False: RocksDB stalls, the op will be run. */
static bool put_write(struct put *p)
{
	int r = subvol_write(&p->op, p->batch, true);

	if (r == META_WAIT)
		return false;
	op_finish(&p->op);
	pool_note_meta_room(data_pool(p->data));
	if (r)
		space_ops_aborted(p->ops);
	put_end(p, r);
	return true;
}

static void put_run(struct put *p);

static void put_resumed(struct op *op)
{
	struct put *p = (struct put *)((char *)op - offsetof(struct put, op));

	if (put_write(p))
		put_run(p);
}

static void put_run(struct put *p)
{
	struct data *d = p->data;

	while (d->ready && !p->busy) {
		int r = put_fill(p);

		if (r) {
			put_end(p, r);
			continue;
		}
		p->busy = true;
		op_init(&p->op, d->sv, put_resumed);
		p->op.passes_gate = true;
		put_write(p);
	}
}

static void put_scheduled(struct reactor *r, struct reactor_msg *msg)
{
	struct put *p = (struct put *)((char *)msg - offsetof(struct put, msg));
	const void *party = subvol_party(p->data->sv);
	const uint64_t since = reactor_meter(r);

	p->scheduled = false;
	put_run(p);
	reactor_charge(r, party, since);
}

void put_add(struct cycle *c)
{
	struct data *d = c->file->data;

	c->next = NULL;
	*(d->ready ? &d->ready_tail->next : &d->ready) = c;
	d->ready_tail = c;
	if (d->put->scheduled || d->put->busy)
		return;
	d->put->scheduled = true;
	d->put->msg.fn = put_scheduled;
	reactor_defer(d->sv->reactor, &d->put->msg);
}

bool put_busy(const struct data *d)
{
	return d->put->busy;
}

int put_create(struct data *d)
{
	d->put = calloc(1, sizeof(*d->put));
	if (!d->put)
		return -ENOMEM;
	d->put->data = d;
	return 0;
}

void put_destroy(struct data *d)
{
	if (!d->put)
		return;
	db_batch_free(d->put->batch);
	space_ops_free(d->put->ops);
	free(d->put);
	d->put = NULL;
}
