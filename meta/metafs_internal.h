/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside metafs. Two locks, in this order:
 *
 *   sync_lock  one sync procedure or table switch at a time; held over device I/O
 *   lock       everything else that is marked with it; short, never held over I/O
 *
 * A reactor that appends takes only the second, so it does not wait for a flush. The handle of a
 * writer is used by one thread at a time, as RocksDB promises.
 */
#ifndef NVFS_META_METAFS_INTERNAL_H
#define NVFS_META_METAFS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <uthash.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
#include "meta/metafs.h"
#include "meta/metafs_table.h"
#include "meta/metafs_tune.h"

#define MF_BLOCK NVFS_BLOCK_SIZE
#define MF_NO_FRAME UINT64_MAX
#define MF_SEQ_BITS 40 /* of a sequence below the start counter */
#define MF_START_MAX ((1u << 24) - 1)

/* ---- Allocator (metafs_alloc.c): which blocks of metafs's zones are in use ---- */

struct mf_range {
	uint16_t vdev;
	uint64_t first; /* block address */
	uint64_t blocks;
	uint64_t base;  /* its first bit */
};

struct mf_alloc {
	struct mf_range *ranges;
	unsigned nranges;
	uint64_t *bits; /* 1: in use, or freed and not reusable yet */
	uint64_t blocks, free_blocks, cursor;
};

int mf_alloc_init(struct mf_alloc *a, const struct metafs_table *table, const struct label *labels);
void mf_alloc_destroy(struct mf_alloc *a);
/* A run of up to want blocks, the first that is long enough, else the longest. -ENOSPC: none. */
int mf_alloc_run(struct mf_alloc *a, uint32_t want, struct metafs_extent *out);
/* -EINVAL when the extent is not wholly free (claim) or in use (release) within one range. */
int mf_alloc_claim(struct mf_alloc *a, const struct metafs_extent *e);
int mf_alloc_release(struct mf_alloc *a, const struct metafs_extent *e);

/* ---- The shared area (metafs_area.c) ---- */

struct mf_area_head;
struct mf_node;

/*
 * A ring of log blocks as they will be on the device. Positions count up for ever; the frames
 * from tail to head are not known to be durable.
 */
struct mf_area {
	struct mf_area_head *head_;
	_Atomic uint64_t *words; /* per frame: bytes used and their CRC */
	uint8_t *tables;         /* two copies of the current table */
	uint8_t *frames;
	struct mf_node **owner;  /* per frame; NULL: of a deleted file; lock */
	uint32_t *index;         /* per frame: of its block in the file; lock */
	uint32_t count;
	size_t table_bytes;
	size_t bytes;
	bool ours;               /* private memory */
	uint64_t head, tail;     /* lock */
};

int mf_area_attach(struct mf_area *area, const struct metafs_options *options,
		   const struct label *label);
void mf_area_detach(struct mf_area *area);
/* The table that a predecessor of this start left, or -ENOENT. -EBADMSG: it is damaged. */
int mf_area_take(struct mf_area *area, const struct label *label, uint64_t start,
		 struct metafs_table *out);
/* Empty; valid again with the next table that is published. What else is in the memory counts while life stays what it was. */
void mf_area_reset(struct mf_area *area, const struct label *label, uint32_t life);

/* What the memory says of itself since mf_area_reset(). */
uint32_t mf_area_life(const struct mf_area *area);

/*
 * Before a table goes to the devices, and for the one that was found there; and whether the one that is there is of a worker with this memory: then
 * nobody changed the pool since, even where the memory has an older table because its worker was killed in between.
 */
void mf_area_writes(struct mf_area *area, const void *raw, size_t len);
void mf_area_found(struct mf_area *area, const void *raw, size_t len);
bool mf_area_wrote(const struct mf_area *area, const struct label *label, const void *raw, size_t len);
void mf_area_publish(struct mf_area *area, const struct metafs_table *table);

static inline struct metafs_log_block_disk *mf_frame(const struct mf_area *area, uint64_t pos)
{
	return (void *)(area->frames + (pos % area->count) * METAFS_LOG_BLOCK_BYTES);
}

uint16_t mf_frame_used(const struct mf_area *area, uint64_t pos);
/* A new frame at head for this block; -EAGAIN when the ring is full. */
int mf_frame_open(struct mf_area *area, struct mf_node *owner, uint32_t index, uint64_t *pos);
void mf_frame_add(struct mf_area *area, uint64_t pos, const void *data, size_t len);
/* The frame is final, its bytes are those that go to the device: set before they are submitted. */
void mf_frame_note(struct mf_area *area, uint64_t pos);
bool mf_frame_noted(const struct mf_area *area, uint64_t pos);
/* Whether what a predecessor left there is whole. */
bool mf_frame_sound(const struct mf_area *area, uint64_t pos);
/* The frame of a file's block, or MF_NO_FRAME. */
uint64_t mf_frame_find(const struct mf_area *area, const struct mf_node *owner, uint32_t index);
/* The frame, a predecessor's or a new one, belongs to this file. */
void mf_frame_adopt(struct mf_area *area, uint64_t pos, struct mf_node *owner);
/* The file is gone: what of it is in the ring is not written. */
void mf_area_disown(struct mf_area *area, const struct mf_node *owner);
void mf_area_release(struct mf_area *area, uint64_t tail);

/* ---- Files ---- */

struct mf_pending {
	struct metafs_extent extent;
	uint64_t stamp; /* free when a table of this many changes is durable */
	struct mf_pending *next;
};

/* A file. All fields: lock, unless said otherwise. */
struct mf_node {
	UT_hash_handle hh;
	char *name;
	enum metafs_kind kind; /* constant */
	uint64_t id;           /* constant */
	uint64_t log_number;   /* constant once metafs is open */
	unsigned refs;         /* handles */
	bool linked;           /* has a name, and so is in the table */
	bool frozen;
	int64_t mtime_ns;
	uint64_t size;         /* bytes appended */
	uint64_t expect;
	struct metafs_extents extents;
	uint64_t changed;      /* value of mf->changes at its last change of name, extents or size */
	struct mf_node *prev, *next; /* mf->nodes, in order of id */

	/* Logs. */
	uint64_t next_seq;     /* of a MANIFEST's next block */
	uint64_t flushed;      /* of a MANIFEST: its blocks up to this sequence are durable */
	uint32_t blocks;       /* in the ring and on the device */
	uint32_t tail_frames;  /* of them in the ring */
	uint64_t *ends;        /* where block i's bytes end in the file; NULL: not indexed yet */
	uint32_t ends_cap;
	uint64_t open_frame;   /* takes the next bytes, or MF_NO_FRAME */
	uint64_t last_frame;   /* position after its newest one */

	/* Plain: buf holds the bytes from written on. */
	uint8_t *buf;
	size_t buf_used;
	uint64_t written;      /* whole blocks that are on the device */
	uint64_t synced;       /* bytes that the table may show */
	bool tail_written;     /* what is in buf is on the device too */
};

struct metafs_file {
	struct metafs *mf;
	struct mf_node *node;
	bool writer;
};

struct mf_member {
	struct device *dev;     /* NULL: missing */
	const struct label *label;
	uint64_t flushed;       /* sync_lock: answered writes known to be durable */
	bool stale;             /* lock: missed the durable table */
};

struct metafs {
	unsigned members;
	struct mf_member member[LABEL_DEVICES_MAX];
	struct label labels[LABEL_DEVICES_MAX];
	uint64_t slot_bytes;
	bool read_only;
	bool taken_over;
	uint64_t start;
	uint64_t share_blocks;
	struct metafs_range *ranges;
	unsigned nranges;

	pthread_mutex_t sync_lock;
	uint64_t generation;   /* sync_lock: of the newest table that was tried */
	void *table_buf;       /* sync_lock: slot_bytes */
	bool table_due;        /* sync_lock: something was synced that the durable table lacks */

	pthread_mutex_t lock;
	int failed;
	struct mf_alloc alloc;
	struct mf_area area;
	struct mf_node *by_name, *nodes;
	uint64_t next_file_id;
	uint64_t wal_seq_next;    /* of the next WAL block that is noted */
	uint64_t wal_seq_durable; /* all before this one are durable */
	uint64_t wal_newest;   /* log number of the newest WAL with a block that has a sequence */
	uint64_t changes;      /* of what the table holds */
	uint64_t durable;      /* changes that the durable table has */
	uint64_t names_changed;
	uint64_t table_bytes;  /* the table's length now */
	struct mf_pending *pending;
	uint64_t pending_blocks;
	uint64_t rounds_begun, rounds_done; /* sync procedures; done: the highest that succeeded */
	struct metafs_stats stats;
	bool freezing;         /* lock: an open is half way; the area's table stays as it is */
	_Atomic bool tail_high;
	_Atomic uint64_t flushes, flushes_skipped, log_blocks_written;
};

static inline bool mf_is_log(const struct mf_node *node)
{
	return node->kind != METAFS_PLAIN;
}

/* metafs_node.c; all with lock held */
struct mf_node *mf_node_new(struct metafs *mf, const char *name, size_t len, enum metafs_kind kind);
void mf_node_link(struct metafs *mf, struct mf_node *node);
struct mf_node *mf_node_find(struct metafs *mf, const char *name);
void mf_node_free_all(struct metafs *mf);
void mf_node_changed(struct metafs *mf, struct mf_node *node);
enum metafs_kind mf_kind_of_name(const char *name, uint64_t *log_number);
size_t mf_node_table_bytes(const struct mf_node *node);
/* Give back what lies beyond the first keep blocks. */
int mf_node_trim(struct metafs *mf, struct mf_node *node, uint64_t keep);
/*
 * See that the node has at least blocks blocks, best more. Drops and retakes the lock when space
 * has to be made free by a table switch.
 */
int mf_node_grow(struct metafs *mf, struct mf_node *node, uint64_t blocks);
void mf_pending_release(struct metafs *mf);
void mf_table_publish(struct metafs *mf);
/*
 * The current table; its arrays are the caller's to free with metafs_table_free(), names and
 * extents stay the nodes'.
 */
int mf_table_snapshot(struct metafs *mf, struct metafs_table *out);
/* At open: a spare WAL turns out to be this log. */
int mf_node_promote(struct metafs *mf, struct mf_node *node, const char *name, uint64_t log_number);
/* Take its name away; it goes with its last handle. */
void mf_node_drop(struct metafs *mf, struct mf_node *node);
/* Device and byte offset of a block of the file, and how many blocks follow it there. */
int mf_node_map(const struct mf_node *node, uint64_t block, struct metafs_extent *out);

/* metafs_log.c */
int mf_log_append(struct metafs *mf, struct mf_node *node, const void *data, size_t len);
ssize_t mf_log_read(struct metafs *mf, struct mf_node *node, void *buf, size_t len, uint64_t offset);
/* Lock held. Add a block of used bytes to the file's index and size. 0 or -ENOMEM. */
int mf_log_add_block(struct mf_node *node, uint32_t used);
/* Read the headers of a frozen log. Lock not held. */
int mf_log_index(struct metafs *mf, struct mf_node *node);

/* metafs_scan.c: what the logs hold, at open */
int mf_scan_logs(struct metafs *mf);

/* metafs_plain.c */
int mf_plain_append(struct metafs *mf, struct mf_node *node, const void *data, size_t len);
/* The bytes of the file's blocks from first on. */
int mf_plain_write(struct metafs *mf, struct mf_node *node, const uint8_t *data, size_t len,
		   uint64_t first);
/* All that is buffered, the last block padded with zeros. */
int mf_plain_sync_tail(struct metafs *mf, struct mf_node *node);
ssize_t mf_plain_read(struct metafs *mf, struct mf_node *node, void *buf, size_t len,
		      uint64_t offset);

/* metafs_sync.c */
/*
 * The sync procedure. node: a file whose tail goes along, or NULL; table: write a table in any
 * case. sync_lock held, lock not.
 */
int mf_sync_round(struct metafs *mf, struct mf_node *node, bool table);
/* Write the table of now as this generation. sync_lock held, lock not. */
int mf_table_switch(struct metafs *mf, uint64_t generation);
int mf_fail(struct metafs *mf, int err, const char *what);

void *mf_buffer(size_t len);

#endif
