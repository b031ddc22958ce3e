/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_MKFS_H
#define NVFS_META_MKFS_H

#include <stddef.h>
#include <stdint.h>

struct device;

/* Zero is the default of each but name. */
struct pool_create_options {
	const char *name;            /* 1..63 of [A-Za-z0-9._-], not starting with . or - */
	uint64_t inodes_max;         /* what metadata is given room for; 0: one for each 16 KiB */
	uint64_t dirty_bytes;        /* largest cap of dirty data, the headroom is twice that; 0: 256 MiB or 1/16 of the data space */
	uint32_t overcommit_percent; /* thin subvolumes together may promise this much of the data space; 0: 200 */
};

/*
 * Make a pool on these devices, which are open for writing and locked by the caller; what is on them is lost. Sleeps. The
 * labels are written last: until then no device is a member. 0; -EINVAL, -ENOSPC (why says it with the numbers), -EIO and others (logged; why
 * has a sentence). why may be NULL.
 */
int pool_create(struct device **devices, unsigned count, const struct pool_create_options *opts, char *why, size_t why_len);

/* Whether pool_create() would refuse these devices and options: the same errors, and nothing is written. */
int pool_create_check(struct device **devices, unsigned count, const struct pool_create_options *opts, char *why,
		      size_t why_len);

#endif
