/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_PROGRESS_H
#define NVFS_META_PROGRESS_H

#include <stdint.h>

/* How far something long is, some times a second; on its thread. What fn returns, if not 0, ends the work with that. */
struct progress {
	int (*fn)(void *arg, uint64_t done, uint64_t total); /* or NULL */
	void *arg;
};

#endif
