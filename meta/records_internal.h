/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files that encode and decode records share. */
#ifndef NVFS_META_RECORDS_INTERNAL_H
#define NVFS_META_RECORDS_INTERNAL_H

#include <errno.h>
#include <string.h>

#include "meta/records.h"

#define VALID(condition)                 \
	do {                             \
		if (!(condition))        \
			return -EBADMSG; \
	} while (0)

/* Whether the value has the type and at least the fixed part. */
static inline bool head_is(const void *data, size_t len, uint8_t type, size_t fixed)
{
	const struct disk_head *head = data;

	return len >= fixed && head->type == type && head->version == REC_VERSION;
}

/* Zeroes the fixed part, so that reserved bytes are zero, and puts type and version. */
static inline void head_put(void *buf, uint8_t type, size_t fixed)
{
	struct disk_head *head = buf;

	memset(buf, 0, fixed);
	head->type = type;
	head->version = REC_VERSION;
}

/* memcpy() may not be given NULL, not even for no bytes. */
static inline void copy_bytes(void *to, const void *from, size_t len)
{
	if (len)
		memcpy(to, from, len);
}

#endif
