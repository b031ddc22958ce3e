/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_TESTS_FAKE_META_H
#define NVFS_TESTS_FAKE_META_H

#include <stdbool.h>

#include "io/reactor.h"
#include "meta/inode.h"
#include "meta/subvol.h"

/*
 * The functions of meta/ that the FUSE operations call, on a tree in memory:
 * for tests of fs/ without a pool, and for the null server of the benchmark. Link it instead of libnvmeta.a.
 * Reactor thread only, but for fake_new().
 */

struct fake_options {
	bool discard;        /* writes are thrown away, reads give zeros */
	unsigned wait_every; /* each n-th call of a function waits once before it works; 0: none does */
	unsigned wait_us;    /* so long; 0: until the next iteration */
	bool slow_creates;   /* each takes its session's whole turn, where sessions of several parties have work */
};

struct subvol *fake_new(struct reactor *r, const struct fake_options *options);
void fake_free(struct subvol *sv); /* any thread, when the reactor does not use it */

/* What the server has for an inode; false when there is none. */
bool fake_attr(struct subvol *sv, uint64_t ino, struct inode_attr *out);

/* The most names that were created in one iteration of the reactor, refused ones included. When nothing is under way. */
unsigned fake_most_creates(const struct subvol *sv);

/* Lookups that the kernel holds, summed over all inodes but the root. Any thread. */
uint64_t fake_lookups(const struct subvol *sv);

#endif
