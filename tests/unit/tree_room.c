/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of the model that says what is refused, and by which limit. Each check is counted: a limit that never refused, and never by one block,
 * was not tested.
 */
#include "config.h"

#include <errno.h>

#include "tests/unit/tree_internal.h"

/* ---- Counting ---- */

static struct {
	unsigned refused, by_one; /* by_one: of them, where one less would have been allowed */
	unsigned to_the_last;     /* allowed, and one more would have been refused */
} counts[LIMITS];

static const char *const names[LIMITS] = {
	[LIMIT_SIZE] = "size of a subvolume",
	[LIMIT_INODES] = "inodes of a subvolume",
	[LIMIT_USED] = "what a tenant uses",
	[LIMIT_SOFT] = "soft limit, with its grace over",
	[LIMIT_TENANT_INODES] = "inodes of a tenant",
	[LIMIT_SUBVOLUMES] = "subvolumes of a tenant",
	[LIMIT_PROVISIONED] = "what a tenant's subvolumes are promised",
	[LIMIT_SNAPSHOTS] = "snapshots of a tenant",
	[LIMIT_GROUP] = "the same, of several at one moment",
	[LIMIT_POOL] = "the pool, of a thin write",
	[LIMIT_CLAIM] = "the pool, of a claim",
	[LIMIT_OVERCOMMIT] = "the pool, of a promise",
	[LIMIT_HELD] = "the pool, of what would be held beside a claim",
	[LIMIT_FITS] = "what a clone or a rollback has to have",
	[LIMIT_SHRINK] = "what is in use, of a smaller size",
};

static void count_refusal(enum tree_limit limit, bool by_one)
{
	counts[limit].refused++;
	counts[limit].by_one += by_one;
}

bool tree_passes(enum tree_limit limit, int64_t need, int64_t room)
{
	const bool passes = need > 0 && need > room;

	if (passes)
		count_refusal(limit, need == (room > 0 ? room : 0) + 1);
	else if (need > 0 && need == room)
		counts[limit].to_the_last++;
	return passes;
}

/* A write that ends where the room does is refused by one, and was allowed to the last. */
static bool was_tested(enum tree_limit limit)
{
	if (limit == LIMIT_SOFT)
		return counts[limit].refused;
	return counts[limit].by_one && (counts[limit].to_the_last || limit == LIMIT_SIZE || limit == LIMIT_USED || limit == LIMIT_POOL);
}

void tree_print_refusals(bool all_kinds)
{
	for (unsigned i = 0; i < LIMITS; i++)
		printf("  %-48s refused %5u, by one %5u; to the last %5u\n", names[i], counts[i].refused, counts[i].by_one,
		       counts[i].to_the_last);
	fflush(stdout);
	for (unsigned i = 0; all_kinds && i < LIMITS; i++)
		ck_assert_msg(was_tested(i), "never refused, never by one, or never allowed to the last: %s", names[i]);
}

/* ---- What there is room for ---- */

static int64_t room_below(uint64_t limit, int64_t used)
{
	return limit ? (int64_t)limit - used : INT64_MAX;
}

static bool grace_is_over(const struct tree_tenant *t, int64_t used)
{
	/* It lasts half a day less than so many days. */
	return t->soft && used > (int64_t)t->soft && t->above_since && tree.today - t->above_since >= t->grace_days;
}

static void room_of_others(const struct tree_node *v, struct tree_room *room)
{
	const struct tree_tenant *t = &tree.tenants[v->tenant];
	struct tree_sums now;

	/* What it gave back itself and did not put yet it has put when that is missing. */
	tree_pick(2) ? tree_sync() : tree_sync_others(v);
	tree_sums_now(&now);
	room->own = room_below(t->used, now.blocks[v->tenant]);
	room->own_inodes = room_below(t->inodes, now.inodes[v->tenant]);
	room->grace_over = grace_is_over(t, now.blocks[v->tenant]);
	if (!v->reserved)
		room->loose = (int64_t)pool_capacity(tree_pool) - now.loose - now.reserved;
	room->exact = tree_is_exact(v->tree);
}

void tree_room(const struct tree_node *v, struct tree_room *room)
{
	int64_t inodes;

	*room = (struct tree_room){ .own = INT64_MAX, .own_inodes = INT64_MAX, .loose = INT64_MAX, .exact = true };
	tree_visible(v, &room->visible, &inodes);
	room->blocks = (int64_t)v->size_blocks - room->visible;
	room->inodes = (int64_t)v->inodes_max - inodes;
	if (tree_opts.limits)
		room_of_others(v, room);
}

/* ---- What is done as a whole ---- */

static bool is_over(const struct tree_room *room, int64_t own, int64_t own_inodes)
{
	return (own > 0 && own > room->own) || (own_inodes > 0 && own_inodes > room->own_inodes);
}

/* In the order in which they are asked. */
static int expected(const struct tree_room *room, const struct tree_cost *c)
{
	if ((c->blocks > 0 && c->blocks > room->blocks) || (c->inodes > 0 && c->inodes > room->inodes))
		return -ENOSPC;
	if (is_over(room, c->own, c->own_inodes))
		return -EDQUOT;
	if (c->own > 0 && c->own > room->loose)
		return -ENOSPC;
	return c->own > 0 && room->grace_over ? -EDQUOT : 0;
}

/* Where it is not known what is own, or which limit comes first: one of the answers between those of the least and of the most that it may cost. */
static bool is_possible(const struct tree_room *room, const struct tree_cost *c, int r)
{
	const int64_t more = tree_opts.packs ? room->visible : 0; /* what was compressed with it */
	const int64_t own = room->exact ? c->own : c->own_most + more, own_inodes = room->exact ? c->own_inodes : c->own_inodes_most;
	const int least = expected(room, c);

	if (r == least)
		return true;
	if (r == -EDQUOT)
		return (c->steps || c->blocks <= room->blocks) && ((room->grace_over && own > 0) || is_over(room, own, own_inodes));
	return r == -ENOSPC && own > 0 && own > room->loose;
}

static void count_whole(const struct tree_room *room, const struct tree_cost *c, int r)
{
	if (tree_passes(LIMIT_SIZE, c->blocks, room->blocks) || tree_passes(LIMIT_INODES, c->inodes, room->inodes))
		return;
	if (tree_passes(LIMIT_USED, c->own, room->own) || tree_passes(LIMIT_TENANT_INODES, c->own_inodes, room->own_inodes) ||
	    tree_passes(LIMIT_POOL, c->own, room->loose))
		return;
	if (r == -EDQUOT && room->grace_over)
		count_refusal(LIMIT_SOFT, false);
}

void tree_check_whole(const struct tree_room *room, const struct tree_cost *c, int r, const char *what)
{
	TREE_ASSERT(room->exact && !c->steps ? r == expected(room, c) : is_possible(room, c, r),
		    "%s: %d with room for %ld blocks, %ld inodes, own %ld, %ld%s, loose %ld; needs %ld, %ld, own %ld to %ld, %ld to %ld",
		    what, r, room->blocks, room->inodes, room->own, room->own_inodes, room->grace_over ? ", and its grace is over" : "",
		    room->loose, c->blocks, c->inodes, c->own, c->own_most, c->own_inodes, c->own_inodes_most);
	count_whole(room, c, r);
}

/* ---- What is done as far as there is room ---- */

static void take(int64_t *room, bool one)
{
	*room -= *room == INT64_MAX ? 0 : one;
}

static bool stops(enum tree_limit limit, int *refusal, int error)
{
	if (*refusal)
		return true; /* counted */
	*refusal = error;
	count_refusal(limit, limit != LIMIT_SOFT);
	return true;
}

bool tree_take_block(struct tree_room *room, bool fresh, bool own, int *refusal)
{
	if (fresh && room->blocks <= 0)
		return !stops(LIMIT_SIZE, refusal, -ENOSPC);
	if (own && room->own <= 0)
		return !stops(LIMIT_USED, refusal, -EDQUOT);
	if (own && room->loose <= 0)
		return !stops(LIMIT_POOL, refusal, -ENOSPC);
	if (own && room->grace_over)
		return !stops(LIMIT_SOFT, refusal, -EDQUOT);
	take(&room->blocks, fresh);
	take(&room->own, own);
	take(&room->loose, own);
	return true;
}
