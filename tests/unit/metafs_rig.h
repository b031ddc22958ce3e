/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pool's devices on the simulator, formatted, for the tests of metafs and of what runs on it. */
#ifndef NVFS_TESTS_METAFS_RIG_H
#define NVFS_TESTS_METAFS_RIG_H

#include <string.h>

#include "io/device.h"
#include "io/sim.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "tests/unit/unit.h"

#define MIB (1ull << 20)
#define RIG_DEVICES 4

struct rig {
	struct device *dev[LABEL_DEVICES_MAX];
	unsigned devices;
	struct label labels[LABEL_DEVICES_MAX];
	struct metafs *mf;
	void *area;
	size_t area_bytes;
};

static inline void rig_make(struct rig *rig, unsigned devices, uint64_t size,
			    const struct sim_options *sim)
{
	struct label_plan plan = { .name = "tank", .devices = devices, .inodes_max = 1000 };
	struct label_share share;
	char why[200] = "";

	memset(rig, 0, sizeof(*rig));
	rig->devices = devices;
	for (unsigned i = 0; i < devices; i++) {
		plan.size_bytes[i] = size;
		ck_assert_int_eq(device_sim_create(size, sim, &rig->dev[i]), 0);
	}
	ck_assert_msg(!label_layout(&plan, rig->labels, &share, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(metafs_format(rig->dev, rig->labels, &share), 0);
}

static inline int rig_try_open(struct rig *rig, bool read_only)
{
	struct metafs_options options = { .devices = rig->dev,
					  .labels = rig->labels,
					  .area = rig->area,
					  .area_bytes = rig->area_bytes,
					  .read_only = read_only };

	return metafs_open(&options, &rig->mf);
}

static inline void rig_open(struct rig *rig)
{
	ck_assert_int_eq(rig_try_open(rig, false), 0);
}

static inline void rig_close(struct rig *rig)
{
	metafs_close(rig->mf);
	rig->mf = NULL;
}

static inline void rig_free(struct rig *rig)
{
	rig_close(rig);
	for (unsigned i = 0; i < rig->devices; i++)
		device_close(rig->dev[i]);
	free(rig->area);
	memset(rig, 0, sizeof(*rig));
}

/* A second rig on what the devices would hold after a cut now. */
static inline void rig_cut(const struct rig *rig, uint64_t seed, struct rig *out)
{
	memset(out, 0, sizeof(*out));
	out->devices = rig->devices;
	memcpy(out->labels, rig->labels, sizeof(out->labels));
	for (unsigned i = 0; i < rig->devices; i++)
		ck_assert_int_eq(sim_snapshot_cut(rig->dev[i], seed * 64 + i, &out->dev[i]), 0);
}

/* The same, with nothing lost, and with a copy of the area: a killed worker. */
static inline void rig_kill(const struct rig *rig, struct rig *out)
{
	memset(out, 0, sizeof(*out));
	out->devices = rig->devices;
	memcpy(out->labels, rig->labels, sizeof(out->labels));
	for (unsigned i = 0; i < rig->devices; i++)
		ck_assert_int_eq(sim_snapshot_current(rig->dev[i], &out->dev[i]), 0);
	ck_assert_int_eq(posix_memalign(&out->area, 4096, rig->area_bytes), 0);
	memcpy(out->area, rig->area, rig->area_bytes);
	out->area_bytes = rig->area_bytes;
}

static inline void rig_hook(struct rig *rig, sim_step_fn fn, void *arg)
{
	for (unsigned i = 0; i < rig->devices; i++)
		sim_set_step_hook(rig->dev[i], fn, arg);
}

/* A small deterministic generator; tests print the seed. */
static inline uint64_t rig_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

#endif
