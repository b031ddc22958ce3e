/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Administration of subvolumes. Everything here holds the pool's admin_lock and ends with a commit.
 *
 * What the pool has promised: claims of reserved subvolumes, blocks in use by what has no claim, and the headroom. A new
 * claim is added first and looked at afterwards, as pool_take_loose() does with loose blocks.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/data.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define BYTES_PER_INODE 16384u
#define INODES_MIN 1024u
#define SIZE_TEXT 32

struct refusal {
	char *why;
	size_t len;
};

static int refuse(const struct refusal *ref, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int refuse(const struct refusal *ref, int error, const char *fmt, ...)
{
	va_list ap;

	if (!ref->why || !ref->len)
		return error;
	va_start(ap, fmt);
	vsnprintf(ref->why, ref->len, fmt, ap);
	va_end(ap);
	return error;
}

static int failed(const struct refusal *ref, int error)
{
	switch (error) {
	case -EROFS:
		return refuse(ref, error, "the pool takes no changes: it is read-only, or a commit failed");
	case -EBADMSG:
		return refuse(ref, error, "a record of it is damaged: stop the pool, and fsck.nvfs says which");
	default:
		return refuse(ref, error, "%s", strerror(-error));
	}
}

/* Blocks for people: exact when it is a whole number of a unit, else with two digits. */
static const char *size_text(uint64_t blocks, char *buf)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)blocks * (NVFS_BLOCK_SIZE / 1024);
	unsigned u = 0;

	while (v >= 1024 && u < sizeof(units) / sizeof(*units) - 1) {
		v /= 1024;
		u++;
	}
	snprintf(buf, SIZE_TEXT, v == (uint64_t)v ? "%.0f %s" : "%.2f %s", v, units[u]);
	return buf;
}

/* ---- room in the pool ---- */

/* Claim blocks; what is given back, or a pool that is not full, is never refused. */
static int claim(struct pool *pool, int64_t blocks, const struct refusal *ref)
{
	const int64_t capacity = (int64_t)pool_capacity(pool);
	const int64_t reserved = (int64_t)atomic_fetch_add(&pool->reserved_blocks, (uint64_t)blocks) + blocks;
	const int64_t loose = atomic_load(&pool->loose_blocks);
	char want[SIZE_TEXT], left[SIZE_TEXT], all[SIZE_TEXT], head[SIZE_TEXT], res[SIZE_TEXT], used[SIZE_TEXT];
	int64_t room;

	if (blocks <= 0 || reserved + loose <= capacity)
		return 0;
	atomic_fetch_sub(&pool->reserved_blocks, (uint64_t)blocks);
	room = capacity - loose - (reserved - blocks);
	size_text((uint64_t)(room > 0 ? room : 0), left);
	return refuse(ref, -ENOSPC,
		      "%s more cannot be reserved: of the pool's %s, %s are reserved, %s are used by thin or deleted "
		      "subvolumes and %s stay free for writing; %s or a thin subvolume would work",
		      size_text((uint64_t)blocks, want), size_text(pool->data_blocks, all),
		      size_text((uint64_t)(reserved - blocks), res), size_text((uint64_t)(loose > 0 ? loose : 0), used),
		      size_text(pool->rec.headroom_blocks, head), left);
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

/* A thin subvolume's promise counts against the overcommit ratio. */
static int check_overcommit(struct pool *pool, uint64_t more, const struct refusal *ref)
{
	const uint64_t limit = pool_capacity(pool) / 100 * pool->rec.overcommit_percent;
	char want[SIZE_TEXT], have[SIZE_TEXT], most[SIZE_TEXT], left[SIZE_TEXT];
	uint64_t sum = 0;
	int r = sysrec_each(pool->db, REC_SUBVOL, add_size, &sum);

	if (r)
		return failed(ref, r);
	if (sum <= limit && more <= limit - sum)
		return 0;
	return refuse(ref, -ENOSPC,
		      "%s more cannot be promised: subvolumes have %s of the %s that %u percent of the pool allow; %s would work",
		      size_text(more, want), size_text(sum, have), size_text(limit, most), pool->rec.overcommit_percent,
		      size_text(sum < limit ? limit - sum : 0, left));
}

static int put_data(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

/* Have open thin subvolumes put what they gave back: of files, and by gathered changes. Whether there is any. */
static bool put_given_back(struct pool *pool)
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

static int take_room(struct pool *pool, bool reserved, int64_t blocks, const struct refusal *ref)
{
	if (reserved) {
		const int r = claim(pool, blocks, ref);

		return r && put_given_back(pool) ? claim(pool, blocks, ref) : r;
	}
	return blocks > 0 ? check_overcommit(pool, (uint64_t)blocks, ref) : 0;
}

/* ---- create ---- */

static uint64_t blocks_of(uint64_t bytes)
{
	return bytes / NVFS_BLOCK_SIZE + (bytes % NVFS_BLOCK_SIZE != 0);
}

/* A limit above what the whole pool can have would only seem to be one. */
static int check_inodes(const struct pool *pool, uint64_t inodes, const struct refusal *ref)
{
	if (inodes <= pool->label.inodes_max)
		return 0;
	return refuse(ref, -EINVAL,
		      "%" PRIu64 " inodes are more than the pool was made for; up to %" PRIu64 " would work", inodes,
		      pool->label.inodes_max);
}

static uint64_t default_inodes(const struct pool *pool, uint64_t blocks)
{
	const uint64_t n = blocks * NVFS_BLOCK_SIZE / BYTES_PER_INODE, least = n < INODES_MIN ? INODES_MIN : n;

	return least < pool->label.inodes_max ? least : pool->label.inodes_max;
}

static int check_name(struct pool *pool, const char *name, const struct refusal *ref)
{
	uint32_t id;
	int r;

	if (object_name_validate(name, strlen(name)))
		return refuse(ref, -EINVAL,
			      "\"%.80s\" cannot name a subvolume: 1 to 255 of letters, digits, '.', '_' and '-', not starting "
			      "with '.' or '-'", name);
	r = sysrec_subvol_id(pool->db, name, &id);
	if (!r)
		return refuse(ref, -EEXIST, "there is a subvolume %s already; take another name, or resize or delete that one", name);
	return r == -ENOENT ? 0 : failed(ref, r);
}

static int64_t now_ns(struct rec_time *rec)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*rec = (struct rec_time){ .sec = now.tv_sec, .nsec = (uint32_t)now.tv_nsec };
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void put_root(struct db *db, struct db_batch *batch, const struct subvol_rec *sv, const struct subvol_options *opts,
		     struct rec_time now)
{
	const struct inode_rec root = {
		.mode = S_IFDIR | (opts->root_mode ? opts->root_mode & 07777 : 0755),
		.uid = opts->root_uid,
		.gid = opts->root_gid,
		.nlink = 2,
		.parent = INO_ROOT,
		.atime = now, .mtime = now, .ctime = now, .btime = now,
	};
	uint8_t key[KEY_MAX], value[INODE_REC_MAX];
	const size_t key_len = key_inode(key, sv->tree, INO_ROOT, sv->node);

	db_batch_put(db, batch, DB_NS, key, key_len, value, inode_rec_encode(&root, value));
}

static void put_name(struct db *db, struct db_batch *batch, const char *name, uint32_t id)
{
	uint8_t key[KEY_MAX], value[INDEX_REC_LEN];
	const size_t key_len = key_subvol_name(key, name, strlen(name));

	db_batch_put(db, batch, DB_SYS, key, key_len, value, index_rec_encode(REC_SUBVOL_NAME, id, value));
}

static int write_new(struct pool *pool, const char *name, const struct subvol_options *opts, uint64_t blocks)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool_rec pr = pool->rec;
	const uint32_t id = pr.next_subvol++, node = pr.next_node++;
	const struct counters_rec counters = { .inodes = 1, .inodes_born = 1 };
	struct rec_time now;
	const struct subvol_rec rec = {
		.flags = opts->thin ? 0 : SUBVOL_RESERVED,
		.compression = opts->compression,
		.name_len = (uint8_t)strlen(name),
		.tree = pr.next_tree++,
		.node = node,
		.tenant = NVFS_TENANT_DEFAULT,
		.incarnation = node,
		.size_blocks = blocks,
		.inodes_max = opts->inodes_max ? opts->inodes_max : default_inodes(pool, blocks),
		.created_ns = now_ns(&now),
		.name = name,
	};
	const struct node_rec nr = {
		.state = NODE_LIVE,
		.subvol = id,
		.tenant = rec.tenant,
		.created_ns = rec.created_ns,
		.first_ino = INO_ROOT,
		.size_blocks = rec.size_blocks,
		.inodes_max = rec.inodes_max,
	};
	int r;

	if (!batch)
		return -ENOMEM;
	sysrec_put_subvol(pool->db, batch, id, &rec);
	put_name(pool->db, batch, name, id);
	sysrec_put_tree(pool->db, batch, rec.tree, INO_ROOT + 1);
	sysrec_put_node(pool->db, batch, rec.tree, node, &nr);
	sysrec_add_counters(pool->db, batch, rec.tree, node, &counters);
	put_root(pool->db, batch, &rec, opts, now);
	r = pool_write_rec(pool, &pr, batch);
	if (r)
		return r;
	pool->rec = pr;
	atomic_fetch_add(&pool->subvol_count, 1);
	return 0;
}

/* The root directory is the first inode; taken before the record is written, like the room for data. */
static int take_root(struct pool *pool, const struct refusal *ref)
{
	struct pool_tenant *tenant = tenant_find(pool, NVFS_TENANT_DEFAULT);

	if (!tenant)
		return refuse(ref, -EBADMSG, "the record of the tenant is missing; fsck.nvfs says more");
	if (tenant_charge(tenant, 0, 1))
		return refuse(ref, -EDQUOT, "all %" PRIu64 " inodes that the tenant may have are in use; delete some first",
			      tenant->limits.inodes);
	return 0;
}

static int create_checked(struct pool *pool, const char *name, const struct subvol_options *opts, uint64_t blocks,
			  const struct refusal *ref)
{
	int r = take_room(pool, !opts->thin, (int64_t)blocks, ref);

	if (r)
		return r;
	r = take_root(pool, ref);
	if (!r) {
		r = write_new(pool, name, opts, blocks);
		if (!r)
			return 0;
		tenant_charge(tenant_find(pool, NVFS_TENANT_DEFAULT), 0, -1);
		failed(ref, r);
	}
	if (!opts->thin)
		claim(pool, -(int64_t)blocks, ref);
	return r;
}

int subvol_create(struct pool *pool, const char *name, const struct subvol_options *opts, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	const uint64_t blocks = blocks_of(opts->size_bytes);
	int r;

	if (!blocks || opts->size_bytes > INT64_MAX)
		return refuse(&ref, -EINVAL, "a subvolume needs a size");
	if (opts->compression > COMPRESSION_LZ4)
		return refuse(&ref, -EINVAL, "compression is off or lz4");
	r = check_name(pool, name, &ref);
	if (!r)
		r = check_inodes(pool, opts->inodes_max, &ref);
	return r ? r : create_checked(pool, name, opts, blocks, &ref);
}

/* ---- find ---- */

struct found {
	uint32_t id;
	struct subvol_rec rec;
	char name[SUBVOL_NAME_MAX + 1];
	struct counters_rec counters;
	struct subvol *open; /* or NULL */
};

static int find(struct pool *pool, const char *name, struct found *out, const struct refusal *ref)
{
	int r = sysrec_subvol_id(pool->db, name, &out->id);

	if (!r)
		r = sysrec_subvol(pool->db, out->id, &out->rec, out->name);
	if (!r)
		r = sysrec_counters(pool->db, out->rec.tree, out->rec.node, &out->counters);
	if (r == -ENOENT)
		return refuse(ref, r, "there is no subvolume %s; nvfs subvolume list %s shows them", name, pool->label.name);
	if (r)
		return failed(ref, r);
	out->open = subvol_find_open(pool, name);
	return 0;
}

/* ---- delete ---- */

/* The name goes at once; the live node is left to the sweeper, with a record that says whose it was. */
static int write_deleted(struct pool *pool, struct found *f)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct subvol_rec rec = f->rec;
	struct node_rec node;
	char name[SUBVOL_NAME_MAX + 1];
	uint8_t key[KEY_MAX];
	int r = batch ? sysrec_node(pool->db, rec.tree, rec.node, &node, name) : -ENOMEM;

	if (r)
		return r;
	node.state = NODE_SWEEP;
	node.sweep_family = SWEEP_NONE;
	sysrec_put_node(pool->db, batch, rec.tree, rec.node, &node);
	rec.flags |= SUBVOL_DELETING;
	rec.node = 0;
	sysrec_put_subvol(pool->db, batch, f->id, &rec);
	db_batch_delete(pool->db, batch, DB_SYS, key, key_subvol_name(key, f->name, strlen(f->name)));
	r = pool->options.read_only ? -EROFS : db_write(pool->db, batch, 0);
	return r ? r : pool_commit_wait(pool);
}

int subvol_delete(struct pool *pool, const char *name, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct found f;
	int r = find(pool, name, &f, &ref);

	if (r)
		return r;
	if (f.open)
		return refuse(&ref, -EBUSY, "subvolume %s is mounted: unmount it first", name);
	r = write_deleted(pool, &f);
	if (r)
		return failed(&ref, r);
	/* What it holds counts as loose until it is swept; its claim is free for others then, and now for what it never used. */
	atomic_fetch_add(&pool->loose_blocks, f.counters.born);
	if (f.rec.flags & SUBVOL_RESERVED)
		claim(pool, -(int64_t)f.rec.size_blocks, &ref);
	else
		atomic_fetch_sub(&pool->loose_blocks, f.counters.referenced + f.counters.meta);
	tenant_charge(tenant_find(pool, f.rec.tenant), -(f.counters.born + f.counters.meta_born), -f.counters.inodes_born);
	atomic_fetch_sub(&pool->subvol_count, 1);
	sweeper_kick(pool->sweeper);
	return 0;
}

unsigned subvol_sweeps_left(struct pool *pool)
{
	return sweeper_left(pool->sweeper);
}

/* ---- resize ---- */

struct limits {
	uint64_t blocks, inodes;
	uint64_t used_blocks, used_inodes; /* what there was when it was refused */
};

static bool below_use(struct limits *l, int64_t used_blocks, int64_t used_inodes)
{
	l->used_blocks = (uint64_t)used_blocks;
	l->used_inodes = (uint64_t)used_inodes;
	return used_blocks > (int64_t)l->blocks || used_inodes > (int64_t)l->inodes;
}

/*
 * On the reactor: what shrinks takes effect at once, so that nothing slips in between; what grows waits for the record. What files gave back
 * counts as used until it is put, since the record may be durable first.
 */
static int shrink_open(struct op *op, void *arg)
{
	struct subvol *sv = op->sv;
	struct limits *l = arg;
	int r;

	if (atomic_load(&sv->held_blocks) && below_use(l, atomic_load(&sv->used_blocks), 0) &&
	    data_sync_all(op) == META_WAIT)
		return META_WAIT;
	r = gather_settle(op); /* changes of names, too, come before the record */
	if (r)
		return r;
	if (below_use(l, atomic_load(&sv->used_blocks), atomic_load(&sv->used_inodes)))
		return -EBUSY;
	subvol_set_limits(sv, l->blocks < sv->rec.size_blocks ? l->blocks : sv->rec.size_blocks,
			  l->inodes < sv->rec.inodes_max ? l->inodes : sv->rec.inodes_max);
	return 0;
}

static int set_open(struct op *op, void *arg)
{
	const struct limits *l = arg;

	subvol_set_limits(op->sv, l->blocks, l->inodes);
	return 0;
}

static int refuse_shrink(const struct refusal *ref, const struct limits *l)
{
	char used[SIZE_TEXT];

	return refuse(ref, -EBUSY, "%s and %" PRIu64 " inodes are in use; that much is the smallest that would work",
		      size_text(l->used_blocks, used), l->used_inodes);
}

static int write_limits(struct pool *pool, const struct found *f, const struct limits *l)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct subvol_rec rec = f->rec;
	int r;

	if (!batch)
		return -ENOMEM;
	rec.size_blocks = l->blocks;
	rec.inodes_max = l->inodes;
	sysrec_put_subvol(pool->db, batch, f->id, &rec);
	r = pool->options.read_only ? -EROFS : db_write(pool->db, batch, 0);
	return r ? r : pool_commit_wait(pool);
}

static int resize_found(struct pool *pool, struct found *f, struct limits *l, const struct refusal *ref)
{
	struct limits old = { .blocks = f->rec.size_blocks, .inodes = f->rec.inodes_max };
	const int64_t more = (int64_t)(l->blocks - f->rec.size_blocks);
	const bool reserved = f->rec.flags & SUBVOL_RESERVED;
	int r = more > 0 ? take_room(pool, reserved, more, ref) : 0;

	if (r)
		return r;
	if (f->open)
		r = subvol_call(f->open, shrink_open, l);
	else if (below_use(l, f->counters.referenced + f->counters.meta, f->counters.inodes))
		r = -EBUSY;
	if (!r)
		r = write_limits(pool, f, l);
	if (f->open && r != -EBUSY)
		subvol_call(f->open, set_open, r ? &old : l);
	if (r && more > 0 && reserved)
		claim(pool, -more, ref);
	if (!r && more < 0 && reserved)
		claim(pool, more, ref);
	if (r == -EBUSY)
		return refuse_shrink(ref, l);
	return r ? failed(ref, r) : 0;
}

int subvol_resize(struct pool *pool, const char *name, uint64_t size_bytes, uint64_t inodes_max, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct found f;
	struct limits l;
	int r = find(pool, name, &f, &ref);

	if (r)
		return r;
	if (size_bytes > INT64_MAX)
		return refuse(&ref, -EINVAL, "that size is too large");
	r = check_inodes(pool, inodes_max, &ref);
	if (r)
		return r;
	l.blocks = size_bytes ? blocks_of(size_bytes) : f.rec.size_blocks;
	l.inodes = inodes_max ? inodes_max : f.rec.inodes_max;
	return resize_found(pool, &f, &l, &ref);
}

/* ---- list ---- */

static void fill_info(struct pool *pool, const struct found *f, struct subvol_info *out)
{
	(void)pool;
	memset(out, 0, sizeof(*out));
	out->rec = f->rec;
	strcpy(out->name, f->name);
	out->rec.name = out->name;
	out->id = f->id;
	out->open = f->open != NULL;
	out->used_blocks = (uint64_t)(f->counters.referenced + f->counters.meta);
	out->used_inodes = (uint64_t)f->counters.inodes;
	if (f->open) {
		struct subvol_stats stats;

		subvol_stats(f->open, &stats);
		out->used_blocks = stats.used_blocks;
		out->used_inodes = stats.used_inodes;
		out->rec.size_blocks = stats.size_blocks;
		out->rec.inodes_max = stats.inodes_max;
	}
}

int subvol_info(struct pool *pool, const char *name, struct subvol_info *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal none = { 0 };
	struct found f;
	int r = find(pool, name, &f, &none);

	if (!r)
		fill_info(pool, &f, out);
	return r;
}

struct name_list {
	char **names;
	size_t count, room;
};

static int add_name(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct name_list *l = arg;

	(void)value;
	(void)len;
	if (l->count == l->room) {
		const size_t room = l->room ? l->room * 2 : 16;
		char **names = realloc(l->names, room * sizeof(*names));

		if (!names)
			return -ENOMEM;
		l->names = names;
		l->room = room;
	}
	l->names[l->count] = strndup(key->name, key->name_len);
	return l->names[l->count++] ? 0 : -ENOMEM;
}

int subvol_each(struct pool *pool, int (*fn)(const struct subvol_info *info, void *arg), void *arg)
{
	struct name_list l = { 0 };
	int r;

	pthread_mutex_lock(&pool->admin_lock);
	r = sysrec_each(pool->db, REC_SUBVOL_NAME, add_name, &l);
	pthread_mutex_unlock(&pool->admin_lock);
	for (size_t i = 0; !r && i < l.count; i++) {
		struct subvol_info info;

		r = subvol_info(pool, l.names[i], &info);
		r = r == -ENOENT ? 0 : r ? r : fn(&info, arg); /* gone since */
	}
	for (size_t i = 0; i < l.count; i++)
		free(l.names[i]);
	free(l.names);
	return r;
}
