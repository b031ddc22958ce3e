/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Link counts, orphans, reachability, and sizes, when entries and maps have been counted. */
#include "config.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "meta/check_fix.h"
#include "meta/check_internal.h"

static const char *view_name(const struct check_view *view)
{
	return check_node_name(view->check, view->node->tree, view->node->id);
}

/* ---- orphans and links ---- */

static void check_orphan(struct check_view *view, const struct check_inode *i)
{
	const bool fixable = check_can_fix(view, i->from);

	if (i->flags & CHECK_ORPHAN && i->nlink) {
		if (check_found(view->check, fixable, "%s: inode %" PRIu64 " is an orphan and has links",
				view_name(view), i->ino))
			check_fix_orphan(view, i->ino, -1);
	} else if (!(i->flags & CHECK_ORPHAN) && !i->nlink && !i->refs) {
		if (check_found(view->check, fixable,
				"%s: inode %" PRIu64 " has no links and is not among the orphans",
				view_name(view), i->ino))
			check_fix_orphan(view, i->ino, ORPHAN_UNLINKED);
	}
}

static uint32_t right_nlink(const struct check_inode *i)
{
	if (!S_ISDIR(i->mode))
		return i->refs;
	return i->flags & CHECK_ORPHAN && !i->refs ? 0 : 2 + i->subdirs;
}

static void check_links(struct check_view *view, const struct check_inode *i)
{
	struct check *c = view->check;
	const uint32_t nlink = right_nlink(i);
	const bool is_root = i->ino == INO_ROOT;

	if (is_root && i->refs)
		check_found(c, false, "%s: an entry leads to the root", view_name(view));
	if (S_ISDIR(i->mode) && i->refs > 1)
		check_found(c, false, "%s: directory %" PRIu64 " is in %" PRIu32 " places", view_name(view),
			    i->ino, i->refs);
	if (!is_root && !i->refs && i->nlink && !(i->flags & CHECK_ORPHAN)) {
		check_found(c, false, "%s: inode %" PRIu64 " has links, and no entry leads to it",
			    view_name(view), i->ino);
		return;
	}
	if (i->nlink != nlink &&
	    check_found(c, check_can_fix(view, i->from),
			"%s: inode %" PRIu64 ": %" PRIu32 " links, and %" PRIu32 " by the entries",
			view_name(view), i->ino, i->nlink, nlink))
		check_fix_nlink(view, i->ino, nlink);
}

/* ---- reachability ---- */

/* Mark what lies on the way up from the directory; false if it does not end at the root. */
static bool climb(struct check_view *view, struct check_inode *from)
{
	struct check_inode *at = from;
	size_t steps = 0;
	bool arrives;

	while (at && at->ino != INO_ROOT && !(at->flags & CHECK_REACHED) && steps++ <= view->inodes.n)
		at = check_inode_find(view, at->parent);
	arrives = at && (at->ino == INO_ROOT || at->flags & CHECK_REACHED);
	/* A second walk marks, so that each directory is walked once. */
	for (at = from; arrives && at->ino != INO_ROOT && !(at->flags & CHECK_REACHED);
	     at = check_inode_find(view, at->parent))
		at->flags |= CHECK_REACHED;
	return arrives;
}

static void check_reached(struct check_view *view, struct check_inode *i)
{
	if (!S_ISDIR(i->mode) || i->flags & CHECK_ORPHAN || !i->refs)
		return;
	if (!climb(view, i))
		check_found(view->check, false, "%s: directory %" PRIu64 " cannot be reached from the root",
			    view_name(view), i->ino);
}

/* ---- data ---- */

static void check_blocks(struct check_view *view, const struct check_inode *i)
{
	struct check *c = view->check;
	const bool fixable = check_can_fix(view, i->from);

	if (i->flags & CHECK_REAPING)
		return;
	if (!S_ISREG(i->mode) || !(i->flags & CHECK_HAS_SIZE)) {
		if (i->mapped)
			check_found(c, false, "%s: inode %" PRIu64 " maps %" PRIu64 " blocks and %s",
				    view_name(view), i->ino, i->mapped,
				    S_ISREG(i->mode) ? "has no size" : "is no file");
		return;
	}
	if (i->flags & CHECK_INLINE && i->mapped && !(i->flags & CHECK_HAS_CUTS))
		check_found(c, false, "%s: inode %" PRIu64 " has inline data and maps %" PRIu64 " blocks",
			    view_name(view), i->ino, i->mapped);
	if (i->size_blocks != i->mapped &&
	    check_found(c, fixable, "%s: inode %" PRIu64 ": %" PRIu64 " blocks, and %" PRIu64 " by its maps",
			view_name(view), i->ino, i->size_blocks, i->mapped))
		check_fix_size_blocks(view, i->ino, i->mapped);
}

int check_inodes(struct check_view *view)
{
	const struct check_inode *root = check_inode_find(view, INO_ROOT);
	struct check_node *n = view->node;

	if (!root || !root->mode)
		check_found(view->check, false, "%s: the root directory is missing", view_name(view));
	for (size_t at = 0; at < view->inodes.n; at++) {
		struct check_inode *i = &view->inodes.v[at];

		n->counted.referenced += (int64_t)i->size_blocks;
		n->referenced_left +=
			(int64_t)(i->flags & CHECK_REAPING ? i->mapped : i->size_blocks);
		if (!i->mode)
			continue;
		check_orphan(view, i);
		if (!(i->flags & CHECK_REAPING))
			check_links(view, i);
		check_reached(view, i);
		check_blocks(view, i);
	}
	return check_write_fixes(view->check, false);
}
