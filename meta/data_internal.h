/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the modules of the data side share: chunks, files, cycles, and the I/O of an op. file.h
 * opens with the model. All of it belongs to the reactor of the subvolume.
 *
 * A block of a file has up to three contents: the *front* layer (dirty, newest), the *back* layer (dirty, part of the
 * running cycle, immutable) and what the chunk's map says. The newest one counts.
 *
 * Charges: a block counts once while it is mapped, dirty, or being written directly; inline data
 * counts as block 0. So a write charges the blocks of its range that are none of these. Against tenant and pool, blocks count that are the
 * live node's: mapped by its own record and not inherited, dirty, or being written directly.
 */
#ifndef NVFS_META_DATA_INTERNAL_H
#define NVFS_META_DATA_INTERNAL_H

#include <errno.h>

#include "io/buffers.h"
#include "io/epoch.h"
#include "meta/blockmap.h"
#include "meta/data.h"
#include "meta/file.h"
#include "meta/shared.h"
#include "meta/subvol_internal.h"

#define WRITE_BLOCKS_MAX 256u             /* of one device write of write-back */
#define DIRECT_BYTES_MAX (1u << 20)       /* larger direct writes go through dirty blocks */
#define DIRECT_CHUNKS_MAX (DIRECT_BYTES_MAX / CHUNK_BYTES + 1)
#define BATCH_BYTES_MAX ((size_t)4 << 20) /* of cycles that share a batch */
#define STEP_CHUNKS 1024u                 /* what one handler changes at most */
#define CHANGED_MAX 8192u                 /* changed chunks of a file that start a cycle */

/* ---- Chunks (chunk.c) ---- */

/* Slots of dirty blocks; valid where the chunk's mask says so. */
struct layer {
	uint32_t slot[CHUNK_BLOCKS];
};

/* What each access looks at comes first, with the masks of the map right behind it: few cache lines of a cold chunk. */
struct chunk {
	uint64_t no;
	struct file *file;
	struct chunk *hash_next;
	uint64_t front_mask, back_mask, busy;      /* dirty; under write-back; being written directly */
	struct layer *front, *back;
	struct blockmap *base;     /* of a changed chunk: what the own node's key has in RocksDB; NULL: no runs */
	unsigned pins;
	uint32_t node;             /* whose record the map came from; 0: none. chunk_own() */
	bool changed;              /* map differs from RocksDB: in the file's list */
	bool hidden;               /* a cut covers the record: it reads as a hole, but is still counted */
	bool listed;               /* in the LRU list */
	bool in_dirty;             /* in the file's list of dirty chunks */
	struct blockmap map;       /* current */
	struct chunk *prev, *next;                 /* of the file */
	struct chunk *lru_prev, *lru_next;         /* of the reactor's evictable ones */
	struct chunk *changed_prev, *changed_next; /* of the file's */
	struct chunk *dirty_prev, *dirty_next;
	struct blockmap *out;      /* where the back layer is written to; NULL: that is in the map already */
	uint64_t taken, plain;     /* of the back layer: being compressed; found not worth it */
};

/* The live node's key has a value. A snapshot makes it another's, without looking for the chunk. */
static inline bool chunk_own(const struct chunk *c);

/* The chunk with its map: 0, META_WAIT, -EIO, -ENOMEM. Stays in memory until the handler returns, longer when pinned, dirty or changed. */
int chunk_get(struct op *op, struct file *f, uint64_t no, struct chunk **out);

/* The one in memory or NULL. */
struct chunk *chunk_peek(struct file *f, uint64_t no);

/*
 * Have those of [first, end) in memory that have a record, the first `most` of them; others may be missing. *next is where
 * to go on: end, or the first that was not loaded. As chunk_get().
 */
int chunk_load(struct op *op, struct file *f, uint64_t first, uint64_t end, unsigned most, uint64_t *next);

void chunk_pin(struct chunk *c);
void chunk_unpin(struct chunk *c);

/* The map of c is about to change: remember what RocksDB has, put it into the file's list. 0 or -ENOMEM. No cycle may run. */
int chunk_edit(struct chunk *c);

/* Make blocks holes in the map (chunk_edit() was called), give back their space. Charges are the caller's. */
void chunk_unmap(struct chunk *c, uint64_t mask);

/* A hidden chunk becomes an empty, changed one, its charges are given back. No cycle may run. 0 or -ENOMEM. */
int chunk_unhide(struct chunk *c);

/* The batch with the map of c was written. */
void chunk_put_done(struct chunk *c, bool own);

/* For a chunk whose record goes with its inode: the current holders of all that its map maps. */
void chunk_drop_holders(struct chunk *c);

/* Take c out of memory: it has no dirty blocks and no pins; what changed is forgotten (its current holders are the caller's). */
void chunk_free(struct chunk *c);

/* Evict what is over the cap. From the reactor's loop, or at the start of a handler. */
void chunks_trim(struct data *d);

/* c may have become evictable, or no longer be. */
void chunk_list(struct chunk *c);

/* Blocks of the map that are the live node's: those of another's record are inherited, all of them. */
static inline uint64_t chunk_map_own(const struct chunk *c);

static inline uint64_t chunk_mapped(const struct chunk *c)
{
	return c->hidden ? 0 : c->map.mapped;
}

static inline uint64_t chunk_stored(const struct chunk *c)
{
	return c->hidden ? 0 : blockmap_stored(&c->map);
}

static inline uint64_t chunk_dirty(const struct chunk *c)
{
	return c->front_mask | c->back_mask;
}

/* The blocks of a range of bytes or blocks, chunk by chunk. */
struct span {
	uint64_t next, end; /* blocks of the file */
	uint64_t chunk;     /* the piece: its chunk, */
	unsigned block, count; /* first block there, and how many */
};

static inline struct span span_blocks(uint64_t first, uint64_t end)
{
	return (struct span){ .next = first, .end = end };
}

static inline bool span_next(struct span *s)
{
	if (s->next >= s->end)
		return false;
	s->chunk = s->next >> CHUNK_SHIFT;
	s->block = s->next % CHUNK_BLOCKS;
	s->count = CHUNK_BLOCKS - s->block;
	if (s->count > s->end - s->next)
		s->count = (unsigned)(s->end - s->next);
	s->next += s->count;
	return true;
}

static inline uint64_t span_mask(const struct span *s)
{
	return block_mask(s->block, s->count);
}

static inline uint64_t block_down(uint64_t bytes)
{
	return bytes >> NVFS_BLOCK_SHIFT;
}

static inline uint64_t block_up(uint64_t bytes)
{
	return (bytes >> NVFS_BLOCK_SHIFT) + ((bytes & (NVFS_BLOCK_SIZE - 1)) != 0);
}

/* ---- Files (file.c) ---- */

enum file_list { FILE_CLEAN, FILE_DIRTY, FILE_RUNNING, FILE_FAILED };

/* Chunks that were cleared, and whose records are still there. */
struct cut {
	uint64_t sequence, first, end; /* chunks */
	bool put;                      /* `T` is in RocksDB */
	bool done;                     /* all its records are gone: the next batch of the file deletes `T` */
	struct cut *next;
};

struct file {
	struct inode *inode;
	struct data *data;

	uint64_t size;
	struct timespec mtime, ctime;
	uint64_t charged;        /* blocks, by the rule above, hidden records included */
	uint64_t taken;          /* from the subvolume's limit: what is charged, and at least what RocksDB has */
	int64_t own;             /* blocks that are the live node's: how many more than RocksDB has, */
	int64_t own_taken;       /* and how many are taken for them from the limits of others; never below either 0 or own */
	uint64_t mapped;         /* blocks that the current maps map, hidden records included */
	bool is_inline;          /* block 0 is inline_data, unless it is dirty */
	bool inline_bad;         /* its CRC is wrong */
	uint16_t inline_len;
	uint8_t *inline_data;    /* INLINE_BYTES_MAX, or NULL */

	/* What RocksDB has. */
	uint64_t put_mapped;
	uint64_t absorbed;       /* T of the last batch */
	bool put_inline, put_rec; /* its `S` is inline; there is one */
	uint32_t put_node;       /* the node that it is of: file_put_own() */
	bool inline_taken;       /* inline data of another node: the own copy that the next batch makes is charged */

	struct chunk *chunks, *changed, *dirty_chunks;
	unsigned changed_count;
	uint64_t front_blocks;   /* dirty, not under write-back */
	struct cut *cuts;
	bool has_cuts, cuts_known;
	unsigned zeroing;        /* fallocate() is at turning hidden blocks into promised ones: they are not given back */
	struct op *keeper;       /* an fallocate() that will charge so much, */
	uint64_t kept, kept_own; /* which is taken already, and for nobody else */

	uint64_t since;          /* sequence of the oldest change that no cycle took; 0: none */
	struct cycle *cycle;
	unsigned direct;         /* direct writes that are not applied yet */
	struct op_io *apply, *apply_tail; /* those that wait for the end of the cycle */
	uint64_t failed_T;       /* of the last cycle that failed, */
	int error;               /* with this */
	struct op_queue put_waiters;  /* wait for the end of the cycle */
	struct op_queue busy_waiters; /* wait for the end of direct writes */
	struct file *prev, *next;     /* in the list that `list` names */
	struct file *cut_prev, *cut_next; /* in the list of those with cuts */
	enum file_list list;
	struct file_drop *drop;
};

static inline bool chunk_own(const struct chunk *c)
{
	return c->node && c->node == c->file->inode->sv->node;
}

static inline uint64_t chunk_map_own(const struct chunk *c)
{
	return chunk_own(c) || c->changed ? c->map.mapped & ~c->map.inherited : 0;
}

/* `S` in RocksDB is the live node's. */
static inline bool file_put_own(const struct file *f)
{
	return f->put_rec && f->put_node == f->inode->sv->node;
}

/* Blocks of c that are charged, but for those of a hidden record. */
static inline uint64_t chunk_charged(const struct chunk *c)
{
	return chunk_mapped(c) | chunk_dirty(c) | c->busy | (c->no == 0 && c->file->is_inline);
}

/*
 * The same for what is charged to the tenant and the pool: blocks that are, or will be, in records of the live node. An inherited block
 * becomes one of these when it is written.
 */
static inline uint64_t chunk_charged_own(const struct chunk *c)
{
	const struct file *f = c->file;

	return (c->hidden ? 0 : chunk_map_own(c)) | chunk_dirty(c) | c->busy |
	       (c->no == 0 && f->is_inline && (file_put_own(f) || f->inline_taken));
}

/* The file of a regular inode, with its cuts: 0, -ENOENT, -EISDIR, -EINVAL (other types), META_WAIT, -EIO. */
int file_get(struct op *op, uint64_t ino, struct file **out);

/* Something changed now that RocksDB lacks; returns its sequence. */
uint64_t file_changed(struct file *f);
void file_touch(struct file *f); /* mtime and ctime are now */
void file_move(struct file *f, enum file_list to);

/* No cycle runs and no direct write is under way: 0 or META_WAIT. */
int file_exclusive(struct op *op, struct file *f);

/*
 * Charges of the file. What it gives back stays taken from the limits until RocksDB has the file without it: until then a power cut
 * brings it back, and another's blocks that had its place would be too many. release: the file was put.
 */
int file_charge(struct op *op, struct file *f, uint64_t blocks, uint64_t own);
int file_charge_now(struct file *f, uint64_t blocks, uint64_t own); /* does not wait */
/* The same where nobody can be refused: an earlier worker charged it and somebody took the room since, or only times change. */
void file_charge_taken(struct file *f, uint64_t blocks, uint64_t own);
void file_uncharge(struct file *f, uint64_t blocks, uint64_t own);
void file_release(struct file *f);

/*
 * Take what the op is going to charge in several handlers: from then on its charges come out of that, and nobody else's do, until
 * file_ahead_end(), which gives back the rest. A freeze waits for that, so an op that keeps something does not wait for an open gate. One op at a
 * time: f->keeper. As file_charge().
 */
int file_take_ahead(struct op *op, struct file *f, uint64_t blocks, uint64_t own);
void file_ahead_end(struct file *f);

/* Before inline data of another node is changed: the charge for a copy of it. 0, META_WAIT, -ENOSPC, -EDQUOT. */
int inline_take(struct op *op, struct file *f);

/* Make the inline data dirty block 0, with this slot, which is used up. */
void file_spill_inline(struct file *f, struct chunk *c, uint32_t slot);
void file_drop_inline(struct file *f);

/* ---- Dirty blocks of a file (layers.c) ---- */

/* Have room for a front layer: 0 or -ENOMEM. */
int front_need(struct chunk *c);

/* Give a block that has none in front a slot. Its content and front_seal() come next. front_need() was called. */
void front_set(struct chunk *c, unsigned block, uint32_t slot);
void front_drop(struct chunk *c, uint64_t mask);

/* The front layer, if any, becomes the back layer; back to the front, where the front has nothing newer; the back layer goes. */
void front_to_back(struct chunk *c);
void back_to_front(struct chunk *c);
void back_keep(struct chunk *c, uint64_t mask); /* what of mask is not in front goes there, the rest is dropped */
void back_drop(struct chunk *c);

/* The front block's data, written before front_seal() makes its header valid. */
void *front_data(struct chunk *c, unsigned block);
void front_seal(struct chunk *c, unsigned block, uint64_t sequence);
/* The newest dirty content of a dirty block. */
const void *dirty_content(const struct chunk *c, unsigned block);

/*
 * n slots into io->slots: 0, META_WAIT, or the error of a write-back that cannot make room; and one of them out of it. Who waits gives up
 * those that it has, and what it read (layers.c says why). slots_charge(): file_charge(), with the same.
 */
int slots_take(struct op *op, unsigned n);
void room_let_go(struct op_io *io);
uint32_t slot_next(struct op_io *io);
int slots_charge(struct op *op, struct file *f, uint64_t blocks, uint64_t own);
void slots_give_back(struct data *d, const uint32_t *slots, unsigned n);

/* ---- The I/O of an op (op_io.c, fetch.c) ---- */

/* A block that is to be read from its place in the map. */
struct want {
	uint64_t block;  /* of the file */
	uint64_t at;     /* its address then; the epoch keeps it from being reused */
	uint32_t crc;    /* blockmap.crc */
	bool checked, compressed;
	bool own_buf;    /* dst is a buffer of this want */
	bool ready;
	uint8_t *dst;
};

struct fetch {
	struct io_request req;
	struct op_io *io;
	unsigned first, count;          /* wants */
	struct compressed_extent extent; /* raw > 0: the wants come out of it */
	uint8_t *stored;                /* buffer for it */
};

/* A piece of a direct write: one run on a device. */
struct part {
	struct io_request req;
	struct op_io *io;
	struct extent extent;
};

struct op_io {
	struct op *op;           /* NULL: finished before its I/O was */
	struct data *data;
	struct op_io *next;
	struct inode *inode;     /* pinned while I/O is under way */
	struct epoch_pin epoch;
	bool in_epoch;
	unsigned pending;
	int error;

	struct want *wants;
	unsigned nwants, want_cap, fetched; /* wants below `fetched` are on their way or here */
	struct fetch *fetches;
	unsigned nfetches, fetch_cap;

	void *buf;               /* result of a read */
	size_t buf_bytes;
	struct iovec iov;

	uint32_t *slots;         /* taken, not used yet */
	unsigned nslots, slot_cap;

	/* A direct write. */
	struct part *parts;
	unsigned nparts, part_cap;
	uint32_t *crcs;
	unsigned crc_cap;
	void *bounce;
	size_t bounce_bytes;
	uint64_t first_block, blocks; /* of the file */
	uint64_t end_bytes;
	struct chunk *chunks[DIRECT_CHUNKS_MAX + 1];
	unsigned nchunks;
	bool submitted, applied;

	struct commit_ticket ticket;
};

/* All that a request needs but its memory, length and done. */
static inline void blocks_request(struct io_request *req, enum io_op op, struct device *device, uint64_t block)
{
	req->device = device;
	req->op = op;
	req->flags = 0;
	req->offset = block << NVFS_BLOCK_SHIFT;
	req->iov = NULL;
	req->iovcnt = 0;
}

/* The op's, made if it has none; NULL without memory. op_finish() releases it. */
struct op_io *op_io_get(struct op *op);
void op_io_free_all(struct shared *shared);

/* Reads begun from here on are safe from reuse until the op is finished. */
void op_io_enter(struct op_io *io);

/*
 * The content of a stored, not dirty block that an earlier call with want_old() fetched, or NULL. fetch_start() reads
 * what is wanted and not here yet: META_WAIT; 0: nothing was to be read; -EIO after an error.
 */
const void *old_content(struct op_io *io, const struct chunk *c, unsigned block);
int want_old(struct op_io *io, const struct chunk *c, unsigned block);
int want_into(struct op_io *io, const struct chunk *c, unsigned block, void *dst);
int fetch_start(struct op *op, struct file *f);

/*
 * The content of a block of which a part is to be changed: 0 with *data (NULL: zeros), 1 when it was put on the list for
 * fetch_start(), -ENOMEM, -EIO.
 */
int block_content(struct op_io *io, const struct chunk *c, unsigned block, const void **data);

#define GROW(array, cap, n) grow_array((void **)&(array), &(cap), (n), sizeof(*(array)))
int grow_array(void **array, unsigned *cap, unsigned n, size_t item);

/* Forget what was wanted and not started by an earlier run of the handler. */
void wants_restart(struct op_io *io);

/* Forget all that was read, and leave the epoch that kept it good. Nothing is under way. */
void wants_drop(struct op_io *io);

/* ---- Pieces of every change (write.c) ---- */

/* Whether a charge was refused for want of room. */
static inline bool is_refusal(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/*
 * When there is not room for all of a change: its first unit, taken off *left, which is one block, or what of it lies in neighbouring compressed
 * extents, that cannot be changed in part. Charging one: `filled` are the blocks of it that will be mapped. 0 or the refusal.
 */
uint64_t unit_next(const struct chunk *c, uint64_t *left);
int unit_charge(struct chunk *c, uint64_t unit, uint64_t filled, uint64_t *fresh, uint64_t *own);

/*
 * Blocks beyond mask that a change of mask has to make dirty, because they share a compressed extent with it; have their old
 * content; make them dirty (slots: their number).
 */
uint64_t chunk_companions(const struct chunk *c, uint64_t mask);
int want_companions(struct op_io *io, const struct chunk *c, uint64_t mask);
void front_companions(struct chunk *c, uint64_t mask, struct op_io *io);

/* A block in front to be changed, and sealed then. keep: with its old content (or zeros), which is here. */
uint8_t *front_open(struct chunk *c, unsigned block, struct op_io *io, bool keep);

/*
 * Inline data has to become a dirty block: its inputs, and the change. What bytes [from, to) hold will be replaced: where that is all of
 * the data, it may be damaged.
 */
int inline_need(struct op *op, struct file *f, uint64_t from, uint64_t to, unsigned *slots);
void inline_spill(struct file *f, struct op_io *io);

/* 0 or -EIO, logged. */
int inline_check(struct file *f);

/* ---- Cycles (cycle.c, put.c, writeback.c) ---- */

struct cycle {
	struct file *file;
	uint64_t T, since;
	uint64_t size;
	struct timespec mtime, ctime;
	int64_t born;            /* by how much its batch changes what is charged to the live node */
	bool to_inline;          /* the data goes into the `S` record: */
	uint16_t inline_len;
	struct chunk **chunks;   /* those with a back layer, by number */
	unsigned nchunks;
	unsigned at_chunk;       /* before it everything is on its way */
	unsigned pending;        /* device writes, compressions, a ticket, the timer, the next turn */
	int error;
	bool stuck;              /* waits for space */
	bool hurried;            /* an fsync waits for it */
	bool yielded;            /* turn is on its way */
	unsigned sent_blocks;    /* since the last turn */
	unsigned waits;
	struct reactor_msg turn;
	struct reactor_timer timer;
	struct commit_ticket ticket;
	struct cycle *next;      /* in the list of those to be put */
};

/* Begin: no cycle runs. 0 or -ENOMEM. It ends by itself and wakes f->put_waiters. */
int cycle_start(struct file *f);

/* It could not: the file has failed until somebody tries again, and what it has stays dirty. The caller has who waits told: writeback_progress(). */
void cycle_not_begun(struct file *f, int error);

/* An fsync waits for the file's cycle and will commit: says so to the commit thread. */
void cycle_hurry(struct file *f);

/* Its batch was written (0), or it failed. */
void cycle_end(struct cycle *c, int error);

/* The new places of the back layers enter the maps. 0 or -ENOMEM (some may be in). */
int cycle_apply(struct cycle *c);

/* The data of c is on the device: put it with the next batch. */
void put_add(struct cycle *c);
int put_create(struct data *d);
void put_destroy(struct data *d);

/* Start cycles of dirty files. */
bool slots_are_scarce(const struct data *d); /* and the subvolume holds some */
void writeback_kick(struct data *d);   /* as room and time ask for it */
void writeback_flush(struct data *d, uint64_t moment); /* everything accepted up to then */
void writeback_progress(struct data *d); /* a cycle has ended, or a file needs none any more: tells who waits */

/* Note what an earlier worker left for writeback_takeup(). 0 or -ENOMEM. */
int takeup_find(struct data *d);

/* ---- Direct writes (direct.c) ---- */
ssize_t direct_write(struct op *op, struct file *f, uint64_t offset, const void *buf, size_t len);
void direct_apply(struct op_io *io);
/* Of an op that ended early: give back what it holds. */
void direct_release(struct op_io *io);

/* ---- The rest ---- */

/* put_all and, for sync writes, a commit; stages as below. */
int data_put_and_commit(struct op *op, struct inode *inode, bool commit);

/* op->stage of all data functions */
enum data_stage {
	STAGE_START,
	STAGE_READING,   /* data_read(): the device reads */
	STAGE_WRITING,   /* direct write: the device writes */
	STAGE_PUT,       /* a cycle */
	STAGE_COMMIT,    /* a commit ticket */
	STAGE_STEPS,     /* the next part of a large range */
};

/* ---- Clearing ranges (range.c) ---- */

/* Call fn for the file's chunks in memory with first <= number < end, until it returns non-zero. fn may free its chunk. */
int each_chunk(struct file *f, uint64_t first, uint64_t end, int (*fn)(void *arg, struct chunk *c), void *arg);

/*
 * Bytes [from, to), from < to, become zeros: whole blocks become holes, parts of blocks are zeroed in dirty blocks. The file is
 * exclusive. to UINT64_MAX: up to the end of all that it has. keep: whole blocks that are charged stay so, as promised ones, or hidden
 * by a cut. 0, or RANGE_CUT when there is a cut; META_WAIT, -errno. All of it or nothing, also over a crash.
 */
#define RANGE_CUT 1
int range_clear(struct op *op, struct file *f, uint64_t from, uint64_t to, bool keep);

/* Drop what a chunk has in mask, dirty or mapped, and its charges. chunk_edit() was called where something is mapped. */
void chunk_clear(struct chunk *c, uint64_t mask);

/* The file got a cut: it stays in memory, and the reaper will come. */
void cuts_enter(struct file *f);
void cuts_leave(struct file *f); /* the last one is gone */
int cutter_create(struct data *d);
int cutter_start(struct data *d); /* reads, and may sleep */
void cutter_stop(struct data *d);
void cutter_destroy(struct data *d);
bool cutter_busy(const struct data *d);
bool cuts_under_way(const struct data *d, uint64_t moment); /* of cuts up to then, the space will come back */
int cuts_load(struct op *op, struct file *f);

/* Whether changes are possible at all: 0, -EROFS, or the pool's error. */
int data_writable(struct op *op);

/* Log a checksum mismatch or read error once, and count it. */
void report_bad_block(struct file *f, enum event_kind kind, uint64_t block, uint64_t at, const char *what);

/* A piece of a cycle's data on its way: compression, then the device. */
struct writing {
	struct io_request req;
	struct work work;
	struct writing *next;     /* free */
	struct cycle *cycle;
	unsigned chunk;           /* index in cycle->chunks */
	unsigned block, count;    /* of a compressed piece: its blocks in that chunk */
	struct extent extent;
	uint8_t *packed;          /* its compressed form, with this length; 0: it does not pay */
	unsigned packed_bytes;
	uint32_t packed_crc;
	struct iovec iov[WRITE_BLOCKS_MAX];
};

/* Compress on a worker; then done() on the reactor (compress.c). */
void compress_start(struct writing *w);
void compress_drop(struct writing *w);
void cycle_compressed(struct writing *w);

void writings_free(struct shared *shared);

struct data {
	struct subvol *sv;
	struct buffers *buffers;   /* of the reactor */

	struct chunk **buckets;
	size_t bucket_count, chunk_count;
	uint64_t map_cap_bytes;

	struct file *lists[FILE_FAILED + 1];
	unsigned running;
	unsigned directs; /* direct writes that are not applied yet, of all files */
	unsigned keepers; /* files with one */
	uint64_t flush_until;
	struct op_queue sync_waiters;
	struct op_queue room_waiters;
	struct reactor_timer room_timer;
	struct reactor_msg kick_msg;
	bool kicked;

	/* put.c */
	struct cycle *ready, *ready_tail; /* to be put */
	struct put *put;

	/* takeup.c: slots of an earlier worker */
	uint32_t *left;
	unsigned left_count, left_cap, left_at;

	/* The timer's op. */
	struct op timer_op;
	struct reactor_timer timer;
	uint64_t timer_began_ns, timer_epoch, synced_epoch;
	bool timer_busy, stopping;
	bool timer_quiet;        /* it found nothing to commit the last time */

	struct file *cut_files; /* with cuts; utlist */
	struct cutter *cutter;
};

/* A batch of the subvolume's files was made and RocksDB has not taken it yet. */
bool put_busy(const struct data *d);

/* There is a file with cuts that are put. */
void cutter_wake(struct data *d);
bool cutter_waits(const struct data *d); /* there are cuts, and the timer has to wake it again */

/*
 * Blocks under write-back may be about to become parts of a compressed extent, of which a change of some would leave the rest
 * mapped in part: in a compressed subvolume changes of such blocks wait for the end of the cycle.
 */
static inline bool chunk_packs(const struct chunk *c, uint64_t mask)
{
	return c->back_mask & mask && c->file->data->sv->rec.compression != DISK_COMPRESSION_OFF;
}

static inline struct pool *data_pool(const struct data *d)
{
	return d->sv->pool;
}

#endif
