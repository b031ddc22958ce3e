/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_VIEWS_H
#define NVFS_FS_VIEWS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/workers.h"
#include "meta/subvol.h"

/*
 * The snapshots of a mounted subvolume under its hidden directory .snapshots (mount option snapdir). Each is a *view*: another subvolume, opened
 * read-only on the same reactor when somebody enters it, and closed when the kernel has forgotten all of its inodes.
 *
 * A node's number, for the kernel, is view << 48 | inode; 0 is the live tree, VIEWS_DIR the directory .snapshots itself. A view has the number
 * of its snapshot, unless one that was deleted while somebody used it still has that.
 *
 *	opening (work) -> open -> closing (work) -> closed, until the kernel has forgotten all of it -> freed
 *
 * A deleted snapshot's view is *banned* first: its name is gone, what is opened below it says ESTALE, and it is closed.
 *
 * Reactor thread only, but for struct view_source, which sleeps.
 */

#define VIEW_SHIFT 48
#define VIEW_INO_MASK ((UINT64_C(1) << VIEW_SHIFT) - 1)
#define VIEWS_DIR UINT64_C(0xffff)
#define VIEWS_DIR_NODE (VIEWS_DIR << VIEW_SHIFT | 1)
#define VIEWS_NAME ".snapshots"

struct ops_volume;
struct session;
struct request;

struct view_entry {
	uint16_t number;
	uint32_t node;
	char name[256];
};

/* What a view comes from. Not on a reactor. */
struct view_source {
	int (*open)(struct ops_volume *v, const char *snapshot, uint16_t *number, struct subvol **out);
	void (*close)(struct subvol *sv);
	/* All, oldest first: a list to be freed. */
	int (*list)(struct ops_volume *v, struct view_entry **out, unsigned *count);
	/* On the reactor: the volume is not to be closed until as many unholds came. */
	void (*hold)(struct ops_volume *v);
	void (*unhold)(struct ops_volume *v);
};

struct ops_view {
	struct ops_volume *volume;
	struct subvol *sv;      /* NULL: closed */
	struct reactor *reactor;
	uint16_t number;
	char name[256];
	bool dead, closing;
	unsigned uses;          /* requests */
	uint64_t lookups;       /* that the kernel was told and has not forgotten */
	struct work work;
	struct ops_view *prev, *next;
};

struct view_ban {
	const char *name;
	void (*done)(struct view_ban *ban); /* it is not open, and will not be */
	bool told;
	struct view_ban *prev, *next;
};

struct views {
	const struct view_source *source; /* NULL: there is no .snapshots */
	struct workers *workers;
	struct timespec since;            /* the times of .snapshots */
	struct ops_view *list;
	struct view_ban *bans;
};

/* The view of a node's number, live or not; NULL for the live tree and where there is none. */
struct ops_view *view_find(struct ops_volume *v, uint64_t node);

void view_use(struct ops_view *view);
void view_unuse(struct ops_view *view);

void view_lookups(struct ops_view *view, uint64_t n);
void view_forget(struct ops_view *view, uint64_t ino, uint64_t n);

/*
 * What concerns views, before anything else looks at a request that is no FORGET: true when it was answered. What is for a view that is open and
 * may be done there holds it (request->hold).
 */
bool views_early(struct session *s, struct request *r);

void views_ban(struct ops_volume *v, struct view_ban *ban);
void views_unban(struct ops_volume *v, struct view_ban *ban);

/* The session is over and nothing holds the volume: close and free all. The closer's thread. */
void views_end(struct ops_volume *v);

#endif
