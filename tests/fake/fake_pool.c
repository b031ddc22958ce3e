/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "io/cleanup.h"
#include "meta/event.h"
#include "meta/label.h"
#include "meta/pool.h"
#include "meta/diff.h"
#include "meta/snapshot.h"
#include "meta/usage.h"
#include "meta/subvol.h"
#include "meta/tenant.h"
#include "tests/fake/fake_meta.h"

/*
 * Pool and subvolumes for nvfsd without a pool: the label of the first device is read, what is made lives in memory and ends with
 * the process. NVFS_FAKE_CRASH_FILE: pool_open() aborts while that file is there.
 */

struct fake_subvol {
	char name[SUBVOL_NAME_MAX + 1];
	char tenant[SUBVOL_NAME_MAX + 1];
	struct subvol_rec rec;
	struct subvol *sv;
	struct reactor *reactor;
	bool open;
	struct fake_subvol *prev, *next;
};

struct pool {
	struct label label;
	struct reactor *reactor;
	pthread_mutex_t lock;
	struct fake_subvol *subvols;
	uint32_t next_id;
	struct events *events;
};

/* One pool in a process. */
static struct pool the_pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

size_t pool_area_size(const struct pool_options *opts)
{
	(void)opts;
	return 4096;
}

int pool_open(struct device **devices, unsigned device_count, const struct pool_options *opts,
	      struct pool **out)
{
	const char *crash = getenv("NVFS_FAKE_CRASH_FILE");

	(void)device_count;
	if (crash && !access(crash, F_OK))
		abort();
	the_pool.reactor = opts->reactor[0];
	the_pool.events = events_create();
	*out = &the_pool;
	return label_read(devices[0], &the_pool.label, NULL);
}

int pool_close(struct pool *pool)
{
	struct fake_subvol *f, *next;

	DL_FOREACH_SAFE(pool->subvols, f, next) {
		DL_DELETE(pool->subvols, f);
		if (f->sv)
			fake_free(f->sv);
		free(f);
	}
	events_destroy(pool->events);
	return 0;
}

const char *pool_name(const struct pool *pool)
{
	return pool->label.name;
}

struct events *pool_events(struct pool *pool)
{
	return pool->events;
}

bool pool_read_only(const struct pool *pool)
{
	(void)pool;
	return false;
}

void pool_stats(struct pool *pool, struct pool_stats *out)
{
	*out = (struct pool_stats){ .data_blocks = 1u << 20, .free_blocks = 1u << 20 };
	if (pool)
		memcpy(out->name, pool->label.name, sizeof(pool->label.name));
}

int pool_session_new(struct pool *pool, uint32_t *session)
{
	static uint32_t next = 1;

	(void)pool;
	*session = next++;
	return 0;
}

int pool_session_end(struct pool *pool, uint32_t session)
{
	(void)pool;
	(void)session;
	return 0;
}

int pool_commit_wait(struct pool *pool)
{
	(void)pool;
	return 0;
}

static struct fake_subvol *find(struct pool *pool, const char *name)
{
	struct fake_subvol *f;

	DL_FOREACH(pool->subvols, f) {
		if (!strcmp(f->name, name) && tenant_is_seen(pool, f->rec.tenant))
			return f;
	}
	return NULL;
}

int subvol_create(struct pool *pool, const char *name, const struct subvol_options *opts, char *why,
		  size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f = find(pool, name);
	struct tenant_info tenant;

	if (f) {
		snprintf(why, why_len, "there is a subvolume %s already", name);
		return -EEXIST;
	}
	f = calloc(1, sizeof(*f));
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->rec = (struct subvol_rec){
		.name = f->name,
		.name_len = (uint8_t)strlen(f->name),
		.tree = ++pool->next_id,
		.tenant = tenant_info(pool, opts->tenant ? opts->tenant : "default", &tenant) ? 0 : tenant.id,
		.size_blocks = opts->size_bytes / 4096,
		.inodes_max = opts->inodes_max ? opts->inodes_max : 1024,
		.compression = opts->compression,
		.flags = opts->thin ? 0 : SUBVOL_RESERVED,
	};
	snprintf(f->tenant, sizeof(f->tenant), "%s", opts->tenant ? opts->tenant : "default");
	DL_APPEND(pool->subvols, f);
	return 0;
}

int subvol_delete(struct pool *pool, const char *name, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f = find(pool, name);

	if (!f || f->open) {
		snprintf(why, why_len, f ? "subvolume %s is mounted" : "there is no subvolume %s",
			 name);
		return f ? -EBUSY : -ENOENT;
	}
	DL_DELETE(pool->subvols, f);
	if (f->sv)
		fake_free(f->sv);
	free(f);
	return 0;
}

int subvol_resize(struct pool *pool, const char *name, uint64_t size_bytes, uint64_t inodes_max,
		  char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f = find(pool, name);

	(void)why;
	(void)why_len;
	if (!f)
		return -ENOENT;
	if (size_bytes)
		f->rec.size_blocks = size_bytes / 4096;
	if (inodes_max)
		f->rec.inodes_max = inodes_max;
	return 0;
}

int subvol_set_rates(struct pool *pool, const char *name, const struct rates *rates, unsigned fields, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f = find(pool, name);
	struct throttles throttles;

	(void)fields;
	(void)why;
	(void)why_len;
	if (!f)
		return -ENOENT;
	f->rec.rates = *rates;
	if (f->sv) {
		subvol_throttles(f->sv, &throttles);
		throttle_set(throttles.level[0], rates);
	}
	return 0;
}

static void describe(const struct fake_subvol *f, struct subvol_info *out)
{
	*out = (struct subvol_info){ .rec = f->rec, .open = f->open };
	strcpy(out->tenant, f->tenant);
}

int subvol_info(struct pool *pool, const char *name, struct subvol_info *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f = find(pool, name);

	if (!f)
		return -ENOENT;
	describe(f, out);
	return 0;
}

int subvol_each(struct pool *pool, int (*fn)(const struct subvol_info *info, void *arg), void *arg)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct fake_subvol *f;
	int result = 0;

	DL_FOREACH(pool->subvols, f) {
		struct subvol_info info;

		describe(f, &info);
		if (!result && tenant_is_seen(pool, f->rec.tenant))
			result = fn(&info, arg);
	}
	return result;
}

int pool_sweeps(struct pool *pool, struct pool_usage *out)
{
	(void)pool;
	*out = (struct pool_usage){ 0 };
	return 0;
}

int pool_usage(struct pool *pool, struct pool_usage *out)
{
	(void)pool;
	*out = (struct pool_usage){ .overcommit_percent = 200 };
	return 0;
}

int pool_set_overcommit(struct pool *pool, uint32_t percent, char *why, size_t why_len)
{
	(void)pool;
	(void)percent;
	snprintf(why, why_len, "a pool in memory has no settings");
	return -EROFS;
}

int subvol_open(struct pool *pool, const char *name, bool read_only, struct subvol **out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	static const struct fake_options options = { .wait_every = 5 };
	struct fake_subvol *f = find(pool, name);

	(void)read_only;
	if (!f || f->open)
		return f ? -EBUSY : -ENOENT;
	if (!f->sv)
		f->sv = fake_new(pool->reactor, &options);
	f->open = true;
	*out = f->sv;
	return 0;
}

int subvol_close(struct subvol *sv)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&the_pool.lock);
	struct fake_subvol *f;

	DL_FOREACH(the_pool.subvols, f) {
		if (f->sv == sv)
			f->open = false;
	}
	return 0;
}

struct reactor *subvol_reactor(const struct subvol *sv)
{
	(void)sv;
	return the_pool.reactor;
}

const char *subvol_tenant(const struct subvol *sv)
{
	(void)sv;
	return "default";
}

struct pool *subvol_pool(const struct subvol *sv)
{
	(void)sv;
	return &the_pool;
}

/* ---- Snapshots: there are none ---- */

int snapshot_create(struct pool *pool, const struct snapshot_name *names, unsigned count, char *why, size_t why_len)
{
	(void)pool, (void)names, (void)count, (void)why, (void)why_len;
	return -EOPNOTSUPP;
}

int snapshot_delete(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len)
{
	(void)pool, (void)name, (void)why, (void)why_len;
	return -ENOENT;
}

int snapshot_rollback(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len)
{
	(void)pool, (void)name, (void)why, (void)why_len;
	return -ENOENT;
}

int snapshot_clone(struct pool *pool, const struct snapshot_name *from, const char *name, const struct clone_options *opts, char *why,
		   size_t why_len)
{
	(void)pool, (void)from, (void)name, (void)opts, (void)why, (void)why_len;
	return -EOPNOTSUPP;
}

int snapshot_info(struct pool *pool, const struct snapshot_name *name, struct snapshot_info *out)
{
	(void)pool, (void)name, (void)out;
	return -ENOENT;
}

int snapshot_infos(struct pool *pool, const struct snapshot_name *names, unsigned count, int (*fn)(const struct snapshot_info *info, void *arg),
		   void *arg)
{
	(void)pool, (void)names, (void)count, (void)fn, (void)arg;
	return 0;
}

int snapshot_each(struct pool *pool, const char *subvol, int (*fn)(const struct snapshot_info *info, void *arg), void *arg)
{
	(void)pool, (void)subvol, (void)fn, (void)arg;
	return 0;
}

int snapshot_diff(struct pool *pool, const struct snapshot_name *from, const struct snapshot_name *to, const struct progress *progress,
		  int (*fn)(void *arg, const struct diff_change *change), void *arg, char *why, size_t why_len)
{
	(void)pool, (void)from, (void)to, (void)progress, (void)fn, (void)arg, (void)why, (void)why_len;
	return -ENOENT;
}

int usage_count(struct pool *pool, const struct snapshot_name *only, const struct progress *progress,
		int (*fn)(void *arg, const struct usage *usage), void *arg, struct usage_total *total, char *why, size_t why_len)
{
	(void)pool, (void)only, (void)progress, (void)fn, (void)arg, (void)why, (void)why_len;
	*total = (struct usage_total){ 0 };
	return 0;
}

int snapshot_open_view(struct subvol *of, const char *snapshot, uint16_t *number, struct subvol **out)
{
	(void)of, (void)snapshot, (void)number, (void)out;
	return -ENOENT;
}

uint32_t subvol_id(const struct subvol *sv)
{
	(void)sv;
	return 0;
}

const char *subvol_name(const struct subvol *sv)
{
	(void)sv;
	return "";
}
