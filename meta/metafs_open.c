/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening: choose the newest table, take up what a predecessor left in the area, see what the logs
 * hold, and make exactly that the durable state before anything is allocated:
 *
 *   (1) the chosen table, verbatim, to members that lack it; flush
 *   (2) noted frames again, then the others, each kind as in any sync
 *   (3) one switch: start counter + 1, all logs frozen, WALs without blocks gone
 *
 * Killed anywhere in between, the next one finds the same state and does it again.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "meta/metafs_internal.h"

void *mf_buffer(size_t len)
{
	void *buf = NULL;

	if (posix_memalign(&buf, DEVICE_ALIGN_BYTES, len))
		return NULL;
	return buf;
}

/* ---- Choosing a table ---- */

struct choice {
	uint8_t *raw;           /* slot_bytes */
	size_t len;
	uint64_t generation;
	uint32_t crc;
	unsigned copies;
	uint64_t have;          /* members with exactly this one */
};

static int slot_read(struct metafs *mf, unsigned member, unsigned slot, uint8_t *buf, size_t *len)
{
	const struct metafs_table_disk *d = (const void *)buf;
	uint64_t offset = label_slot_offset(&mf->labels[member], slot);
	struct device *dev = mf->member[member].dev;
	int err = device_read(dev, buf, MF_BLOCK, offset);

	if (err)
		return err;
	*len = le32toh(d->length);
	if (memcmp(d->magic, METAFS_TABLE_MAGIC, sizeof(d->magic)) || *len > mf->slot_bytes ||
	    *len < sizeof(*d))
		return -ENOENT;
	if (*len > MF_BLOCK)
		err = device_read(dev, buf + MF_BLOCK,
				  (*len - 1) / MF_BLOCK * MF_BLOCK, offset + MF_BLOCK);
	return err;
}

/* 0 when buf holds a valid table of this pool. */
static int slot_check(struct metafs *mf, const uint8_t *buf, size_t len)
{
	struct metafs_table table;
	char why[128];
	int err = metafs_table_decode(buf, len, &table);

	if (err)
		return err;
	if (memcmp(table.pool_uuid, mf->labels[0].pool_uuid, 16))
		err = -ENOENT;
	if (!err)
		err = metafs_table_validate(&table, mf->labels, why, sizeof(why));
	if (err == -EBADMSG)
		log_error("metafs of pool %s: table %#" PRIx64 ": %s", mf->labels[0].name,
			  table.generation, why);
	metafs_table_free(&table);
	return err;
}

static int choice_offer(struct choice *list, unsigned *n, const uint8_t *raw, size_t len,
			unsigned member)
{
	const struct metafs_table_disk *d = (const void *)raw;
	uint64_t generation = le64toh(d->generation);
	unsigned i;

	for (i = 0; i < *n; i++)
		if (list[i].generation == generation && list[i].crc == le32toh(d->crc))
			break;
	if (i == *n) {
		list[i] = (struct choice){ .raw = mf_buffer((len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK),
					   .len = len,
					   .generation = generation,
					   .crc = le32toh(d->crc) };
		if (!list[i].raw)
			return -ENOMEM;
		memcpy(list[i].raw, raw, (len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK);
		(*n)++;
	}
	list[i].copies++;
	list[i].have |= 1ull << member;
	return 0;
}

static bool better(const struct choice *a, const struct choice *b)
{
	return a->generation != b->generation ? a->generation > b->generation : a->copies > b->copies;
}

/*
 * All valid tables of a member. *readable: one more when both of its slots can be read. -ENOMEM: the newest may be the one
 * that was left out.
 */
static int member_offer(struct metafs *mf, unsigned member, struct choice *list, unsigned *n,
			uint8_t *buf, unsigned *readable)
{
	bool all = mf->member[member].dev != NULL;

	for (unsigned slot = 0; slot < 2 && mf->member[member].dev; slot++) {
		size_t len;
		int err = slot_read(mf, member, slot, buf, &len);

		if (err && err != -ENOENT) {
			log_error("metafs: cannot read table slot %u of device %u: %s", slot, member,
				  strerror(-err));
			all = false;
		}
		if (!err)
			err = slot_check(mf, buf, len);
		if (!err)
			err = choice_offer(list, n, buf, len, member);
		if (err == -ENOMEM)
			return err;
	}
	*readable += all;
	return 0;
}

/*
 * The newest durable table is on a majority of the members, so it is seen when both slots of a
 * majority could be read. With less an older one could win, and lose what a sync promised.
 */
static int choose(struct metafs *mf, struct choice *best)
{
	struct choice list[2 * LABEL_DEVICES_MAX];
	cleanup_free uint8_t *buf = mf_buffer(mf->slot_bytes);
	unsigned n = 0, winner = 0, readable = 0;
	int err = buf ? 0 : -ENOMEM;

	for (unsigned i = 0; i < mf->members && !err; i++)
		err = member_offer(mf, i, list, &n, buf, &readable);
	if (err) {
		for (unsigned i = 0; i < n; i++)
			free(list[i].raw);
		return err;
	}
	for (unsigned i = 1; i < n; i++)
		if (better(&list[i], &list[winner]))
			winner = i;
	for (unsigned i = 0; i < n; i++)
		if (i != winner)
			free(list[i].raw);
	if (!n)
		return readable ? -EBADMSG : -EIO;
	if (!mf->read_only && readable * 2 <= mf->members) {
		free(list[winner].raw);
		return -EIO;
	}
	*best = list[winner];
	return 0;
}

/* ---- Loading ---- */

static int load_file(struct metafs *mf, const struct metafs_table_file *f)
{
	struct mf_node *node = mf_node_new(mf, f->name, f->name_len, f->kind);

	if (!node)
		return -ENOMEM;
	node->id = f->id;
	node->log_number = f->log_number;
	node->mtime_ns = f->mtime_ns;
	node->frozen = f->frozen;
	mf_node_link(mf, node);
	node->extents.v = calloc(f->extents + 1, sizeof(*node->extents.v));
	if (!node->extents.v)
		return -ENOMEM;
	node->extents.cap = f->extents + 1;
	for (unsigned i = 0; i < f->extents; i++) {
		node->extents.v[i] = f->extent[i];
		node->extents.blocks += f->extent[i].blocks;
		if (mf_alloc_claim(&mf->alloc, &f->extent[i]) && mf->member[f->extent[i].vdev].dev)
			return -EBADMSG;
	}
	node->extents.n = f->extents;
	mf->table_bytes += f->extents * sizeof(struct metafs_extent_disk);
	if (f->kind == METAFS_PLAIN || f->frozen) {
		node->size = node->synced = f->size;
		node->written = f->size / MF_BLOCK * MF_BLOCK;
		node->tail_written = true;
		node->blocks = (uint32_t)f->blocks;
	}
	return 0;
}

static int load(struct metafs *mf, const struct metafs_table *table)
{
	int err;

	mf->start = table->start;
	mf->next_file_id = table->next_file_id;
	mf->wal_seq_next = mf->wal_seq_durable = table->wal_seq_next;
	mf->nranges = table->ranges;
	mf->ranges = calloc(table->ranges + 1, sizeof(*mf->ranges));
	if (!mf->ranges)
		return -ENOMEM;
	memcpy(mf->ranges, table->range, table->ranges * sizeof(*mf->ranges));
	mf->table_bytes = sizeof(struct metafs_table_disk) +
			  (table->ranges + 1) * sizeof(struct metafs_range_disk);
	err = mf_alloc_init(&mf->alloc, table, mf->labels);
	mf->share_blocks = mf->alloc.blocks;
	for (unsigned i = 0; i < table->files && !err; i++)
		err = load_file(mf, &table->file[i]);
	return err;
}

/* Killed after the devices had its table and before the memory had: what builds on the table in that memory still does. */
static uint32_t next_life(const struct metafs *mf, const struct choice *choice, const struct metafs_table *disk)
{
	if (mf_area_wrote(&mf->area, &mf->labels[0], choice->raw, choice->len))
		return mf_area_life(&mf->area);
	return (uint32_t)disk->start;
}

/* The predecessor's table in the area, if it is of the same start, else the devices'. */
static int load_newest(struct metafs *mf, const struct choice *choice)
{
	struct metafs_table disk, area;
	char why[128] = "";
	int err = metafs_table_decode(choice->raw, choice->len, &disk);

	if (err)
		return err;
	mf->generation = choice->generation;
	err = mf_area_take(&mf->area, &mf->labels[0], disk.start, &area);
	if (!err) {
		err = metafs_table_validate(&area, mf->labels, why, sizeof(why));
		if (!err)
			err = load(mf, &area);
		mf->taken_over = !err;
		metafs_table_free(&area);
	} else if (err == -ENOENT) {
		if (!mf->read_only)
			mf_area_reset(&mf->area, &mf->labels[0], next_life(mf, choice, &disk));
		err = load(mf, &disk);
	}
	if (!err && !mf->read_only)
		mf_area_found(&mf->area, choice->raw, choice->len);
	if (err == -EBADMSG)
		log_error("metafs of pool %s: the memory of its last worker is damaged %s",
			  mf->labels[0].name, why);
	metafs_table_free(&disk);
	return err;
}

/* ---- Making it durable ---- */

static void copy_to_members(struct metafs *mf, const struct choice *choice)
{
	uint64_t offset = label_slot_offset(&mf->labels[0], choice->generation & 1);
	size_t whole = (choice->len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK;

	for (unsigned i = 0; i < mf->members; i++) {
		struct device *dev = mf->member[i].dev;
		int err;

		if (!dev || choice->have >> i & 1)
			continue;
		err = device_write(dev, choice->raw, whole, offset, 0);
		if (!err)
			err = device_flush(dev);
		if (err)
			log_warn("metafs: device %u did not take table %#" PRIx64 ": %s", i,
				 choice->generation, strerror(-err));
	}
}

/*
 * Sizes are what was found; what RocksDB never wrote to is gone. The area gets none of it before the devices have: a
 * successor of a worker that is killed here must not take blocks behind the end of the chain for durable ones.
 */
static void freeze(struct metafs *mf)
{
	struct mf_node *node, *next;

	mf->freezing = true;
	DL_FOREACH_SAFE(mf->nodes, node, next) {
		if (!mf_is_log(node) || node->frozen)
			continue;
		if (node->kind == METAFS_WAL && !node->blocks) {
			mf_node_drop(mf, node);
			continue;
		}
		node->frozen = true;
		mf_node_trim(mf, node, node->blocks);
	}
}

static int make_durable(struct metafs *mf, const struct choice *choice)
{
	int err;

	copy_to_members(mf, choice);
	err = mf_sync_round(mf, NULL, false);
	if (err)
		return err;
	if (mf->start >= MF_START_MAX)
		return -EOVERFLOW;
	pthread_mutex_lock(&mf->lock);
	mf->start++;
	mf->wal_seq_next = mf->wal_seq_durable = mf->start << MF_SEQ_BITS;
	mf->next_file_id = mf->start << MF_SEQ_BITS;
	mf->wal_newest = 0;
	mf->changes++;
	freeze(mf);
	pthread_mutex_unlock(&mf->lock);
	return mf_table_switch(mf, mf->start << MF_SEQ_BITS | (~mf->generation & 1));
}

/* ---- Open and close ---- */

static int set_members(struct metafs *mf, const struct metafs_options *options)
{
	const struct label *present = NULL;

	for (unsigned i = 0; i < LABEL_DEVICES_MAX && !present; i++)
		if (options->devices[i])
			present = &options->labels[i];
	if (!present)
		return -ENXIO;
	mf->members = present->device_count;
	mf->slot_bytes = present->slot_bytes;
	for (unsigned i = 0; i < mf->members; i++) {
		struct mf_member *m = &mf->member[i];

		mf->labels[i] = options->devices[i] ? options->labels[i] : *present;
		if (!options->devices[i])
			mf->labels[i].zone_bytes = 0; /* nobody knows its geometry */
		m->dev = options->devices[i];
		m->label = &mf->labels[i];
		m->flushed = UINT64_MAX;
	}
	return 0;
}

static unsigned members_present(const struct metafs *mf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < mf->members; i++)
		n += mf->member[i].dev != NULL;
	return n;
}

static int open_members(struct metafs *mf)
{
	struct choice choice;
	int err = choose(mf, &choice);

	if (err)
		return err;
	err = load_newest(mf, &choice);
	if (!err)
		err = mf_scan_logs(mf);
	if (!err && mf->read_only)
		freeze(mf);
	else if (!err)
		err = make_durable(mf, &choice);
	free(choice.raw);
	return err;
}

static int set_up(struct metafs *mf, const struct metafs_options *options)
{
	int err = set_members(mf, options);

	if (err)
		return err;
	if (!mf->read_only && members_present(mf) * 2 <= mf->members) {
		log_error("metafs of pool %s: %u of %u devices are there, and a majority is needed",
			  mf->labels[0].name, members_present(mf), mf->members);
		return -ENXIO;
	}
	mf->table_buf = mf_buffer(mf->slot_bytes);
	if (!mf->table_buf)
		return -ENOMEM;
	return mf_area_attach(&mf->area, options, &mf->labels[0]);
}

int metafs_open(const struct metafs_options *options, struct metafs **out)
{
	struct metafs *mf = calloc(1, sizeof(*mf));
	int err;

	if (!mf)
		return -ENOMEM;
	pthread_mutex_init(&mf->sync_lock, NULL);
	pthread_mutex_init(&mf->lock, NULL);
	mf->read_only = options->read_only;
	err = set_up(mf, options);
	if (!err)
		err = open_members(mf);
	if (err) {
		metafs_close(mf);
		return err;
	}
	*out = mf;
	return 0;
}

int metafs_seal(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	int err;

	if (mf->read_only)
		return -EROFS;
	held = lock_mutex(&mf->sync_lock);
	err = mf_sync_round(mf, NULL, false);
	if (err)
		return err;
	pthread_mutex_lock(&mf->lock);
	mf->changes++;
	freeze(mf);
	pthread_mutex_unlock(&mf->lock);
	err = mf_table_switch(mf, mf->generation + 1);
	if (err)
		log_warn("metafs of pool %s: where its logs end could not be noted (%s): until the next clean stop damage to their last "
			 "blocks looks like a power cut", mf->labels[0].name, strerror(-err));
	return err;
}

void metafs_close(struct metafs *mf)
{
	if (!mf)
		return;
	mf_node_free_all(mf);
	mf_alloc_destroy(&mf->alloc);
	mf_area_detach(&mf->area);
	free(mf->ranges);
	free(mf->table_buf);
	pthread_mutex_destroy(&mf->lock);
	pthread_mutex_destroy(&mf->sync_lock);
	free(mf);
}

/* ---- A new pool ---- */

static int format_member(struct device *dev, const struct label *label, const void *table,
			 size_t len)
{
	cleanup_free void *zeros = mf_buffer(MF_BLOCK);
	int err;

	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, MF_BLOCK);
	err = device_write(dev, zeros, MF_BLOCK, label_slot_offset(label, 0), 0);
	if (!err)
		err = device_write(dev, table, len, label_slot_offset(label, 1), 0);
	return err ? err : device_flush(dev);
}

int metafs_format(struct device *const *devices, const struct label *labels,
		  const struct label_share *share)
{
	struct metafs_range range[LABEL_DEVICES_MAX];
	struct metafs_table table = { .generation = 1, .next_file_id = 1, .range = range };
	cleanup_free void *buf = mf_buffer(labels[0].slot_bytes);
	size_t len;
	int err;

	if (!buf)
		return -ENOMEM;
	table.ranges = share->ranges;
	for (unsigned i = 0; i < share->ranges; i++)
		range[i] = (struct metafs_range){ share->range[i].vdev, share->range[i].first,
						  share->range[i].count };
	memcpy(table.pool_uuid, labels[0].pool_uuid, 16);
	err = metafs_table_encode(&table, buf, labels[0].slot_bytes, &len);
	for (unsigned i = 0; i < labels[0].device_count && !err; i++)
		err = format_member(devices[i], &labels[i], buf,
				    (len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK);
	return err;
}

/* ---- State ---- */

uint32_t metafs_area_life(struct metafs *mf)
{
	return mf_area_life(&mf->area);
}

uint32_t metafs_start(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return (uint32_t)mf->start;
}

unsigned metafs_ranges(const struct metafs *mf, const struct metafs_range **out)
{
	*out = mf->ranges;
	return mf->nranges;
}

unsigned metafs_room(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	uint64_t room = mf->alloc.free_blocks + mf->pending_blocks;
	uint64_t reserve = tune_reserve_bytes(mf->share_blocks * MF_BLOCK) / MF_BLOCK;

	return room > reserve ? (unsigned)((room - reserve) * 8 / mf->share_blocks) : 0;
}

bool metafs_tail_high(struct metafs *mf)
{
	return mf->tail_high;
}

uint64_t metafs_free_bytes(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return (mf->alloc.free_blocks + mf->pending_blocks) * MF_BLOCK;
}

/* The newest one counts: it is what a flush of the memtables ends. */
bool metafs_wal_full(struct metafs *mf)
{
	uint64_t limit = tune_wal_bytes(mf->share_blocks * MF_BLOCK) / MF_BLOCK / 2, newest = 0;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct mf_node *node;

	DL_FOREACH(mf->nodes, node)
		if (node->linked && node->kind == METAFS_WAL && !node->frozen)
			newest = node->blocks;
	return newest >= limit;
}

void metafs_stats(struct metafs *mf, struct metafs_stats *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct mf_node *node;

	*out = mf->stats;
	out->share_bytes = mf->share_blocks * MF_BLOCK;
	out->free_bytes = mf->alloc.free_blocks * MF_BLOCK;
	out->pending_bytes = mf->pending_blocks * MF_BLOCK;
	out->tail_bytes = (mf->area.head - mf->area.tail) * MF_BLOCK;
	out->flushes = mf->flushes;
	out->flushes_skipped = mf->flushes_skipped;
	out->log_blocks_written = mf->log_blocks_written;
	out->taken_over = mf->taken_over;
	out->failed = mf->failed;
	DL_FOREACH(mf->nodes, node) {
		out->files += node->linked;
		if (!node->linked || node->kind != METAFS_WAL)
			continue;
		out->wals++;
		out->wal_blocks += node->blocks;
	}
}

void metafs_print(FILE *out, struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct metafs_table table;

	if (mf_table_snapshot(mf, &table))
		return;
	metafs_table_print(out, &table);
	metafs_table_free(&table);
}
