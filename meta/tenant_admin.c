/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Administration of tenants. Everything here holds the pool's admin_lock; what changes is one batch and ends with a commit, and
 * only then counts: a limit that was refused or could not be written never held for anybody.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/admin.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define NAMES_SHOWN 5
#define LIMIT_FIELDS 9u

/* ---- what subvolumes and snapshots ask ---- */

static int check_count(const struct pool_tenant *t, const char *what, const char *option, uint64_t have, uint64_t more, uint64_t limit,
		       const struct refusal *ref)
{
	if (!limit || !more || (have <= limit && more <= limit - have))
		return 0;
	return admin_refuse(ref, -EDQUOT,
		      "tenant %s has %" PRIu64 " %s and may have %" PRIu64 "; delete some, or have it raised with nvfs tenant set %s/%s --%s N",
		      t->name, have, what, limit, pool_name(t->pool), t->name, option);
}

int tenant_may_provision(const struct pool_tenant *t, uint64_t subvolumes, uint64_t blocks, const struct refusal *ref)
{
	const uint64_t limit = atomic_load(&t->limits.provisioned_blocks), have = atomic_load(&t->provisioned_blocks);
	char want[ADMIN_SIZE_TEXT], has[ADMIN_SIZE_TEXT], most[ADMIN_SIZE_TEXT], left[ADMIN_SIZE_TEXT];
	int r = check_count(t, "subvolumes", "subvolumes", atomic_load(&t->subvolumes), subvolumes,
			    atomic_load(&t->limits.subvolumes), ref);

	if (r || !limit || !blocks || (have <= limit && blocks <= limit - have))
		return r;
	return admin_refuse(ref, -EDQUOT,
		      "%s more cannot be promised: the subvolumes of tenant %s have %s of the %s that they may; %s would work, or have it raised "
		      "with nvfs tenant set %s/%s --provisioned SIZE",
		      admin_size(blocks, want), t->name, admin_size(have, has), admin_size(limit, most),
		      admin_size(have < limit ? limit - have : 0, left), pool_name(t->pool), t->name);
}

int tenant_may_snapshot(const struct pool_tenant *t, uint64_t n, const struct refusal *ref)
{
	return check_count(t, "snapshots", "snapshots", atomic_load(&t->snapshots), n, atomic_load(&t->limits.snapshots), ref);
}

void tenant_count_subvolumes(struct pool_tenant *t, int64_t n, int64_t blocks)
{
	if (!t)
		return;
	atomic_fetch_add(&t->subvolumes, (uint64_t)n);
	atomic_fetch_add(&t->provisioned_blocks, (uint64_t)blocks);
}

void tenant_count_snapshots(struct pool_tenant *t, int64_t n)
{
	if (t)
		atomic_fetch_add(&t->snapshots, (uint64_t)n);
}

/* ---- settings ---- */

static void drop_doubles(uint32_t *ids, uint8_t *count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < *count; i++) {
		unsigned j = 0;

		while (j < kept && ids[j] != ids[i])
			j++;
		if (j == kept)
			ids[kept++] = ids[i];
	}
	*count = (uint8_t)kept;
	memset(ids + kept, 0, (TENANT_OWNERS_MAX - kept) * sizeof(*ids));
}

static int check_owners(const struct tenant_settings *s, const struct refusal *ref)
{
	if (s->uid_count > TENANT_OWNERS_MAX || s->gid_count > TENANT_OWNERS_MAX)
		return admin_refuse(ref, -EINVAL, "a tenant has at most %d users and %d groups as its owners; a group may have any number of members",
			      TENANT_OWNERS_MAX, TENANT_OWNERS_MAX);
	for (unsigned i = 0; i < TENANT_OWNERS_MAX; i++)
		if ((i < s->uid_count && s->uids[i] == UINT32_MAX) || (i < s->gid_count && s->gids[i] == UINT32_MAX))
			return admin_refuse(ref, -EINVAL, "%" PRIu32 " is nobody's number", UINT32_MAX);
	return 0;
}

/* Makes s what is stored. */
static int check_settings(const struct pool *pool, struct tenant_settings *s, const struct refusal *ref)
{
	const uint64_t most = INT64_MAX / NVFS_BLOCK_SIZE;
	char soft[ADMIN_SIZE_TEXT], used[ADMIN_SIZE_TEXT];
	int r = check_owners(s, ref);

	if (r)
		return r;
	if (s->limits.used_blocks > most || s->limits.provisioned_blocks > most || s->soft_blocks > most ||
	    s->default_size_blocks > most || s->limits.inodes > INT64_MAX)
		return admin_refuse(ref, -EINVAL, "a limit is larger than any pool can be");
	if (s->limits.read_iops > RATE_MAX || s->limits.write_iops > RATE_MAX || s->limits.read_bytes_per_s > RATE_MAX ||
	    s->limits.write_bytes_per_s > RATE_MAX)
		return admin_refuse(ref, -EINVAL, "a limit of operations or bytes is at most %" PRIu64 " a second", RATE_MAX);
	if (s->soft_blocks && s->limits.used_blocks && s->soft_blocks >= s->limits.used_blocks)
		return admin_refuse(ref, -EINVAL, "a soft limit of %s means nothing with a limit of %s on what is used: take a smaller one",
			      admin_size(s->soft_blocks, soft), admin_size(s->limits.used_blocks, used));
	if (s->grace_s && !s->soft_blocks)
		return admin_refuse(ref, -EINVAL, "a grace needs a soft limit");
	if (s->default_inodes > pool->label.inodes_max)
		return admin_refuse(ref, -EINVAL, "%" PRIu64 " inodes are more than the pool was made for; up to %" PRIu64 " would work",
			      s->default_inodes, pool->label.inodes_max);
	if (s->default_claim > TENANT_CLAIM_THIN || s->default_compression > TENANT_COMPRESSION_LZ4)
		return admin_refuse(ref, -EINVAL, "subvolumes are thin or reserved, and compressed with lz4 or off");
	if (s->soft_blocks && !s->grace_s)
		s->grace_s = TENANT_GRACE_DEFAULT_S;
	drop_doubles(s->uids, &s->uid_count);
	drop_doubles(s->gids, &s->gid_count);
	return 0;
}

static bool same_settings(const struct tenant_settings *a, const struct tenant_settings *b)
{
	return !memcmp(&a->limits, &b->limits, sizeof(a->limits)) && a->soft_blocks == b->soft_blocks && a->grace_s == b->grace_s &&
	       a->default_size_blocks == b->default_size_blocks && a->default_inodes == b->default_inodes &&
	       a->default_claim == b->default_claim && a->default_compression == b->default_compression &&
	       a->uid_count == b->uid_count && a->gid_count == b->gid_count && !memcmp(a->uids, b->uids, sizeof(a->uids)) &&
	       !memcmp(a->gids, b->gids, sizeof(a->gids));
}

/* What `fields` names, of from. */
static void merge_settings(struct tenant_settings *to, const struct tenant_settings *from, unsigned fields)
{
	uint64_t limits[LIMIT_FIELDS], news[LIMIT_FIELDS];

	_Static_assert(sizeof(limits) == sizeof(struct tenant_limits), "a field for each limit");
	memcpy(limits, &to->limits, sizeof(limits));
	memcpy(news, &from->limits, sizeof(news));
	for (unsigned i = 0; i < LIMIT_FIELDS; i++)
		if (fields & TENANT_USED << i)
			limits[i] = news[i];
	memcpy(&to->limits, limits, sizeof(limits));
	if (fields & TENANT_SOFT)
		to->soft_blocks = from->soft_blocks;
	if (!to->soft_blocks)
		to->grace_s = 0; /* that of a soft limit which is no more */
	if (fields & TENANT_GRACE)
		to->grace_s = from->grace_s;
	if (fields & TENANT_DEFAULT_SIZE)
		to->default_size_blocks = from->default_size_blocks;
	if (fields & TENANT_DEFAULT_INODES)
		to->default_inodes = from->default_inodes;
	if (fields & TENANT_DEFAULT_CLAIM)
		to->default_claim = from->default_claim;
	if (fields & TENANT_DEFAULT_COMPRESSION)
		to->default_compression = from->default_compression;
	if (fields & TENANT_UIDS) {
		to->uid_count = from->uid_count;
		memcpy(to->uids, from->uids, sizeof(to->uids));
	}
	if (fields & TENANT_GIDS) {
		to->gid_count = from->gid_count;
		memcpy(to->gids, from->gids, sizeof(to->gids));
	}
}

/* ---- create ---- */

static int refuse_existing(const struct pool_tenant *t, const struct tenant_settings *set, const struct refusal *ref)
{
	if (same_settings(&t->set, set))
		return admin_refuse(ref, -EEXIST, "there is a tenant %s already, with just these settings: nothing is left to do", t->name);
	return admin_refuse(ref, -EEXIST, "there is a tenant %s already, with other settings; nvfs tenant set %s/%s changes them", t->name,
		      pool_name(t->pool), t->name);
}

static int write_new(struct pool *pool, const struct tenant_rec *rec)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool_rec pr = pool->rec;
	const uint32_t id = pr.next_tenant++;
	struct pool_tenant *t = tenant_new(pool, id, rec);
	int r = batch && t ? 0 : -ENOMEM;

	if (!r) {
		sysrec_put_tenant(pool->db, batch, id, rec);
		r = pool_write_rec(pool, &pr, batch);
	}
	if (r) {
		free(t);
		return r;
	}
	pool->rec = pr;
	tenant_add(t);
	return 0;
}

int tenant_create(struct pool *pool, const char *name, const struct tenant_settings *set, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct tenant_rec rec = { .name_len = (uint8_t)strlen(name), .set = *set, .created_ns = tenant_now_ns(), .name = name };
	const struct pool_tenant *old = tenant_find_name(pool, name);
	int r;

	if (object_name_validate(name, strlen(name)))
		return admin_refuse(&ref, -EINVAL,
			      "\"%.80s\" cannot name a tenant: 1 to 255 of letters, digits, '.', '_' and '-', not starting with '.' or '-'", name);
	r = check_settings(pool, &rec.set, &ref);
	if (r)
		return r;
	if (old)
		return refuse_existing(old, &rec.set, &ref);
	r = write_new(pool, &rec);
	return r ? admin_failed(&ref, r) : 0;
}

/* ---- set ---- */

static struct pool_tenant *find(struct pool *pool, const char *name, const struct refusal *ref)
{
	struct pool_tenant *t = tenant_find_name(pool, name);

	if (t && tenant_is_seen(pool, t->id))
		return t;
	admin_refuse(ref, -ENOENT, "there is no tenant %.255s; nvfs tenant list %s shows them", name, pool_name(pool));
	return NULL;
}

static size_t note_blocks(char *buf, size_t len, const char *what, uint64_t have, uint64_t limit)
{
	char has[ADMIN_SIZE_TEXT], most[ADMIN_SIZE_TEXT];

	if (!limit || have <= limit)
		return 0;
	return (size_t)snprintf(buf, len, "%s%s of %s %s", *what == 'u' ? "" : ", ", admin_size(have, has), admin_size(limit, most), what);
}

static size_t note_count(char *buf, size_t len, const char *what, uint64_t have, uint64_t limit)
{
	if (!limit || have <= limit)
		return 0;
	return (size_t)snprintf(buf, len, ", %" PRIu64 " of %" PRIu64 " %s", have, limit, what);
}

/* Limits below what there is are allowed, and said. */
static void note_excess(const struct pool_tenant *t, const struct refusal *ref)
{
	const struct tenant_limits *l = &t->set.limits;
	char text[512];
	size_t at = 0;

	at += note_blocks(text + at, sizeof(text) - at, "used", (uint64_t)atomic_load(&t->used_blocks), l->used_blocks);
	at += note_blocks(text + at, sizeof(text) - at, "provisioned", atomic_load(&t->provisioned_blocks), l->provisioned_blocks);
	at += note_count(text + at, sizeof(text) - at, "inodes", (uint64_t)atomic_load(&t->used_inodes), l->inodes);
	at += note_count(text + at, sizeof(text) - at, "subvolumes", atomic_load(&t->subvolumes), l->subvolumes);
	at += note_count(text + at, sizeof(text) - at, "snapshots", atomic_load(&t->snapshots), l->snapshots);
	if (at)
		admin_refuse(ref, 0, "tenant %s has more than it may now: %s; nothing of that grows until it is below", t->name,
		       text + (text[0] == ',' ? 2 : 0));
}

static int write_settings(struct pool_tenant *t, const struct tenant_settings *set)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool *pool = t->pool;
	struct tenant_rec rec;
	int r;

	if (!batch)
		return -ENOMEM;
	tenant_record(t, &rec);
	rec.set = *set;
	sysrec_put_tenant(pool->db, batch, t->id, &rec);
	r = pool->options.read_only ? -EROFS : db_write(pool->db, batch, 0);
	if (!r)
		r = pool_commit_wait(pool);
	if (!r)
		t->stored_since_ns = rec.soft_since_ns;
	return r;
}

int tenant_set(struct pool *pool, const char *name, const struct tenant_settings *set, unsigned fields, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct pool_tenant *t = find(pool, name, &ref);
	struct tenant_settings merged;
	int r;

	if (!t)
		return -ENOENT;
	merged = t->set;
	merge_settings(&merged, set, fields);
	r = check_settings(pool, &merged, &ref);
	if (r)
		return r;
	if (why && why_len)
		why[0] = 0;
	if (!same_settings(&t->set, &merged)) {
		r = write_settings(t, &merged);
		if (r)
			return admin_failed(&ref, r);
		tenant_apply(t, &merged);
		tenants_save(pool);
	}
	note_excess(t, &ref);
	return 0;
}

/* ---- delete ---- */

struct belongings {
	struct pool *pool;
	uint32_t tenant;
	unsigned shown;
	char names[NAMES_SHOWN * (2 * NAME_BYTES_MAX + 3) + 8];
};

static void add_name(struct belongings *b, const char *name, size_t len, const char *snapshot, size_t snapshot_len)
{
	char *end = b->names + strlen(b->names);

	if (b->shown++ > NAMES_SHOWN)
		return;
	if (b->shown > NAMES_SHOWN)
		strcpy(end, ", ...");
	else
		sprintf(end, "%s%.*s%s%.*s", b->shown > 1 ? ", " : "", (int)len, name, snapshot ? "@" : "", (int)snapshot_len,
			snapshot ? snapshot : "");
}

static int add_subvol(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct belongings *b = arg;
	struct subvol_rec rec;

	(void)key;
	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.tenant == b->tenant && !(rec.flags & SUBVOL_DELETING))
		add_name(b, rec.name, rec.name_len, NULL, 0);
	return 0;
}

static int add_snapshot(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	char name[NAME_BYTES_MAX + 1];
	struct belongings *b = arg;
	struct subvol_rec sv;
	struct node_rec rec;

	(void)key;
	if (node_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.tenant != b->tenant || rec.state != NODE_SNAPSHOT)
		return 0;
	if (sysrec_subvol(b->pool->db, rec.subvol, &sv, name))
		strcpy(name, "?");
	add_name(b, name, strlen(name), rec.name, rec.name_len);
	return 0;
}

static int refuse_full(const struct pool_tenant *t, const struct refusal *ref)
{
	struct belongings b = { .pool = t->pool, .tenant = t->id };
	int r = sysrec_each(t->pool->db, REC_SUBVOL, add_subvol, &b);

	if (!r)
		r = sysrec_each(t->pool->db, REC_NODE, add_snapshot, &b);
	if (r)
		return admin_failed(ref, r);
	return admin_refuse(ref, -EBUSY, "tenant %s has %" PRIu64 " subvolumes and %" PRIu64 " snapshots: delete them first: %s", t->name,
		      atomic_load(&t->subvolumes), atomic_load(&t->snapshots), b.names);
}

static int write_deleted(struct pool_tenant *t)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool *pool = t->pool;
	uint8_t key[KEY_MAX];
	int r;

	if (!batch)
		return -ENOMEM;
	db_batch_delete(pool->db, batch, DB_SYS, key, key_tenant(key, t->id));
	db_batch_delete(pool->db, batch, DB_SYS, key, key_tenant_name(key, t->name, strlen(t->name)));
	r = pool->options.read_only ? -EROFS : db_write(pool->db, batch, 0);
	return r ? r : pool_commit_wait(pool);
}

int tenant_delete(struct pool *pool, const char *name, bool dry_run, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { why, why_len };
	struct pool_tenant *t = find(pool, name, &ref);
	int r;

	if (!t)
		return -ENOENT;
	if (t->id == NVFS_TENANT_DEFAULT)
		return admin_refuse(&ref, -EPERM, "tenant %s is that of subvolumes which name none: it stays", name);
	if (atomic_load(&t->subvolumes) || atomic_load(&t->snapshots))
		return refuse_full(t, &ref);
	if (dry_run)
		return pool->options.read_only ? admin_failed(&ref, -EROFS) : 0;
	r = write_deleted(t);
	if (r)
		return admin_failed(&ref, r);
	tenant_remove(t);
	return 0;
}

/* ---- list ---- */

static void fill_info(struct pool_tenant *t, struct tenant_info *out)
{
	const int64_t used = atomic_load(&t->used_blocks), inodes = atomic_load(&t->used_inodes);

	*out = (struct tenant_info){
		.id = t->id,
		.set = t->set,
		.used_blocks = used > 0 ? (uint64_t)used : 0,
		.used_inodes = inodes > 0 ? (uint64_t)inodes : 0,
		.provisioned_blocks = atomic_load(&t->provisioned_blocks),
		.subvolumes = atomic_load(&t->subvolumes),
		.snapshots = atomic_load(&t->snapshots),
		.soft_since_ns = atomic_load(&t->soft_since_ns),
		.created_ns = t->created_ns,
	};
	strcpy(out->name, t->name);
	throttle_stats(&t->throttle, &out->throttled);
}

int tenant_info(struct pool *pool, const char *name, struct tenant_info *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal none = { 0 };
	struct pool_tenant *t = find(pool, name, &none);

	if (!t)
		return -ENOENT;
	fill_info(t, out);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tenant_info *)a)->name, ((const struct tenant_info *)b)->name);
}

static int collect(struct pool *pool, struct tenant_info **out, size_t *count)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	size_t n = 0;

	for (struct pool_tenant *t = pool->tenants; t; t = t->next)
		n++;
	*out = malloc((n + 1) * sizeof(**out));
	*count = 0;
	if (!*out)
		return -ENOMEM;
	for (struct pool_tenant *t = pool->tenants; t; t = t->next)
		if (tenant_is_seen(pool, t->id))
			fill_info(t, &(*out)[(*count)++]);
	qsort(*out, *count, sizeof(**out), by_name);
	return 0;
}

int tenant_each(struct pool *pool, int (*fn)(const struct tenant_info *info, void *arg), void *arg)
{
	cleanup_free struct tenant_info *all = NULL;
	size_t count;
	int r = collect(pool, &all, &count);

	for (size_t i = 0; !r && i < count; i++)
		r = fn(&all[i], arg);
	return r;
}
