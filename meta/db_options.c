/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How RocksDB is set up. Sizes follow from the share of metafs: a flush and a compaction of the
 * first levels must fit into the eighth that requests leave free, so the four files of level 0
 * and the base level are together a sixteenth of the share.
 *
 * What is left to metafs: durability (no sync in writes), preallocation, checks of the log.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/log.h"
#include "meta/db_internal.h"
#include "meta/merge.h"
#include "meta/metafs_tune.h"

#define BLOCK_CACHE_DEFAULT TUNE_MIB(64)
#define BLOOM_BITS 10
#define LEVELS 7

const char *const db_cf_name[DB_CFS] = { "default", "ns", "map", "space", "sys" };

/*
 * What the C interface of RocksDB 7.8 has no call for, and what the crash arguments of
 * architecture.md rest on, even where it is the default.
 */
static const char fixed[] =
	"env=" NVFS_ENV_URI ";"
	"avoid_flush_during_recovery=false;"
	"avoid_flush_during_shutdown=false;"
	"track_and_verify_wals_in_manifest=false;"
	"wal_recovery_mode=kPointInTimeRecovery;"
	"manual_wal_flush=false;"
	"unordered_write=false;"
	"two_write_queues=false;"
	"atomic_flush=false;"
	"allow_2pc=false;"
	"recycle_log_file_num=0;"
	"paranoid_checks=true;"
	"dump_malloc_stats=false;"
	"stats_dump_period_sec=0;"
	"stats_persist_period_sec=0;"
	"skip_stats_update_on_db_open=true;"
	"max_file_opening_threads=2;"
	"avoid_unnecessary_blocking_io=true;";

/*
 * Insertion near the tree's last one. A memtable with such hints cannot take range deletions: it would look for their place in its list
 * of keys. Nobody writes any now, but the log of a pool from before can have those of `sys`, one for each session that ended.
 */
static const char hints[] = "memtable_insert_with_hint_prefix_extractor=fixed:4;";

/* A copy with these set; NULL if RocksDB does not take them. */
static rocksdb_options_t *options_with(const rocksdb_options_t *base, const char *text)
{
	rocksdb_options_t *out = rocksdb_options_create();
	char *message = NULL;

	rocksdb_get_options_from_string(base, text, out, &message);
	if (db_error(message)) {
		rocksdb_options_destroy(out);
		return NULL;
	}
	return out;
}

static rocksdb_options_t *base_options(void)
{
	rocksdb_options_t *plain = rocksdb_options_create(), *out = options_with(plain, fixed);

	rocksdb_options_destroy(plain);
	return out;
}

static uint64_t buffer_bytes(const struct db_options *options, uint64_t share)
{
	if (options->write_buffer_bytes)
		return options->write_buffer_bytes;
	return tune_buffer_bytes(share);
}

static void set_database(rocksdb_options_t *o, const struct db_options *options, uint64_t share)
{
	rocksdb_options_set_create_if_missing(o, options->create);
	rocksdb_options_set_create_missing_column_families(o, options->create);
	rocksdb_options_set_error_if_exists(o, options->create);
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_max_open_files(o, -1); /* bounded by the table of metafs */
	rocksdb_options_set_db_write_buffer_size(o, 4 * buffer_bytes(options, share));
	rocksdb_options_set_max_total_wal_size(o, tune_wal_bytes(share));
	rocksdb_options_set_max_manifest_file_size(o, tune_manifest_bytes(share));
	rocksdb_options_set_keep_log_file_num(o, 1);
	rocksdb_options_set_info_log_level(o, 1);
}

static void set_levels(rocksdb_options_t *o, const struct db_options *options, uint64_t share)
{
	uint64_t buffer = buffer_bytes(options, share);

	rocksdb_options_set_write_buffer_size(o, buffer);
	rocksdb_options_set_max_write_buffer_number(o, buffer >= TUNE_MIB(2) ? 3 : 2);
	rocksdb_options_set_min_write_buffer_number_to_merge(o, 1);
	rocksdb_options_set_compaction_style(o, rocksdb_level_compaction);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	rocksdb_options_set_num_levels(o, LEVELS);
	rocksdb_options_set_level0_file_num_compaction_trigger(o, 4);
	rocksdb_options_set_level0_slowdown_writes_trigger(o, tune_level0_stop(share) * 2 / 3);
	rocksdb_options_set_level0_stop_writes_trigger(o, tune_level0_stop(share));
	rocksdb_options_set_target_file_size_base(o, tune_table_file_bytes(share));
	rocksdb_options_set_max_bytes_for_level_base(o, tune_clamp(8 * buffer, 0, share / 16));
	rocksdb_options_set_max_compaction_bytes(o, share / 16);
	/* A level that is far above its size makes compactions that are too large for the room. */
	rocksdb_options_set_soft_pending_compaction_bytes_limit(o, share / 24);
	rocksdb_options_set_hard_pending_compaction_bytes_limit(o, share / 16);
	rocksdb_options_set_max_sequential_skip_in_iterations(o, 16);
}

/* Nothing for what is young and rewritten soon. */
static void set_compression(rocksdb_options_t *o)
{
	int level[LEVELS] = { rocksdb_no_compression, rocksdb_no_compression,
			      rocksdb_lz4_compression, rocksdb_lz4_compression,
			      rocksdb_lz4_compression, rocksdb_lz4_compression,
			      rocksdb_lz4_compression };

	rocksdb_options_set_compression_per_level(o, level, LEVELS);
}

static void set_tables(rocksdb_options_t *o, rocksdb_cache_t *cache)
{
	rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_cache(t, cache);
	rocksdb_block_based_options_set_block_size(t, 4096);
	rocksdb_block_based_options_set_format_version(t, 5);
	rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
	rocksdb_block_based_options_set_whole_key_filtering(t, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
	rocksdb_block_based_options_set_data_block_index_type(
		t, rocksdb_block_based_table_data_block_index_type_binary_search_and_hash);
	rocksdb_options_set_block_based_table_factory(o, t);
	rocksdb_block_based_options_destroy(t);
	rocksdb_options_set_memtable_whole_key_filtering(o, 1);
	rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.05);
}

static rocksdb_options_t *family_options(rocksdb_options_t *base, enum db_cf cf)
{
	const bool many = cf == DB_NS || cf == DB_MAP;
	rocksdb_options_t *o = many ? options_with(base, hints) : rocksdb_options_create_copy(base);

	if (cf == DB_SPACE)
		rocksdb_options_set_merge_operator(o, merge_space_create());
	if (cf == DB_SYS)
		rocksdb_options_set_merge_operator(o, merge_counters_create());
	return o;
}

int db_settings_init(struct db_settings *s, const struct db_options *options, uint64_t share)
{
	size_t cache = options->block_cache_bytes ? options->block_cache_bytes : BLOCK_CACHE_DEFAULT;

	s->cache = rocksdb_cache_create_lru(cache);
	s->base = base_options();
	if (!s->cache || !s->base)
		return -EINVAL;
	set_database(s->base, options, share);
	set_levels(s->base, options, share);
	set_compression(s->base);
	set_tables(s->base, s->cache);
	s->cf[0] = s->base;
	for (int i = 1; i < DB_CFS; i++) {
		s->cf[i] = family_options(s->base, (enum db_cf)(i - 1));
		if (!s->cf[i])
			return -EINVAL;
	}
	return 0;
}

void db_settings_free(struct db_settings *s)
{
	for (int i = 1; i < DB_CFS; i++)
		if (s->cf[i])
			rocksdb_options_destroy(s->cf[i]);
	if (s->base)
		rocksdb_options_destroy(s->base);
	if (s->cache)
		rocksdb_cache_destroy(s->cache);
}
