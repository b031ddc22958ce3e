/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "tests/unit/data_rig.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/mkfs.h"
#include "meta/subvol_internal.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define NEVER_MS (3600u * 1000)

/* ---- Pool ---- */

static void area_map(struct rig *rig, size_t bytes)
{
	rig->area_fd = memfd_create("area", MFD_CLOEXEC);
	ck_assert_int_ge(rig->area_fd, 0);
	ck_assert_int_eq(ftruncate(rig->area_fd, (off_t)bytes), 0);
	rig->area_bytes = bytes;
	rig->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, rig->area_fd, 0);
	ck_assert(rig->area != MAP_FAILED);
}

static void area_unmap(struct rig *rig)
{
	if (!rig->area)
		return;
	munmap(rig->area, rig->area_bytes);
	close(rig->area_fd);
	rig->area = NULL;
}

/* Only what was touched. */
static void area_copy(const struct rig *from, struct rig *to)
{
	off_t at = 0, end;

	area_map(to, from->area_bytes);
	while ((at = lseek(from->area_fd, at, SEEK_DATA)) >= 0) {
		end = lseek(from->area_fd, at, SEEK_HOLE);
		memcpy((uint8_t *)to->area + at, (uint8_t *)from->area + at, (size_t)(end - at));
		at = end;
	}
}

int rig_open(struct rig *rig)
{
	struct pool_options po = {
		.reactors = 1, .reactor = &rig->reactor,
		.dirty_bytes = rig->options.dirty_bytes ? rig->options.dirty_bytes : 8 * MIB,
		.map_cache_bytes = rig->options.map_cache_bytes,
		.cache_bytes = rig->options.cache_bytes,
		.commit_ms = rig->options.commit_ms ? rig->options.commit_ms : NEVER_MS,
	};
	struct reactor_options ro = { 0 };
	int r = reactor_create(&ro, &rig->reactor);

	ck_assert_int_eq(r, 0);
	if (rig->options.with_area && !rig->area)
		area_map(rig, pool_area_size(&po));
	po.area.base = rig->area;
	po.area.len_bytes = rig->area_bytes;
	r = pool_open(rig->dev, rig->devices, &po, &rig->pool);
	if (r) {
		reactor_destroy(rig->reactor);
		rig->reactor = NULL;
	}
	return r;
}

static void rig_open_subvol(struct rig *rig)
{
	ck_assert_int_eq(pool_session_new(rig->pool, &rig->session), 0);
	ck_assert_int_eq(subvol_open(rig->pool, "vol", false, &rig->sv), 0);
}

void rig_make(struct rig *rig, const struct rig_options *options)
{
	struct pool_create_options po = { .name = "tank" };
	struct subvol_options so = { 0 };
	char why[256] = "";

	memset(rig, 0, sizeof(*rig));
	if (options)
		rig->options = *options;
	rig->devices = rig->options.devices ? rig->options.devices : 1;
	for (unsigned i = 0; i < rig->devices; i++)
		ck_assert_int_eq(device_sim_create(rig->options.device_bytes ? rig->options.device_bytes : 128 * MIB,
						   NULL, &rig->dev[i]), 0);
	po.dirty_bytes = rig->options.dirty_bytes ? rig->options.dirty_bytes : 8 * MIB;
	ck_assert_msg(pool_create(rig->dev, rig->devices, &po, why, sizeof(why)) == 0, "%s", why);
	ck_assert_int_eq(rig_open(rig), 0);
	so.size_bytes = rig->options.size_bytes ? rig->options.size_bytes : 64 * MIB;
	so.compression = rig->options.compress;
	ck_assert_msg(subvol_create(rig->pool, "vol", &so, why, sizeof(why)) == 0, "%s", why);
	rig_open_subvol(rig);
}

int rig_close(struct rig *rig)
{
	int r = rig->sv ? subvol_close(rig->sv) : 0, r2 = pool_close(rig->pool);

	rig->sv = NULL;
	rig->pool = NULL;
	rig_turn(rig, 2);
	for (unsigned i = 0; i < rig->devices; i++)
		device_detach(rig->reactor, rig->dev[i]);
	reactor_destroy(rig->reactor);
	rig->reactor = NULL;
	return r ? r : r2;
}

void rig_reopen(struct rig *rig)
{
	ck_assert_int_eq(rig_close(rig), 0);
	ck_assert_int_eq(rig_open(rig), 0);
	rig_open_subvol(rig);
}

void rig_free(struct rig *rig)
{
	if (rig->pool)
		rig_close(rig);
	for (unsigned i = 0; i < rig->devices; i++)
		device_close(rig->dev[i]);
	area_unmap(rig);
	memset(rig, 0, sizeof(*rig));
}

/* Whether the area is still what was copied. */
static bool area_same(const struct rig *rig, const struct rig *copy)
{
	off_t at = 0, end;

	if (!rig->area)
		return true;
	while ((at = lseek(rig->area_fd, at, SEEK_DATA)) >= 0) {
		end = lseek(rig->area_fd, at, SEEK_HOLE);
		if (memcmp((uint8_t *)copy->area + at, (uint8_t *)rig->area + at, (size_t)(end - at)))
			return false;
		at = end;
	}
	return true;
}

/* A kill stops all at once. Here other threads go on while it is copied, so it is done again until nothing moved meanwhile. */
void rig_kill(struct rig *rig, struct rig *out)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		memset(out, 0, sizeof(*out));
		out->options = rig->options;
		out->devices = rig->devices;
		area_copy(rig, out);
		for (unsigned i = 0; i < rig->devices; i++)
			ck_assert_int_eq(sim_snapshot_current(rig->dev[i], &out->dev[i]), 0);
		if (area_same(rig, out))
			return;
		rig_free(out);
	}
	ck_abort_msg("the area never stands still");
}

void rig_cut(struct rig *rig, struct rig *out, uint64_t seed)
{
	memset(out, 0, sizeof(*out));
	out->options = rig->options;
	out->devices = rig->devices;
	for (unsigned i = 0; i < rig->devices; i++)
		ck_assert_int_eq(sim_snapshot_cut(rig->dev[i], seed * 7919 + i, &out->dev[i]), 0);
}

/* ---- Calls ---- */

static void call_run(struct op *op)
{
	struct rig_call *c = (struct rig_call *)((char *)op - offsetof(struct rig_call, op));
	ssize_t r = c->fn(c);

	if (r == META_WAIT)
		return;
	c->result = r;
	op_finish(op);
	c->done = true;
}

void rig_start(struct rig *rig, struct rig_call *c)
{
	if (!rig->sv)
		rig_open_subvol(rig);
	c->done = false;
	op_init(&c->op, rig->sv, call_run);
	c->op.session = rig->session;
	c->op.unique = ++rig->unique;
	call_run(&c->op);
}

ssize_t rig_wait(struct rig *rig, struct rig_call *c)
{
	while (!c->done)
		ck_assert_int_ge(reactor_run_once(rig->reactor, 10 * UINT64_C(1000000000)), 0);
	return c->result;
}

static ssize_t call(struct rig *rig, struct rig_call *c)
{
	rig_start(rig, c);
	return rig_wait(rig, c);
}

void rig_turn(struct rig *rig, unsigned iterations)
{
	while (iterations--)
		reactor_run_once(rig->reactor, 0);
}

static ssize_t do_write(struct rig_call *c)
{
	return data_write(&c->op, c->ino, c->offset, c->from, c->len, c->flags);
}

static ssize_t do_read(struct rig_call *c)
{
	struct iovec *iov;
	unsigned n;
	ssize_t r = data_read(&c->op, c->ino, c->offset, c->len, 0, &iov, &n);
	uint8_t *to = c->buf;

	for (unsigned i = 0; r > 0 && i < n; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	return r;
}

static ssize_t do_truncate(struct rig_call *c)
{
	return data_truncate(&c->op, c->ino, c->offset);
}

static ssize_t do_fallocate(struct rig_call *c)
{
	return data_fallocate(&c->op, c->ino, c->mode, c->offset, c->len);
}

static ssize_t do_seek(struct rig_call *c)
{
	return data_seek(&c->op, c->ino, c->offset, c->mode);
}

static ssize_t do_copy(struct rig_call *c)
{
	return data_copy_range(&c->op, c->ino, c->offset, c->ino2, c->offset2, c->len);
}

static ssize_t do_fsync(struct rig_call *c)
{
	return data_fsync(&c->op, c->ino, false);
}

static ssize_t do_sync(struct rig_call *c)
{
	return data_sync_all(&c->op);
}

static ssize_t do_create(struct rig_call *c)
{
	struct names_new new = { .mode = S_IFREG | 0644 };

	return names_create(&c->op, INO_ROOT, c->name, strlen(c->name), &new, &c->attr);
}

static ssize_t do_lookup(struct rig_call *c)
{
	return names_lookup(&c->op, INO_ROOT, c->name, strlen(c->name), &c->attr);
}

static ssize_t do_unlink(struct rig_call *c)
{
	return names_unlink(&c->op, INO_ROOT, c->name, strlen(c->name));
}

static ssize_t do_attr(struct rig_call *c)
{
	return attr_get(&c->op, c->ino, &c->attr);
}

void rig_start_write(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t offset, const void *buf, size_t len,
		     unsigned flags)
{
	c->fn = do_write;
	c->ino = ino;
	c->offset = offset;
	c->from = buf;
	c->len = len;
	c->flags = flags;
	rig_start(rig, c);
}

void rig_start_read(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t offset, void *buf, size_t len)
{
	c->fn = do_read;
	c->ino = ino;
	c->offset = offset;
	c->buf = buf;
	c->len = len;
	rig_start(rig, c);
}

void rig_start_fsync(struct rig *rig, struct rig_call *c, uint64_t ino)
{
	c->fn = do_fsync;
	c->ino = ino;
	rig_start(rig, c);
}

void rig_start_truncate(struct rig *rig, struct rig_call *c, uint64_t ino, uint64_t size)
{
	c->fn = do_truncate;
	c->ino = ino;
	c->offset = size;
	rig_start(rig, c);
}

void rig_start_fallocate(struct rig *rig, struct rig_call *c, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	c->fn = do_fallocate;
	c->ino = ino;
	c->mode = mode;
	c->offset = offset;
	c->len = len;
	rig_start(rig, c);
}

void rig_start_copy(struct rig *rig, struct rig_call *c, uint64_t in, uint64_t offset_in, uint64_t out,
		    uint64_t offset_out, size_t len)
{
	c->fn = do_copy;
	c->ino = in;
	c->offset = offset_in;
	c->ino2 = out;
	c->offset2 = offset_out;
	c->len = len;
	rig_start(rig, c);
}

ssize_t rig_write(struct rig *rig, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags)
{
	struct rig_call c = { 0 };

	rig_start_write(rig, &c, ino, offset, buf, len, flags);
	return rig_wait(rig, &c);
}

ssize_t rig_read(struct rig *rig, uint64_t ino, uint64_t offset, void *buf, size_t len)
{
	struct rig_call c = { 0 };

	rig_start_read(rig, &c, ino, offset, buf, len);
	return rig_wait(rig, &c);
}

int rig_truncate(struct rig *rig, uint64_t ino, uint64_t size)
{
	struct rig_call c = { .fn = do_truncate, .ino = ino, .offset = size };

	return (int)call(rig, &c);
}

int rig_fallocate(struct rig *rig, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct rig_call c = { .fn = do_fallocate, .ino = ino, .mode = mode, .offset = offset, .len = len };

	return (int)call(rig, &c);
}

int64_t rig_seek(struct rig *rig, uint64_t ino, uint64_t offset, int whence)
{
	struct rig_call c = { .fn = do_seek, .ino = ino, .offset = offset, .mode = whence };

	return call(rig, &c);
}

ssize_t rig_copy(struct rig *rig, uint64_t in, uint64_t offset_in, uint64_t out, uint64_t offset_out, size_t len)
{
	struct rig_call c = { .fn = do_copy, .ino = in, .offset = offset_in, .ino2 = out, .offset2 = offset_out,
			      .len = len };

	return call(rig, &c);
}

int rig_fsync(struct rig *rig, uint64_t ino)
{
	struct rig_call c = { .fn = do_fsync, .ino = ino };

	return (int)call(rig, &c);
}

int rig_sync(struct rig *rig)
{
	struct rig_call c = { .fn = do_sync };

	return (int)call(rig, &c);
}

uint64_t rig_create(struct rig *rig, const char *name)
{
	struct rig_call c = { .fn = do_create, .name = name };

	ck_assert_int_eq(call(rig, &c), 0);
	lookup_add(rig->sv, c.attr.ino, 1);
	return c.attr.ino;
}

uint64_t rig_lookup(struct rig *rig, const char *name)
{
	struct rig_call c = { .fn = do_lookup, .name = name };
	ssize_t r = call(rig, &c);

	if (r == -ENOENT)
		return 0;
	ck_assert_int_eq(r, 0);
	lookup_add(rig->sv, c.attr.ino, 1);
	return c.attr.ino;
}

void rig_unlink(struct rig *rig, const char *name)
{
	struct rig_call c = { .fn = do_unlink, .name = name };

	ck_assert_int_eq(call(rig, &c), 0);
}

void rig_forget(struct rig *rig, uint64_t ino)
{
	lookup_forget(rig->sv, ino, lookup_count(rig->sv, ino));
}

void rig_attr(struct rig *rig, uint64_t ino, struct inode_attr *out)
{
	struct rig_call c = { .fn = do_attr, .ino = ino };

	ck_assert_int_eq(call(rig, &c), 0);
	*out = c.attr;
}

uint64_t rig_used(struct rig *rig)
{
	struct subvol_stats stats;

	subvol_stats(rig->sv, &stats);
	return stats.used_blocks;
}

/* ---- What fsck would say ---- */

struct census {
	int64_t born, referenced, inline_files, unwritten;
	uint8_t *holders; /* by block of device 0 and 1 */
	uint64_t blocks;  /* of a device */
};

static void census_map(struct rig *rig, struct census *all)
{
	cleanup_db_iter struct db_iter *iter = db_iter_new(rig->pool->db, DB_MAP, NULL, 0, NULL, 0, 0);

	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter)) {
		size_t len;
		const void *value = db_iter_value(iter, &len);
		struct map_rec rec;

		ck_assert_int_eq(map_rec_decode(value, len, &rec), 0);
		ck_assert_uint_gt(rec.nruns, 0);
		all->born += map_rec_own_blocks(&rec);
		for (unsigned i = 0; i < rec.nruns; i++) {
			if (!map_run_stored(&rec.runs[i]))
				all->unwritten += rec.runs[i].count;
			for (unsigned b = 0; b < rec.runs[i].stored_blocks; b++)
				all->holders[rec.runs[i].vdev * all->blocks + rec.runs[i].address + b]++;
		}
	}
	ck_assert_int_eq(db_iter_error(iter), 0);
}

static void census_sizes(struct rig *rig, struct census *all)
{
	cleanup_db_iter struct db_iter *iter = db_iter_new(rig->pool->db, DB_NS, NULL, 0, NULL, 0, 0);

	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter)) {
		size_t key_len, len;
		const void *key = db_iter_key(iter, &key_len);
		const void *value = db_iter_value(iter, &len);
		struct ns_key ns;
		struct size_rec rec;

		ck_assert_int_eq(ns_key_parse(key, key_len, &ns), 0);
		if (ns.type != REC_SIZE)
			continue;
		ck_assert_int_eq(size_rec_decode(value, len, &rec), 0);
		all->referenced += (int64_t)rec.blocks;
		all->inline_files += rec.is_inline;
	}
}

static void census_counters(struct rig *rig, const struct census *all)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_SYS_MAX];
	size_t len = key_counters(key, rig->sv->tree, rig->sv->node);
	struct counters_rec counters;

	ck_assert_int_eq(db_get(rig->pool->db, DB_SYS, key, len, 0, &value), 0);
	ck_assert_int_eq(counters_rec_decode(value.data, value.len, &counters), 0);
	ck_assert_int_eq(counters.born, all->born);
	ck_assert_int_eq(counters.referenced, all->referenced);
	ck_assert_int_eq(counters.unwritten, all->unwritten);
	ck_assert_int_ge(counters.meta, all->inline_files);
	ck_assert_int_eq(rig_used(rig), counters.referenced + counters.meta);
}

static void census_space(struct rig *rig, const struct census *all)
{
	for (unsigned v = 0; v < rig->devices; v++)
		for (uint64_t b = 0; b < all->blocks; b++) {
			uint32_t current, durable;

			if (space_counts(rig->pool->space, (uint16_t)v, b, &current, &durable))
				current = durable = 0;
			if (current != all->holders[v * all->blocks + b] || durable != current)
				ck_abort_msg("block %u:%llu: %u records, counts %u and %u", v, (unsigned long long)b,
					     all->holders[v * all->blocks + b], current, durable);
		}
}

void rig_check(struct rig *rig)
{
	struct census all = { .blocks = device_geometry(rig->dev[0])->size_bytes / NVFS_BLOCK_SIZE };

	ck_assert_int_eq(rig_sync(rig), 0);
	ck_assert_int_eq(rig_sync(rig), 0); /* what the first one's batches dropped */
	all.holders = calloc(rig->devices, all.blocks);
	census_map(rig, &all);
	census_sizes(rig, &all);
	census_counters(rig, &all);
	census_space(rig, &all);
	free(all.holders);
}
