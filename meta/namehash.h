/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order of a directory: a name's readdir cookie is its keyed hash, so that nobody outside the
 * pool can make names collide. 0, 1 and 2 are free for "start", "." and "..", and 2^63 - 1 is the
 * end of a directory for programs that look at a signed offset.
 */
#ifndef NVFS_META_NAMEHASH_H
#define NVFS_META_NAMEHASH_H

#include <stddef.h>
#include <stdint.h>

#define COOKIE_MIN UINT64_C(3)
#define COOKIE_MAX (UINT64_C(0x7fffffffffffffff) - 1)
#define NAMEHASH_KEY_BYTES 16

/* The cookie that a name has unless another name took it: COOKIE_MIN..COOKIE_MAX. Any thread. */
uint64_t cookie_of(const uint8_t key[NAMEHASH_KEY_BYTES], const void *name, size_t len);

/* Another hash of the name, under another key: two names with the same cookie and check are the same name. Any thread. */
uint64_t name_check_of(const uint8_t key[NAMEHASH_KEY_BYTES], const void *name, size_t len);

/* The cookie `steps` after this one; COOKIE_MIN follows COOKIE_MAX. */
uint64_t cookie_add(uint64_t cookie, unsigned steps);

/* How many steps lead from cookie `from` to `to`. */
uint64_t cookie_distance(uint64_t from, uint64_t to);

#endif
