/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "io/crc.h"
#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/version.h"

static struct timespec time_from_rec(struct rec_time t)
{
	return (struct timespec){ .tv_sec = t.sec, .tv_nsec = t.nsec };
}

static int file_load_inline(struct file *f, const struct size_rec *rec)
{
	f->inline_data = malloc(INLINE_BYTES_MAX);
	if (!f->inline_data)
		return -ENOMEM;
	memcpy(f->inline_data, rec->data, rec->inline_len);
	f->is_inline = f->put_inline = true;
	f->inline_len = rec->inline_len;
	f->inline_bad = crc32c(0, rec->data, rec->inline_len) != rec->inline_crc;
	return 0;
}

struct file *file_new(struct inode *inode, const struct size_rec *rec, uint32_t node)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->inode = inode;
	f->data = inode->sv->data;
	if (!rec) {
		f->mtime = time_from_rec(inode->rec.mtime);
		f->ctime = time_from_rec(inode->rec.ctime);
		f->cuts_known = true;
		return f;
	}
	f->size = rec->size;
	f->mtime = time_from_rec(rec->mtime);
	f->ctime = time_from_rec(rec->ctime);
	f->mapped = f->put_mapped = rec->blocks;
	f->absorbed = rec->absorbed;
	f->put_rec = true;
	f->put_node = node;
	f->has_cuts = rec->has_cuts;
	f->cuts_known = !rec->has_cuts;
	f->charged = f->taken = rec->blocks + rec->is_inline;
	if (rec->is_inline && file_load_inline(f, rec)) {
		free(f);
		return NULL;
	}
	return f;
}

void file_free(struct file *f)
{
	if (!f)
		return;
	assert(file_clean(f));
	while (f->chunks)
		chunk_free(f->chunks);
	while (f->cuts) {
		struct cut *cut = f->cuts;

		f->cuts = cut->next;
		free(cut);
	}
	free(f->inline_data);
	free(f);
}

bool file_clean(const struct file *f)
{
	return f->list == FILE_CLEAN && !f->direct && !f->drop && !f->cuts;
}

uint64_t file_size(const struct file *f)
{
	return f->size;
}

uint64_t file_blocks(const struct file *f)
{
	return f->charged;
}

void file_times(const struct file *f, struct timespec *mtime, struct timespec *ctime)
{
	*mtime = f->mtime;
	*ctime = f->ctime;
}

void file_set_times(struct file *f, const struct timespec *mtime, const struct timespec *ctime)
{
	if (mtime)
		f->mtime = *mtime;
	if (ctime)
		f->ctime = *ctime;
	file_changed(f);
}

void file_touch(struct file *f)
{
	f->mtime = f->ctime = subvol_now(f->data->sv);
}

/* Into the list of dirty files, whose order is that of their oldest changes. */
static void list_by_age(struct data *d, struct file *f)
{
	struct file *after = d->lists[FILE_DIRTY] ? d->lists[FILE_DIRTY]->prev : NULL;

	while (after && after->since > f->since)
		after = after == d->lists[FILE_DIRTY] ? NULL : after->prev;
	if (after)
		DL_APPEND_ELEM(d->lists[FILE_DIRTY], after, f);
	else
		DL_PREPEND(d->lists[FILE_DIRTY], f);
}

void file_move(struct file *f, enum file_list to)
{
	struct data *d = f->data;
	enum file_list from = f->list;

	if (from == to)
		return;
	if (from == FILE_CLEAN)
		inode_pin(f->inode);
	else
		DL_DELETE(d->lists[from], f);
	if (to == FILE_DIRTY)
		list_by_age(d, f);
	else if (to != FILE_CLEAN)
		DL_APPEND(d->lists[to], f);
	d->running += (to == FILE_RUNNING) - (from == FILE_RUNNING);
	f->list = to;
	if (to == FILE_CLEAN)
		inode_unpin(f->inode);
	else
		writeback_changed(d->sv);
}

/* The next batch copies the inline data into a record of the live node. */
static bool inline_lacks(const struct file *f)
{
	return f->is_inline && !f->inline_taken && !file_put_own(f);
}

uint64_t file_changed(struct file *f)
{
	uint64_t sequence = pool_sequence(data_pool(f->data));

	if (inline_lacks(f)) { /* new times alone, which are not refused */
		f->inline_taken = true;
		file_charge_taken(f, 0, 1);
	}
	if (!f->since)
		f->since = sequence;
	if (f->list == FILE_CLEAN)
		file_move(f, FILE_DIRTY);
	return sequence;
}

int file_exclusive(struct op *op, struct file *f)
{
	if (f->cycle)
		return op_wait(op, &f->put_waiters);
	if (f->direct)
		return op_wait(op, &f->busy_waiters);
	return 0;
}

/* Blocks that are taken and not charged. */
static void held_changed(struct file *f, uint64_t by)
{
	atomic_fetch_add_explicit(&f->data->sv->held_blocks, (int64_t)by, memory_order_relaxed);
}

/* What the file lacks when so many more are charged. */
static struct charge to_take(const struct file *f, uint64_t blocks, uint64_t own)
{
	const int64_t more = (int64_t)(f->charged + f->kept + blocks - f->taken);
	const int64_t own_more = f->own + (int64_t)(f->kept_own + own) - f->own_taken;

	return (struct charge){ .blocks = more > 0 ? more : 0, .own_blocks = own_more > 0 ? own_more : 0 };
}

static void charged(struct file *f, uint64_t blocks, uint64_t own, const struct charge *taken)
{
	f->charged += blocks;
	f->taken += (uint64_t)taken->blocks;
	f->own += (int64_t)own;
	f->own_taken += taken->own_blocks;
	held_changed(f, (uint64_t)taken->blocks - blocks);
}

/* Room for what chunk maps will say: blocks that become the live node's and were there before are a snapshot's. */
static int may_grow(const struct file *f, uint64_t blocks, uint64_t own)
{
	return (blocks || own) && !pool_may_grow(data_pool(f->data), own > blocks ? META_ROOM_COPY : META_ROOM_DATA) ? -ENOSPC : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int file_charge(struct op *op, struct file *f, uint64_t blocks, uint64_t own)
{
	const uint64_t kept = f->keeper == op ? least(blocks, f->kept) : 0, kept_own = f->keeper == op ? least(own, f->kept_own) : 0;
	const struct charge more = to_take(f, blocks - kept, own - kept_own);
	int r = f->keeper == op ? 0 : may_grow(f, blocks, own); /* asked before */

	/* What others give back waits at a closed gate, which waits for the keeper. */
	if (!r && (more.blocks || more.own_blocks))
		r = f->keeper == op ? subvol_charge(f->data->sv, &more) : subvol_charge_op(op, &more);
	if (r)
		return r;
	f->kept -= kept;
	f->kept_own -= kept_own;
	charged(f, blocks, own, &more);
	return 0;
}

int file_take_ahead(struct op *op, struct file *f, uint64_t blocks, uint64_t own)
{
	const struct charge more = to_take(f, blocks, own);
	int r = may_grow(f, blocks, own);

	assert(!f->keeper);
	if (!r && (more.blocks || more.own_blocks))
		r = subvol_charge_op(op, &more);
	if (r)
		return r;
	charged(f, 0, 0, &more);
	f->kept = blocks;
	f->kept_own = own;
	f->keeper = op;
	op->keeps = f;
	f->data->keepers++;
	inode_pin(f->inode);
	return 0;
}

void file_ahead_end(struct file *f)
{
	f->kept = f->kept_own = 0;
	f->keeper->keeps = NULL;
	f->keeper = NULL;
	f->data->keepers--;
	file_release(f);
	op_wake_all(&f->data->sync_waiters);
	inode_unpin(f->inode);
}

int file_charge_now(struct file *f, uint64_t blocks, uint64_t own)
{
	const struct charge more = to_take(f, blocks, own);
	int r = may_grow(f, blocks, own);

	if (!r && (more.blocks || more.own_blocks))
		r = subvol_charge(f->data->sv, &more);
	if (!r)
		charged(f, blocks, own, &more);
	return r;
}

void file_charge_taken(struct file *f, uint64_t blocks, uint64_t own)
{
	const struct charge more = to_take(f, blocks, own);

	subvol_give(f->data->sv, -more.blocks, 0);
	subvol_charge_own(f->data->sv, more.own_blocks, 0);
	charged(f, blocks, own, &more);
}

void file_uncharge(struct file *f, uint64_t blocks, uint64_t own)
{
	if (!blocks && !own)
		return;
	assert(f->charged >= blocks);
	f->charged -= blocks;
	f->own -= (int64_t)own;
	held_changed(f, blocks);
	file_release(f);
}

void file_release(struct file *f)
{
	const uint64_t put = f->put_mapped + f->put_inline, charged = f->charged + f->kept, need = charged > put ? charged : put;
	const uint64_t more = f->taken - need;
	const int64_t own = f->own + (int64_t)f->kept_own, own_need = own > 0 ? own : 0, own_more = f->own_taken - own_need;
	const struct charge back = { .blocks = -(int64_t)more, .own_blocks = -own_more };

	assert(f->taken >= need && own_more >= 0);
	if (!more && !own_more)
		return;
	f->taken = need;
	f->own_taken = own_need;
	held_changed(f, -more);
	subvol_charge(f->data->sv, &back);
}

int inline_take(struct op *op, struct file *f)
{
	int r;

	if (!inline_lacks(f))
		return 0;
	r = file_charge(op, f, 0, 1);
	if (r)
		return r;
	f->inline_taken = true;
	file_changed(f); /* whatever becomes of the op, a batch makes the copy */
	return 0;
}

/* ---- Finding a file, with its cuts ---- */

static int cut_load_one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t len)
{
	struct file *f = arg;
	struct cut_rec rec;
	struct cut *cut;

	(void)from;
	if (cut_rec_decode(value, len, &rec) < 0 || key_len < 29)
		return -EIO;
	cut = calloc(1, sizeof(*cut));
	if (!cut)
		return -ENOMEM;
	*cut = (struct cut){ .sequence = get_be64(key + 21), .first = rec.first_chunk, .end = rec.end_chunk,
			     .put = true, .next = f->cuts };
	f->cuts = cut;
	return 0;
}

static void cuts_forget(struct file *f)
{
	while (f->cuts) {
		struct cut *cut = f->cuts;

		f->cuts = cut->next;
		free(cut);
	}
}

int cuts_load(struct op *op, struct file *f)
{
	uint8_t key[KEY_MAX];
	int r;

	key_cut(key, f->data->sv->tree, f->inode->ino, 0, f->data->sv->node);
	r = version_each(op, DB_NS, key, 21, NULL, 0, cut_load_one, f);
	if (r) {
		cuts_forget(f);
		if (r == -EIO)
			log_error("pool %s, subvolume %s, inode %llu: a cut record is damaged; run fsck.nvfs",
				  pool_name(data_pool(f->data)), subvol_name(f->data->sv),
				  (unsigned long long)f->inode->ino);
		return r;
	}
	f->cuts_known = true;
	if (f->cuts)
		cuts_enter(f);
	return 0;
}

int file_get(struct op *op, uint64_t ino, struct file **out)
{
	struct inode *inode;
	int r;

	chunks_trim(op->sv->data);
	r = inode_get(op, ino, &inode);
	if (r)
		return r;
	if (inode->deleted)
		return -ENOENT;
	if (!inode->file)
		return S_ISDIR(inode->rec.mode) ? -EISDIR : -EINVAL;
	if (!inode->file->cuts_known) {
		r = cuts_load(op, inode->file);
		if (r)
			return r;
	}
	*out = inode->file;
	return 0;
}

/* ---- Inline data ---- */

void file_drop_inline(struct file *f)
{
	f->is_inline = f->inline_bad = f->inline_taken = false;
	f->inline_len = 0;
}

void file_spill_inline(struct file *f, struct chunk *c, uint32_t slot)
{
	uint8_t *data;

	assert(f->is_inline && c->no == 0 && !(chunk_dirty(c) & 1));
	front_set(c, 0, slot);
	data = front_data(c, 0);
	memcpy(data, f->inline_data, f->inline_len);
	memset(data + f->inline_len, 0, NVFS_BLOCK_SIZE - f->inline_len);
	front_seal(c, 0, file_changed(f));
}

/* ---- A cycle for somebody who waits ---- */

int file_put_all(struct op *op, struct inode *inode)
{
	struct file *f = inode->file;

	if (!f)
		return 0;
	if (!op->moment)
		op->moment = pool_sequence(data_pool(f->data));
	while (!f->cycle) {
		int r;

		if (f->failed_T >= op->moment)
			return f->error ? f->error : 0;
		if (!f->since || f->since > op->moment)
			return 0;
		r = cycle_start(f);
		if (r)
			return r;
	}
	return op_wait(op, &f->put_waiters);
}
