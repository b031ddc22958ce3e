/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The holders that one batch adds and drops.
 *
 * While a batch is put together its changes are a plain list. To emit it, the list is sorted by
 * zone and summed up per zone into one operand, which serves twice: it goes into the batch, and it
 * is kept for the durable counts: its rises are applied before the batch is written, its falls after
 * the commit. Sums of 0 (a run that moved from one record to another) vanish.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "meta/merge.h"
#include "meta/records.h"
#include "meta/space_internal.h"

struct change {
	struct zone *zone;
	uint16_t first;
	uint32_t blocks;
	int32_t delta;
};

/* The sum of all changes of a zone. */
struct zone_sum {
	struct zone *zone;
	size_t len;
	uint8_t *operand;
};

struct space_ops {
	struct space *space;
	struct change *changes;
	size_t nchanges, changes_max;
	struct zone_sum *sums; /* after emit */
	size_t nsums;
};

struct space_ops *space_ops_new(struct space *space)
{
	struct space_ops *ops = calloc(1, sizeof(*ops));

	if (ops)
		ops->space = space;
	return ops;
}

static void sums_free(struct space_ops *ops)
{
	for (size_t i = 0; i < ops->nsums; i++)
		free(ops->sums[i].operand);
	free(ops->sums);
	ops->sums = NULL;
	ops->nsums = 0;
}

void space_ops_clear(struct space_ops *ops)
{
	sums_free(ops);
	ops->nchanges = 0;
}

void space_ops_free(struct space_ops *ops)
{
	if (!ops)
		return;
	sums_free(ops);
	free(ops->changes);
	free(ops);
}

bool space_ops_empty(const struct space_ops *ops)
{
	return ops->nchanges == 0 && ops->nsums == 0;
}

static int changes_grow(struct space_ops *ops)
{
	const size_t max = ops->changes_max ? ops->changes_max * 2 : 16;
	struct change *bigger;

	if (ops->nchanges < ops->changes_max)
		return 0;
	bigger = realloc(ops->changes, max * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	ops->changes = bigger;
	ops->changes_max = max;
	return 0;
}

static int add_part(struct space_ops *ops, const struct extent *range, int32_t delta)
{
	uint32_t first;
	struct zone *z = space_zone_of(ops->space, range, &first);
	int err;

	if (!z || delta == 0)
		return -EINVAL;
	err = changes_grow(ops);
	if (err < 0)
		return err;
	ops->changes[ops->nchanges++] = (struct change){ z, first, range->blocks, delta };
	return 0;
}

int space_ops_add(struct space_ops *ops, const struct extent *range, int32_t delta)
{
	const size_t before = ops->nchanges;
	struct extent part;
	int err = range->blocks ? 0 : -EINVAL;

	for (uint32_t done = 0; !err && space_part(ops->space, range, done, &part); done += part.blocks)
		err = add_part(ops, &part, delta);
	if (err)
		ops->nchanges = before;
	return err;
}

/* ---- sums ---- */

static int change_cmp(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	if (x->zone->vdev != y->zone->vdev)
		return x->zone->vdev < y->zone->vdev ? -1 : 1;
	if (x->zone->index != y->zone->index)
		return x->zone->index < y->zone->index ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

/* Changes that lie apart are an operand as they are. */
static uint8_t *sum_apart(const struct change *changes, size_t n, size_t *len)
{
	struct space_span *spans;
	uint8_t *operand;
	uint32_t end = 0;

	for (size_t i = 0; i < n; i++) {
		if (i && changes[i].first <= end)
			return NULL;
		end = changes[i].first + changes[i].blocks;
	}
	spans = malloc(n * sizeof(*spans));
	operand = malloc(space_rec_size(n));
	if (spans && operand) {
		for (size_t i = 0; i < n; i++)
			spans[i] = (struct space_span){ changes[i].first, changes[i].blocks,
							changes[i].delta };
		*len = space_rec_encode(true, spans, n, operand);
		free(spans);
		return operand;
	}
	free(spans);
	free(operand);
	return NULL;
}

#define ONE_SPAN (sizeof(struct disk_space) + sizeof(struct disk_span))

/* Any changes: each as an operand of its own, for the merge operator's function to add up. */
static uint8_t *sum_merged(const struct change *changes, size_t n, size_t *len)
{
	uint8_t *bytes = malloc(n * ONE_SPAN), *sum = NULL;
	const char **operands = malloc(n * sizeof(*operands));
	size_t *lens = malloc(n * sizeof(*lens));

	if (bytes && operands && lens) {
		for (size_t i = 0; i < n; i++) {
			const struct space_span span = { changes[i].first, changes[i].blocks,
							 changes[i].delta };

			operands[i] = (const char *)bytes + i * ONE_SPAN;
			lens[i] = space_rec_encode(true, &span, 1, bytes + i * ONE_SPAN);
		}
		sum = merge_space(NULL, 0, operands, lens, (int)n, true, len);
	}
	free(bytes);
	free(operands);
	free(lens);
	return sum;
}

static int sum_add(struct space_ops *ops, const struct change *changes, size_t n)
{
	struct zone_sum *sum = &ops->sums[ops->nsums];

	sum->zone = changes->zone;
	sum->operand = sum_apart(changes, n, &sum->len);
	if (!sum->operand)
		sum->operand = sum_merged(changes, n, &sum->len);
	if (!sum->operand)
		return -ENOMEM;
	if (sum->len > sizeof(struct disk_space))
		ops->nsums++;
	else
		free(sum->operand);
	return 0;
}

static int sums_make(struct space_ops *ops)
{
	size_t from = 0;
	int err;

	ops->sums = calloc(ops->nchanges, sizeof(*ops->sums));
	if (!ops->sums)
		return -ENOMEM;
	qsort(ops->changes, ops->nchanges, sizeof(*ops->changes), change_cmp);
	for (size_t i = 1; i <= ops->nchanges; i++) {
		if (i < ops->nchanges && ops->changes[i].zone == ops->changes[from].zone)
			continue;
		err = sum_add(ops, ops->changes + from, i - from);
		if (err < 0)
			return err;
		from = i;
	}
	return 0;
}

/* ---- durable counts ---- */

/* Lower what the sums raised, up to span `last` of sum `sum` (not included). */
static void undo_raise(struct space_ops *ops, size_t sum, uint32_t last)
{
	for (size_t i = 0; i <= sum && i < ops->nsums; i++) {
		struct space_rec rec;

		space_rec_decode(ops->sums[i].operand, ops->sums[i].len, &rec);
		for (uint32_t n = 0; n < (i < sum ? rec.nspans : last); n++) {
			const struct space_span s = space_rec_span(&rec, n);

			if (s.holders > 0)
				space_durable_down(ops->space, ops->sums[i].zone, s.first,
						   s.first + s.blocks, (uint32_t)s.holders);
		}
	}
}

static int raise_all(struct space_ops *ops)
{
	for (size_t i = 0; i < ops->nsums; i++) {
		struct space_rec rec;

		space_rec_decode(ops->sums[i].operand, ops->sums[i].len, &rec);
		for (uint32_t n = 0; n < rec.nspans; n++) {
			const struct space_span s = space_rec_span(&rec, n);
			int err = 0;

			if (s.holders > 0)
				err = space_durable_up(ops->space, ops->sums[i].zone, s.first,
						       s.first + s.blocks, (uint32_t)s.holders);
			if (err < 0) {
				undo_raise(ops, i, n);
				return err;
			}
		}
	}
	return 0;
}

static int put_all(const struct space_ops *ops, space_put_fn put, void *arg)
{
	uint8_t key[KEY_SPACE_LEN];

	for (size_t i = 0; i < ops->nsums; i++) {
		const struct zone_sum *sum = &ops->sums[i];
		const size_t key_len = key_space(key, sum->zone->vdev, sum->zone->index);
		const int err = put(arg, key, key_len, sum->operand, sum->len);

		if (err < 0)
			return err;
	}
	return 0;
}

int space_ops_emit(struct space_ops *ops, space_put_fn put, void *arg)
{
	int err;

	if (!ops->nchanges)
		return 0;
	err = sums_make(ops);
	if (!err)
		err = raise_all(ops);
	if (!err) {
		err = put_all(ops, put, arg);
		if (err < 0)
			undo_raise(ops, ops->nsums, 0);
	}
	if (err < 0)
		sums_free(ops);
	return err;
}

void space_ops_committed(struct space_ops *ops)
{
	for (size_t i = 0; i < ops->nsums; i++) {
		struct space_rec rec;

		space_rec_decode(ops->sums[i].operand, ops->sums[i].len, &rec);
		for (uint32_t n = 0; n < rec.nspans; n++) {
			const struct space_span s = space_rec_span(&rec, n);

			if (s.holders < 0)
				space_durable_down(ops->space, ops->sums[i].zone, s.first,
						   s.first + s.blocks, (uint32_t)-s.holders);
		}
	}
	space_ops_clear(ops);
	space_reap(ops->space);
}

void space_ops_aborted(struct space_ops *ops)
{
	undo_raise(ops, ops->nsums, 0);
	space_ops_clear(ops);
}
