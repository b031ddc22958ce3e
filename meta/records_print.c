/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records for people: one line each, with names instead of numbers where there are any. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

#include "meta/records.h"

void name_print(FILE *f, const char *name, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++) {
		const unsigned char c = name[i];

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void hex_print(FILE *f, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	const size_t shown = len > 64 ? 64 : len;

	for (size_t i = 0; i < shown; i++)
		fprintf(f, "%02x", bytes[i]);
	if (shown < len)
		fprintf(f, "... (%zu bytes)", len);
}

/* ISO 8601 in UTC, or the number where the calendar ends. */
static void time_print(FILE *f, const char *label, struct rec_time t)
{
	const time_t sec = t.sec;
	char text[64];
	struct tm tm;

	if (gmtime_r(&sec, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
		fprintf(f, " %s %s.%09" PRIu32 "Z", label, text, t.nsec);
	else
		fprintf(f, " %s %" PRId64 ".%09" PRIu32, label, t.sec, t.nsec);
}

static void time_ns_print(FILE *f, const char *label, int64_t ns)
{
	int64_t sec = ns / 1000000000;
	int64_t nsec = ns % 1000000000;

	if (nsec < 0) {
		nsec += 1000000000;
		sec--;
	}
	time_print(f, label, (struct rec_time){ sec, nsec });
}

/* The names of bits in the order of their values, "?" for those without one. */
static void flags_print(FILE *f, unsigned flags, const char *const *names, unsigned n)
{
	for (unsigned bit = 0; flags; bit++, flags >>= 1)
		if (flags & 1)
			fprintf(f, " %s", bit < n ? names[bit] : "?");
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *file_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "file";
	case S_IFDIR: return "directory";
	case S_IFLNK: return "symlink";
	case S_IFCHR: return "char device";
	case S_IFBLK: return "block device";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	default: return "no type";
	}
}

/* ---- ns ---- */

void inode_rec_print(FILE *f, const struct inode_rec *rec)
{
	static const char *const flags[] = { "default-acl", "access-acl", "capability" };

	fprintf(f, "%s mode %04" PRIo32 " uid %" PRIu32 " gid %" PRIu32 " nlink %" PRIu32
		   " parent %" PRIu64,
		file_type_name(rec->mode), rec->mode & 07777, rec->uid, rec->gid, rec->nlink,
		rec->parent);
	if (S_ISDIR(rec->mode))
		fprintf(f, " entries %" PRIu64 " entry-bytes %" PRIu64 " max-probe %u", rec->entries,
			rec->entry_bytes, rec->max_probe);
	if (S_ISCHR(rec->mode) || S_ISBLK(rec->mode))
		fprintf(f, " rdev 0x%" PRIx32, rec->rdev);
	if (rec->xattr_bytes)
		fprintf(f, " xattr-bytes %" PRIu32, rec->xattr_bytes);
	flags_print(f, rec->flags, flags, COUNT(flags));
	time_print(f, "atime", rec->atime);
	time_print(f, "mtime", rec->mtime);
	time_print(f, "ctime", rec->ctime);
	time_print(f, "btime", rec->btime);
	if (rec->target_len) {
		fputs(" target ", f);
		name_print(f, rec->target, rec->target_len);
	}
}

void size_rec_print(FILE *f, const struct size_rec *rec)
{
	fprintf(f, "size %" PRIu64 " blocks %" PRIu64 " absorbed 0x%" PRIx64, rec->size, rec->blocks,
		rec->absorbed);
	time_print(f, "mtime", rec->mtime);
	time_print(f, "ctime", rec->ctime);
	if (rec->has_cuts)
		fputs(" has-cuts", f);
	if (!rec->is_inline)
		return;
	fprintf(f, " inline %u crc %08" PRIx32 " ", rec->inline_len, rec->inline_crc);
	hex_print(f, rec->data, rec->inline_len);
}

void dirent_rec_print(FILE *f, const struct dirent_rec *rec)
{
	name_print(f, rec->name, rec->name_len);
	fprintf(f, " -> %s %" PRIu64, file_type_name((uint32_t)rec->file_type << 12), rec->ino);
}

void xattr_rec_print(FILE *f, const struct xattr_rec *rec)
{
	fprintf(f, "%" PRIu32 " bytes ", rec->len);
	hex_print(f, rec->value, rec->len);
}

void orphan_rec_print(FILE *f, const struct orphan_rec *rec)
{
	fputs(rec->state == ORPHAN_REAPING ? "being reaped" : "unlinked", f);
}

void cut_rec_print(FILE *f, const struct cut_rec *rec)
{
	fprintf(f, "chunks %" PRIu64, rec->first_chunk);
	if (rec->end_chunk == CUT_TO_END)
		fputs(" to the end", f);
	else
		fprintf(f, " to %" PRIu64, rec->end_chunk - 1);
}

/* ---- map ---- */

void map_run_print(FILE *f, const struct map_run *run)
{
	static const char *const flags[] = { "inherited", "compressed", "unwritten", "no-checksum" };

	fprintf(f, "%u+%u", run->block, run->count);
	if (map_run_stored(run))
		fprintf(f, " @%u:%" PRIu64, run->vdev, run->address);
	flags_print(f, run->flags, flags, COUNT(flags));
	if (run->flags & RUN_COMPRESSED)
		fprintf(f, " (%u of %u skip %u, %" PRIu32 " bytes in %u)", run->count,
			run->raw_blocks, run->skip, run->stored_bytes, run->stored_blocks);
}

void map_rec_print(FILE *f, const struct map_rec *rec)
{
	unsigned crc = 0;

	fprintf(f, "sequence 0x%" PRIx64, rec->seq);
	if (!rec->nruns)
		fputs(" empty", f);
	for (unsigned i = 0; i < rec->nruns; i++) {
		const unsigned n = map_run_ncrcs(&rec->runs[i]);

		fputs(" [", f);
		map_run_print(f, &rec->runs[i]);
		for (unsigned c = 0; c < n; c++)
			fprintf(f, "%s%08" PRIx32, c ? "," : " crc ", rec->crcs[crc++]);
		fputc(']', f);
	}
}

/* ---- space ---- */

void space_rec_print(FILE *f, const struct space_rec *rec)
{
	fprintf(f, "%s", rec->operand ? "operand" : "holders");
	if (!rec->nspans)
		fputs(" none", f);
	for (uint32_t i = 0; i < rec->nspans; i++) {
		const struct space_span span = space_rec_span(rec, i);

		fprintf(f, " %u+%" PRIu32 ":%" PRId32, span.first, span.blocks, span.holders);
	}
}

/* ---- sys ---- */

void pool_rec_print(FILE *f, const struct pool_rec *rec)
{
	fprintf(f, "next subvolume %" PRIu32 " tree %" PRIu32 " node %" PRIu32 " tenant %" PRIu32
		   " session %" PRIu32 " overcommit %" PRIu32 "%% headroom %" PRIu64 " blocks",
		rec->next_subvol, rec->next_tree, rec->next_node, rec->next_tenant,
		rec->next_session, rec->overcommit_percent, rec->headroom_blocks);
}

static void rates_print(FILE *f, const struct rates *r)
{
	const uint64_t values[] = { r->read_iops, r->write_iops, r->read_bytes_per_s, r->write_bytes_per_s };
	static const char *const names[] = { "read-iops", "write-iops", "read-bytes/s", "write-bytes/s" };

	for (size_t i = 0; i < COUNT(names); i++)
		if (values[i])
			fprintf(f, " %s %" PRIu64, names[i], values[i]);
}

void subvol_rec_print(FILE *f, const struct subvol_rec *rec)
{
	static const char *const flags[] = { "reserved", "in-place", "deleting" };

	name_print(f, rec->name, rec->name_len);
	fprintf(f, " tree %" PRIu32 " node %" PRIu32 " tenant %" PRIu32 " incarnation %" PRIu32
		   " size %" PRIu64 " blocks inodes-max %" PRIu64 " compression %s",
		rec->tree, rec->node, rec->tenant, rec->incarnation, rec->size_blocks,
		rec->inodes_max, rec->compression == COMPRESSION_LZ4 ? "lz4" : "off");
	rates_print(f, &rec->rates);
	flags_print(f, rec->flags, flags, COUNT(flags));
	time_ns_print(f, "created", rec->created_ns);
}

void node_rec_print(FILE *f, const struct node_rec *rec)
{
	static const char *const states[] = { "?", "live", "snapshot", "interior", "to be swept" };

	fprintf(f, "%s", rec->state < COUNT(states) ? states[rec->state] : states[0]);
	if (rec->name_len) {
		fputc(' ', f);
		name_print(f, rec->name, rec->name_len);
	}
	fprintf(f, " parent %" PRIu32 " subvolume %" PRIu32 " tenant %" PRIu32, rec->parent,
		rec->subvol, rec->tenant);
	fprintf(f, " first-ino %" PRIu64, rec->first_ino);
	if (rec->state == NODE_SNAPSHOT)
		fprintf(f, " view %u size %" PRIu64 " blocks inodes-max %" PRIu64, rec->view,
			rec->size_blocks, rec->inodes_max);
	if (rec->group)
		fprintf(f, " group %" PRIu32, rec->group);
	if (rec->sweep_family)
		fprintf(f, " sweep at %s %" PRIu64 " %" PRIu64,
			rec->sweep_family == SWEEP_MAP ? "map" : "ns", rec->sweep_ino,
			rec->sweep_position);
	time_ns_print(f, "created", rec->created_ns);
}

void counters_rec_print(FILE *f, const struct counters_rec *rec)
{
	fprintf(f, "born %" PRId64 " referenced %" PRId64 " meta %" PRId64 " inodes %" PRId64
		   " meta-born %" PRId64 " inodes-born %" PRId64 " unwritten %" PRId64,
		rec->born, rec->referenced, rec->meta, rec->inodes, rec->meta_born,
		rec->inodes_born, rec->unwritten);
}

static void owners_print(FILE *f, const char *what, const uint32_t *ids, unsigned count)
{
	for (unsigned i = 0; i < count && i < TENANT_OWNERS_MAX; i++)
		fprintf(f, " owner-%s %" PRIu32, what, ids[i]);
}

void tenant_rec_print(FILE *f, const struct tenant_rec *rec)
{
	static const char *const names[] = {
		"used-blocks", "provisioned-blocks", "inodes", "subvolumes", "snapshots",
		"read-iops", "write-iops", "read-bytes/s", "write-bytes/s",
	};
	const struct tenant_settings *set = &rec->set;
	uint64_t limits[DISK_TENANT_LIMITS];

	_Static_assert(COUNT(names) == DISK_TENANT_LIMITS, "a name for each limit");
	memcpy(limits, &set->limits, sizeof(limits));
	name_print(f, rec->name, rec->name_len);
	for (unsigned i = 0; i < DISK_TENANT_LIMITS; i++)
		if (limits[i])
			fprintf(f, " %s %" PRIu64, names[i], limits[i]);
	if (set->soft_blocks)
		fprintf(f, " soft-blocks %" PRIu64 " grace-s %" PRIu32, set->soft_blocks, set->grace_s);
	if (rec->soft_since_ns)
		fprintf(f, " above-since %" PRId64, rec->soft_since_ns);
	if (set->default_size_blocks)
		fprintf(f, " default-size %" PRIu64 " blocks", set->default_size_blocks);
	if (set->default_inodes)
		fprintf(f, " default-inodes %" PRIu64, set->default_inodes);
	if (set->default_claim)
		fputs(set->default_claim == TENANT_CLAIM_THIN ? " default thin" : " default reserved", f);
	if (set->default_compression)
		fputs(set->default_compression == TENANT_COMPRESSION_LZ4 ? " default lz4" : " default uncompressed", f);
	owners_print(f, "uid", set->uids, set->uid_count);
	owners_print(f, "gid", set->gids, set->gid_count);
}

void result_rec_print(FILE *f, const struct result_rec *rec)
{
	fprintf(f, "request %" PRIu64 " sequence 0x%" PRIx64 " error %" PRId32 " reply %u ",
		rec->unique, rec->sequence, rec->error, rec->length);
	hex_print(f, rec->reply, rec->length);
}

/* ---- keys ---- */

void ns_key_print(FILE *f, const struct ns_key *key)
{
	fprintf(f, "tree %" PRIu32 " ", key->tree);
	switch (key->type) {
	case REC_INODE:
		fprintf(f, "inode %" PRIu64, key->ino);
		break;
	case REC_SIZE:
		fprintf(f, "size of %" PRIu64, key->ino);
		break;
	case REC_DIRENT:
		fprintf(f, "entry of %" PRIu64 " cookie %016" PRIx64, key->ino, key->cookie);
		break;
	case REC_XATTR:
		fprintf(f, "xattr of %" PRIu64 " ", key->ino);
		name_print(f, key->name, key->name_len);
		break;
	case REC_ORPHAN:
		fprintf(f, "orphan %" PRIu64, key->ino);
		break;
	default:
		fprintf(f, "cut of %" PRIu64 " sequence 0x%" PRIx64, key->ino, key->sequence);
		break;
	}
	fprintf(f, " node %" PRIu32, key->node);
}

void map_key_print(FILE *f, const struct map_key *key)
{
	fprintf(f, "tree %" PRIu32 " map of %" PRIu64 " chunk %" PRIu64 " node %" PRIu32, key->tree,
		key->ino, key->chunk, key->node);
}

void space_key_print(FILE *f, const struct space_key *key)
{
	fprintf(f, "vdev %u zone %" PRIu32, key->vdev, key->zone);
}

void sys_key_print(FILE *f, const struct sys_key *key)
{
	switch (key->type) {
	case REC_POOL:
		fputs("pool", f);
		break;
	case REC_SUBVOL:
		fprintf(f, "subvolume %" PRIu32, key->id);
		break;
	case REC_TREE:
		fprintf(f, "tree %" PRIu32, key->id);
		break;
	case REC_NODE:
		fprintf(f, "tree %" PRIu32 " node %" PRIu32, key->id, key->node);
		break;
	case REC_COUNTERS:
		fprintf(f, "counters of tree %" PRIu32 " node %" PRIu32, key->id, key->node);
		break;
	case REC_TENANT:
		fprintf(f, "tenant %" PRIu32, key->id);
		break;
	case REC_RESULT:
		fprintf(f, "result of session %" PRIu32 " slot %u", key->id, key->slot);
		break;
	default:
		fputs(key->type == REC_SUBVOL_NAME ? "subvolume " : "tenant ", f);
		name_print(f, key->name, key->name_len);
		break;
	}
}

/* ---- whole entries ---- */

/* Decode as `name` and print, in a switch over types. */
#define PRINT_AS(name)                                         \
	{                                                      \
		struct name##_rec rec;                         \
                                                               \
		if (name##_rec_decode(value, len, &rec) < 0)   \
			return -EBADMSG;                       \
		name##_rec_print(f, &rec);                     \
		return 0;                                      \
	}

static int ns_value_print(FILE *f, uint8_t type, const void *value, size_t len)
{
	if (is_whiteout(value, len)) {
		fputs("whiteout", f);
		return 0;
	}
	switch (type) {
	case REC_INODE: PRINT_AS(inode)
	case REC_SIZE: PRINT_AS(size)
	case REC_DIRENT: PRINT_AS(dirent)
	case REC_XATTR: PRINT_AS(xattr)
	case REC_CUT: PRINT_AS(cut)
	default: PRINT_AS(orphan)
	}
}

static int map_value_print(FILE *f, const void *value, size_t len)
{
	PRINT_AS(map)
}

static int space_value_print(FILE *f, const void *value, size_t len)
{
	PRINT_AS(space)
}

static int sys_value_print(FILE *f, uint8_t type, const void *value, size_t len)
{
	uint64_t next_ino;
	uint32_t id;

	switch (type) {
	case REC_POOL: PRINT_AS(pool)
	case REC_SUBVOL: PRINT_AS(subvol)
	case REC_NODE: PRINT_AS(node)
	case REC_COUNTERS: PRINT_AS(counters)
	case REC_TENANT: PRINT_AS(tenant)
	case REC_RESULT: PRINT_AS(result)
	case REC_TREE:
		if (tree_rec_decode(value, len, &next_ino) < 0)
			return -EBADMSG;
		fprintf(f, "next inode %" PRIu64, next_ino);
		return 0;
	default:
		if (index_rec_decode(value, len, type, &id) < 0)
			return -EBADMSG;
		fprintf(f, "is %" PRIu32, id);
		return 0;
	}
}

union any_key {
	struct ns_key ns;
	struct map_key map;
	struct space_key space;
	struct sys_key sys;
};

static int key_print(FILE *f, enum rec_family family, const void *key, size_t len,
		     union any_key *out)
{
	int err = -EBADMSG;

	switch (family) {
	case REC_FAMILY_NS:
		err = ns_key_parse(key, len, &out->ns);
		if (!err)
			ns_key_print(f, &out->ns);
		break;
	case REC_FAMILY_MAP:
		err = map_key_parse(key, len, &out->map);
		if (!err)
			map_key_print(f, &out->map);
		break;
	case REC_FAMILY_SPACE:
		err = space_key_parse(key, len, &out->space);
		if (!err)
			space_key_print(f, &out->space);
		break;
	case REC_FAMILY_SYS:
		err = sys_key_parse(key, len, &out->sys);
		if (!err)
			sys_key_print(f, &out->sys);
		break;
	}
	return err;
}

static int value_print(FILE *f, enum rec_family family, const union any_key *key, const void *value,
		       size_t len)
{
	switch (family) {
	case REC_FAMILY_NS:
		return ns_value_print(f, key->ns.type, value, len);
	case REC_FAMILY_MAP:
		return map_value_print(f, value, len);
	case REC_FAMILY_SPACE:
		return space_value_print(f, value, len);
	default:
		return sys_value_print(f, key->sys.type, value, len);
	}
}

int rec_print(FILE *f, enum rec_family family, const void *key, size_t key_len, const void *value,
	      size_t value_len)
{
	union any_key parsed;

	if (key_print(f, family, key, key_len, &parsed) < 0) {
		fputs("damaged key ", f);
		hex_print(f, key, key_len);
		fputs(": ", f);
		hex_print(f, value, value_len);
		return -EBADMSG;
	}
	fputs(": ", f);
	if (value_print(f, family, &parsed, value, value_len) == 0)
		return 0;
	fputs("damaged ", f);
	hex_print(f, value, value_len);
	return -EBADMSG;
}
