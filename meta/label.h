/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The label of a device: which pool it belongs to, which member it is, and how it is divided.
 * There are two copies; the one with the higher generation counts. Repairing is fsck's.
 */
#ifndef NVFS_META_LABEL_H
#define NVFS_META_LABEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "meta/label_format.h"

#ifndef NVFS_BLOCK_SIZE
#define NVFS_BLOCK_SIZE 4096u
#endif

struct device;

struct label_device {
	uint8_t uuid[16];
	uint64_t size_bytes;
	uint16_t vdev;
	uint16_t flags;
	uint32_t zones;
};

struct label {
	uint16_t major, minor;
	uint64_t compat, ro_compat, incompat;
	uint8_t pool_uuid[16];
	uint8_t device_uuid[16];
	char name[LABEL_NAME_MAX + 1];
	uint64_t generation;
	int64_t created_ns;
	uint16_t device_index, device_count, vdev_count;
	uint64_t size_bytes;   /* of this device */
	uint64_t slot_bytes;   /* of one slot of the metafs table */
	uint64_t zones_offset; /* bytes */
	uint32_t zone_bytes;   /* of this device */
	uint32_t zones;        /* of this device */
	uint8_t hash_key[16];
	uint64_t inodes_max;
	struct label_device devices[LABEL_DEVICES_MAX];
};

/* The write mode that a label allows: unknown minor or ro_compat bits mean read-only. */
bool label_read_only(const struct label *label);

/* First block, counted from the start of the device, of a zone; and the blocks of one. */
static inline uint64_t label_zone_block(const struct label *label, uint32_t zone)
{
	return (label->zones_offset + (uint64_t)zone * label->zone_bytes) / NVFS_BLOCK_SIZE;
}

static inline uint32_t label_zone_blocks(const struct label *label)
{
	return label->zone_bytes / NVFS_BLOCK_SIZE;
}

/* Where slot 0 or 1 of the metafs table begins, in bytes. */
static inline uint64_t label_slot_offset(const struct label *label, unsigned slot)
{
	return LABEL_AREA_BYTES + slot * label->slot_bytes;
}

/* True for 1..63 bytes of [A-Za-z0-9._-], not starting with '.' or '-'. */
bool label_name_valid(const char *name);

/* ---- Bytes ---- */

/* buf has LABEL_BYTES. copy is 0 for A and 1 for B. */
void label_encode(const struct label *label, unsigned copy, void *buf);

/*
 * Takes anything. 0; -ENOENT: no magic; -EBADMSG: damaged (crc, length, or fields that cannot be);
 * -EPROTONOSUPPORT: a format major or an incompat bit that this version does not know, in which
 * case version, features, name and UUIDs of *out are filled in.
 */
int label_decode(const void *buf, struct label *out);

/* For people: `nvfs debug dump`, error reports, tests. */
void label_print(FILE *out, const struct label *label);

/* ---- Devices ---- */

struct label_found {
	int error[2];            /* of copy A and B: 0 or what label_decode() or the read said */
	uint64_t generation[2];  /* where error is 0 */
};

/*
 * Read both copies and choose. 0 with the label; -ENOENT: not a device of nvfs; -EBADMSG: it was
 * one and both copies are damaged, or they name different pools; -EPROTONOSUPPORT; -ENODATA: the device is smaller than its
 * label says; -EIO. found may be NULL. Logs nothing: the callers' messages differ.
 */
int label_read(struct device *dev, struct label *out, struct label_found *found);

/*
 * Write both copies, B first, each followed by a flush, so that one valid copy is always there.
 * 0 or -errno.
 */
int label_write(struct device *dev, const struct label *label);

/* Overwrite both label areas with zeros and flush: mkfs does it before anything else, on all devices. */
int label_wipe(struct device *dev);

/*
 * Two labels of the same pool that agree on what all members must agree on. Writes the
 * difference into why (at most len bytes) when they do not.
 */
bool label_same_pool(const struct label *a, const struct label *b, char *why, size_t len);

/* ---- mkfs ---- */

#define LABEL_DEVICE_MIN_BYTES (64ull << 20)

struct label_plan {
	const char *name;
	unsigned devices;
	uint64_t size_bytes[LABEL_DEVICES_MAX];
	uint64_t inodes_max; /* 0: one for each 16 KiB of the pool */
};

/* What label_layout() decided for the pool as a whole. */
struct label_share {
	uint64_t meta_bytes;  /* zones promised to metafs */
	uint64_t data_bytes;  /* the other zones */
	unsigned ranges;      /* entries of range, at most one each device */
	struct {
		uint16_t vdev;
		uint32_t first, count;
	} range[LABEL_DEVICES_MAX];
};

/*
 * Decide how a new pool is laid out: fills labels[0..devices), UUIDs, hash key and time included.
 * 0; -EINVAL (name, number of devices), -ENOSPC (a device is too small, or too many inodes):
 * why then says it in one line with the numbers.
 */
int label_layout(const struct label_plan *plan, struct label *labels, struct label_share *share,
		 char *why, size_t why_len);

#endif
