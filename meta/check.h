/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking a pool that nobody serves: what fsck.nvfs does, as a function, so that tests use it too.
 */
#ifndef NVFS_META_CHECK_H
#define NVFS_META_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct device;

struct check_options {
	bool repair; /* the devices are open for writing */
	bool data;   /* read all data and compare checksums */
	FILE *out;   /* one line for each problem; NULL: silence */
	/*
	 * How far it is, now and then; total is an estimate, 0 if unknown. what NULL: a line is about to be
	 * printed, a bar should make way. May be NULL.
	 */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
	void *arg;
};

struct check_result {
	uint64_t found;    /* different problems */
	uint64_t repaired; /* of them */
	uint64_t left;     /* found and still there */
	uint64_t inodes, data_blocks, records; /* what was looked at */
	char pool[64];
};

/*
 * Check the pool whose members these are, all of them in any order, open and locked by the caller. Works on
 * the calling thread for as long as it takes. 0 when the check was done, whatever it found;
 * -errno when it could not be (a line was printed): -ENOENT not a pool, -ENXIO a member is missing, -EROFS only a newer version may
 * repair it, -EBADMSG too
 * damaged to be opened (found is above 0 then), -EIO, -ENOMEM, ...
 */
int check_pool(struct device **devices, unsigned count, const struct check_options *options,
	       struct check_result *out);

#endif
