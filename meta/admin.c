/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What administration has in common: refusals, names, and room in the pool.
 *
 * What the pool has promised: claims of reserved subvolumes, blocks in use by what has no claim, and the headroom.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "meta/admin.h"
#include "meta/data.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define BYTES_PER_INODE 16384u
#define INODES_MIN 1024u

int admin_refuse(const struct refusal *ref, int error, const char *fmt, ...)
{
	va_list ap;

	if (!ref->why || !ref->len)
		return error;
	va_start(ap, fmt);
	vsnprintf(ref->why, ref->len, fmt, ap);
	va_end(ap);
	return error;
}

int admin_failed(const struct refusal *ref, int error)
{
	switch (error) {
	case -EROFS:
		return admin_refuse(ref, error, "the pool takes no changes: it is read-only, or a commit failed");
	case -EBADMSG:
		return admin_refuse(ref, error, "a record of it is damaged: stop the pool, and fsck.nvfs says which");
	default:
		return admin_refuse(ref, error, "%s", strerror(-error));
	}
}

/* Exact, because what is said to work has to: in the largest unit in which two digits behind the point are enough. */
const char *admin_size(uint64_t blocks, char *buf)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	const uint64_t kib = blocks * (NVFS_BLOCK_SIZE / 1024);
	uint64_t unit = 1;
	unsigned u = 0;

	while (u < sizeof(units) / sizeof(*units) - 1 && kib >= unit * 1024 && !(kib * 100 % (unit * 1024))) {
		unit *= 1024;
		u++;
	}
	if (kib % unit)
		snprintf(buf, ADMIN_SIZE_TEXT, "%" PRIu64 ".%02u %s", kib / unit, (unsigned)(kib % unit * 100 / unit) % 100, units[u]);
	else
		snprintf(buf, ADMIN_SIZE_TEXT, "%" PRIu64 " %s", kib / unit, units[u]);
	return buf;
}

/* ---- room in the pool ---- */

/* For who must not see what others have. */
static int refuse_room(int64_t blocks, const struct refusal *ref)
{
	char want[ADMIN_SIZE_TEXT];

	return admin_refuse(ref, -ENOSPC, "the pool cannot promise %s more; take a smaller size, or ask its administrator",
			    admin_size((uint64_t)blocks, want));
}

int admin_refuse_claim(struct pool *pool, int64_t blocks, const struct refusal *ref)
{
	int64_t capacity, reserved, loose, room;
	char want[ADMIN_SIZE_TEXT], left[ADMIN_SIZE_TEXT], all[ADMIN_SIZE_TEXT], head[ADMIN_SIZE_TEXT], res[ADMIN_SIZE_TEXT], used[ADMIN_SIZE_TEXT];

	if (tenant_is_scoped())
		return refuse_room(blocks, ref);
	capacity = (int64_t)pool_capacity(pool);
	reserved = (int64_t)atomic_load(&pool->reserved_blocks);
	loose = atomic_load(&pool->loose_blocks);
	room = capacity - loose - reserved;
	admin_size((uint64_t)(room > 0 ? room : 0), left);
	return admin_refuse(ref, -ENOSPC,
		      "%s more cannot be reserved: of the pool's %s, %s are reserved, %s are used by snapshots and by thin or "
		      "deleted subvolumes, and %s stay free for writing; %s or a thin subvolume would work",
		      admin_size((uint64_t)blocks, want), admin_size(pool->data_blocks, all),
		      admin_size((uint64_t)reserved, res), admin_size((uint64_t)(loose > 0 ? loose : 0), used),
		      admin_size(pool->rec.headroom_blocks, head), left);
}

static int add_size(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct subvol_rec rec;
	uint64_t *sum = arg;

	(void)key;
	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (!(rec.flags & SUBVOL_DELETING))
		*sum += rec.size_blocks;
	return 0;
}

int admin_promised(struct pool *pool, uint64_t *blocks)
{
	*blocks = 0;
	return sysrec_each(pool->db, REC_SUBVOL, add_size, blocks);
}

uint64_t admin_promise_limit(const struct pool *pool, uint32_t percent)
{
	return pool_capacity(pool) / 100 * percent;
}

/* A thin subvolume's promise counts against the overcommit ratio. */
static int check_overcommit(struct pool *pool, uint64_t more, const struct refusal *ref)
{
	const uint64_t limit = admin_promise_limit(pool, pool->rec.overcommit_percent);
	char want[ADMIN_SIZE_TEXT], have[ADMIN_SIZE_TEXT], most[ADMIN_SIZE_TEXT], left[ADMIN_SIZE_TEXT];
	uint64_t sum;
	int r = admin_promised(pool, &sum);

	if (r)
		return admin_failed(ref, r);
	if (sum <= limit && more <= limit - sum)
		return 0;
	if (tenant_is_scoped())
		return refuse_room((int64_t)more, ref);
	return admin_refuse(ref, -ENOSPC,
		      "%s more cannot be promised: subvolumes have %s of the %s that %u percent of the pool allow; %s would work",
		      admin_size(more, want), admin_size(sum, have), admin_size(limit, most), pool->rec.overcommit_percent,
		      admin_size(sum < limit ? limit - sum : 0, left));
}

static int put_data(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

/* Have open thin subvolumes put what they gave back: of files, and by gathered changes. Whether there is any. */
bool admin_put_given_back(struct pool *pool)
{
	bool any = false;

	for (struct subvol *sv = pool->open_head; sv; sv = sv->open_next) {
		if (sv->rec.flags & SUBVOL_RESERVED)
			continue;
		subvol_call(sv, put_data, NULL); /* what fails stays taken */
		any = true;
	}
	return any;
}

int admin_check_room(struct pool *pool, bool reserved, uint64_t blocks, const struct refusal *ref)
{
	const int64_t claim = (int64_t)blocks;

	if (!reserved)
		return blocks ? check_overcommit(pool, blocks, ref) : 0;
	return pool_has_loose(pool, claim) || (admin_put_given_back(pool) && pool_has_loose(pool, claim)) ? 0 :
		       admin_refuse_claim(pool, claim, ref);
}

bool admin_take(struct pool *pool, int64_t loose, int64_t claim)
{
	return pool_take(pool, loose, claim) || (admin_put_given_back(pool) && pool_take(pool, loose, claim));
}

uint64_t admin_blocks(uint64_t bytes)
{
	return bytes / NVFS_BLOCK_SIZE + (bytes % NVFS_BLOCK_SIZE != 0);
}

/* A limit above what the whole pool can have would only seem to be one. */
int admin_check_inodes(const struct pool *pool, uint64_t inodes, const struct refusal *ref)
{
	if (inodes <= pool->label.inodes_max)
		return 0;
	if (tenant_is_scoped())
		return admin_refuse(ref, -EINVAL, "%" PRIu64 " inodes are more than the pool was made for; take fewer, or ask its administrator",
				    inodes);
	return admin_refuse(ref, -EINVAL,
		      "%" PRIu64 " inodes are more than the pool was made for; up to %" PRIu64 " would work", inodes,
		      pool->label.inodes_max);
}

uint64_t admin_default_inodes(const struct pool *pool, uint64_t blocks)
{
	const uint64_t n = blocks * NVFS_BLOCK_SIZE / BYTES_PER_INODE, least = n < INODES_MIN ? INODES_MIN : n;

	return least < pool->label.inodes_max ? least : pool->label.inodes_max;
}

int admin_check_name(struct pool *pool, const char *name, const struct refusal *ref)
{
	uint32_t id;
	int r;

	if (object_name_validate(name, strlen(name)))
		return admin_refuse(ref, -EINVAL,
			      "\"%.80s\" cannot name a subvolume: 1 to 255 of letters, digits, '.', '_' and '-', not starting "
			      "with '.' or '-'", name);
	r = sysrec_subvol_id(pool->db, name, &id);
	if (!r)
		return admin_refuse(ref, -EEXIST,
				    tenant_is_scoped() ? "the name %s is taken; take another one"
						       : "there is a subvolume %s already; take another name, or resize or delete that one",
				    name);
	return r == -ENOENT ? 0 : admin_failed(ref, r);
}

int64_t admin_now_ns(struct rec_time *rec)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*rec = (struct rec_time){ .sec = now.tv_sec, .nsec = (uint32_t)now.tv_nsec };
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void admin_put_name(struct db *db, struct db_batch *batch, const char *name, uint32_t id)
{
	uint8_t key[KEY_MAX], value[INDEX_REC_LEN];
	const size_t key_len = key_subvol_name(key, name, strlen(name));

	db_batch_put(db, batch, DB_SYS, key, key_len, value, index_rec_encode(REC_SUBVOL_NAME, id, value));
}

/* ---- find ---- */

int admin_find(struct pool *pool, const char *name, struct found *out, const struct refusal *ref)
{
	int r = sysrec_subvol_id(pool->db, name, &out->id);

	if (!r)
		r = sysrec_subvol(pool->db, out->id, &out->rec, out->name);
	if (!r)
		r = sysrec_counters(pool->db, out->rec.tree, out->rec.node, &out->counters);
	if (!r && !tenant_is_seen(pool, out->rec.tenant))
		r = -ENOENT;
	if (r == -ENOENT)
		return admin_refuse(ref, r, "there is no subvolume %s; nvfs subvolume list %s shows them", name, pool->label.name);
	if (r)
		return admin_failed(ref, r);
	out->open = subvol_find_open(pool, name);
	return 0;
}
