/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/metafs_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/crc.h"

#define FILES_MAX (1u << 20)
#define RANGES_MAX 4096u
#define SPARES_MAX 64u

static size_t pad8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

size_t metafs_table_file_bytes(unsigned extents, size_t name_len)
{
	return sizeof(struct metafs_file_disk) + extents * sizeof(struct metafs_extent_disk) +
	       pad8(name_len);
}

/* Files are aligned to 8 bytes from the start of the table. */
static size_t files_offset(unsigned ranges)
{
	return pad8(sizeof(struct metafs_table_disk) + ranges * sizeof(struct metafs_range_disk));
}

size_t metafs_table_length(const struct metafs_table *table)
{
	size_t len = files_offset(table->ranges);

	for (unsigned i = 0; i < table->files; i++)
		len += metafs_table_file_bytes(table->file[i].extents, table->file[i].name_len);
	return len;
}

static uint32_t table_crc(const void *buf, size_t len)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	size_t at = offsetof(struct metafs_table_disk, crc);
	uint32_t crc = crc32c(0, p, at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, p + at + 4, len - at - 4);
}

static uint8_t *encode_file(const struct metafs_table_file *f, uint8_t *at)
{
	struct metafs_file_disk *d = (void *)at;
	struct metafs_extent_disk *e = (void *)(at + sizeof(*d));

	memset(d, 0, sizeof(*d));
	d->id = htole64(f->id);
	d->size = htole64(f->size);
	d->mtime_ns = htole64((uint64_t)f->mtime_ns);
	d->log_number = htole64(f->log_number);
	d->kind = (uint8_t)f->kind;
	d->flags = f->frozen ? METAFS_FILE_FROZEN : 0;
	d->name_len = htole16((uint16_t)f->name_len);
	d->extents = htole32(f->extents);
	d->blocks = htole64(f->blocks);
	for (unsigned i = 0; i < f->extents; i++, e++) {
		e->block = htole64(f->extent[i].block);
		e->blocks = htole32(f->extent[i].blocks);
		e->vdev = htole16(f->extent[i].vdev);
		e->reserved = 0;
	}
	memset(e, 0, pad8(f->name_len));
	memcpy(e, f->name, f->name_len);
	return (uint8_t *)e + pad8(f->name_len);
}

int metafs_table_encode(const struct metafs_table *t, void *buf, size_t max, size_t *len)
{
	struct metafs_table_disk *d = buf;
	struct metafs_range_disk *r = (void *)(d + 1);
	size_t total = metafs_table_length(t), whole = (total + 4095) & ~(size_t)4095;
	uint8_t *at = (uint8_t *)buf + files_offset(t->ranges);

	if (whole > max || total > UINT32_MAX)
		return -ENOSPC;
	memset(d, 0, files_offset(t->ranges));
	memcpy(d->magic, METAFS_TABLE_MAGIC, sizeof(d->magic));
	d->length = htole32((uint32_t)total);
	d->generation = htole64(t->generation);
	memcpy(d->pool_uuid, t->pool_uuid, 16);
	d->members_stale = htole64(t->members_stale);
	d->next_file_id = htole64(t->next_file_id);
	d->wal_seq_next = htole64(t->wal_seq_next);
	d->ranges = htole32(t->ranges);
	d->files = htole32(t->files);
	d->start = htole64(t->start);
	for (unsigned i = 0; i < t->ranges; i++) {
		r[i].vdev = htole16(t->range[i].vdev);
		r[i].first = htole32(t->range[i].first);
		r[i].count = htole32(t->range[i].count);
	}
	for (unsigned i = 0; i < t->files; i++)
		at = encode_file(&t->file[i], at);
	memset(at, 0, whole - total);
	d->crc = htole32(table_crc(buf, total));
	*len = total;
	return 0;
}

/* ---- Decoding ---- */

/* First pass: every file's size is checked before anything is believed. */
static int measure(const uint8_t *at, const uint8_t *end, unsigned files, size_t *extents,
		   size_t *names)
{
	for (unsigned i = 0; i < files; i++) {
		const struct metafs_file_disk *d = (const void *)at;
		size_t left = (size_t)(end - at), n, name;

		if (left < sizeof(*d))
			return -EBADMSG;
		n = le32toh(d->extents);
		name = le16toh(d->name_len);
		if (!name || name > METAFS_NAME_MAX || n > left / sizeof(struct metafs_extent_disk) ||
		    metafs_table_file_bytes((unsigned)n, name) > left)
			return -EBADMSG;
		*extents += n;
		*names += name + 1;
		at += metafs_table_file_bytes((unsigned)n, name);
	}
	return at == end ? 0 : -EBADMSG;
}

bool metafs_name_valid(const char *name, size_t len)
{
	if (!len || len > METAFS_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
			return false;
	return true;
}

static bool file_possible(const struct metafs_table_file *f)
{
	uint64_t bytes = 0;
	bool spare = f->name_len >= 6 && !memcmp(f->name, METAFS_SPARE_PREFIX, 6);

	for (unsigned i = 0; i < f->extents; i++) {
		if (!f->extent[i].blocks || f->extent[i].block > UINT64_MAX / 8192)
			return false;
		bytes += (uint64_t)f->extent[i].blocks * NVFS_BLOCK_SIZE;
	}
	if (!metafs_name_valid(f->name, f->name_len))
		return false;
	if (f->kind == METAFS_PLAIN)
		return !f->frozen && !f->blocks && !f->log_number && f->size <= bytes;
	if (f->kind != METAFS_WAL && f->kind != METAFS_LOG)
		return false;
	if (!f->log_number && !(f->kind == METAFS_WAL && spare))
		return false;
	if (!f->frozen)
		return !f->size && !f->blocks;
	return f->blocks <= bytes / METAFS_LOG_BLOCK_BYTES && f->blocks <= UINT32_MAX &&
	       f->size >= f->blocks && f->size <= f->blocks * METAFS_LOG_PAYLOAD;
}

static const uint8_t *decode_file(const uint8_t *at, struct metafs_table_file *f,
				  struct metafs_extent *extent, char *name)
{
	const struct metafs_file_disk *d = (const void *)at;
	const struct metafs_extent_disk *e = (const void *)(at + sizeof(*d));

	f->id = le64toh(d->id);
	f->size = le64toh(d->size);
	f->mtime_ns = (int64_t)le64toh(d->mtime_ns);
	f->log_number = le64toh(d->log_number);
	f->kind = (enum metafs_kind)d->kind;
	f->frozen = d->flags & METAFS_FILE_FROZEN;
	f->blocks = le64toh(d->blocks);
	f->extents = le32toh(d->extents);
	f->extent = extent;
	f->name_len = le16toh(d->name_len);
	f->name = name;
	for (unsigned i = 0; i < f->extents; i++) {
		extent[i].block = le64toh(e[i].block);
		extent[i].blocks = le32toh(e[i].blocks);
		extent[i].vdev = le16toh(e[i].vdev);
	}
	memcpy(name, e + f->extents, f->name_len);
	name[f->name_len] = 0;
	return at + metafs_table_file_bytes(f->extents, f->name_len);
}

static int decode_body(const struct metafs_table_disk *d, size_t len, struct metafs_table *t)
{
	const uint8_t *at = (const uint8_t *)d + files_offset(t->ranges);
	const struct metafs_range_disk *r = (const void *)(d + 1);
	size_t extents = 0, names = 0;
	struct metafs_extent *extent;
	char *name;

	if (files_offset(t->ranges) > len ||
	    measure(at, (const uint8_t *)d + len, t->files, &extents, &names))
		return -EBADMSG;
	t->range = calloc(t->ranges + 1, sizeof(*t->range));
	t->file = calloc(t->files + 1, sizeof(*t->file));
	t->store = malloc(extents * sizeof(*extent) + names + 1);
	if (!t->range || !t->file || !t->store)
		return -ENOMEM;
	for (unsigned i = 0; i < t->ranges; i++) {
		t->range[i].vdev = le16toh(r[i].vdev);
		t->range[i].first = le32toh(r[i].first);
		t->range[i].count = le32toh(r[i].count);
	}
	extent = t->store;
	name = (char *)(extent + extents);
	for (unsigned i = 0; i < t->files; i++) {
		struct metafs_table_file *f = &t->file[i];

		at = decode_file(at, f, extent, name);
		if (!file_possible(f) || f->id >= t->next_file_id)
			return -EBADMSG;
		extent += f->extents;
		name += f->name_len + 1;
	}
	return 0;
}

int metafs_table_decode(const void *buf, size_t len, struct metafs_table *out)
{
	const struct metafs_table_disk *d = buf;
	size_t length;
	int err;

	memset(out, 0, sizeof(*out));
	if (len < sizeof(*d) || memcmp(d->magic, METAFS_TABLE_MAGIC, sizeof(d->magic)))
		return -ENOENT;
	length = le32toh(d->length);
	if (length < sizeof(*d) || length > len || le32toh(d->crc) != table_crc(buf, length))
		return -EBADMSG;
	out->generation = le64toh(d->generation);
	memcpy(out->pool_uuid, d->pool_uuid, 16);
	out->members_stale = le64toh(d->members_stale);
	out->next_file_id = le64toh(d->next_file_id);
	out->wal_seq_next = le64toh(d->wal_seq_next);
	out->start = le64toh(d->start);
	out->ranges = le32toh(d->ranges);
	out->files = le32toh(d->files);
	if (out->ranges > RANGES_MAX || out->files > FILES_MAX ||
	    out->files > length / sizeof(struct metafs_file_disk))
		return -EBADMSG;
	err = decode_body(d, length, out);
	if (err)
		metafs_table_free(out);
	return err;
}

void metafs_table_free(struct metafs_table *table)
{
	free(table->range);
	free(table->file);
	free(table->store);
	table->range = NULL;
	table->file = NULL;
	table->store = NULL;
	table->ranges = table->files = 0;
}

/* ---- Validation against the labels ---- */

struct span {
	uint16_t vdev;
	uint64_t first, end;
	const struct metafs_table_file *file;
};

static int span_order(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	if (x->vdev != y->vdev)
		return x->vdev < y->vdev ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static int check_ranges(const struct metafs_table *t, const struct label *labels, char *why,
			size_t len)
{
	for (unsigned i = 0; i < t->ranges; i++) {
		const struct metafs_range *r = &t->range[i];

		if (r->vdev >= labels[0].device_count || !r->count ||
		    (uint64_t)r->first + r->count > labels[0].devices[r->vdev].zones) {
			snprintf(why, len, "zones %" PRIu32 "+%" PRIu32 " of vdev %u do not exist",
				 r->first, r->count, r->vdev);
			return -EBADMSG;
		}
		for (unsigned j = 0; j < i; j++)
			if (t->range[j].vdev == r->vdev && t->range[j].first < r->first + r->count &&
			    r->first < t->range[j].first + t->range[j].count) {
				snprintf(why, len, "zone ranges %u and %u overlap", j, i);
				return -EBADMSG;
			}
	}
	return 0;
}

static bool in_ranges(const struct metafs_table *t, const struct label *labels, const struct span *s)
{
	for (unsigned i = 0; i < t->ranges; i++) {
		const struct metafs_range *r = &t->range[i];
		const struct label *l = &labels[r->vdev];
		uint64_t first = label_zone_block(l, r->first);

		/* A missing member has no label: its own zones cannot be checked. */
		if (r->vdev == s->vdev && (!l->zone_bytes ||
		    (s->first >= first && s->end <= first + (uint64_t)r->count * label_zone_blocks(l))))
			return true;
	}
	return false;
}

static size_t collect_spans(const struct metafs_table *t, struct span *spans)
{
	size_t n = 0;

	for (unsigned i = 0; i < t->files; i++)
		for (unsigned j = 0; j < t->file[i].extents; j++) {
			const struct metafs_extent *e = &t->file[i].extent[j];

			spans[n++] = (struct span){ e->vdev, e->block, e->block + e->blocks,
						    &t->file[i] };
		}
	return n;
}

static int check_spans(const struct metafs_table *t, const struct label *labels, char *why,
		       size_t len)
{
	size_t total = 1, n;
	struct span *spans;
	int err = 0;

	for (unsigned i = 0; i < t->files; i++)
		total += t->file[i].extents;
	spans = calloc(total, sizeof(*spans));
	if (!spans)
		return -ENOMEM;
	n = collect_spans(t, spans);
	qsort(spans, n, sizeof(*spans), span_order);
	for (size_t i = 0; i < n && !err; i++) {
		const struct span *s = &spans[i];

		if (!in_ranges(t, labels, s)) {
			snprintf(why, len, "%s lies outside of the zones of metafs", s->file->name);
			err = -EBADMSG;
		} else if (i && s[-1].vdev == s->vdev && s[-1].end > s->first) {
			snprintf(why, len, "%s and %s overlap", s[-1].file->name, s->file->name);
			err = -EBADMSG;
		}
	}
	free(spans);
	return err;
}

static int name_order(const void *a, const void *b)
{
	const struct metafs_table_file *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int id_order(const void *a, const void *b)
{
	const struct metafs_table_file *const *x = a, *const *y = b;

	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static int check_spares(const struct metafs_table *t, char *why, size_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->files; i++)
		n += t->file[i].kind == METAFS_WAL && !t->file[i].log_number;
	if (n <= SPARES_MAX)
		return 0;
	snprintf(why, len, "%u spare logs", n);
	return -EBADMSG;
}

static int check_unique(const struct metafs_table *t, char *why, size_t len)
{
	const struct metafs_table_file **sorted = calloc(t->files + 1, sizeof(*sorted));
	int err = 0;

	if (!sorted)
		return -ENOMEM;
	for (unsigned i = 0; i < t->files; i++)
		sorted[i] = &t->file[i];
	qsort(sorted, t->files, sizeof(*sorted), name_order);
	for (unsigned i = 1; i < t->files; i++)
		if (!strcmp(sorted[i - 1]->name, sorted[i]->name))
			err = -EBADMSG;
	qsort(sorted, t->files, sizeof(*sorted), id_order);
	for (unsigned i = 1; i < t->files; i++)
		if (sorted[i - 1]->id == sorted[i]->id)
			err = -EBADMSG;
	if (err)
		snprintf(why, len, "two files have the same name or id");
	free(sorted);
	return err;
}

/*
 * Every number begins with the start that gave it. One from a start to come would be given again: a generation that
 * stays the newest for ever, a file id that two files have.
 */
static int check_numbers(const struct metafs_table *t, char *why, size_t len)
{
	if (t->generation >> 40 <= t->start && t->next_file_id >> 40 <= t->start &&
	    t->wal_seq_next >> 40 <= t->start)
		return 0;
	snprintf(why, len, "its numbers are of a later start than %" PRIu64, t->start);
	return -EBADMSG;
}

int metafs_table_validate(const struct metafs_table *table, const struct label *labels, char *why,
			  size_t why_len)
{
	int err = check_numbers(table, why, why_len);

	if (!err)
		err = check_spares(table, why, why_len);
	if (!err)
		err = check_ranges(table, labels, why, why_len);
	if (!err)
		err = check_unique(table, why, why_len);
	return err ? err : check_spans(table, labels, why, why_len);
}

static void print_file(FILE *out, const struct metafs_table_file *f)
{
	static const char *const kinds[] = { "?", "plain", "wal", "log" };

	fprintf(out, "  file %#" PRIx64 " %s: %s%s, %" PRIu64 " bytes", f->id, f->name,
		kinds[f->kind > METAFS_LOG ? 0 : f->kind], f->frozen ? ", frozen" : "", f->size);
	if (f->kind != METAFS_PLAIN)
		fprintf(out, ", log number %" PRIu64 ", %" PRIu64 " blocks", f->log_number, f->blocks);
	for (unsigned i = 0; i < f->extents; i++)
		fprintf(out, "%s%u:%" PRIu64 "+%" PRIu32, i ? " " : ", at ", f->extent[i].vdev,
			f->extent[i].block, f->extent[i].blocks);
	fprintf(out, "\n");
}

void metafs_table_print(FILE *out, const struct metafs_table *t)
{
	fprintf(out, "metafs table, generation %" PRIu64 ".%" PRIu64 ", start %" PRIu64 "\n",
		t->generation >> 40, t->generation & ((UINT64_C(1) << 40) - 1), t->start);
	fprintf(out, "  members out of date %#" PRIx64 ", next file %#" PRIx64
		", next WAL sequence %#" PRIx64 "\n", t->members_stale, t->next_file_id, t->wal_seq_next);
	for (unsigned i = 0; i < t->ranges; i++)
		fprintf(out, "  zones %" PRIu32 "+%" PRIu32 " of vdev %u\n", t->range[i].first,
			t->range[i].count, t->range[i].vdev);
	for (unsigned i = 0; i < t->files; i++)
		print_file(out, &t->file[i]);
}

/* ---- Log blocks ---- */

static uint32_t block_crc(const void *buf)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	size_t at = offsetof(struct metafs_log_block_disk, crc);
	uint32_t crc = crc32c(0, p, at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, p + at + 4, METAFS_LOG_BLOCK_BYTES - at - 4);
}

void metafs_log_block_encode(const struct metafs_log_block *block, void *buf)
{
	struct metafs_log_block_disk *d = buf;

	memcpy(d->magic, METAFS_LOG_MAGIC, sizeof(d->magic));
	d->file_id = htole64(block->file_id);
	d->log_number = htole64(block->log_number);
	d->sequence = htole64(block->sequence);
	d->index = htole32(block->index);
	d->used = htole16(block->used);
	d->reserved = 0;
	d->flushed = htole64(block->flushed);
	memcpy(d->pool, block->pool, sizeof(d->pool));
	memset(d->payload + block->used, 0, METAFS_LOG_PAYLOAD - block->used);
	d->crc = htole32(block_crc(buf));
}

int metafs_log_block_decode(const void *buf, struct metafs_log_block *out)
{
	const struct metafs_log_block_disk *d = buf;

	if (memcmp(d->magic, METAFS_LOG_MAGIC, sizeof(d->magic)))
		return -ENOENT;
	out->file_id = le64toh(d->file_id);
	out->log_number = le64toh(d->log_number);
	out->sequence = le64toh(d->sequence);
	out->index = le32toh(d->index);
	out->used = le16toh(d->used);
	out->flushed = le64toh(d->flushed);
	memcpy(out->pool, d->pool, sizeof(out->pool));
	if (!out->used || out->used > METAFS_LOG_PAYLOAD || le32toh(d->crc) != block_crc(buf))
		return -EBADMSG;
	return 0;
}

void metafs_log_block_print(FILE *out, const struct metafs_log_block *b)
{
	fprintf(out, "log block %" PRIu32 " of file %#" PRIx64 ", log number %" PRIu64
		", sequence %#" PRIx64 ", flushed %#" PRIx64 ", %u bytes\n", b->index, b->file_id,
		b->log_number, b->sequence, b->flushed, b->used);
}
