/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_BUFFERS_H
#define NVFS_IO_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reactor;

/*
 * A reactor's I/O buffers: powers of two from 4 KiB to 1 MiB, aligned to 4096,
 * carved out of one region that the reactor's ring knows (READ_FIXED and
 * WRITE_FIXED by themselves, see reactor_register_buffers()). When the region
 * is used up or the request is larger, plain memory is given instead.
 *
 * One thread uses a pool: its reactor's.
 */

#define BUFFER_MIN_BYTES 4096u
#define BUFFER_MAX_BYTES (1u << 20)

struct buffers;

/*
 * A pool over [region, region + region_bytes), whole MiB, page-aligned, which
 * stays the caller's; with region NULL the pool maps one of its own. It is
 * registered with r unless r is NULL. 0, -ENOMEM or -EINVAL. The reactor is
 * destroyed before the pool.
 */
int buffers_create(struct reactor *r, void *region, size_t region_bytes, struct buffers **out);

/* All buffers were put back. NULL is fine. */
void buffers_destroy(struct buffers *b);

/*
 * A buffer of at least len_bytes (over 0), its content undefined. NULL when
 * there is no memory.
 */
void *buffers_get(struct buffers *b, size_t len_bytes);

/* Give it back; len_bytes as it was asked for. NULL is fine. */
void buffers_put(struct buffers *b, void *buf, size_t len_bytes);

/* Whether buf is of the region (and so registered). Any thread. */
bool buffers_contains(const struct buffers *b, const void *buf);

/* Bytes of the region in use, rounded up to their classes. */
size_t buffers_used_bytes(const struct buffers *b);

/* Requests that plain memory served. */
uint64_t buffers_fallbacks(const struct buffers *b);

#endif
