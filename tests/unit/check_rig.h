/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small pool made record by record, on two simulated devices, for the tests of the check and the dump. */
#ifndef NVFS_TESTS_CHECK_RIG_H
#define NVFS_TESTS_CHECK_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "io/log.h"
#include "meta/check.h"
#include "meta/db.h"
#include "meta/label.h"
#include "meta/records.h"

struct device;
struct metafs;

#define DEVICES 2
#define DEVICE_BYTES (64ull << 20)
#define TREE 1u
#define NODE 1u
#define SUBVOL 1u

enum { FOLDER = 2, FILE_PLAIN = 3, FILE_INLINE = 4, LINK = 5, ORPHAN = 6, NEXT_INO = 100 };

struct rig {
	struct device *dev[DEVICES];
	struct label labels[LABEL_DEVICES_MAX];
	struct metafs *mf;
	struct db *db;
	uint64_t data_block; /* of device 0: the first of data */
	uint32_t data_zone;
};

/* The clean pool, shut: every test works on a copy. */
extern struct rig base;
void base_make(void);
void base_free(void);

/* Open the store of a pool, to damage it. */
void rig_open(struct rig *rig, bool create);
void rig_shut(struct rig *rig);
void rig_copy(const struct rig *from, struct rig *to);
void rig_free(struct rig *rig);

/* Records; key and value are where they are put together. */
extern uint8_t key[KEY_MAX];
extern uint8_t value[1 << 17];
void put(struct rig *rig, enum db_cf cf, const void *k, size_t k_len, const void *v, size_t len);
void del(struct rig *rig, enum db_cf cf, const void *k, size_t k_len);
void put_inode(struct rig *rig, uint64_t ino, const struct inode_rec *rec);
void put_entry(struct rig *rig, uint64_t dir, const char *name, uint64_t ino, uint32_t mode);
void put_size(struct rig *rig, uint64_t ino, const struct size_rec *rec);
void put_map(struct rig *rig, uint64_t ino, uint64_t chunk, const struct map_rec *rec);
void put_holders(struct rig *rig, uint32_t zone, uint16_t first, uint32_t blocks, int32_t holders);

/* What the records of base are made of. */
#define ACL_NAME "system.posix_acl_access"
uint64_t cookie(const struct rig *rig, const char *name);
struct inode_rec dir_inode(uint64_t entries, uint64_t bytes, uint32_t nlink);
struct inode_rec file_inode(void);
struct size_rec inline_size(void);
struct map_rec sample_map(struct rig *rig, bool write);

/* Change one bit of a device. */
void flip(struct device *dev, uint64_t at_bytes);

/* Check a pool that is shut; output has the lines. */
extern char output[1 << 16];
int run_check(struct rig *rig, bool repair, bool data, struct check_result *result);

/* A sink for the log that drops all. */
void drop_line(enum log_level level, const char *line, void *arg);

#endif
