/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making an allocator, and filling it from entries of the `space` column family. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "meta/records.h"
#include "meta/space_internal.h"

/* What blocks with fewer than no holders get: they are never reused. */
#define DAMAGED_HOLDERS (1u << 30)

/* ---- loading ---- */

static int load_span(struct space *space, struct zone *z, const struct space_span *span)
{
	const uint32_t holders = span->holders > 0 ? (uint32_t)span->holders : DAMAGED_HOLDERS;
	const uint32_t end = span->first + span->blocks;

	if (end > z->blocks)
		return -EBADMSG;
	if (span->holders < 0) {
		const struct extent range = space_extent_of(space, z, span->first, end);

		space_log_range(&range, "fewer than no holders, run fsck.nvfs");
		atomic_fetch_add(&space->damaged, span->blocks);
	}
	return space_set_holders(space, z, span->first, end, holders);
}

int space_load_entry(struct space *space, const void *key, size_t key_len, const void *value,
		     size_t value_len)
{
	struct space_key k;
	struct space_rec rec;
	struct zone *z;
	int err = 0;

	if (space_key_parse(key, key_len, &k) < 0 ||
	    space_rec_decode(value, value_len, &rec) < 0 || rec.operand) {
		log_error("space: a holders record is malformed");
		return -EBADMSG;
	}
	z = space_zone_at(space, k.vdev, k.zone);
	if (!z && rec.nspans) {
		log_error("space: holders in zone %" PRIu32 " of device %u, which is not for data", k.zone,
			  k.vdev);
		return -EBADMSG;
	}
	for (uint32_t i = 0; !err && i < rec.nspans; i++) {
		const struct space_span span = space_rec_span(&rec, i);

		err = load_span(space, z, &span);
	}
	return err;
}

/* ---- making it ---- */

static bool zone_reserved(const struct space_config *config, uint16_t vdev, uint32_t zone)
{
	for (uint32_t i = 0; i < config->nreserved; i++) {
		const struct space_zones *r = &config->reserved[i];

		if (r->vdev == vdev && zone >= r->first && zone - r->first < r->count)
			return true;
	}
	return false;
}

static int vdev_init(struct space *space, const struct space_config *config, uint16_t i)
{
	const struct space_vdev *c = &config->vdevs[i];
	struct vdev_space *v = &space->vdevs[i];
	const size_t words = c->zone_blocks / 64 * ZONE_BITS;

	v->zones_block = c->zones_block;
	v->zone_blocks = c->zone_blocks;
	v->zone_count = c->zone_count;
	v->zones = calloc(c->zone_count, sizeof(*v->zones));
	v->bits = calloc(c->zone_count * words, sizeof(*v->bits));
	if (c->zone_count && (!v->zones || !v->bits))
		return -ENOMEM;
	atomic_fetch_add(&space->memory_bytes,
			 c->zone_count * (sizeof(*v->zones) + words * sizeof(*v->bits)));
	for (uint32_t n = 0; n < c->zone_count; n++) {
		struct zone *z = &v->zones[n];

		if (zone_reserved(config, i, n))
			continue;
		*z = (struct zone){ .bits = v->bits + n * words, .blocks = c->zone_blocks,
				    .index = n, .vdev = i, .bound = c->zone_blocks };
		space_zone_link(space, z);
		space->total += c->zone_blocks;
	}
	return 0;
}

static bool config_valid(const struct space_config *config)
{
	if (!config->nvdevs || !config->streams || config->streams > SPACE_STREAMS_MAX)
		return false;
	for (unsigned i = 0; i < config->nvdevs; i++) {
		const uint32_t blocks = config->vdevs[i].zone_blocks;

		if (blocks < 64 || blocks > SPACE_ZONE_MAX || blocks & (blocks - 1))
			return false;
	}
	for (uint32_t i = 0; i < config->nreserved; i++) {
		const struct space_zones *r = &config->reserved[i];

		if (r->vdev >= config->nvdevs || r->first > config->vdevs[r->vdev].zone_count ||
		    r->count > config->vdevs[r->vdev].zone_count - r->first)
			return false;
	}
	return true;
}

static int streams_init(struct space *space, unsigned n)
{
	space->streams = aligned_alloc(64, n * sizeof(*space->streams));
	if (!space->streams)
		return -ENOMEM;
	memset(space->streams, 0, n * sizeof(*space->streams));
	for (; space->nstreams < n; space->nstreams++) {
		struct stream *s = &space->streams[space->nstreams];

		s->cursors = calloc(space->nvdevs, sizeof(*s->cursors));
		if (!s->cursors)
			return -ENOMEM;
		pthread_mutex_init(&s->lock, NULL);
		/* Streams begin on different devices. */
		s->vdev = space->nstreams % space->nvdevs;
		s->left = SPACE_STRIPE_BLOCKS;
	}
	return 0;
}

static int space_init(struct space *space, const struct space_config *config)
{
	int err;

	for (unsigned i = 0; i < SPACE_GROUPS; i++)
		pthread_mutex_init(&space->groups[i].lock, NULL);
	pthread_mutex_init(&space->list_lock, NULL);
	pthread_mutex_init(&space->settle_lock, NULL);
	pthread_mutex_init(&space->discard_lock, NULL);
	space->discard_min_blocks = config->discard_min_blocks;
	if (config->epochs) {
		space->epochs = *config->epochs;
		space->has_epochs = true;
	}
	space->vdevs = calloc(config->nvdevs, sizeof(*space->vdevs));
	if (!space->vdevs)
		return -ENOMEM;
	while (space->nvdevs < config->nvdevs) {
		/* Counted first, so that one that fails half way is freed too. */
		err = vdev_init(space, config, space->nvdevs++);
		if (err < 0)
			return err;
	}
	space->free = space->total;
	return streams_init(space, config->streams);
}

int space_create(const struct space_config *config, struct space **out)
{
	struct space *space;
	int err;

	if (!config_valid(config))
		return -EINVAL;
	space = aligned_alloc(_Alignof(struct space), sizeof(*space));
	if (!space)
		return -ENOMEM;
	memset(space, 0, sizeof(*space));
	err = space_init(space, config);
	if (err < 0) {
		space_destroy(space);
		return err;
	}
	*out = space;
	return 0;
}

static void vdev_free(struct vdev_space *v)
{
	for (uint32_t n = 0; v->zones && n < v->zone_count; n++)
		free(v->zones[n].shared);
	free(v->zones);
	free(v->bits);
}

void space_destroy(struct space *space)
{
	if (!space)
		return;
	for (unsigned i = 0; space->vdevs && i < space->nvdevs; i++)
		vdev_free(&space->vdevs[i]);
	for (unsigned i = 0; i < space->nstreams; i++) {
		pthread_mutex_destroy(&space->streams[i].lock);
		free(space->streams[i].cursors);
	}
	for (unsigned i = 0; i < SPACE_GROUPS; i++)
		pthread_mutex_destroy(&space->groups[i].lock);
	pthread_mutex_destroy(&space->list_lock);
	pthread_mutex_destroy(&space->settle_lock);
	pthread_mutex_destroy(&space->discard_lock);
	free(space->streams);
	free(space->vdevs);
	free(space->settling);
	free(space->discards);
	free(space);
}
