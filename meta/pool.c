/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening and closing a pool.
 *
 * The area that outlives a worker: [metafs][dirty slots][gathered changes][lookup counts], each page-aligned; the lengths follow from the
 * options alone, so that whoever makes the area needs no device.
 *
 * Order of opening: labels; metafs (which recovers the logs and raises the start counter); RocksDB; one sync,
 * because what RocksDB replayed may not be durable; only then the allocator, which may now trust what it loads.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io/cleanup.h"
#include "io/epoch.h"
#include "io/log.h"
#include "meta/discard.h"
#include "meta/gather.h"
#include "meta/lookups.h"
#include "meta/shared.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define DIRTY_BYTES_DEFAULT ((size_t)256 << 20)
#define CACHE_BYTES_DEFAULT ((size_t)64 << 20)
#define INODE_CACHE_DEFAULT 65536u
#define METAFS_AREA_BYTES ((size_t)128 << 20) /* tails and two tables; sparse */
#define WORKERS 3u
#define DISCARD_MIN_BLOCKS 64u
#define SEQUENCE_SHIFT 40

/* ---- the area ---- */

static size_t page_up(size_t n)
{
	return (n + 4095) & ~(size_t)4095;
}

static size_t dirty_bytes_of(const struct pool_options *opts)
{
	return opts->dirty_bytes ? opts->dirty_bytes : DIRTY_BYTES_DEFAULT;
}

static size_t dirty_part_bytes(const struct pool_options *opts)
{
	return page_up(dirty_area_size((uint32_t)(dirty_bytes_of(opts) / NVFS_BLOCK_SIZE)));
}

static size_t gather_at(const struct pool_options *opts)
{
	return METAFS_AREA_BYTES + dirty_part_bytes(opts);
}

size_t pool_area_size(const struct pool_options *opts)
{
	return gather_at(opts) + page_up(gather_store_bytes()) + page_up(lookup_store_bytes());
}

static int area_get(struct pool *pool, const struct pool_options *opts)
{
	const size_t need = pool_area_size(opts);
	void *base;

	pool->options.area = opts->area;
	if (opts->area.base) {
		if (opts->area.len_bytes >= need && (uintptr_t)opts->area.base % 4096 == 0)
			return 0;
		log_error("pool %s: its shared memory has %zu bytes, %zu are needed", pool->label.name,
			  opts->area.len_bytes, need);
		return -EINVAL;
	}
	base = mmap(NULL, need, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	pool->own_area = base;
	pool->own_area_bytes = need;
	pool->options.area = (struct pool_area){ .base = base, .len_bytes = need };
	return 0;
}

/* ---- numbers ---- */

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
	return pool->options.read_only;
}

uint64_t pool_sequence(struct pool *pool)
{
	return atomic_fetch_add_explicit(&pool->sequence, 1, memory_order_relaxed);
}

uint64_t pool_capacity(const struct pool *pool)
{
	return pool->data_blocks > pool->headroom_blocks ? pool->data_blocks - pool->headroom_blocks : 0;
}

static unsigned look_at_meta_room(struct pool *pool)
{
	const unsigned room = metafs_room(pool->metafs);
	const bool is_short = room < META_ROOM_SNAPSHOT;

	if (is_short != atomic_load_explicit(&pool->meta_short, memory_order_relaxed))
		atomic_store_explicit(&pool->meta_short, is_short, memory_order_relaxed);
	return room;
}

void pool_note_meta_room(struct pool *pool)
{
	look_at_meta_room(pool);
}

bool pool_may_grow(struct pool *pool, enum meta_room need)
{
	const struct event_about about = { .kind = EVENT_QUOTA_REACHED, .severity = EVENT_WARNING, .limited = true };

	if (!atomic_load_explicit(&pool->meta_short, memory_order_relaxed) || look_at_meta_room(pool) >= need)
		return true;
	db_make_room(pool->db);
	event_add(pool->events, &about, "the pool's room for metadata is nearly used up: there are no new snapshots, and writers get ENOSPC");
	return false;
}

bool pool_take_loose(struct pool *pool, int64_t blocks)
{
	if (!counter_take(&pool->promised_blocks, blocks, (int64_t)pool_capacity(pool))) {
		sweeper_look_again(pool->sweeper);
		return false;
	}
	atomic_fetch_add_explicit(&pool->loose_blocks, blocks, memory_order_relaxed);
	return true;
}

bool pool_has_loose(struct pool *pool, int64_t blocks)
{
	if (blocks <= 0 || atomic_load(&pool->promised_blocks) + blocks <= (int64_t)pool_capacity(pool))
		return true;
	sweeper_look_again(pool->sweeper);
	return false;
}

bool pool_claim(struct pool *pool, int64_t blocks)
{
	return pool_take(pool, 0, blocks);
}

bool pool_take(struct pool *pool, int64_t loose, int64_t claim)
{
	if (!counter_take(&pool->promised_blocks, loose + claim, (int64_t)pool_capacity(pool))) {
		sweeper_look_again(pool->sweeper);
		return false;
	}
	atomic_fetch_add(&pool->loose_blocks, loose);
	atomic_fetch_add(&pool->reserved_blocks, (uint64_t)claim);
	atomic_fetch_add(&pool->takes, loose || claim);
	return true;
}

void pool_count_promised(struct pool *pool, int64_t loose, int64_t claimed)
{
	atomic_fetch_add(&pool->promised_blocks, loose + claimed);
	atomic_fetch_add(&pool->loose_blocks, loose);
	atomic_fetch_add(&pool->reserved_blocks, (uint64_t)claimed);
}

static unsigned count_subvols(struct pool *pool)
{
	return atomic_load_explicit(&pool->subvol_count, memory_order_relaxed);
}

void pool_stats(struct pool *pool, struct pool_stats *out)
{
	struct metafs_stats mf;
	struct space_stats space;
	const int64_t unclaimed = (int64_t)pool_capacity(pool) - (int64_t)atomic_load(&pool->reserved_blocks) -
				  atomic_load(&pool->loose_blocks);

	metafs_stats(pool->metafs, &mf);
	space_get_stats(pool->space, &space);
	*out = (struct pool_stats){
		.data_blocks = space.total,
		.free_blocks = space.free,
		.reserved_blocks = atomic_load(&pool->reserved_blocks),
		.unclaimed_blocks = unclaimed > 0 ? (uint64_t)unclaimed : 0,
		.headroom_blocks = pool->headroom_blocks,
		.meta_bytes = mf.share_bytes,
		.meta_free_bytes = mf.free_bytes,
		.inodes_max = pool->label.inodes_max,
		.dirty_cap_blocks = dirty_slots(pool->dirty),
		.commits = atomic_load(&pool->commits),
		.checksum_errors = atomic_load(&pool->checksum_errors),
		.io_errors = atomic_load(&pool->io_errors),
		.subvolumes = count_subvols(pool),
		.open_subvolumes = atomic_load(&pool->open_count),
		.failed = atomic_load(&pool->failed),
		.sweep_error = subvol_sweep_error(pool),
	};
	out->dirty_blocks = out->dirty_cap_blocks - dirty_free_slots(pool->dirty);
	memcpy(out->name, pool->label.name, sizeof(out->name));
	memcpy(out->uuid, pool->label.pool_uuid, sizeof(out->uuid));
}

/* ---- sessions ---- */

#define SESSION_RANGE 64u

/* Of a range that is durably taken: most mounts need no commit. What is left of one at the end is lost. */
int pool_session_new(struct pool *pool, uint32_t *session)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	struct pool_rec rec = pool->rec;
	int r = 0;

	if (!pool->next_session || pool->next_session == rec.next_session) {
		pool->next_session = rec.next_session;
		rec.next_session += SESSION_RANGE;
		r = pool_write_rec(pool, &rec, NULL);
		if (r)
			return r;
		pool->rec = rec;
	}
	*session = pool->next_session++;
	return 0;
}

int pool_session_end(struct pool *pool, uint32_t session)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	uint8_t from[KEY_MAX], to[KEY_MAX];
	size_t from_len, to_len;
	int r;

	if (!batch)
		return -ENOMEM;
	from_len = key_result(from, session, 0);
	to_len = key_result(to, session, UINT16_MAX);
	r = db_batch_delete_range(pool->db, batch, DB_SYS, from, from_len, to, to_len);
	db_batch_delete(pool->db, batch, DB_SYS, to, to_len);
	return r ? r : db_write(pool->db, batch, 0);
}

int pool_write_rec(struct pool *pool, const struct pool_rec *rec, struct db_batch *with)
{
	cleanup_db_batch struct db_batch *own = with ? NULL : db_batch_new();
	struct db_batch *batch = with ? with : own;
	int r;

	if (!batch)
		return -ENOMEM;
	if (pool->options.read_only)
		return -EROFS;
	sysrec_put_pool(pool->db, batch, rec);
	r = db_write(pool->db, batch, 0);
	return r ? r : pool_commit_wait(pool);
}

/* ---- epochs, as the allocator asks for them ---- */

static uint64_t epochs_tag(void *arg)
{
	return epoch_tag(arg);
}

static bool epochs_passed(void *arg, uint64_t tag)
{
	return epoch_passed(arg, tag);
}

/* ---- labels ---- */

static void uuid_text(const uint8_t *uuid, char *out)
{
	for (unsigned i = 0; i < 16; i++)
		out += sprintf(out, "%02x%s", uuid[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
}

static int read_label(struct device *dev, struct label *out)
{
	int r = label_read(dev, out, NULL);

	switch (r) {
	case 0:
		return 0;
	case -ENOENT:
		log_error("%s is no device of an nvfs pool", device_name(dev));
		break;
	case -EPROTONOSUPPORT:
		log_error("%s belongs to pool %s, whose format %u.%u this version does not know", device_name(dev),
			  out->name, out->major, out->minor);
		break;
	default:
		log_error("%s: its label cannot be read: %s", device_name(dev), strerror(-r));
	}
	return r;
}

static int report_missing(const struct pool *pool, const struct label *labels)
{
	int r = 0;

	for (unsigned i = 0; i < labels->device_count; i++) {
		char uuid[40];

		if (pool->devices[i])
			continue;
		uuid_text(labels->devices[i].uuid, uuid);
		log_error("pool %s: device %u of %u is missing (UUID %s, %" PRIu64 " bytes)", labels->name, i + 1,
			  labels->device_count, uuid, labels->devices[i].size_bytes);
		r = -ENXIO;
	}
	return r;
}

/* The devices in the order of their indices, each with its label. */
static int find_members(struct pool *pool, struct device **devices, unsigned count, struct label *labels)
{
	cleanup_free struct label *label = malloc(sizeof(*label));
	const struct label *first = NULL;
	char why[256];

	if (!label)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		int r = read_label(devices[i], label);

		if (r)
			return r;
		if (first && !label_same_pool(first, label, why, sizeof(why))) {
			log_error("%s does not belong to the pool of %s: %s", device_name(devices[i]),
				  device_name(devices[0]), why);
			return -EINVAL;
		}
		if (pool->devices[label->device_index]) {
			log_error("%s and %s are the same device of pool %s", device_name(devices[i]),
				  device_name(pool->devices[label->device_index]), label->name);
			return -EINVAL;
		}
		pool->devices[label->device_index] = devices[i];
		labels[label->device_index] = *label;
		first = &labels[label->device_index];
	}
	pool->device_count = first->device_count;
	pool->label = *first;
	return report_missing(pool, first);
}

/* ---- opening ---- */

static int open_store(struct pool *pool, const struct label *labels)
{
	const struct metafs_options mo = {
		.devices = pool->devices,
		.labels = labels,
		.area = pool->options.area.base,
		.area_bytes = metafs_area_bytes(&pool->label, 0),
		.read_only = pool->options.read_only,
	};
	const struct db_options dbo = {
		.block_cache_bytes = pool->options.cache_bytes,
		.read_only = pool->options.read_only,
	};
	int r;

	if (mo.area_bytes > METAFS_AREA_BYTES) {
		log_error("pool %s: its metadata table needs %zu bytes of shared memory, %zu are there", pool->label.name,
			  mo.area_bytes, METAFS_AREA_BYTES);
		return -E2BIG;
	}
	r = metafs_open(&mo, &pool->metafs);
	if (!r)
		r = db_open(pool->metafs, &dbo, &pool->db);
	if (r)
		log_error("pool %s: its metadata cannot be opened: %s", pool->label.name, strerror(-r));
	if (!r)
		r = gather_store_create((char *)pool->options.area.base + gather_at(&pool->options), &pool->gather_store);
	if (!r && !pool->options.read_only)
		r = gather_takeup(pool);
	if (!r && !pool->options.read_only)
		r = db_sync(pool->db);
	if (r)
		return r;
	r = sysrec_pool(pool->db, &pool->rec);
	if (!r)
		pool->headroom_blocks = pool->rec.headroom_blocks;
	if (r == -ENOENT || r == -EBADMSG)
		log_error("pool %s: its pool record is damaged: run fsck.nvfs", pool->label.name);
	return r;
}

static int open_space(struct pool *pool, const struct label *labels)
{
	struct space_vdev vdevs[LABEL_DEVICES_MAX];
	struct space_zones zones[LABEL_DEVICES_MAX];
	const struct metafs_range *ranges;
	const unsigned nranges = metafs_ranges(pool->metafs, &ranges);
	const struct space_epochs epochs = { .tag = epochs_tag, .passed = epochs_passed, .arg = pool->epochs };
	struct space_config config = {
		.nvdevs = (uint16_t)pool->device_count,
		.vdevs = vdevs,
		.nreserved = nranges,
		.reserved = zones,
		.streams = pool->options.reactors < SPACE_STREAMS_MAX ? pool->options.reactors : SPACE_STREAMS_MAX,
		.discard_min_blocks = DISCARD_MIN_BLOCKS,
		.epochs = &epochs,
	};
	struct space_stats stats;
	int r;

	for (unsigned i = 0; i < pool->device_count; i++)
		vdevs[i] = (struct space_vdev){
			.zones_block = label_zone_block(&labels[i], 0),
			.zone_blocks = label_zone_blocks(&labels[i]),
			.zone_count = labels[i].zones,
		};
	if (nranges > LABEL_DEVICES_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < nranges; i++)
		zones[i] = (struct space_zones){ .vdev = ranges[i].vdev, .first = ranges[i].first, .count = ranges[i].count };
	r = space_create(&config, &pool->space);
	if (!r)
		r = space_load(pool->space, pool->db);
	if (r)
		log_error("pool %s: its space records cannot be loaded: %s", pool->label.name, strerror(-r));
	if (r)
		return r;
	space_get_stats(pool->space, &stats);
	pool->data_blocks = stats.total;
	return 0;
}

static int open_dirty(struct pool *pool)
{
	const uint64_t most = pool->headroom_blocks / 2;
	uint64_t slots = dirty_bytes_of(&pool->options) / NVFS_BLOCK_SIZE;

	if (slots > most && pool->options.dirty_bytes) {
		log_error("pool %s: dirty=%zu is more than half of the headroom that mkfs left: at most %" PRIu64 " bytes; leave it out for that, or make the pool with mkfs.nvfs --dirty",
			  pool->label.name, pool->options.dirty_bytes, most * NVFS_BLOCK_SIZE);
		return -EINVAL;
	}
	if (slots > most)
		slots = most;
	space_set_reserve(pool->space, slots);
	return dirty_create((char *)pool->options.area.base + METAFS_AREA_BYTES, (uint32_t)slots, &pool->dirty);
}

/* ---- what the subvolumes promise and use ---- */

static int add_subvol(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct pool *pool = arg;
	struct counters_rec counters;
	struct subvol_rec rec;
	int r;

	(void)key;
	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.flags & SUBVOL_DELETING)
		return 0;
	atomic_fetch_add(&pool->subvol_count, 1);
	if (rec.flags & SUBVOL_RESERVED) {
		pool_count_promised(pool, 0, (int64_t)rec.size_blocks);
		return 0;
	}
	r = sysrec_counters(pool->db, rec.tree, rec.node, &counters);
	if (!r)
		pool_count_promised(pool, counters.born + counters.meta_born, 0);
	return r;
}

/* What snapshots hold, and what is to be swept. */
static int add_held(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct pool *pool = arg;
	struct counters_rec counters;
	struct node_rec rec;
	int r;

	if (node_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.state == NODE_LIVE)
		return 0;
	r = sysrec_counters(pool->db, key->id, key->node, &counters);
	if (!r)
		pool_count_promised(pool, counters.born, 0);
	return r;
}

static int load_claims(struct pool *pool)
{
	int r = tenants_load(pool);

	if (!r)
		r = sysrec_each(pool->db, REC_SUBVOL, add_subvol, pool);
	if (!r)
		r = sysrec_each(pool->db, REC_NODE, add_held, pool);
	if (r)
		log_error("pool %s: its subvolume records cannot be loaded: %s", pool->label.name, strerror(-r));
	return r;
}

/* clean: all that was accepted is committed. */
static void pool_free(struct pool *pool, bool clean)
{
	if (!pool)
		return;
	discarder_stop(pool->discarder);
	sweeper_stop(pool->sweeper);
	tenants_stop(pool);
	if (pool->committer)
		committer_stop(pool->committer);
	workers_destroy(pool->workers);
	if (pool->dirty)
		dirty_destroy(pool->dirty);
	gather_store_destroy(pool->gather_store);
	lookup_store_destroy(pool->lookup_store);
	if (pool->space)
		space_destroy(pool->space);
	tenants_free(pool);
	db_close(pool->db);
	if (clean)
		metafs_seal(pool->metafs); /* it has logged why not */
	metafs_close(pool->metafs);
	epoch_domain_destroy(pool->epochs);
	events_destroy(pool->events);
	if (pool->own_area)
		munmap(pool->own_area, pool->own_area_bytes);
	pthread_mutex_destroy(&pool->admin_lock);
	pthread_mutex_destroy(&pool->numbers_lock);
	pthread_mutex_destroy(&pool->owners_lock);
	for (unsigned i = 0; pool->shared && i < pool->options.reactors; i++)
		shared_destroy(pool->shared[i]);
	free(pool->shared);
	free(pool->reactor_load);
	free(pool->options.reactor);
	free(pool->devices);
	free(pool);
}

static void pool_cleanup(struct pool **pool)
{
	pool_free(*pool, false);
}

static int take_options(struct pool *pool, const struct pool_options *opts)
{
	struct pool_options *o = &pool->options;

	*o = *opts;
	o->reactor = calloc(opts->reactors, sizeof(*o->reactor));
	pool->reactor_load = calloc(opts->reactors, sizeof(*pool->reactor_load));
	pool->shared = calloc(opts->reactors, sizeof(*pool->shared));
	pool->devices = calloc(LABEL_DEVICES_MAX, sizeof(*pool->devices));
	pool->events = events_create();
	if (!o->reactor || !pool->reactor_load || !pool->shared || !pool->devices || !pool->events)
		return -ENOMEM;
	memcpy(o->reactor, opts->reactor, opts->reactors * sizeof(*o->reactor));
	if (!o->cache_bytes)
		o->cache_bytes = CACHE_BYTES_DEFAULT;
	if (!o->inode_cache)
		o->inode_cache = INODE_CACHE_DEFAULT;
	return 0;
}

static int start_parts(struct pool *pool, const struct label *labels)
{
	const size_t lookups_at = gather_at(&pool->options) + page_up(gather_store_bytes());
	int r = epoch_domain_create(pool->options.reactors + 1, &pool->epochs);

	if (!r)
		r = open_space(pool, labels);
	if (!r)
		r = open_dirty(pool);
	if (!r)
		r = lookup_store_create((char *)pool->options.area.base + lookups_at, &pool->lookup_store);
	if (!r)
		r = load_claims(pool);
	if (!r)
		r = workers_create(WORKERS, "nvfs-work", &pool->workers);
	if (!r)
		r = committer_start(pool, &pool->committer);
	if (!r && !pool->options.read_only)
		r = sweeper_start(pool, &pool->sweeper);
	if (!r)
		r = discarder_start(pool, &pool->discarder);
	if (!r)
		pool_note_meta_room(pool);
	if (!r)
		tenants_start(pool);
	return r;
}

int pool_open(struct device **devices, unsigned device_count, const struct pool_options *opts,
	      struct pool **out)
{
	cleanup(pool_cleanup) struct pool *pool = calloc(1, sizeof(*pool));
	cleanup_free struct label *labels = calloc(LABEL_DEVICES_MAX, sizeof(*labels));
	int r;

	if (!pool || !labels)
		return -ENOMEM;
	if (!device_count || !opts->reactors)
		return -EINVAL;
	pthread_mutex_init(&pool->admin_lock, NULL);
	pthread_mutex_init(&pool->numbers_lock, NULL);
	pthread_mutex_init(&pool->owners_lock, NULL);
	r = take_options(pool, opts);
	if (!r)
		r = find_members(pool, devices, device_count, labels);
	if (r)
		return r;
	if (label_read_only(&pool->label) && !pool->options.read_only) {
		log_warn("pool %s: a newer nvfs made it, with something that this one does not know: it can only be read; update nvfs", pool->label.name);
		pool->options.read_only = true;
	}
	r = area_get(pool, opts);
	if (!r)
		r = open_store(pool, labels);
	if (!r) {
		atomic_store(&pool->sequence, (uint64_t)metafs_start(pool->metafs) << SEQUENCE_SHIFT | 1);
		r = start_parts(pool, labels);
	}
	if (r)
		return r;
	*out = take_ptr(pool);
	return 0;
}

int pool_close(struct pool *pool)
{
	int r = 0;

	sweeper_stop(take_ptr(pool->sweeper));
	tenants_stop(pool);
	if (!pool->options.read_only)
		r = pool_commit_wait(pool);
	pool_free(pool, !pool->options.read_only && !r);
	return r;
}
