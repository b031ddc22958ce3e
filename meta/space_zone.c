/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/space_zone.h"

/* ---- bits ---- */

static uint64_t *bitmap(const struct zone *z, enum zone_bits which)
{
	return z->bits + which * (size_t)(z->blocks / 64);
}

static bool bit(const uint64_t *map, uint32_t at)
{
	return map[at / 64] >> (at % 64) & 1;
}

/* The bits of one word from bit `first` on, up to `end` (1..64, not included). */
static uint64_t word_mask(uint32_t first, uint32_t end)
{
	return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (64 - end));
}

static void set_range(uint64_t *map, uint32_t first, uint32_t end, bool on)
{
	while (first < end) {
		const uint32_t low = first % 64;
		const uint32_t high = end - first >= 64 - low ? 64 : low + (end - first);
		const uint64_t mask = word_mask(low, high);

		if (on)
			map[first / 64] |= mask;
		else
			map[first / 64] &= ~mask;
		first += high - low;
	}
}

/* Where the value of the bit at `at` first changes, or end. */
static uint32_t bit_run_end(const uint64_t *map, uint32_t at, uint32_t end)
{
	const uint64_t flip = bit(map, at) ? ~UINT64_C(0) : 0;

	while (at < end) {
		const uint64_t word = (map[at / 64] ^ flip) >> (at % 64);

		if (word) {
			at += (uint32_t)__builtin_ctzll(word);
			break;
		}
		at = (at / 64 + 1) * 64;
	}
	return at < end ? at : end;
}

/* ---- ranges with counts above one ---- */

/* Index of the first range that ends at or after `at`. */
static uint32_t shared_find(const struct zone *z, uint32_t at)
{
	uint32_t low = 0, high = z->nshared;

	while (low < high) {
		const uint32_t mid = (low + high) / 2;

		if (z->shared[mid].last < at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int zone_reserve(struct zone *z, uint32_t pieces)
{
	/* A piece in the middle of a range makes two more. */
	const uint32_t need = z->nshared + 2 * pieces;
	struct zone_shared *bigger;
	uint32_t max;

	if (need <= z->shared_max)
		return 0;
	max = need < 8 ? 8 : need + need / 2;
	bigger = realloc(z->shared, max * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	z->shared = bigger;
	z->shared_max = max;
	return 0;
}

static void shared_insert(struct zone *z, uint32_t i, struct zone_shared range)
{
	assert(z->nshared < z->shared_max);
	memmove(z->shared + i + 1, z->shared + i, (z->nshared - i) * sizeof(*z->shared));
	z->shared[i] = range;
	z->nshared++;
}

static void shared_remove(struct zone *z, uint32_t i)
{
	z->nshared--;
	memmove(z->shared + i, z->shared + i + 1, (z->nshared - i) * sizeof(*z->shared));
}

/* Take [first, last] out of the range that contains it. */
static void shared_cut(struct zone *z, uint32_t first, uint32_t last)
{
	const uint32_t i = shared_find(z, first);
	struct zone_shared *r = &z->shared[i], right = *r;

	assert(i < z->nshared && r->first <= first && r->last >= last);
	if (r->first == first && r->last == last) {
		shared_remove(z, i);
	} else if (r->first == first) {
		r->first = last + 1;
	} else if (r->last == last) {
		r->last = first - 1;
	} else {
		r->last = first - 1;
		right.first = last + 1;
		shared_insert(z, i + 1, right);
	}
}

static bool shared_joins(const struct zone_shared *a, const struct zone_shared *b)
{
	return a->last + 1 == b->first && a->cur == b->cur && a->dur == b->dur;
}

/* Put in a range that overlaps none, joined with its neighbours where they are alike. */
static void shared_put(struct zone *z, struct zone_shared range)
{
	uint32_t i = shared_find(z, range.first);

	if (i > 0 && shared_joins(&z->shared[i - 1], &range)) {
		z->shared[i - 1].last = range.last;
		i--;
	} else {
		shared_insert(z, i, range);
	}
	if (i + 1 < z->nshared && shared_joins(&z->shared[i], &z->shared[i + 1])) {
		z->shared[i].last = z->shared[i + 1].last;
		shared_remove(z, i + 1);
	}
}

/* ---- pieces ---- */

struct zone_piece zone_piece(const struct zone *z, uint32_t at, uint32_t end)
{
	struct zone_piece p = { .first = at };
	const uint32_t i = shared_find(z, at);

	for (unsigned which = 0; which < ZONE_BITS; which++)
		end = bit_run_end(bitmap(z, which), at, end);
	p.cur = bit(bitmap(z, ZONE_CUR), at);
	p.dur = bit(bitmap(z, ZONE_DUR), at);
	p.busy = bit(bitmap(z, ZONE_BUSY), at);
	if (i < z->nshared && z->shared[i].first <= at) {
		p.cur = z->shared[i].cur;
		p.dur = z->shared[i].dur;
		if (end > z->shared[i].last + 1u)
			end = z->shared[i].last + 1u;
	} else if (i < z->nshared && end > z->shared[i].first) {
		end = z->shared[i].first;
	}
	p.end = end;
	return p;
}

void zone_set(struct zone *z, const struct zone_piece *p, uint32_t cur, uint32_t dur)
{
	if (p->cur > 1 || p->dur > 1)
		shared_cut(z, p->first, p->end - 1);
	if (cur > 1 || dur > 1)
		shared_put(z, (struct zone_shared){ p->first, p->end - 1, cur, dur });
	if ((p->cur > 0) != (cur > 0))
		set_range(bitmap(z, ZONE_CUR), p->first, p->end, cur > 0);
	if ((p->dur > 0) != (dur > 0))
		set_range(bitmap(z, ZONE_DUR), p->first, p->end, dur > 0);
}

void zone_set_busy(struct zone *z, uint32_t first, uint32_t end, bool busy)
{
	set_range(bitmap(z, ZONE_BUSY), first, end, busy);
}

/* ---- free runs ---- */

/* One bit for each block of the word that is not free. */
static uint64_t taken_word(const struct zone *z, uint32_t word)
{
	const uint32_t words = z->blocks / 64;

	return z->bits[word] | z->bits[words + word] | z->bits[2 * words + word];
}

/* The first block at or after `at` that is (or is not) free, or the end of the zone. */
static uint32_t next_block(const struct zone *z, uint32_t at, bool free)
{
	const uint64_t flip = free ? ~UINT64_C(0) : 0;

	while (at < z->blocks) {
		const uint64_t word = (taken_word(z, at / 64) ^ flip) >> (at % 64);

		if (word)
			return at + (uint32_t)__builtin_ctzll(word);
		at = (at / 64 + 1) * 64;
	}
	return z->blocks;
}

uint32_t zone_find_free(const struct zone *z, uint32_t from, uint32_t want, uint32_t *first)
{
	uint32_t longest = 0;

	*first = 0;
	for (uint32_t at = next_block(z, from, true); at < z->blocks;) {
		const uint32_t end = next_block(z, at, false);

		if (end - at > longest) {
			longest = end - at;
			*first = at;
			if (longest >= want)
				break;
		}
		at = next_block(z, end, true);
	}
	return longest;
}

uint32_t zone_free_run(const struct zone *z, uint32_t at)
{
	uint32_t first = at;

	/* Back by words while they are free, then to the last taken bit of one that is not. */
	while (first > 0) {
		const uint32_t last = first - 1;
		const uint64_t word = taken_word(z, last / 64) << (63 - last % 64);

		if (word) {
			first -= (uint32_t)__builtin_clzll(word);
			break;
		}
		first = last / 64 * 64;
	}
	return next_block(z, at, false) - first;
}
