/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_GROW_H
#define NVFS_META_GROW_H

#include <errno.h>
#include <stdlib.h>

/* Room for one more behind `count` elements of `size` bytes, in an array that doubles; room 0: none yet. 0 or -ENOMEM. */
static inline int array_grow(void **v, size_t count, size_t *room, size_t size)
{
	const size_t more = *room ? *room * 2 : 64;
	void *p;

	if (count < *room)
		return 0;
	p = reallocarray(*v, more, size);
	if (!p)
		return -ENOMEM;
	*v = p;
	*room = more;
	return 0;
}

#endif
