/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose turn it is on a thread that several parties share. Who has had the least time goes first and works for a turn; so of
 * two that always have work each gets half of the time, however large their pieces of work are and from however many sources they come, and
 * who has little work waits for one turn of the others at most. The thread is never idle while anybody has work.
 *
 * A party without work does not save what it left to others: it goes before them for TURNS_SAVED_NS of work at most. Nor does it
 * pay for longer than that for what it had.
 *
 * Times are the caller's. Of one thread.
 */
#ifndef NVFS_IO_TURNS_H
#define NVFS_IO_TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#define TURN_NS UINT64_C(50000) /* a few small requests */
#define TURNS_SAVED_NS UINT64_C(2000000)

struct reactor_source;

struct turns_party {
	const void *key;
	unsigned users;                 /* turns_get() and not turns_put() */
	unsigned sources;               /* that may have work */
	uint64_t used_ns;               /* comparable among the active ones only */
	struct turns_party *prev, *next; /* of the active ones */
	struct reactor_source *awake;   /* the reactor's: those sources, the next one to be asked first */
	UT_hash_handle hh;
};

struct turns {
	struct turns_party *active;     /* those with sources that may have work; the least used is first */
	struct turns_party *parties;    /* all, by key */
	unsigned unused;                /* of these, that nobody uses */
};

/* The party of this key for one user more, made for the first one; NULL: no memory. */
struct turns_party *turns_get(struct turns *t, const void *key);

/* One user less. It stays until turns_forget(), so that whoever is at its turn can end it. None of its sources may have work. */
void turns_put(struct turns *t, struct turns_party *p);

/* Free the parties that nobody uses. Not while anybody has a turn. */
void turns_forget(struct turns *t);

/* The party of this key, or NULL when there is none. Not to be kept. */
struct turns_party *turns_find(const struct turns *t, const void *key);

void turns_free(struct turns *t);

/* One source more of p that may have work, and one less. */
void turns_join(struct turns *t, struct turns_party *p);
void turns_leave(struct turns *t, struct turns_party *p);

/* Whether several parties may have work. If not, there is nothing to share, and nothing needs to be measured. */
static inline bool turns_contended(const struct turns *t)
{
	return t->active && t->active->next;
}

/* p had a turn, and those before it in the list had no work when they were asked. */
void turns_worked(struct turns *t, struct turns_party *p, uint64_t ns);

/* The thread worked for p beside its turns. */
void turns_spent(struct turns *t, struct turns_party *p, uint64_t ns);

#endif
