/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encoding, decoding and validation. A decoder checks, in this order: the length up to the fixed part,
 * type and version, the length as a whole, then, by the validator, what the fields say. Nothing is
 * read that was not checked to be there, and no number from the bytes is used as a length before it
 * was compared with what there is.
 *
 * Flags and kinds that this version does not know are refused: what they mean for the rest of the
 * record is not known either. Reserved bytes are ignored.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/records_internal.h"

#define NSEC_PER_SEC 1000000000u

const uint8_t whiteout_value[WHITEOUT_LEN] = { REC_WHITEOUT };

static struct rec_time time_get(const struct disk_time *d)
{
	return (struct rec_time){ (int64_t)get_le64(&d->sec), get_le32(&d->nsec) };
}

static void time_put(struct disk_time *d, struct rec_time t)
{
	put_le64(&d->sec, (uint64_t)t.sec);
	put_le32(&d->nsec, t.nsec);
}

static bool time_valid(struct rec_time t)
{
	return t.nsec < NSEC_PER_SEC;
}

/* ---- ns: inode ---- */

static bool file_type_valid(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

static int inode_dir_validate(const struct inode_rec *rec)
{
	const uint64_t most = rec->entries > UINT64_MAX / 512 ? 0 : rec->entries;

	if (!S_ISDIR(rec->mode)) {
		VALID(rec->entries == 0 && rec->entry_bytes == 0 && rec->max_probe == 0);
		VALID(!(rec->flags & INODE_DEFAULT_ACL));
		return 0;
	}
	VALID(rec->parent != 0);
	VALID(most == rec->entries);
	VALID(rec->entry_bytes >= most * (DIRENT_CHARGE_BYTES + 1));
	VALID(rec->entry_bytes <= most * (DIRENT_CHARGE_BYTES + NAME_BYTES_MAX));
	return 0;
}

int inode_rec_validate(const struct inode_rec *rec)
{
	VALID(!(rec->flags & ~(INODE_DEFAULT_ACL | INODE_ACCESS_ACL | INODE_CAPABILITY)));
	VALID(!(rec->mode & ~(uint32_t)(S_IFMT | 07777)) && file_type_valid(rec->mode));
	VALID(rec->parent <= INO_MAX);
	VALID(rec->rdev == 0 || S_ISCHR(rec->mode) || S_ISBLK(rec->mode));
	if (S_ISLNK(rec->mode)) {
		VALID(rec->target_len >= 1 && rec->target_len <= TARGET_BYTES_MAX);
		VALID(!memchr(rec->target, 0, rec->target_len));
	} else {
		VALID(rec->target_len == 0);
	}
	VALID(time_valid(rec->atime) && time_valid(rec->mtime));
	VALID(time_valid(rec->ctime) && time_valid(rec->btime));
	return inode_dir_validate(rec);
}

int inode_rec_decode(const void *data, size_t len, struct inode_rec *out)
{
	const struct disk_inode *d = data;

	VALID(head_is(data, len, REC_INODE, sizeof(*d)));
	VALID(len == sizeof(*d) + get_le16(&d->target_len));
	*out = (struct inode_rec){
		.flags = get_le16(&d->flags),
		.max_probe = d->max_probe,
		.target_len = get_le16(&d->target_len),
		.mode = get_le32(&d->mode),
		.uid = get_le32(&d->uid),
		.gid = get_le32(&d->gid),
		.nlink = get_le32(&d->nlink),
		.rdev = get_le32(&d->rdev),
		.xattr_bytes = get_le32(&d->xattr_bytes),
		.parent = get_le64(&d->parent),
		.entries = get_le64(&d->entries),
		.entry_bytes = get_le64(&d->entry_bytes),
		.atime = time_get(&d->atime),
		.mtime = time_get(&d->mtime),
		.ctime = time_get(&d->ctime),
		.btime = time_get(&d->btime),
		.target = (const char *)d->target,
	};
	return inode_rec_validate(out);
}

size_t inode_rec_bytes(const struct inode_rec *rec)
{
	return sizeof(struct disk_inode) + rec->target_len;
}

size_t inode_rec_encode(const struct inode_rec *rec, void *buf)
{
	struct disk_inode *d = buf;

	assert(inode_rec_validate(rec) == 0);
	head_put(buf, REC_INODE, sizeof(*d));
	put_le16(&d->flags, rec->flags);
	put_le32(&d->mode, rec->mode);
	put_le32(&d->uid, rec->uid);
	put_le32(&d->gid, rec->gid);
	put_le32(&d->nlink, rec->nlink);
	put_le32(&d->rdev, rec->rdev);
	put_le64(&d->parent, rec->parent);
	put_le64(&d->entries, rec->entries);
	put_le64(&d->entry_bytes, rec->entry_bytes);
	put_le32(&d->xattr_bytes, rec->xattr_bytes);
	d->max_probe = rec->max_probe;
	put_le16(&d->target_len, rec->target_len);
	time_put(&d->atime, rec->atime);
	time_put(&d->mtime, rec->mtime);
	time_put(&d->ctime, rec->ctime);
	time_put(&d->btime, rec->btime);
	copy_bytes(d->target, rec->target, rec->target_len);
	return inode_rec_bytes(rec);
}

/* ---- ns: size ---- */

int size_rec_validate(const struct size_rec *rec)
{
	VALID(rec->size <= (uint64_t)FILE_BYTES_MAX);
	VALID(rec->blocks <= (CHUNK_LAST + 1) * CHUNK_BLOCKS);
	VALID(time_valid(rec->mtime) && time_valid(rec->ctime));
	if (!rec->is_inline) {
		VALID(rec->inline_len == 0 && rec->inline_crc == 0);
		return 0;
	}
	/* Only what a cut still has to drop may be counted beside the inline data. */
	VALID(rec->blocks == 0 || rec->has_cuts);
	VALID(rec->inline_len >= 1 && rec->inline_len <= INLINE_BYTES_MAX);
	VALID(rec->inline_len <= rec->size);
	return 0;
}

int size_rec_decode(const void *data, size_t len, struct size_rec *out)
{
	const struct disk_size *d = data;

	VALID(head_is(data, len, REC_SIZE, sizeof(*d)));
	VALID(!(d->flags & ~(DISK_SIZE_INLINE | DISK_SIZE_CUTS)));
	VALID(len == sizeof(*d) + get_le16(&d->inline_len));
	*out = (struct size_rec){
		.is_inline = d->flags & DISK_SIZE_INLINE,
		.has_cuts = d->flags & DISK_SIZE_CUTS,
		.inline_len = get_le16(&d->inline_len),
		.inline_crc = get_le32(&d->inline_crc),
		.size = get_le64(&d->size),
		.mtime = time_get(&d->mtime),
		.ctime = time_get(&d->ctime),
		.blocks = get_le64(&d->blocks),
		.absorbed = get_le64(&d->absorbed),
		.data = d->data,
	};
	return size_rec_validate(out);
}

size_t size_rec_bytes(const struct size_rec *rec)
{
	return sizeof(struct disk_size) + rec->inline_len;
}

size_t size_rec_encode(const struct size_rec *rec, void *buf)
{
	struct disk_size *d = buf;

	assert(size_rec_validate(rec) == 0);
	head_put(buf, REC_SIZE, sizeof(*d));
	d->flags = (rec->is_inline ? DISK_SIZE_INLINE : 0) | (rec->has_cuts ? DISK_SIZE_CUTS : 0);
	put_le32(&d->inline_crc, rec->inline_crc);
	put_le64(&d->size, rec->size);
	time_put(&d->mtime, rec->mtime);
	time_put(&d->ctime, rec->ctime);
	put_le64(&d->blocks, rec->blocks);
	put_le64(&d->absorbed, rec->absorbed);
	put_le16(&d->inline_len, rec->inline_len);
	copy_bytes(d->data, rec->data, rec->inline_len);
	return size_rec_bytes(rec);
}

/* ---- ns: directory entry ---- */

int dirent_name_validate(const char *name, size_t len)
{
	VALID(len >= 1 && len <= NAME_BYTES_MAX);
	VALID(!memchr(name, 0, len) && !memchr(name, '/', len));
	VALID(!(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))));
	return 0;
}

int dirent_rec_validate(const struct dirent_rec *rec)
{
	VALID(rec->file_type <= S_IFMT >> 12 && file_type_valid((uint32_t)rec->file_type << 12));
	VALID(rec->ino > INO_ROOT && rec->ino <= INO_MAX);
	return dirent_name_validate(rec->name, rec->name_len);
}

int dirent_rec_decode(const void *data, size_t len, struct dirent_rec *out)
{
	const struct disk_dirent *d = data;

	VALID(head_is(data, len, REC_DIRENT, sizeof(*d)));
	VALID(len == sizeof(*d) + d->name_len);
	*out = (struct dirent_rec){
		.file_type = d->file_type,
		.name_len = d->name_len,
		.ino = get_le64(&d->ino),
		.name = (const char *)d->name,
	};
	return dirent_rec_validate(out);
}

size_t dirent_rec_encode(const struct dirent_rec *rec, void *buf)
{
	struct disk_dirent *d = buf;

	assert(dirent_rec_validate(rec) == 0);
	head_put(buf, REC_DIRENT, sizeof(*d));
	d->file_type = rec->file_type;
	d->name_len = rec->name_len;
	put_le64(&d->ino, rec->ino);
	memcpy(d->name, rec->name, rec->name_len);
	return sizeof(*d) + rec->name_len;
}

/* ---- ns: xattr, orphan, cut ---- */

int xattr_rec_validate(const struct xattr_rec *rec)
{
	VALID(rec->len <= XATTR_BYTES_MAX);
	return 0;
}

int xattr_rec_decode(const void *data, size_t len, struct xattr_rec *out)
{
	const struct disk_xattr *d = data;

	VALID(head_is(data, len, REC_XATTR, sizeof(*d)));
	VALID(len - sizeof(*d) <= XATTR_BYTES_MAX);
	*out = (struct xattr_rec){ .len = len - sizeof(*d), .value = d->value };
	return xattr_rec_validate(out);
}

size_t xattr_rec_encode(const struct xattr_rec *rec, void *buf)
{
	struct disk_xattr *d = buf;

	assert(xattr_rec_validate(rec) == 0);
	head_put(buf, REC_XATTR, sizeof(*d));
	copy_bytes(d->value, rec->value, rec->len);
	return sizeof(*d) + rec->len;
}

int orphan_rec_validate(const struct orphan_rec *rec)
{
	VALID(rec->state <= ORPHAN_REAPING);
	return 0;
}

int orphan_rec_decode(const void *data, size_t len, struct orphan_rec *out)
{
	const struct disk_orphan *d = data;

	VALID(head_is(data, len, REC_ORPHAN, sizeof(*d)) && len == sizeof(*d));
	*out = (struct orphan_rec){ .state = d->state };
	return orphan_rec_validate(out);
}

size_t orphan_rec_encode(const struct orphan_rec *rec, void *buf)
{
	struct disk_orphan *d = buf;

	assert(orphan_rec_validate(rec) == 0);
	head_put(buf, REC_ORPHAN, sizeof(*d));
	d->state = rec->state;
	return sizeof(*d);
}

int cut_rec_validate(const struct cut_rec *rec)
{
	VALID(rec->first_chunk < rec->end_chunk);
	VALID(rec->end_chunk == CUT_TO_END || rec->end_chunk <= CHUNK_LAST + 1);
	VALID(rec->first_chunk <= CHUNK_LAST);
	return 0;
}

int cut_rec_decode(const void *data, size_t len, struct cut_rec *out)
{
	const struct disk_cut *d = data;

	VALID(head_is(data, len, REC_CUT, sizeof(*d)) && len == sizeof(*d));
	*out = (struct cut_rec){
		.first_chunk = get_le64(&d->first_chunk),
		.end_chunk = get_le64(&d->end_chunk),
	};
	return cut_rec_validate(out);
}

size_t cut_rec_encode(const struct cut_rec *rec, void *buf)
{
	struct disk_cut *d = buf;

	assert(cut_rec_validate(rec) == 0);
	head_put(buf, REC_CUT, sizeof(*d));
	put_le64(&d->first_chunk, rec->first_chunk);
	put_le64(&d->end_chunk, rec->end_chunk);
	return sizeof(*d);
}

/* ---- map ---- */

static int run_compressed_validate(const struct map_run *run)
{
	VALID(!(run->flags & (RUN_UNWRITTEN | RUN_NO_CHECKSUM)));
	VALID(run->raw_blocks <= CHUNK_BLOCKS);
	VALID(run->skip + run->count <= run->raw_blocks);
	VALID(run->stored_blocks >= 1 && run->stored_blocks < run->raw_blocks);
	VALID(run->stored_bytes > (run->stored_blocks - 1) * NVFS_BLOCK_SIZE);
	VALID(run->stored_bytes <= run->stored_blocks * NVFS_BLOCK_SIZE);
	return 0;
}

int map_run_validate(const struct map_run *run)
{
	VALID(!(run->flags &
		~(RUN_INHERITED | RUN_COMPRESSED | RUN_UNWRITTEN | RUN_NO_CHECKSUM)));
	VALID(run->count >= 1 && run->block + run->count <= (int)CHUNK_BLOCKS);
	VALID(run->address <= UINT64_MAX / NVFS_BLOCK_SIZE - CHUNK_BLOCKS);
	if (run->flags & RUN_COMPRESSED)
		return run_compressed_validate(run);
	VALID(run->skip == 0 && run->stored_bytes == 0);
	if (run->flags & RUN_UNWRITTEN) {
		VALID(!(run->flags & RUN_NO_CHECKSUM));
		VALID(run->raw_blocks == 0 && run->stored_blocks == 0);
		VALID(run->vdev == 0 && run->address == 0);
	} else {
		VALID(run->raw_blocks == run->count && run->stored_blocks == run->count);
	}
	return 0;
}

/*
 * The runs that name one compressed extent map at least as many blocks as it has: what a file maps
 * then never takes less from its quota than from the pool. They agree on what the extent is.
 */
static int extent_shares_validate(const struct map_rec *rec, const struct map_run *run)
{
	unsigned mapped = 0;

	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *other = &rec->runs[i];

		if (!(other->flags & RUN_COMPRESSED) || other->vdev != run->vdev ||
		    other->address != run->address)
			continue;
		VALID(other->stored_bytes == run->stored_bytes);
		VALID(other->raw_blocks == run->raw_blocks);
		mapped += other->count;
	}
	VALID(mapped >= run->stored_blocks);
	return 0;
}

int map_rec_validate(const struct map_rec *rec)
{
	unsigned end = 0;

	VALID(rec->nruns <= MAP_RUNS_MAX);
	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];

		VALID(run->block >= end);
		if (map_run_validate(run) < 0)
			return -EBADMSG;
		end = run->block + run->count;
	}
	for (unsigned i = 0; i < rec->nruns; i++)
		if ((rec->runs[i].flags & RUN_COMPRESSED) &&
		    extent_shares_validate(rec, &rec->runs[i]) < 0)
			return -EBADMSG;
	return 0;
}

static void run_get(const struct disk_run *d, struct map_run *run)
{
	*run = (struct map_run){
		.block = d->block,
		.count = d->count,
		.flags = d->flags,
		.skip = d->skip,
		.raw_blocks = d->raw_blocks,
		.stored_blocks = d->stored_blocks,
		.vdev = get_le16(&d->vdev),
		.stored_bytes = get_le32(&d->stored_bytes),
		.address = get_le64(&d->address),
	};
}

static void run_put(struct disk_run *d, const struct map_run *run)
{
	d->block = run->block;
	d->count = run->count;
	d->flags = run->flags;
	d->skip = run->skip;
	d->raw_blocks = run->raw_blocks;
	d->stored_blocks = run->stored_blocks;
	put_le16(&d->vdev, run->vdev);
	put_le64(&d->address, run->address);
	put_le32(&d->stored_bytes, run->stored_bytes);
	put_le32(&d->reserved, 0);
}

size_t map_rec_bytes(const struct map_rec *rec)
{
	return sizeof(struct disk_map) + rec->nruns * sizeof(struct disk_run) +
	       map_crc_index(rec, rec->nruns) * sizeof(le32_t);
}

int map_rec_decode(const void *data, size_t len, struct map_rec *out)
{
	const struct disk_map *d = data;
	const struct disk_run *runs = (const struct disk_run *)(d + 1);
	const uint8_t *crcs;
	unsigned n;

	VALID(head_is(data, len, REC_MAP, sizeof(*d)));
	out->seq = get_le64(&d->sequence);
	out->nruns = get_le16(&d->nruns);
	VALID(out->nruns <= MAP_RUNS_MAX);
	VALID(len >= sizeof(*d) + out->nruns * sizeof(*runs));
	for (unsigned i = 0; i < out->nruns; i++)
		run_get(&runs[i], &out->runs[i]);
	/* Only valid runs have no more checksums than there is room for. */
	if (map_rec_validate(out) < 0)
		return -EBADMSG;
	VALID(len == map_rec_bytes(out));
	crcs = (const uint8_t *)(runs + out->nruns);
	n = map_crc_index(out, out->nruns);
	for (unsigned i = 0; i < n; i++)
		out->crcs[i] = get_le32(crcs + i * sizeof(le32_t));
	return 0;
}

size_t map_rec_encode(const struct map_rec *rec, void *buf)
{
	struct disk_map *d = buf;
	struct disk_run *runs = (struct disk_run *)(d + 1);
	const unsigned n = map_crc_index(rec, rec->nruns);
	uint8_t *crcs = (uint8_t *)(runs + rec->nruns);

	assert(map_rec_validate(rec) == 0);
	head_put(buf, REC_MAP, sizeof(*d));
	put_le16(&d->nruns, rec->nruns);
	put_le64(&d->sequence, rec->seq);
	for (unsigned i = 0; i < rec->nruns; i++)
		run_put(&runs[i], &rec->runs[i]);
	for (unsigned i = 0; i < n; i++)
		put_le32(crcs + i * sizeof(le32_t), rec->crcs[i]);
	return map_rec_bytes(rec);
}

struct map_run map_run_slice(const struct map_run *run, unsigned from, unsigned count)
{
	struct map_run slice = *run;

	assert(count >= 1 && from + count <= run->count);
	slice.block += from;
	slice.count = count;
	if (run->flags & RUN_COMPRESSED) {
		slice.skip += from;
	} else if (map_run_stored(run)) {
		slice.address += from;
		slice.raw_blocks = count;
		slice.stored_blocks = count;
	}
	return slice;
}

int map_rec_find(const struct map_rec *rec, unsigned block)
{
	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];

		if (block < run->block)
			return -1;
		if (block < (unsigned)run->block + run->count)
			return (int)i;
	}
	return -1;
}

unsigned map_rec_blocks(const struct map_rec *rec)
{
	unsigned n = 0;

	for (unsigned i = 0; i < rec->nruns; i++)
		n += rec->runs[i].count;
	return n;
}

unsigned map_rec_own_blocks(const struct map_rec *rec)
{
	unsigned n = 0;

	for (unsigned i = 0; i < rec->nruns; i++)
		if (!(rec->runs[i].flags & RUN_INHERITED))
			n += rec->runs[i].count;
	return n;
}

/* ---- space ---- */

int space_rec_decode(const void *data, size_t len, struct space_rec *out)
{
	const uint8_t *bytes = data;
	uint32_t end = 0;
	int32_t holders = 0;

	VALID(len >= sizeof(struct disk_space));
	VALID(bytes[0] == REC_SPACE || bytes[0] == REC_SPACE_OPERAND);
	VALID(bytes[1] == REC_VERSION);
	len -= sizeof(struct disk_space);
	VALID(len % sizeof(struct disk_span) == 0);
	VALID(len / sizeof(struct disk_span) <= UINT16_MAX + 1u);
	*out = (struct space_rec){
		.operand = bytes[0] == REC_SPACE_OPERAND,
		.nspans = len / sizeof(struct disk_span),
		.spans = bytes + sizeof(struct disk_space),
	};
	for (uint32_t i = 0; i < out->nspans; i++) {
		const struct space_span span = space_rec_span(out, i);

		VALID(span.holders != 0);
		VALID(span.first > end || (span.first == end && span.holders != holders));
		end = span.first + span.blocks;
		VALID(end <= UINT16_MAX + 1u);
		holders = span.holders;
	}
	return 0;
}

size_t space_rec_encode(bool operand, const struct space_span *spans, uint32_t nspans, void *buf)
{
	struct disk_span *d = (struct disk_span *)((struct disk_space *)buf + 1);

	head_put(buf, operand ? REC_SPACE_OPERAND : REC_SPACE, sizeof(struct disk_space));
	for (uint32_t i = 0; i < nspans; i++) {
		put_le16(&d[i].first, spans[i].first);
		put_le16(&d[i].blocks_minus_1, spans[i].blocks - 1);
		put_le32(&d[i].holders, (uint32_t)spans[i].holders);
	}
	return space_rec_size(nspans);
}

/* ---- sys ---- */

int object_name_validate(const char *name, size_t len)
{
	VALID(len >= 1 && len <= NAME_BYTES_MAX);
	VALID(name[0] != '.' && name[0] != '-');
	for (size_t i = 0; i < len; i++) {
		const char c = name[i];

		VALID((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-');
	}
	return 0;
}

int pool_rec_validate(const struct pool_rec *rec)
{
	VALID(rec->next_subvol && rec->next_tree && rec->next_node && rec->next_tenant);
	VALID(rec->next_session);
	VALID(rec->headroom_blocks <= UINT64_MAX / NVFS_BLOCK_SIZE);
	VALID(rec->overcommit_percent >= 100);
	return 0;
}

int pool_rec_decode(const void *data, size_t len, struct pool_rec *out)
{
	const struct disk_pool *d = data;

	VALID(head_is(data, len, REC_POOL, sizeof(*d)) && len == sizeof(*d));
	*out = (struct pool_rec){
		.next_subvol = get_le32(&d->next_subvol),
		.next_tree = get_le32(&d->next_tree),
		.next_node = get_le32(&d->next_node),
		.next_tenant = get_le32(&d->next_tenant),
		.overcommit_percent = get_le32(&d->overcommit_percent),
		.headroom_blocks = get_le64(&d->headroom_blocks),
		.next_session = get_le32(&d->next_session),
	};
	return pool_rec_validate(out);
}

size_t pool_rec_encode(const struct pool_rec *rec, void *buf)
{
	struct disk_pool *d = buf;

	assert(pool_rec_validate(rec) == 0);
	head_put(buf, REC_POOL, sizeof(*d));
	put_le32(&d->next_subvol, rec->next_subvol);
	put_le32(&d->next_tree, rec->next_tree);
	put_le32(&d->next_node, rec->next_node);
	put_le32(&d->next_tenant, rec->next_tenant);
	put_le32(&d->overcommit_percent, rec->overcommit_percent);
	put_le64(&d->headroom_blocks, rec->headroom_blocks);
	put_le32(&d->next_session, rec->next_session);
	return sizeof(*d);
}

int subvol_rec_validate(const struct subvol_rec *rec)
{
	VALID(!(rec->flags & ~(SUBVOL_RESERVED | SUBVOL_INPLACE | SUBVOL_DELETING)));
	VALID(rec->compression <= COMPRESSION_LZ4);
	VALID(rec->tree && rec->tenant && rec->incarnation);
	VALID(rec->node || (rec->flags & SUBVOL_DELETING));
	VALID(rec->size_blocks <= UINT64_MAX / NVFS_BLOCK_SIZE);
	VALID(rates_are_valid(&rec->rates));
	return object_name_validate(rec->name, rec->name_len);
}

int subvol_rec_decode(const void *data, size_t len, struct subvol_rec *out)
{
	const struct disk_subvol *d = data;

	VALID(head_is(data, len, REC_SUBVOL, sizeof(*d)));
	VALID(len == sizeof(*d) + d->name_len);
	*out = (struct subvol_rec){
		.flags = get_le16(&d->flags),
		.compression = d->compression,
		.name_len = d->name_len,
		.tree = get_le32(&d->tree),
		.node = get_le32(&d->node),
		.tenant = get_le32(&d->tenant),
		.incarnation = get_le32(&d->incarnation),
		.size_blocks = get_le64(&d->size_blocks),
		.inodes_max = get_le64(&d->inodes_max),
		.created_ns = (int64_t)get_le64(&d->created_ns),
		.rates = {
			.read_iops = get_le64(&d->read_iops),
			.write_iops = get_le64(&d->write_iops),
			.read_bytes_per_s = get_le64(&d->read_bytes_per_s),
			.write_bytes_per_s = get_le64(&d->write_bytes_per_s),
		},
		.name = (const char *)d->name,
	};
	return subvol_rec_validate(out);
}

size_t subvol_rec_encode(const struct subvol_rec *rec, void *buf)
{
	struct disk_subvol *d = buf;

	assert(subvol_rec_validate(rec) == 0);
	head_put(buf, REC_SUBVOL, sizeof(*d));
	put_le16(&d->flags, rec->flags);
	put_le32(&d->tree, rec->tree);
	put_le32(&d->node, rec->node);
	put_le32(&d->tenant, rec->tenant);
	put_le64(&d->size_blocks, rec->size_blocks);
	put_le64(&d->inodes_max, rec->inodes_max);
	put_le32(&d->incarnation, rec->incarnation);
	d->compression = rec->compression;
	d->name_len = rec->name_len;
	put_le64(&d->created_ns, (uint64_t)rec->created_ns);
	put_le64(&d->read_iops, rec->rates.read_iops);
	put_le64(&d->write_iops, rec->rates.write_iops);
	put_le64(&d->read_bytes_per_s, rec->rates.read_bytes_per_s);
	put_le64(&d->write_bytes_per_s, rec->rates.write_bytes_per_s);
	memcpy(d->name, rec->name, rec->name_len);
	return sizeof(*d) + rec->name_len;
}

int index_rec_decode(const void *data, size_t len, uint8_t type, uint32_t *id)
{
	const struct disk_index *d = data;

	VALID(head_is(data, len, type, sizeof(*d)) && len == sizeof(*d));
	*id = get_le32(&d->id);
	VALID(*id);
	return 0;
}

size_t index_rec_encode(uint8_t type, uint32_t id, void *buf)
{
	struct disk_index *d = buf;

	assert(id && (type == REC_SUBVOL_NAME || type == REC_TENANT_NAME));
	head_put(buf, type, sizeof(*d));
	put_le32(&d->id, id);
	return sizeof(*d);
}

int tree_rec_decode(const void *data, size_t len, uint64_t *next_ino)
{
	const struct disk_tree *d = data;

	VALID(head_is(data, len, REC_TREE, sizeof(*d)) && len == sizeof(*d));
	*next_ino = get_le64(&d->next_ino);
	VALID(*next_ino > INO_ROOT && *next_ino <= INO_MAX + 1);
	return 0;
}

size_t tree_rec_encode(uint64_t next_ino, void *buf)
{
	struct disk_tree *d = buf;

	assert(next_ino > INO_ROOT && next_ino <= INO_MAX + 1);
	head_put(buf, REC_TREE, sizeof(*d));
	put_le64(&d->next_ino, next_ino);
	return sizeof(*d);
}

int node_rec_validate(const struct node_rec *rec)
{
	VALID(rec->state >= NODE_LIVE && rec->state <= NODE_SWEEP);
	VALID(rec->sweep_family <= SWEEP_NS && rec->sweep_ino <= INO_MAX);
	VALID(rec->first_ino >= INO_ROOT && rec->first_ino <= INO_MAX + 1);
	VALID(rec->size_blocks <= UINT64_MAX / NVFS_BLOCK_SIZE);
	VALID(rec->tenant);
	if (rec->name_len)
		return object_name_validate(rec->name, rec->name_len);
	VALID(rec->state != NODE_SNAPSHOT);
	return 0;
}

int node_rec_decode(const void *data, size_t len, struct node_rec *out)
{
	const struct disk_node *d = data;

	VALID(head_is(data, len, REC_NODE, sizeof(*d)));
	VALID(len == sizeof(*d) + d->name_len);
	*out = (struct node_rec){
		.state = d->state,
		.name_len = d->name_len,
		.parent = get_le32(&d->parent),
		.subvol = get_le32(&d->subvol),
		.tenant = get_le32(&d->tenant),
		.created_ns = (int64_t)get_le64(&d->created_ns),
		.first_ino = get_le64(&d->first_ino),
		.size_blocks = get_le64(&d->size_blocks),
		.inodes_max = get_le64(&d->inodes_max),
		.group = get_le32(&d->group),
		.view = get_le16(&d->view),
		.sweep_family = d->sweep_family,
		.sweep_ino = get_le64(&d->sweep_ino),
		.sweep_position = get_le64(&d->sweep_position),
		.name = (const char *)d->name,
	};
	return node_rec_validate(out);
}

size_t node_rec_encode(const struct node_rec *rec, void *buf)
{
	struct disk_node *d = buf;

	assert(node_rec_validate(rec) == 0);
	head_put(buf, REC_NODE, sizeof(*d));
	d->state = rec->state;
	d->name_len = rec->name_len;
	put_le32(&d->parent, rec->parent);
	put_le32(&d->subvol, rec->subvol);
	put_le32(&d->tenant, rec->tenant);
	put_le64(&d->created_ns, (uint64_t)rec->created_ns);
	put_le64(&d->first_ino, rec->first_ino);
	put_le64(&d->size_blocks, rec->size_blocks);
	put_le64(&d->inodes_max, rec->inodes_max);
	put_le32(&d->group, rec->group);
	put_le16(&d->view, rec->view);
	d->sweep_family = rec->sweep_family;
	put_le64(&d->sweep_ino, rec->sweep_ino);
	put_le64(&d->sweep_position, rec->sweep_position);
	copy_bytes(d->name, rec->name, rec->name_len);
	return sizeof(*d) + rec->name_len;
}

static int counters_get(const void *data, size_t len, uint8_t type, struct counters_rec *out)
{
	const struct disk_counters *d = data;

	VALID(head_is(data, len, type, sizeof(*d)) && len == sizeof(*d));
	*out = (struct counters_rec){
		.born = (int64_t)get_le64(&d->born),
		.referenced = (int64_t)get_le64(&d->referenced),
		.meta = (int64_t)get_le64(&d->meta),
		.inodes = (int64_t)get_le64(&d->inodes),
		.meta_born = (int64_t)get_le64(&d->meta_born),
		.inodes_born = (int64_t)get_le64(&d->inodes_born),
		.unwritten = (int64_t)get_le64(&d->unwritten),
	};
	return 0;
}

static size_t counters_put(const struct counters_rec *rec, uint8_t type, void *buf)
{
	struct disk_counters *d = buf;

	head_put(buf, type, sizeof(*d));
	put_le64(&d->born, (uint64_t)rec->born);
	put_le64(&d->referenced, (uint64_t)rec->referenced);
	put_le64(&d->meta, (uint64_t)rec->meta);
	put_le64(&d->inodes, (uint64_t)rec->inodes);
	put_le64(&d->meta_born, (uint64_t)rec->meta_born);
	put_le64(&d->inodes_born, (uint64_t)rec->inodes_born);
	put_le64(&d->unwritten, (uint64_t)rec->unwritten);
	return sizeof(*d);
}

int counters_rec_decode(const void *data, size_t len, struct counters_rec *out)
{
	return counters_get(data, len, REC_COUNTERS, out);
}

int counters_rec_decode_operand(const void *data, size_t len, struct counters_rec *out)
{
	return counters_get(data, len, REC_COUNTERS_OPERAND, out);
}

size_t counters_rec_encode(const struct counters_rec *rec, void *buf)
{
	return counters_put(rec, REC_COUNTERS, buf);
}

size_t counters_rec_encode_operand(const struct counters_rec *rec, void *buf)
{
	return counters_put(rec, REC_COUNTERS_OPERAND, buf);
}

#define ERRNO_MAX 4095

int result_rec_validate(const struct result_rec *rec)
{
	VALID(rec->error <= 0 && rec->error >= -ERRNO_MAX);
	return 0;
}

int result_rec_decode(const void *data, size_t len, struct result_rec *out)
{
	const struct disk_result *d = data;

	VALID(head_is(data, len, REC_RESULT, sizeof(*d)));
	VALID(len == sizeof(*d) + get_le16(&d->length));
	*out = (struct result_rec){
		.length = get_le16(&d->length),
		.error = (int32_t)get_le32(&d->error),
		.unique = get_le64(&d->unique),
		.sequence = get_le64(&d->sequence),
		.reply = d->reply,
	};
	return result_rec_validate(out);
}

size_t result_rec_encode(const struct result_rec *rec, void *buf)
{
	struct disk_result *d = buf;

	assert(result_rec_validate(rec) == 0);
	head_put(buf, REC_RESULT, sizeof(*d));
	put_le16(&d->length, rec->length);
	put_le64(&d->unique, rec->unique);
	put_le64(&d->sequence, rec->sequence);
	put_le32(&d->error, (uint32_t)rec->error);
	copy_bytes(d->reply, rec->reply, rec->length);
	return sizeof(*d) + rec->length;
}
