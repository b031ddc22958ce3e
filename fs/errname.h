/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_ERRNAME_H
#define NVFS_FS_ERRNAME_H

#include <errno.h>
#include <string.h>

/* "ENOSPC" for ENOSPC; "EIO" for what has no name. Any thread. */
static inline const char *errname(int err)
{
	const char *name = strerrorname_np(err < 0 ? -err : err);

	return name ? name : "EIO";
}

#endif
