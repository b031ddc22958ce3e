/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/turns.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

struct turns_party *turns_find(const struct turns *t, const void *key)
{
	struct turns_party *p;

	HASH_FIND_PTR(t->parties, &key, p);
	return p;
}

struct turns_party *turns_get(struct turns *t, const void *key)
{
	struct turns_party *p = turns_find(t, key);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		p->key = key;
		HASH_ADD_PTR(t->parties, key, p);
		t->unused++;
	}
	if (!p->users++)
		t->unused--;
	return p;
}

void turns_put(struct turns *t, struct turns_party *p)
{
	assert(p->users && (p->users > 1 || !p->sources));
	if (!--p->users)
		t->unused++;
}

static void forget(struct turns *t, struct turns_party *p)
{
	HASH_DEL(t->parties, p);
	free(p);
}

void turns_forget(struct turns *t)
{
	struct turns_party *p, *next;

	if (!t->unused)
		return;
	HASH_ITER(hh, t->parties, p, next) {
		if (!p->users)
			forget(t, p);
	}
	t->unused = 0;
}

void turns_free(struct turns *t)
{
	struct turns_party *p, *next;

	HASH_ITER(hh, t->parties, p, next)
		forget(t, p);
	t->active = NULL;
	t->unused = 0;
}

/* Behind those that have used as much: they came first. */
static void enter(struct turns *t, struct turns_party *p)
{
	struct turns_party *at = t->active;

	while (at && at->used_ns <= p->used_ns)
		at = at->next;
	if (at)
		DL_PREPEND_ELEM(t->active, at, p);
	else
		DL_APPEND(t->active, p);
}

/* Not further than TURNS_SAVED_NS from what the first one has used. */
static void bring_near(const struct turns *t, struct turns_party *p)
{
	const uint64_t least = t->active ? t->active->used_ns : p->used_ns;

	if (p->used_ns + TURNS_SAVED_NS < least)
		p->used_ns = least - TURNS_SAVED_NS;
	else if (p->used_ns > least + TURNS_SAVED_NS)
		p->used_ns = least + TURNS_SAVED_NS;
}

void turns_join(struct turns *t, struct turns_party *p)
{
	if (p->sources++)
		return;
	bring_near(t, p);
	enter(t, p);
}

void turns_leave(struct turns *t, struct turns_party *p)
{
	assert(p->sources);
	if (!--p->sources)
		DL_DELETE(t->active, p);
}

void turns_spent(struct turns *t, struct turns_party *p, uint64_t ns)
{
	p->used_ns += ns < TURNS_SAVED_NS ? ns : TURNS_SAVED_NS;
	if (!p->sources)
		return;
	DL_DELETE(t->active, p);
	enter(t, p);
}

void turns_worked(struct turns *t, struct turns_party *p, uint64_t ns)
{
	for (struct turns_party *idle = t->active; p->sources && idle != p; idle = idle->next)
		if (idle->used_ns + TURNS_SAVED_NS < p->used_ns)
			idle->used_ns = p->used_ns - TURNS_SAVED_NS;
	turns_spent(t, p, ns);
}
