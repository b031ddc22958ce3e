/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is read from a device before there is a RocksDB: labels, the table of metafs, log blocks. Input:
 * one byte that selects, then the bytes. Each is decoded as it is, and once more with its CRC (and a table with its
 * length) made right, or nothing would ever get past that check.
 */
#include "config.h"

#include <string.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/le.h"
#include "meta/label.h"
#include "meta/metafs_table.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "devices";

#define TABLE_MAX (64u << 10)

static FILE *nowhere(void)
{
	static FILE *f;

	if (!f)
		f = fopen("/dev/null", "w");
	if (!f)
		abort();
	return f;
}

/* ---- labels ---- */

static void check_label(const uint8_t *bytes)
{
	static struct label label, again;
	uint8_t buf[LABEL_BYTES];
	int err;

	memset(&label, 0, sizeof(label));
	memset(&again, 0, sizeof(again));
	err = label_decode(bytes, &label);
	if (err)
		return;
	label_print(nowhere(), &label);
	label_read_only(&label);
	label_encode(&label, 0, buf);
	FUZZ_CHECK(label_decode(buf, &again) == 0);
	FUZZ_CHECK(!memcmp(again.devices, label.devices, sizeof(label.devices)));
	FUZZ_CHECK(again.zones_offset == label.zones_offset && again.zones == label.zones);
}

static void fuzz_label(const uint8_t *data, size_t len)
{
	uint8_t buf[LABEL_BYTES] = { 0 };

	memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));
	check_label(buf);
	put_le32(buf + 8, 0);
	put_le32(buf + 8, crc32c(0, buf, sizeof(buf)));
	check_label(buf);
}

/* ---- the table ---- */

static void check_table(const uint8_t *bytes, size_t len, const struct label *labels)
{
	cleanup_free uint8_t *buf = malloc(TABLE_MAX);
	struct metafs_table table, again;
	char why[256];
	size_t out_len;

	if (!buf || metafs_table_decode(bytes, len, &table))
		return;
	metafs_table_print(nowhere(), &table);
	metafs_table_validate(&table, labels, why, sizeof(why));
	FUZZ_CHECK(metafs_table_encode(&table, buf, TABLE_MAX, &out_len) == 0);
	FUZZ_CHECK(metafs_table_decode(buf, TABLE_MAX, &again) == 0);
	FUZZ_CHECK(again.files == table.files && again.ranges == table.ranges);
	metafs_table_free(&again);
	metafs_table_free(&table);
}

static void fuzz_table(const uint8_t *data, size_t len)
{
	static struct label labels[LABEL_DEVICES_MAX];
	cleanup_free uint8_t *buf = NULL;

	labels[0] = (struct label){ .device_count = 1, .vdev_count = 1, .size_bytes = 64 << 20,
				    .zones_offset = 1 << 20, .zone_bytes = 4 << 20, .zones = 14,
				    .slot_bytes = TABLE_MAX };
	if (len > TABLE_MAX)
		len = TABLE_MAX;
	buf = malloc(len ? len : 1);
	if (!buf)
		return;
	memcpy(buf, data, len);
	check_table(buf, len, labels);
	if (len < sizeof(struct metafs_table_disk))
		return;
	put_le32(buf + 12, len);
	put_le32(buf + 8, 0);
	put_le32(buf + 8, crc32c(0, buf, len));
	check_table(buf, len, labels);
}

/* ---- log blocks ---- */

static void check_log_block(const uint8_t *bytes)
{
	struct metafs_log_block block;

	if (metafs_log_block_decode(bytes, &block))
		return;
	metafs_log_block_print(nowhere(), &block);
	FUZZ_CHECK(block.used >= 1 && block.used <= METAFS_LOG_PAYLOAD);
}

static void fuzz_log_block(const uint8_t *data, size_t len)
{
	uint8_t buf[METAFS_LOG_BLOCK_BYTES] = { 0 };

	memcpy(buf, data, len < sizeof(buf) ? len : sizeof(buf));
	check_log_block(buf);
	put_le32(buf + 4, 0);
	put_le32(buf + 4, crc32c(0, buf, sizeof(buf)));
	check_log_block(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	switch (*data % 3) {
	case 0:
		fuzz_label(data + 1, len - 1);
		break;
	case 1:
		fuzz_table(data + 1, len - 1);
		break;
	default:
		fuzz_log_block(data + 1, len - 1);
		break;
	}
	return 0;
}

/* ---- seeds ---- */

static size_t seed_label(uint8_t *buf)
{
	const struct label_plan plan = { .name = "tank", .devices = 2, .inodes_max = 1000,
					 .size_bytes = { 64 << 20, 128 << 20 } };
	static struct label labels[LABEL_DEVICES_MAX];
	static struct label_share share;
	char why[256];

	if (label_layout(&plan, labels, &share, why, sizeof(why)))
		abort();
	label_encode(&labels[1], 1, buf);
	return LABEL_BYTES;
}

static size_t seed_table(uint8_t *buf, size_t max)
{
	struct metafs_range range = { .vdev = 0, .first = 2, .count = 3 };
	const struct metafs_extent extents[] = { { 3000, 16, 0 }, { 3100, 1, 0 } };
	struct metafs_table_file files[] = {
		{ .id = 1, .size = 5000, .kind = METAFS_PLAIN, .extents = 2, .extent = extents,
		  .name = "000009.sst", .name_len = 10 },
		{ .id = 2, .log_number = 12, .kind = METAFS_WAL, .name = "000012.log", .name_len = 10 },
	};
	const struct metafs_table table = { .generation = 5, .next_file_id = 3, .ranges = 1, .files = 2,
					    .range = &range, .file = files };
	size_t len;

	if (metafs_table_encode(&table, buf, max, &len))
		abort();
	return len;
}

static size_t seed_log_block(uint8_t *buf)
{
	const struct metafs_log_block block = { .file_id = 2, .log_number = 12, .sequence = 7, .used = 100 };

	memset(buf, 'x', METAFS_LOG_BLOCK_BYTES);
	metafs_log_block_encode(&block, buf);
	return METAFS_LOG_BLOCK_BYTES;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t max)
{
	if (i >= 3 || max <= TABLE_MAX)
		return 0;
	*buf++ = i;
	switch (i) {
	case 0:
		return 1 + seed_label(buf);
	case 1:
		return 1 + seed_table(buf, TABLE_MAX);
	default:
		return 1 + seed_log_block(buf);
	}
}
