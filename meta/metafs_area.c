/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What outlives a killed worker: the log blocks that are not known to be on the device, and the
 * current table.
 *
 * A frame is a log block as it will be on the device. Appends fill it under the lock of metafs; a
 * sync closes it, gives it its sequence and CRC, *notes* it, and only then submits it. A successor
 * repeats exactly the noted ones, so that a block which the dead worker's device may still have
 * taken is never written with other bytes. A frame leaves the ring after the last flush.
 *
 * The word of a frame says how much of it counts, with a CRC over that much, and is stored last
 * with release order: a worker killed between two instructions leaves the old or the new state.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/crc.h"
#include "meta/metafs_internal.h"

#define AREA_MAGIC "NVFSMFA1"
#define AREA_VERSION 1u
#define AREA_PAGE 4096u
#define TAIL_BYTES_DEFAULT (8u << 20)
#define FRAMES_MIN 16u

#define WORD_USED 0xffffu
#define WORD_NOTED (1u << 16)
#define WORD_VALID (1u << 17)

struct mf_area_head {
	uint8_t magic[8];
	uint32_t version;
	uint32_t crc; /* over what is constant */
	uint64_t bytes, table_bytes;
	uint32_t frames;
	uint32_t life; /* the start counter when it was made anew */
	uint8_t pool_uuid[16];
	/* From here on it changes. */
	_Atomic uint64_t valid; /* stored last; 0: nothing is here */
	_Atomic uint64_t head, tail;
	_Atomic uint64_t table_serial; /* the valid copy is serial & 1; 0: none */
	_Atomic uint64_t written[2];   /* the last tables that workers with this memory gave to devices: CRC + 1, older first */
};

#define HEAD_CONSTANT offsetof(struct mf_area_head, valid)

static size_t page_up(size_t n)
{
	return (n + AREA_PAGE - 1) / AREA_PAGE * AREA_PAGE;
}

static size_t words_bytes(uint32_t frames)
{
	return page_up(frames * sizeof(uint64_t));
}

static size_t area_bytes(uint64_t slot_bytes, uint32_t frames)
{
	return AREA_PAGE + words_bytes(frames) + 2 * slot_bytes +
	       (size_t)frames * METAFS_LOG_BLOCK_BYTES;
}

size_t metafs_area_bytes(const struct label *label, size_t tail_bytes)
{
	size_t tail = tail_bytes ? tail_bytes : TAIL_BYTES_DEFAULT;
	uint32_t frames = (uint32_t)(tail / METAFS_LOG_BLOCK_BYTES);

	return area_bytes(label->slot_bytes, frames < FRAMES_MIN ? FRAMES_MIN : frames);
}

/* The most frames that fit. */
static uint32_t frames_in(uint64_t slot_bytes, size_t bytes)
{
	size_t fixed = AREA_PAGE + 2 * slot_bytes;
	uint32_t frames;

	if (bytes < fixed)
		return 0;
	frames = (uint32_t)((bytes - fixed) / (METAFS_LOG_BLOCK_BYTES + sizeof(uint64_t)));
	while (frames && area_bytes(slot_bytes, frames) > bytes)
		frames--;
	return frames;
}

static uint32_t head_crc(const struct mf_area_head *h)
{
	static const uint8_t zero[4];
	size_t at = offsetof(struct mf_area_head, crc);
	uint32_t crc = crc32c(0, h, at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, (const uint8_t *)h + at + 4, HEAD_CONSTANT - at - 4);
}

int mf_area_attach(struct mf_area *area, const struct metafs_options *options,
		   const struct label *label)
{
	size_t bytes = options->area ? options->area_bytes : metafs_area_bytes(label, 0);
	uint32_t frames = frames_in(label->slot_bytes, bytes);
	uint8_t *base = options->area;

	if (frames < FRAMES_MIN || (uintptr_t)base % AREA_PAGE)
		return -EINVAL;
	area->owner = calloc(frames, sizeof(struct mf_node *));
	area->index = calloc(frames, sizeof(*area->index));
	if (!area->owner || !area->index)
		return -ENOMEM;
	if (!base) {
		base = mf_buffer(bytes);
		if (!base)
			return -ENOMEM;
		memset(base, 0, AREA_PAGE);
		area->ours = true;
	}
	area->head_ = (void *)base;
	area->words = (void *)(base + AREA_PAGE);
	area->tables = base + AREA_PAGE + words_bytes(frames);
	area->frames = area->tables + 2 * label->slot_bytes;
	area->count = frames;
	area->table_bytes = label->slot_bytes;
	area->bytes = bytes;
	return 0;
}

void mf_area_detach(struct mf_area *area)
{
	free(area->owner);
	free(area->index);
	if (area->ours)
		free(area->head_);
	memset(area, 0, sizeof(*area));
}

static bool head_matches(const struct mf_area *area, const struct label *label)
{
	const struct mf_area_head *h = area->head_;

	return !memcmp(h->magic, AREA_MAGIC, sizeof(h->magic)) && h->version == AREA_VERSION &&
	       h->crc == head_crc(h) && h->bytes == area->bytes && h->frames == area->count &&
	       h->table_bytes == area->table_bytes && !memcmp(h->pool_uuid, label->pool_uuid, 16);
}

int mf_area_take(struct mf_area *area, const struct label *label, uint64_t start,
		 struct metafs_table *out)
{
	struct mf_area_head *h = area->head_;
	uint64_t serial;
	int err;

	if (!head_matches(area, label) || !atomic_load(&h->valid))
		return -ENOENT;
	serial = atomic_load(&h->table_serial);
	area->head = atomic_load(&h->head);
	area->tail = atomic_load(&h->tail);
	if (!serial || area->tail > area->head || area->head - area->tail > area->count)
		return -EBADMSG;
	err = metafs_table_decode(area->tables + (serial & 1) * area->table_bytes, area->table_bytes,
				  out);
	if (err)
		return err == -ENOENT ? -EBADMSG : err;
	/* One more: killed while it raised the start counter, before the devices had it. */
	if ((out->start == start || out->start == start + 1) &&
	    !memcmp(out->pool_uuid, label->pool_uuid, 16))
		return 0;
	metafs_table_free(out);
	area->head = area->tail = 0;
	return -ENOENT;
}

static uint64_t table_mark(const void *raw, size_t len)
{
	return (uint64_t)crc32c(0, raw, len) + 1;
}

void mf_area_writes(struct mf_area *area, const void *raw, size_t len)
{
	struct mf_area_head *h = area->head_;

	atomic_store(&h->written[0], atomic_load(&h->written[1]));
	atomic_store(&h->written[1], table_mark(raw, len));
}

void mf_area_found(struct mf_area *area, const void *raw, size_t len)
{
	atomic_store(&area->head_->written[1], table_mark(raw, len));
}

bool mf_area_wrote(const struct mf_area *area, const struct label *label, const void *raw, size_t len)
{
	const uint64_t mark = table_mark(raw, len);

	return head_matches(area, label) && (atomic_load(&area->head_->written[0]) == mark ||
					     atomic_load(&area->head_->written[1]) == mark);
}

void mf_area_reset(struct mf_area *area, const struct label *label, uint32_t life)
{
	struct mf_area_head *h = area->head_;

	atomic_store(&h->valid, 0);
	memcpy(h->magic, AREA_MAGIC, sizeof(h->magic));
	h->version = AREA_VERSION;
	h->bytes = area->bytes;
	h->table_bytes = area->table_bytes;
	h->frames = area->count;
	h->life = life;
	memcpy(h->pool_uuid, label->pool_uuid, 16);
	h->crc = head_crc(h);
	atomic_store(&h->head, 0);
	atomic_store(&h->tail, 0);
	atomic_store(&h->table_serial, 0);
	area->head = area->tail = 0;
}

uint32_t mf_area_life(const struct mf_area *area)
{
	return area->head_->life;
}

void mf_area_publish(struct mf_area *area, const struct metafs_table *table)
{
	struct mf_area_head *h = area->head_;
	uint64_t serial = atomic_load(&h->table_serial) + 1;
	size_t len;

	/* That it fits was checked when it grew. */
	if (!metafs_table_encode(table, area->tables + (serial & 1) * area->table_bytes,
				 area->table_bytes, &len))
		atomic_store(&h->table_serial, serial);
	atomic_store(&h->valid, 1);
}

/* ---- Frames ---- */

static _Atomic uint64_t *word_of(const struct mf_area *area, uint64_t pos)
{
	return &area->words[pos % area->count];
}

uint16_t mf_frame_used(const struct mf_area *area, uint64_t pos)
{
	return (uint16_t)(atomic_load(word_of(area, pos)) & WORD_USED);
}

bool mf_frame_noted(const struct mf_area *area, uint64_t pos)
{
	return atomic_load(word_of(area, pos)) & WORD_NOTED;
}

int mf_frame_open(struct mf_area *area, struct mf_node *owner, uint32_t index, uint64_t *pos)
{
	struct metafs_log_block_disk *frame = mf_frame(area, area->head);

	if (area->head - area->tail == area->count)
		return -EAGAIN;
	*pos = area->head;
	atomic_store(word_of(area, *pos), 0);
	memset(frame, 0, offsetof(struct metafs_log_block_disk, payload));
	frame->file_id = htole64(owner->id);
	frame->log_number = htole64(owner->log_number);
	frame->index = htole32(index);
	mf_frame_adopt(area, *pos, owner);
	atomic_store(word_of(area, *pos), WORD_VALID);
	atomic_store(&area->head_->head, ++area->head);
	return 0;
}

void mf_frame_add(struct mf_area *area, uint64_t pos, const void *data, size_t len)
{
	uint64_t word = atomic_load(word_of(area, pos));
	uint32_t used = word & WORD_USED, crc = (uint32_t)(word >> 32);
	uint8_t *to = mf_frame(area, pos)->payload + used;

	memcpy(to, data, len);
	crc = crc32c(crc, to, len);
	word = (uint64_t)crc << 32 | WORD_VALID | (used + len);
	atomic_store_explicit(word_of(area, pos), word, memory_order_release);
}

void mf_frame_note(struct mf_area *area, uint64_t pos)
{
	atomic_fetch_or(word_of(area, pos), WORD_NOTED);
}

bool mf_frame_sound(const struct mf_area *area, uint64_t pos)
{
	const struct metafs_log_block_disk *frame = mf_frame(area, pos);
	uint64_t word = atomic_load(word_of(area, pos));
	uint32_t used = word & WORD_USED;
	struct metafs_log_block block;

	if (!(word & WORD_VALID) || used > METAFS_LOG_PAYLOAD)
		return false;
	if (word & WORD_NOTED)
		return !metafs_log_block_decode(frame, &block) && block.used == used;
	return crc32c(0, frame->payload, used) == (uint32_t)(word >> 32);
}

uint64_t mf_frame_find(const struct mf_area *area, const struct mf_node *owner, uint32_t index)
{
	for (uint64_t pos = area->tail; pos < area->head; pos++)
		if (area->owner[pos % area->count] == owner &&
		    area->index[pos % area->count] == index)
			return pos;
	return MF_NO_FRAME;
}

void mf_frame_adopt(struct mf_area *area, uint64_t pos, struct mf_node *owner)
{
	area->owner[pos % area->count] = owner;
	area->index[pos % area->count] = le32toh(mf_frame(area, pos)->index);
}

void mf_area_disown(struct mf_area *area, const struct mf_node *owner)
{
	for (uint64_t pos = area->tail; pos < area->head; pos++)
		if (area->owner[pos % area->count] == owner)
			area->owner[pos % area->count] = NULL;
}

void mf_area_release(struct mf_area *area, uint64_t tail)
{
	area->tail = tail;
	atomic_store(&area->head_->tail, tail);
}
