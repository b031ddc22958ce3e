/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pool's devices on the simulator, formatted, for the tests of metafs and of what runs on it. */
#ifndef NVFS_TESTS_METAFS_RIG_H
#define NVFS_TESTS_METAFS_RIG_H

#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
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

/* What is logged is noise here, unless NVFS_TEST_VERBOSE asks for it. */
static inline void rig_quiet(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	if (getenv("NVFS_TEST_VERBOSE"))
		fprintf(stderr, "%s\n", line);
}

static inline void rig_set_up(void)
{
	log_set_sink(rig_quiet, NULL);
}

/* ---- Files with a known content ---- */

/* Byte i of a stream: cheap, and no two nearby offsets look alike. */
static inline uint8_t stream_byte(uint64_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13 ^ i >> 8);
}

static inline void stream_fill(uint8_t *buf, size_t len, uint64_t from)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = stream_byte(from + i);
}

static inline void append_stream(struct metafs_file *f, size_t len, uint64_t from)
{
	cleanup_free uint8_t *buf = malloc(len + 1);

	stream_fill(buf, len, from);
	ck_assert_int_eq(metafs_append(f, buf, len), 0);
}

static inline struct metafs_file *create(struct rig *rig, const char *name)
{
	struct metafs_file *f;

	ck_assert_int_eq(metafs_create(rig->mf, name, &f), 0);
	return f;
}

/* Its content, malloc'ed; NULL when there is no such file. */
static inline uint8_t *content(struct rig *rig, const char *name, size_t *len)
{
	struct metafs_file *f;
	uint8_t *buf;

	*len = 0;
	if (metafs_file_open(rig->mf, name, &f))
		return NULL;
	*len = metafs_file_size(f);
	buf = malloc(*len + 1);
	ck_assert_int_eq(metafs_read(f, buf, *len + 1, 0), (ssize_t)*len);
	metafs_file_close(f);
	return buf;
}

/* An assertion for each byte would take minutes. */
static inline bool is_stream(const uint8_t *buf, size_t len, uint64_t from)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != stream_byte(from + i))
			return false;
	return true;
}

static inline void expect_stream(struct rig *rig, const char *name, size_t want, uint64_t from)
{
	size_t len;
	cleanup_free uint8_t *buf = content(rig, name, &len);

	ck_assert_ptr_nonnull(buf);
	ck_assert_uint_eq(len, want);
	ck_assert(is_stream(buf, len, from));
}

static inline void expect_absent(struct rig *rig, const char *name)
{
	size_t len;

	ck_assert_ptr_null(content(rig, name, &len));
}

#endif
