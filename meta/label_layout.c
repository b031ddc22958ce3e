/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How mkfs divides the devices of a new pool. Metafs gets 2 % of the pool and 1 KiB for each
 * inode, at least what RocksDB needs to live, in proportion on all devices and from their first
 * zones on; data gets the rest.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <uuid/uuid.h>

#include "meta/label.h"
#include "meta/metafs_format.h"
#include "meta/metafs_tune.h"

#define BYTES_PER_INODE_DEFAULT 16384u
#define META_BYTES_PER_INODE 1024u
#define SLOT_SPARE 16u /* slots hold this many times the planned files */
#define FILE_ENTRY_BYTES (sizeof(struct metafs_file_disk) + 4 * sizeof(struct metafs_extent_disk) + 24)

static uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

static uint64_t share_wanted(uint64_t total, uint64_t inodes)
{
	uint64_t share = total / 50 + inodes * META_BYTES_PER_INODE;

	return share < METAFS_SHARE_MIN_BYTES ? METAFS_SHARE_MIN_BYTES : share;
}

static uint64_t slot_bytes(uint64_t share)
{
	uint64_t table = sizeof(struct metafs_table_disk) +
			 LABEL_DEVICES_MAX * sizeof(struct metafs_range_disk) +
			 SLOT_SPARE * tune_files(share) * FILE_ENTRY_BYTES;

	return round_up(table, LABEL_AREA_BYTES);
}

static int check_plan(const struct label_plan *plan, char *why, size_t len)
{
	if (!label_name_valid(plan->name)) {
		snprintf(why, len,
			 "\"%.80s\" cannot name a pool: 1 to %u of letters, digits, '.', '_' and '-', "
			 "not starting with '.' or '-'", plan->name, LABEL_NAME_MAX);
		return -EINVAL;
	}
	if (!plan->devices || plan->devices > LABEL_DEVICES_MAX) {
		snprintf(why, len, "a pool has 1 to %u devices, not %u", LABEL_DEVICES_MAX,
			 plan->devices);
		return -EINVAL;
	}
	for (unsigned i = 0; i < plan->devices; i++) {
		if (plan->size_bytes[i] >= LABEL_DEVICE_MIN_BYTES)
			continue;
		snprintf(why, len, "device %u has %" PRIu64 " bytes; the least is %llu (64 MiB)", i + 1,
			 plan->size_bytes[i], LABEL_DEVICE_MIN_BYTES);
		return -ENOSPC;
	}
	return 0;
}

static void lay_out_device(struct label *l, uint64_t size, uint64_t slot)
{
	uint64_t end = size / LABEL_AREA_BYTES * LABEL_AREA_BYTES - LABEL_AREA_BYTES;

	l->size_bytes = size / NVFS_BLOCK_SIZE * NVFS_BLOCK_SIZE;
	l->slot_bytes = slot;
	l->zones_offset = round_up(LABEL_AREA_BYTES + 2 * slot, 1 << 20);
	l->zone_bytes = (uint32_t)tune_pow2(size / 256, TUNE_MIB(4), TUNE_MIB(64));
	l->zones = l->zones_offset < end ? (uint32_t)((end - l->zones_offset) / l->zone_bytes) : 0;
}

static int random_fill(void *buf, size_t len)
{
	return getrandom(buf, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static int identify(const struct label_plan *plan, uint64_t inodes, struct label *labels)
{
	struct label *first = &labels[0];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	first->major = LABEL_MAJOR;
	first->minor = LABEL_MINOR;
	first->generation = 1;
	first->created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	snprintf(first->name, sizeof(first->name), "%s", plan->name);
	first->device_count = first->vdev_count = (uint16_t)plan->devices;
	first->inodes_max = inodes;
	uuid_generate_random(first->pool_uuid);
	for (unsigned i = 0; i < plan->devices; i++) {
		uuid_generate_random(first->devices[i].uuid);
		first->devices[i].vdev = (uint16_t)i;
	}
	return random_fill(first->hash_key, sizeof(first->hash_key));
}

static void share_out(const struct label_plan *plan, uint64_t total, uint64_t wanted,
		      const struct label *labels, struct label_share *share)
{
	memset(share, 0, sizeof(*share));
	for (unsigned i = 0; i < plan->devices; i++) {
		const struct label *l = &labels[i];
		__uint128_t part = (__uint128_t)wanted * plan->size_bytes[i] / total;
		uint32_t count = (uint32_t)(round_up((uint64_t)part, l->zone_bytes) / l->zone_bytes);

		if (count > l->zones)
			count = l->zones;
		share->range[share->ranges].vdev = (uint16_t)i;
		share->range[share->ranges].first = 0;
		share->range[share->ranges++].count = count;
		share->meta_bytes += (uint64_t)count * l->zone_bytes;
		share->data_bytes += (uint64_t)(l->zones - count) * l->zone_bytes;
	}
}

int label_layout(const struct label_plan *plan, struct label *labels, struct label_share *share,
		 char *why, size_t why_len)
{
	uint64_t total = 0, inodes, wanted;
	int err = check_plan(plan, why, why_len);

	if (err)
		return err;
	for (unsigned i = 0; i < plan->devices; i++)
		total += plan->size_bytes[i];
	inodes = plan->inodes_max ? plan->inodes_max : total / BYTES_PER_INODE_DEFAULT;
	if (inodes > total / 2 / META_BYTES_PER_INODE) {
		snprintf(why, why_len,
			 "%" PRIu64 " inodes would need more than half of the pool for metadata; "
			 "this one has room for %" PRIu64, inodes, total / 2 / META_BYTES_PER_INODE);
		return -ENOSPC;
	}
	wanted = share_wanted(total, inodes);
	memset(labels, 0, plan->devices * sizeof(*labels));
	err = identify(plan, inodes, labels);
	if (err)
		return err;
	for (unsigned i = 0; i < plan->devices; i++) {
		struct label *l = &labels[i];

		lay_out_device(l, plan->size_bytes[i], slot_bytes(wanted));
		labels[0].devices[i].size_bytes = l->size_bytes;
		labels[0].devices[i].zones = l->zones;
	}
	for (unsigned i = 0; i < plan->devices; i++) {
		struct label own = labels[0];

		own.device_index = (uint16_t)i;
		memcpy(own.device_uuid, own.devices[i].uuid, 16);
		own.size_bytes = labels[i].size_bytes;
		own.slot_bytes = labels[i].slot_bytes;
		own.zones_offset = labels[i].zones_offset;
		own.zone_bytes = labels[i].zone_bytes;
		own.zones = labels[i].zones;
		labels[i] = own;
	}
	share_out(plan, total, wanted, labels, share);
	if (share->data_bytes && share->meta_bytes >= wanted)
		return 0;
	snprintf(why, why_len,
		 "metadata needs %" PRIu64 " bytes of %" PRIu64 ", and nothing is left for data: "
		 "fewer inodes or larger devices would work", wanted, total);
	return -ENOSPC;
}
