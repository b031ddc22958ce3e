/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes of a label, a device's superblock: docs/format.md, section 1. No logic here. */
#ifndef NVFS_META_LABEL_FORMAT_H
#define NVFS_META_LABEL_FORMAT_H

#include <stddef.h>

#include "io/le.h"

#define LABEL_BYTES 4096u
#define LABEL_MAGIC "NVFSLBL1"
#define LABEL_MAJOR 1u
#define LABEL_MINOR 0u
#define LABEL_DEVICES_MAX 64u
#define LABEL_NAME_MAX 63u
#define LABEL_AREA_BYTES 65536u /* what is set apart for one at either end of a device */

/* Feature bits that this version knows. */
#define LABEL_COMPAT_KNOWN 0ull
#define LABEL_RO_COMPAT_KNOWN 0ull
#define LABEL_INCOMPAT_KNOWN 0ull

struct label_device_disk {
	uint8_t uuid[16];
	le64_t size_bytes;
	le16_t vdev;
	le16_t flags;
	le32_t zones;
} __attribute__((packed));

struct label_disk {
	uint8_t magic[8];
	le32_t crc;
	le32_t length;
	le16_t major;
	le16_t minor;
	uint8_t copy;
	uint8_t reserved0[3];
	le64_t compat;
	le64_t ro_compat;
	le64_t incompat;
	uint8_t pool_uuid[16];
	uint8_t device_uuid[16];
	char name[64];
	le64_t generation;
	le64_t created_ns;
	le16_t device_index;
	le16_t device_count;
	le16_t vdev_count;
	le16_t reserved1;
	le64_t size_bytes;
	le64_t slot_bytes;
	le64_t zones_offset;
	le32_t zone_bytes;
	le32_t zones;
	uint8_t hash_key[16];
	le64_t inodes_max;
	uint8_t reserved2[32];
	struct label_device_disk devices[LABEL_DEVICES_MAX];
} __attribute__((packed));

_Static_assert(sizeof(struct label_device_disk) == 32, "label device entry");
_Static_assert(offsetof(struct label_disk, pool_uuid) == 48, "label");
_Static_assert(offsetof(struct label_disk, name) == 80, "label");
_Static_assert(offsetof(struct label_disk, generation) == 144, "label");
_Static_assert(offsetof(struct label_disk, size_bytes) == 168, "label");
_Static_assert(offsetof(struct label_disk, hash_key) == 200, "label");
_Static_assert(offsetof(struct label_disk, devices) == 256, "label");
_Static_assert(sizeof(struct label_disk) <= LABEL_BYTES, "label");

#endif
