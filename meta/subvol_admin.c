/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Administration of subvolumes. Everything here holds the pool's admin_lock and ends with a commit.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/admin.h"
#include "meta/data.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

/* ---- create ---- */

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

static int write_new(struct pool *pool, const char *name, const struct subvol_options *opts, uint64_t blocks, struct pool_tenant *tenant)
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
		.tenant = tenant->id,
		.incarnation = node,
		.size_blocks = blocks,
		.inodes_max = opts->inodes_max ? opts->inodes_max : admin_default_inodes(pool, blocks),
		.created_ns = admin_now_ns(&now),
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
	admin_put_name(pool->db, batch, name, id);
	sysrec_put_tree(pool->db, batch, rec.tree, INO_ROOT + 1);
	sysrec_put_node(pool->db, batch, rec.tree, node, &nr);
	sysrec_add_counters(pool->db, batch, rec.tree, node, &counters);
	put_root(pool->db, batch, &rec, opts, now);
	r = pool_write_rec(pool, &pr, batch);
	if (r)
		return r;
	pool->rec = pr;
	atomic_fetch_add(&pool->subvol_count, 1);
	tenant_count_subvolumes(tenant, 1, (int64_t)blocks);
	return 0;
}

/* The root directory is the first inode. That and the claim are taken in one, before the record is written. */
static int take_room(struct pool *pool, struct pool_tenant *tenant, int64_t claim, const struct refusal *ref)
{
	int r = tenant_charge_claim(tenant, 1, claim);

	if (r == -ENOSPC && admin_put_given_back(pool))
		r = tenant_charge_claim(tenant, 1, claim);
	if (r == -ENOSPC)
		return admin_refuse_claim(pool, claim, ref);
	if (r)
		return admin_refuse(ref, r, "all %" PRIu64 " inodes that the tenant may have are in use; delete some first",
				    atomic_load(&tenant->limits.inodes));
	return 0;
}

static int create_checked(struct pool *pool, const char *name, const struct subvol_options *opts, uint64_t blocks,
			  struct pool_tenant *tenant, const struct refusal *ref)
{
	const int64_t claim = opts->thin ? 0 : (int64_t)blocks;
	int r = pool->options.read_only ? admin_failed(ref, -EROFS) : tenant_may_provision(tenant, 1, blocks, ref);

	if (!r)
		r = admin_check_room(pool, !opts->thin, blocks, ref);
	if (!r)
		r = take_room(pool, tenant, claim, ref);
	if (r)
		return r;
	r = write_new(pool, name, opts, blocks, tenant);
	if (!r)
		return 0;
	tenant_charge(tenant, 0, -1);
	pool_count_promised(pool, 0, -claim);
	return admin_failed(ref, r);
}

/* Whose it becomes; NULL after a refusal. */
static struct pool_tenant *choose_tenant(struct pool *pool, const char *name, const struct refusal *ref)
{
	struct pool_tenant *t = name                 ? tenant_find_name(pool, name)
				: tenant_is_scoped() ? tenant_only_seen(pool)
						     : tenant_find(pool, NVFS_TENANT_DEFAULT);

	if (t && tenant_is_seen(pool, t->id))
		return t;
	if (name)
		admin_refuse(ref, -ENOENT, "there is no tenant %.255s; nvfs tenant list %s shows them", name, pool_name(pool));
	else if (tenant_is_scoped())
		admin_refuse(ref, -EINVAL, "you own several tenants: say whose it becomes with --tenant; nvfs tenant list %s shows them", pool_name(pool));
	else
		admin_refuse(ref, -EBADMSG, "the record of the tenant is missing; fsck.nvfs says more");
	return NULL;
}

/* What was not said, as the tenant has it. */
static void take_defaults(struct subvol_options *opts, const struct tenant_settings *set)
{
	if (!opts->size_bytes)
		opts->size_bytes = set->default_size_blocks * NVFS_BLOCK_SIZE;
	if (!opts->inodes_max)
		opts->inodes_max = set->default_inodes;
	if (!opts->reserved && set->default_claim == TENANT_CLAIM_THIN)
		opts->thin = true;
	if (!opts->compression && !opts->compression_given && set->default_compression == TENANT_COMPRESSION_LZ4)
		opts->compression = COMPRESSION_LZ4;
}

int subvol_create(struct pool *pool, const char *name, const struct subvol_options *options, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct pool_tenant *tenant = choose_tenant(pool, options->tenant, &ref);
	struct subvol_options opts = *options;
	uint64_t blocks;
	int r;

	if (!tenant)
		return options->tenant ? -ENOENT : tenant_is_scoped() ? -EINVAL : -EBADMSG;
	take_defaults(&opts, &tenant->set);
	blocks = admin_blocks(opts.size_bytes);
	if (!blocks || opts.size_bytes > INT64_MAX)
		return admin_refuse(&ref, -EINVAL, "a subvolume needs a size: say how large it may become, as tenant %s has no default", tenant->name);
	if (opts.compression > COMPRESSION_LZ4)
		return admin_refuse(&ref, -EINVAL, "compression is off or lz4");
	if (opts.thin && opts.reserved)
		return admin_refuse(&ref, -EINVAL, "a subvolume is thin or reserved, not both");
	r = admin_check_name(pool, name, &ref);
	if (!r)
		r = admin_check_inodes(pool, opts.inodes_max, &ref);
	return r ? r : create_checked(pool, name, &opts, blocks, tenant, &ref);
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
	int r = admin_find(pool, name, &f, &ref);

	if (r)
		return r;
	if (f.open)
		return admin_refuse(&ref, -EBUSY, "subvolume %s is mounted: unmount it first", name);
	r = write_deleted(pool, &f);
	if (r)
		return admin_failed(&ref, r);
	/* What it holds counts as loose until it is swept; its claim is free for others then, and now for what it never used. */
	if (f.rec.flags & SUBVOL_RESERVED)
		pool_count_promised(pool, f.counters.born, -(int64_t)f.rec.size_blocks);
	else
		pool_count_promised(pool, -f.counters.meta_born, 0);
	tenant_charge(tenant_find(pool, f.rec.tenant), -(f.counters.born + f.counters.meta_born), -f.counters.inodes_born);
	tenant_count_subvolumes(tenant_find(pool, f.rec.tenant), -1, -(int64_t)f.rec.size_blocks);
	atomic_fetch_sub(&pool->subvol_count, 1);
	sweeper_kick(pool->sweeper);
	return 0;
}

unsigned subvol_sweeps_left(struct pool *pool)
{
	return sweeper_left(pool->sweeper);
}

int subvol_sweep_error(struct pool *pool)
{
	const int failed = atomic_load(&pool->failed);

	return failed ? failed : sweeper_error(pool->sweeper);
}

/* ---- resize ---- */

struct limits {
	uint64_t blocks, inodes;
	uint64_t used_blocks, used_inodes; /* what there was when it was refused */
	int64_t claim;                     /* to be taken with it */
	bool no_room;                      /* it was refused for that */
};

static bool below_use(struct limits *l, int64_t used_blocks, int64_t used_inodes)
{
	l->used_blocks = (uint64_t)used_blocks;
	l->used_inodes = (uint64_t)used_inodes;
	return used_blocks > (int64_t)l->blocks || used_inodes > (int64_t)l->inodes;
}

static bool take_claim(struct pool *pool, struct limits *l)
{
	l->no_room = !pool_take(pool, 0, l->claim);
	return !l->no_room;
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
	if (!take_claim(sv->pool, l))
		return -ENOSPC;
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
	char used[ADMIN_SIZE_TEXT];

	return admin_refuse(ref, -EBUSY, "%s and %" PRIu64 " inodes are in use; that much is the smallest that would work",
		      admin_size(l->used_blocks, used), l->used_inodes);
}

static int write_record(struct pool *pool, uint32_t id, const struct subvol_rec *rec)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	int r;

	if (!batch)
		return -ENOMEM;
	sysrec_put_subvol(pool->db, batch, id, rec);
	r = pool->options.read_only ? -EROFS : db_write(pool->db, batch, 0);
	return r ? r : pool_commit_wait(pool);
}

static int write_limits(struct pool *pool, const struct found *f, const struct limits *l)
{
	struct subvol_rec rec = f->rec;

	rec.size_blocks = l->blocks;
	rec.inodes_max = l->inodes;
	return write_record(pool, f->id, &rec);
}

/* All that can refuse a new size: nothing was taken or changed then. Else the claim is taken, and what shrinks has shrunk. */
static int take_limits(struct pool *pool, struct found *f, struct limits *l)
{
	l->no_room = false;
	if (f->open)
		return subvol_call(f->open, shrink_open, l);
	if (below_use(l, f->counters.referenced + f->counters.meta, f->counters.inodes))
		return -EBUSY;
	return take_claim(pool, l) ? 0 : -ENOSPC;
}

static int resize_found(struct pool *pool, struct found *f, struct limits *l, const struct refusal *ref)
{
	struct limits old = { .blocks = f->rec.size_blocks, .inodes = f->rec.inodes_max };
	const int64_t more = (int64_t)(l->blocks - f->rec.size_blocks);
	const bool reserved = f->rec.flags & SUBVOL_RESERVED;
	struct pool_tenant *tenant = tenant_find(pool, f->rec.tenant);
	int r = pool->options.read_only ? admin_failed(ref, -EROFS) : 0;

	if (!r && more > 0 && tenant)
		r = tenant_may_provision(tenant, 0, (uint64_t)more, ref);
	if (!r && more > 0)
		r = admin_check_room(pool, reserved, (uint64_t)more, ref);
	if (r)
		return r;
	l->claim = reserved && more > 0 ? more : 0;
	r = take_limits(pool, f, l);
	if (l->no_room && admin_put_given_back(pool))
		r = take_limits(pool, f, l);
	if (l->no_room)
		return admin_refuse_claim(pool, more, ref);
	if (r == -EBUSY)
		return refuse_shrink(ref, l);
	if (r)
		return admin_failed(ref, r);
	r = write_limits(pool, f, l);
	if (f->open)
		subvol_call(f->open, set_open, r ? &old : l);
	if (r) {
		pool_count_promised(pool, 0, -l->claim);
		return admin_failed(ref, r);
	}
	if (more < 0 && reserved)
		pool_count_promised(pool, 0, more);
	tenant_count_subvolumes(tenant, 0, more);
	return 0;
}

int subvol_resize(struct pool *pool, const char *name, uint64_t size_bytes, uint64_t inodes_max, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct limits l = { 0 };
	struct found f;
	int r = admin_find(pool, name, &f, &ref);

	if (r)
		return r;
	if (size_bytes > INT64_MAX)
		return admin_refuse(&ref, -EINVAL, "that size is too large");
	r = admin_check_inodes(pool, inodes_max, &ref);
	if (r)
		return r;
	l.blocks = size_bytes ? admin_blocks(size_bytes) : f.rec.size_blocks;
	l.inodes = inodes_max ? inodes_max : f.rec.inodes_max;
	return resize_found(pool, &f, &l, &ref);
}

/* ---- rates ---- */

static void choose(uint64_t *to, uint64_t from, bool is)
{
	if (is)
		*to = from;
}

/* Mounted by itself: it has the limits of what it is a snapshot of. */
static bool is_snapshot_of(const struct subvol *sv, const struct found *f)
{
	const size_t len = strlen(f->name);

	return sv->tree == f->rec.tree && !strncmp(sv->rec.name, f->name, len) && sv->rec.name[len] == '@';
}

int subvol_set_rates(struct pool *pool, const char *name, const struct rates *rates, unsigned fields, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct found f;
	int r = admin_find(pool, name, &f, &ref);

	if (r)
		return r;
	choose(&f.rec.rates.read_iops, rates->read_iops, fields & SUBVOL_READ_IOPS);
	choose(&f.rec.rates.write_iops, rates->write_iops, fields & SUBVOL_WRITE_IOPS);
	choose(&f.rec.rates.read_bytes_per_s, rates->read_bytes_per_s, fields & SUBVOL_READ_BYTES);
	choose(&f.rec.rates.write_bytes_per_s, rates->write_bytes_per_s, fields & SUBVOL_WRITE_BYTES);
	if (!rates_are_valid(&f.rec.rates))
		return admin_refuse(&ref, -EINVAL, "a limit is at most %" PRIu64 " a second", RATE_MAX);
	r = write_record(pool, f.id, &f.rec);
	if (r)
		return admin_failed(&ref, r);
	for (struct subvol *sv = pool->open_head; sv; sv = sv->open_next)
		if (sv == f.open || is_snapshot_of(sv, &f))
			throttle_set(&sv->throttle, &f.rec.rates);
	return 0;
}

/* ---- list ---- */

static void fill_info(struct pool *pool, const struct found *f, struct subvol_info *out)
{
	const struct pool_tenant *tenant = tenant_find(pool, f->rec.tenant);

	memset(out, 0, sizeof(*out));
	out->rec = f->rec;
	strcpy(out->name, f->name);
	out->rec.name = out->name;
	out->id = f->id;
	strcpy(out->tenant, tenant ? tenant->name : "");
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
	int r = admin_find(pool, name, &f, &none);

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
