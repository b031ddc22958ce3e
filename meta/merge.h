/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RocksDB's merge operators: changes that are written without reading what they change.
 *
 * `nvfs.space`: operands {range, delta} on the holders of a zone's blocks. Sums are kept exactly and
 * signed: more drops than holds show as holders below 0, which fsck reports and a later operand can
 * bring back. Beyond +-(2^31 - 1) they stay there: never round to "free".
 *
 * `nvfs.counters`: sums of 64 bits, modulo 2^64, so that the order of operands cannot matter.
 *
 * Bytes that are not a value or operand of the format make the merge fail, which RocksDB reports as
 * corruption to whoever reads or compacts that key.
 */
#ifndef NVFS_META_MERGE_H
#define NVFS_META_MERGE_H

#include <stdbool.h>
#include <stddef.h>

#include <rocksdb/c.h>

#define MERGE_SPACE_NAME "nvfs.space"
#define MERGE_COUNTERS_NAME "nvfs.counters"

/* For rocksdb_options_set_merge_operator(), which takes it over. NULL without memory. */
rocksdb_mergeoperator_t *merge_space_create(void);
rocksdb_mergeoperator_t *merge_counters_create(void);

/*
 * The pure functions behind them, for tests and fsck. existing may be NULL. The result is malloc'ed,
 * the caller's, and an operand if as_operand, else a value; a value may be empty of spans, but it is
 * never NULL. NULL for malformed input (logged) or without memory.
 */
void *merge_space(const void *existing, size_t existing_len, const char *const *operands,
		  const size_t *lens, int n, bool as_operand, size_t *out_len);
void *merge_counters(const void *existing, size_t existing_len, const char *const *operands,
		     const size_t *lens, int n, bool as_operand, size_t *out_len);

#endif
