/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allocator.
 *
 * A block of a data zone is in one of these states, by its two counts and its busy bit:
 *
 *	free      current 0, durable 0             may be handed out
 *	new       current 1, durable 0             allocated; no batch maps it yet
 *	held      current > 0, durable > 0         records in memory and in RocksDB map it
 *	leaving   current 0, durable > 0           dropped in memory; a record that a power cut can bring
 *	                                           back still maps it
 *	settling  current 0, durable 0, busy       nothing maps it, but a read that looked it up before may
 *	                                           be under way, or a discard is
 *
 * Invariants:
 *
 * 1. A record that any power cut from now on can leave behind maps only blocks with durable > 0. That is
 *    why durable goes up *before* a batch is written (RocksDB may sync it at any moment after that, on
 *    somebody else's behalf) and down only when the batch is known to be durable: in between, both the
 *    state with and the one without the batch are possible, and durable covers both.
 * 2. A record in memory maps only blocks with current > 0. So a block with both at 0 is mapped by
 *    nothing, now or after a power cut.
 * 3. A block leaves "settling" when every read that was under way when it got there has ended: readers
 *    find blocks through records in memory, so later reads cannot find it.
 * 4. space->free is never more than the number of free blocks: allocation takes its blocks from
 *    this number first and looks for them afterwards, and a freed block's bits change before
 *    the number does. So who was granted n blocks finds n, if not in one run.
 * 5. A zone is in exactly one place: full, in the list of its class, or owned by a stream. The class is
 *    the logarithm of its longest free run; `bound` is that length or more, exact when a zone is put
 *    into a list.
 *
 * Finding room: a stream fills a zone of its own on each device from the front (next fit) and goes
 * round the devices by 1 MiB. A new zone is the one with the longest free runs, so long runs
 * last as long as there are any. When no zone has a run as long as wanted, the longest left is
 * taken wherever it is, other streams' zones included.
 *
 * Locks, in order: a stream's; a group's (zones are spread over groups); then, as leaves, the lists', the
 * queue of settling blocks', the queue of discards'. Numbers are atomics.
 *
 * Deliberately not done: no defragmentation, no sorting by temperature, no persistence of its own: at a
 * mount `space` is loaded.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/db.h"
#include "meta/records.h"
#include "meta/space_internal.h"

#define SCRAPE_TRIES 64

/* ---- geometry ---- */

struct zone *space_zone_at(const struct space *space, uint16_t vdev, uint32_t zone)
{
	struct zone *z;

	if (vdev >= space->nvdevs || zone >= space->vdevs[vdev].zone_count)
		return NULL;
	z = &space->vdevs[vdev].zones[zone];
	return z->bits ? z : NULL;
}

struct zone *space_zone_of(const struct space *space, const struct extent *range, uint32_t *first)
{
	const struct vdev_space *v;
	uint64_t at;

	if (range->vdev >= space->nvdevs || range->blocks == 0)
		return NULL;
	v = &space->vdevs[range->vdev];
	if (range->block < v->zones_block)
		return NULL;
	at = range->block - v->zones_block;
	if (at / v->zone_blocks >= v->zone_count)
		return NULL;
	*first = at % v->zone_blocks;
	if (range->blocks > v->zone_blocks - *first)
		return NULL;
	return space_zone_at(space, range->vdev, at / v->zone_blocks);
}

bool space_part(const struct space *space, const struct extent *range, uint32_t done,
		struct extent *part)
{
	uint32_t first, room;

	if (done >= range->blocks)
		return false;
	*part = (struct extent){ .block = range->block + done, .blocks = 1, .vdev = range->vdev };
	room = space_zone_of(space, part, &first) ? space->vdevs[range->vdev].zone_blocks - first :
						    range->blocks;
	part->blocks = range->blocks - done < room ? range->blocks - done : room;
	return true;
}

struct extent space_extent_of(const struct space *space, const struct zone *z, uint32_t first,
			       uint32_t end)
{
	const struct vdev_space *v = &space->vdevs[z->vdev];

	return (struct extent){
		.block = v->zones_block + (uint64_t)z->index * v->zone_blocks + first,
		.blocks = end - first,
		.vdev = z->vdev,
	};
}

/* ---- lists of zones ---- */

static void list_append(struct zone_list *list, struct zone *z)
{
	z->next = NULL;
	z->prev = list->tail;
	if (list->tail)
		list->tail->next = z;
	else
		list->head = z;
	list->tail = z;
}

static void list_remove(struct zone_list *list, struct zone *z)
{
	if (z->prev)
		z->prev->next = z->next;
	else
		list->head = z->next;
	if (z->next)
		z->next->prev = z->prev;
	else
		list->tail = z->prev;
	z->prev = z->next = NULL;
}

static unsigned class_of(uint32_t run)
{
	return 31u - (unsigned)__builtin_clz(run);
}

/* Runs of a zone of this class or above are surely at least this long. */
static unsigned class_for(uint32_t run)
{
	return run <= 1 ? 0 : class_of(run - 1) + 1;
}

/* Take the zone out of wherever it is. List lock held. */
static void zone_unlink(struct space *space, struct zone *z)
{
	struct vdev_space *v = &space->vdevs[z->vdev];

	if (z->state == ZONE_LISTED)
		list_remove(&v->listed[z->class], z);
	else if (z->state == ZONE_OWNED)
		list_remove(&v->owned, z);
}

/* Put it where its bound says, at the end of the list. List lock held, and the group's for the bound. */
void space_zone_link(struct space *space, struct zone *z)
{
	if (z->bound == 0) {
		z->state = ZONE_FULL;
		return;
	}
	z->state = ZONE_LISTED;
	z->class = class_of(z->bound);
	list_append(&space->vdevs[z->vdev].listed[z->class], z);
}

/* After a change of the bound. Group lock held. */
static void zone_rank(struct space *space, struct zone *z)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->list_lock);

	if (z->state == ZONE_OWNED)
		return;
	zone_unlink(space, z);
	space_zone_link(space, z);
}

/* The stream is done with its zone. Group lock held. */
static void zone_release(struct space *space, struct zone *z)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->list_lock);

	zone_unlink(space, z);
	space_zone_link(space, z);
}

/* The zone at the head of the highest class from `lowest` up. List lock held. */
static struct zone *zone_best(const struct vdev_space *v, unsigned lowest)
{
	for (unsigned c = SPACE_CLASSES; c-- > lowest;)
		if (v->listed[c].head)
			return v->listed[c].head;
	return NULL;
}

/* Own a zone of the device that surely has a free run of `want` blocks, or NULL. */
static struct zone *zone_own(struct space *space, uint16_t vdev, uint32_t want)
{
	struct vdev_space *v = &space->vdevs[vdev];
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->list_lock);
	struct zone *z = zone_best(v, class_for(want));

	if (!z)
		return NULL;
	zone_unlink(space, z);
	z->state = ZONE_OWNED;
	list_append(&v->owned, z);
	return z;
}

/* ---- freeing ---- */

/* These blocks have become free: their bits say so. Group lock held. */
void space_blocks_freed(struct space *space, struct zone *z, uint32_t first, uint32_t end)
{
	const uint32_t run = zone_free_run(z, first);

	if (run > z->bound) {
		const bool rank = z->bound == 0 || class_of(run) != class_of(z->bound);

		z->bound = run;
		if (rank)
			zone_rank(space, z);
	}
	atomic_fetch_add(&space->free, end - first);
}

static bool settle_grow(struct space *space)
{
	const size_t max = space->settle_max ? space->settle_max * 2 : 256;
	struct settling *bigger;

	if (space->settle_count < space->settle_max)
		return true;
	bigger = malloc(max * sizeof(*bigger));
	if (!bigger)
		return false;
	for (size_t i = 0; i < space->settle_count; i++)
		bigger[i] = space->settling[(space->settle_head + i) % space->settle_max];
	atomic_fetch_add(&space->memory_bytes, (max - space->settle_max) * sizeof(*bigger));
	free(space->settling);
	space->settling = bigger;
	space->settle_head = 0;
	space->settle_max = max;
	return true;
}

/* Queue blocks that have just become unmapped. Group lock held. */
static bool settle_push(struct space *space, struct zone *z, uint32_t first, uint32_t end)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->settle_lock);
	/* Inside the lock, so that tags rise along the queue. */
	const uint64_t tag = space->epochs.tag(space->epochs.arg);
	struct settling *last;

	if (space->settle_count) {
		last = &space->settling[(space->settle_head + space->settle_count - 1) %
					space->settle_max];
		if (last->tag == tag && last->zone == z && last->end == first) {
			last->end = end;
			return true;
		}
	}
	if (!settle_grow(space))
		return false;
	space->settling[(space->settle_head + space->settle_count++) % space->settle_max] =
		(struct settling){ tag, z, first, end };
	return true;
}

/* Up to max entries whose readers have gone. */
static size_t settle_pop(struct space *space, struct settling *out, size_t max)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->settle_lock);
	size_t n = 0;

	while (n < max && space->settle_count) {
		const struct settling *s = &space->settling[space->settle_head];

		if ((n == 0 || s->tag != out[n - 1].tag) &&
		    !space->epochs.passed(space->epochs.arg, s->tag))
			break;
		out[n++] = *s;
		space->settle_head = (space->settle_head + 1) % space->settle_max;
		space->settle_count--;
	}
	return n;
}

static void settled(struct space *space, const struct settling *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, s->zone));

	for (uint32_t at = s->first; at < s->end;) {
		const struct zone_piece p = zone_piece(s->zone, at, s->end);

		at = p.end;
		zone_set_busy(s->zone, p.first, p.end, false);
		if (p.cur || p.dur)
			continue;
		space_discard_note(space, space_extent_of(space, s->zone, p.first, p.end));
		space_blocks_freed(space, s->zone, p.first, p.end);
	}
}

void space_reap(struct space *space)
{
	struct settling batch[64];
	size_t n;

	if (!space->has_epochs)
		return;
	while ((n = settle_pop(space, batch, 64)))
		for (size_t i = 0; i < n; i++)
			settled(space, &batch[i]);
}

/* Both counts have become 0. Group lock held. */
static void blocks_unmapped(struct space *space, struct zone *z, uint32_t first, uint32_t end)
{
	if (!space->has_epochs) {
		space_discard_note(space, space_extent_of(space, z, first, end));
		space_blocks_freed(space, z, first, end);
		return;
	}
	zone_set_busy(z, first, end, true);
	if (!settle_push(space, z, first, end))
		log_warn("space: no memory: %" PRIu32 " free blocks stay out of use until the next mount",
			 end - first);
}

/* ---- counts ---- */

static uint64_t beyond_first(uint32_t count)
{
	return count > 1 ? count - 1 : 0;
}

/* Change the counts of a piece and the numbers that follow from its current count. Group lock held. */
static void piece_set(struct space *space, struct zone *z, const struct zone_piece *p, uint32_t cur,
		      uint32_t dur)
{
	const uint64_t blocks = p->end - p->first;

	zone_set(z, p, cur, dur);
	if ((cur > 0) != (p->cur > 0)) {
		if (cur)
			atomic_fetch_add(&space->held, blocks);
		else
			atomic_fetch_sub(&space->held, blocks);
	}
	if (beyond_first(cur) != beyond_first(p->cur))
		atomic_fetch_add(&space->shared,
				 blocks * (beyond_first(cur) - beyond_first(p->cur)));
}

/* The same where blocks may change between mapped and not. Group lock held. */
static void piece_change(struct space *space, struct zone *z, const struct zone_piece *p,
			 uint32_t cur, uint32_t dur)
{
	const bool was_mapped = p->cur || p->dur, is_mapped = cur || dur;

	piece_set(space, z, p, cur, dur);
	if (is_mapped && !was_mapped && !p->busy)
		atomic_fetch_sub(&space->free, p->end - p->first);
	else if (was_mapped && !is_mapped)
		blocks_unmapped(space, z, p->first, p->end);
}

/* What a change asks of every piece of its range. */
typedef bool (*piece_check)(const struct zone_piece *p);

static bool is_current(const struct zone_piece *p)
{
	return p->cur >= 1 && p->cur < UINT32_MAX / 2;
}

static bool is_new(const struct zone_piece *p)
{
	return p->cur == 1 && p->dur == 0;
}

static bool is_mapped(const struct zone_piece *p)
{
	return (p->cur || p->dur) && p->dur < UINT32_MAX / 2;
}

static bool is_any(const struct zone_piece *p)
{
	return p->cur < UINT32_MAX / 2;
}

/* Check all pieces and make room for a change of each. Group lock held. */
static int range_prepare(struct zone *z, uint32_t first, uint32_t end, piece_check check)
{
	uint32_t pieces = 0;

	for (uint32_t at = first; at < end; pieces++) {
		const struct zone_piece p = zone_piece(z, at, end);

		if (!check(&p))
			return -EUCLEAN;
		at = p.end;
	}
	return zone_reserve(z, pieces);
}

void space_log_range(const struct extent *range, const char *what)
{
	log_error("space: %s: blocks %" PRIu64 "+%" PRIu32 " of device %u", what, range->block,
		  range->blocks, range->vdev);
}

/* Add delta (1 or -1) to the current counts of a range whose pieces pass the check. */
static int current_change_part(struct space *space, const struct extent *range, int delta,
			       piece_check check, const char *complaint)
{
	uint32_t first, end;
	struct zone *z = space_zone_of(space, range, &first);
	int err;

	if (!z)
		return -EINVAL;
	end = first + range->blocks;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	err = range_prepare(z, first, end, check);
	if (err == -EUCLEAN)
		space_log_range(range, complaint);
	if (err < 0)
		return err;
	for (uint32_t at = first; at < end;) {
		const struct zone_piece p = zone_piece(z, at, end);

		at = p.end;
		piece_change(space, z, &p, p.cur + (uint32_t)delta, p.dur);
	}
	return 0;
}

/* The same for a range that may go over the edge of a zone; all of it or nothing is changed. */
static int current_change(struct space *space, const struct extent *range, int delta,
			  piece_check check, const char *complaint)
{
	struct extent part;
	int err = range->blocks ? 0 : -EINVAL;

	for (uint32_t done = 0; !err && space_part(space, range, done, &part); done += part.blocks) {
		err = current_change_part(space, &part, delta, check, complaint);
		for (uint32_t undone = 0; err && undone < done; undone += part.blocks) {
			space_part(space, range, undone, &part);
			current_change_part(space, &part, -delta, is_any, complaint);
		}
	}
	return err;
}

int space_hold(struct space *space, const struct extent *range)
{
	return current_change(space, range, 1, is_current, "a hold of blocks that nothing maps");
}

int space_claim(struct space *space, const struct extent *range)
{
	return current_change(space, range, 1, is_any, "too many holders");
}

int space_drop(struct space *space, const struct extent *range)
{
	const int err = current_change(space, range, -1, is_current,
				       "a drop of blocks that nothing maps");

	if (err == -ENOMEM) {
		space_log_range(range, "no memory: blocks stay in use until the next mount");
		return 0;
	}
	return err;
}

static int release_part(struct space *space, const struct extent *range)
{
	uint32_t first, end;
	struct zone *z = space_zone_of(space, range, &first);
	struct zone_piece p;

	if (!z)
		return -EINVAL;
	end = first + range->blocks;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	p = zone_piece(z, first, end);
	if (p.end != end || !is_new(&p)) {
		space_log_range(range, "a release of blocks that are not new");
		return -EUCLEAN;
	}
	piece_set(space, z, &p, 0, 0);
	space_discard_note(space, *range);
	space_blocks_freed(space, z, first, end);
	return 0;
}

int space_release_unused(struct space *space, const struct extent *range)
{
	struct extent part;
	int err = 0;

	for (uint32_t done = 0; space_part(space, range, done, &part); done += part.blocks) {
		const int r = release_part(space, &part);

		err = err ? err : r;
	}
	return err;
}

int space_durable_up(struct space *space, struct zone *z, uint32_t first, uint32_t end, uint32_t by)
{
	const struct extent range = space_extent_of(space, z, first, end);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	const int err = range_prepare(z, first, end, is_mapped);

	if (err == -EUCLEAN)
		space_log_range(&range, "a batch maps blocks that were not allocated");
	if (err < 0)
		return err;
	for (uint32_t at = first; at < end;) {
		const struct zone_piece p = zone_piece(z, at, end);

		at = p.end;
		piece_change(space, z, &p, p.cur, p.dur + by);
	}
	return 0;
}

void space_durable_down(struct space *space, struct zone *z, uint32_t first, uint32_t end,
			uint32_t by)
{
	const struct extent range = space_extent_of(space, z, first, end);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));

	if (range_prepare(z, first, end, is_any) < 0) {
		space_log_range(&range, "no memory: blocks stay in use until the next mount");
		return;
	}
	for (uint32_t at = first; at < end;) {
		const struct zone_piece p = zone_piece(z, at, end);

		at = p.end;
		if (p.dur < by)
			space_log_range(&range, "a batch dropped more holders than there were");
		else
			piece_change(space, z, &p, p.cur, p.dur - by);
	}
}

int space_set_holders(struct space *space, struct zone *z, uint32_t first, uint32_t end,
		      uint32_t holders)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	const int err = range_prepare(z, first, end, is_any);

	for (uint32_t at = first; !err && at < end;) {
		const struct zone_piece p = zone_piece(z, at, end);

		at = p.end;
		piece_change(space, z, &p, holders, holders);
	}
	return err;
}

int space_counts(struct space *space, uint16_t vdev, uint64_t block, uint32_t *current,
		 uint32_t *durable)
{
	const struct extent range = { .block = block, .blocks = 1, .vdev = vdev };
	struct zone_piece p;
	uint32_t first;
	struct zone *z = space_zone_of(space, &range, &first);

	if (!z)
		return -EINVAL;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	p = zone_piece(z, first, first + 1);
	*current = p.cur;
	*durable = p.dur;
	return 0;
}

/* ---- allocation ---- */

/* Take up to `want` from the number of free blocks, leaving `keep`; 0 if that would be less than min. */
uint32_t space_free_take(struct space *space, uint32_t want, uint32_t min, uint64_t keep)
{
	uint64_t free = atomic_load(&space->free), n;

	do {
		n = free > keep ? free - keep : 0;
		if (n > want)
			n = want;
		if (n < min)
			return 0;
	} while (!atomic_compare_exchange_weak(&space->free, &free, free - n));
	return n;
}

/* Allocate blocks that are free and were taken from the number. Group lock held. */
static void blocks_take(struct space *space, struct zone *z, uint32_t first, uint32_t blocks,
			struct extent *out)
{
	const struct zone_piece p = { .first = first, .end = first + blocks };

	piece_set(space, z, &p, 1, 0);
	*out = space_extent_of(space, z, p.first, p.end);
}

/* `want` blocks in one run from the zone at the cursor; else the zone is given up. */
static bool cursor_take(struct space *space, struct cursor *c, uint32_t want, struct extent *out)
{
	struct zone *z = c->zone;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	uint32_t first;

	if (zone_find_free(z, c->pos, want, &first) >= want) {
		blocks_take(space, z, first, want, out);
		c->pos = first + want;
		return true;
	}
	z->bound = zone_find_free(z, 0, z->blocks, &first);
	zone_release(space, z);
	*c = (struct cursor){ 0 };
	return false;
}

static bool cursor_alloc(struct space *space, struct cursor *c, uint16_t vdev, uint32_t want,
			 struct extent *out)
{
	for (;;) {
		if (!c->zone)
			c->zone = zone_own(space, vdev, want);
		if (!c->zone)
			return false;
		if (cursor_take(space, c, want, out))
			return true;
	}
}

static void stream_turn(const struct space *space, struct stream *s)
{
	s->vdev = (s->vdev + 1) % space->nvdevs;
	s->left = SPACE_STRIPE_BLOCKS;
}

/* All of `want` in one run from zones of the stream's own. */
static bool stream_alloc(struct space *space, struct stream *s, uint32_t want, struct extent *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	for (unsigned i = 0; i < space->nvdevs; i++) {
		if (cursor_alloc(space, &s->cursors[s->vdev], s->vdev, want, out)) {
			s->left -= want < s->left ? want : s->left;
			if (!s->left)
				stream_turn(space, s);
			return true;
		}
		stream_turn(space, s);
	}
	return false;
}

/* The longest free run of the zone up to `want`, if it has at least min. */
static uint32_t scrape_zone(struct space *space, struct zone *z, uint32_t want, uint32_t min,
			    struct extent *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	uint32_t first, run = zone_find_free(z, 0, want, &first);

	if (run < min) {
		z->bound = run;
		zone_rank(space, z);
		return 0;
	}
	if (run > want)
		run = want;
	blocks_take(space, z, first, run, out);
	return run;
}

/* The most promising listed zone of all devices. */
static struct zone *scrape_listed(struct space *space, uint32_t min)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->list_lock);
	struct zone *best = NULL;

	for (unsigned i = 0; i < space->nvdevs; i++) {
		struct zone *z = zone_best(&space->vdevs[i], class_of(min));

		if (z && (!best || z->class > best->class))
			best = z;
	}
	return best;
}

/* The n-th zone that a stream owns, or NULL. */
static struct zone *scrape_owned(struct space *space, unsigned n)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->list_lock);

	for (unsigned i = 0; i < space->nvdevs; i++)
		for (struct zone *z = space->vdevs[i].owned.head; z; z = z->next)
			if (n-- == 0)
				return z;
	return NULL;
}

static uint32_t scrape_for(struct space *space, uint32_t want, uint32_t min, struct extent *out)
{
	struct zone *z;
	uint32_t got;

	for (unsigned i = 0; i < SCRAPE_TRIES && (z = scrape_listed(space, min)); i++)
		if ((got = scrape_zone(space, z, want, min, out)))
			return got;
	for (unsigned i = 0; (z = scrape_owned(space, i)); i++)
		if ((got = scrape_zone(space, z, want, min, out)))
			return got;
	return 0;
}

/* No zone has a run of `want`: the longest that there is, by halves, from anybody's zone. */
static uint32_t scrape(struct space *space, uint32_t want, uint32_t min, struct extent *out)
{
	for (uint32_t least = want;; least = least / 2 > min ? least / 2 : min) {
		const uint32_t got = scrape_for(space, want, least, out);

		if (got || least == min)
			return got;
	}
}

/* Nothing was found: whether a commit would help. */
static int dry(const struct space *space, uint32_t min, uint64_t keep)
{
	struct space_stats stats;

	space_get_stats(space, &stats);
	return stats.waiting && stats.free + stats.waiting >= min + keep ? -EAGAIN : -ENOSPC;
}

int space_alloc(struct space *space, unsigned stream, uint32_t want, uint32_t min, unsigned flags,
		struct extent *out)
{
	const uint64_t keep = flags & SPACE_RESERVE ? 0 : atomic_load(&space->reserve);
	uint32_t granted, got;

	if (min < 1 || min > want || stream >= space->nstreams)
		return -EINVAL;
	if (want > SPACE_ZONE_MAX)
		want = SPACE_ZONE_MAX > min ? SPACE_ZONE_MAX : min;
	granted = space_free_take(space, want, min, keep);
	if (!granted) {
		space_reap(space);
		granted = space_free_take(space, want, min, keep);
	}
	if (!granted)
		return dry(space, min, keep);
	if (stream_alloc(space, &space->streams[stream], granted, out))
		return 0;
	got = scrape(space, granted, min, out);
	atomic_fetch_add(&space->free, granted - got);
	return got ? 0 : dry(space, min, keep);
}

void space_set_reserve(struct space *space, uint64_t blocks)
{
	atomic_store(&space->reserve, blocks);
}

/* ---- numbers ---- */

void space_get_stats(const struct space *space, struct space_stats *out)
{
	const uint64_t free = atomic_load(&space->free), held = atomic_load(&space->held);

	*out = (struct space_stats){
		.total = space->total,
		.free = free,
		.held = held,
		/* Read one after the other while others allocate, the two may add up to more. */
		.waiting = free + held < space->total ? space->total - free - held : 0,
		.shared = atomic_load(&space->shared),
		.reserve = atomic_load(&space->reserve),
		.damaged = atomic_load(&space->damaged),
		.memory_bytes = atomic_load(&space->memory_bytes),
	};
}
