/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stddef.h>
#include <utlist.h>

#include "fs/drain.h"

#define ROUNDS 2

void drain_start(struct drains *drains, struct session_drain *d)
{
	d->rounds = ROUNDS;
	d->counting = false;
	DL_APPEND(drains->list, d);
}

static void finish(struct drains *drains, struct session_drain *d, bool drained)
{
	DL_DELETE(drains->list, d);
	d->done(d, drained);
}

/* Whether there is another one. */
static bool end_round(struct drains *drains, struct session_drain *d)
{
	d->counting = false;
	if (--d->rounds > 0)
		return true;
	finish(drains, d, true);
	return false;
}

void drain_idle(struct drains *drains, uint64_t in_hand)
{
	struct session_drain *d, *next;

	DL_FOREACH_SAFE(drains->list, d, next) {
		if (d->counting)
			continue;
		d->counting = true;
		d->mark = drains->read;
		d->left = in_hand;
		/* With nothing in our hands nothing can be waiting behind it. */
		if (!in_hand)
			finish(drains, d, true);
	}
}

bool drain_answered(struct drains *drains, uint64_t number)
{
	struct session_drain *d, *next;
	bool again = false;

	DL_FOREACH_SAFE(drains->list, d, next)
		if (d->counting && number <= d->mark && --d->left == 0 && end_round(drains, d))
			again = true;
	return again;
}

void drain_cancel(struct drains *drains, struct session_drain *d)
{
	finish(drains, d, false);
}

void drain_cancel_all(struct drains *drains)
{
	while (drains->list)
		finish(drains, drains->list, false);
}
