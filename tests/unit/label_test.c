/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/label.h"

#include <errno.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/sim.h"
#include "meta/metafs_tune.h"
#include "tests/unit/unit.h"

#define GIB (1ull << 30)
#define MIB (1ull << 20)

static struct label labels[LABEL_DEVICES_MAX];

static struct label_share lay_out(unsigned devices, uint64_t size)
{
	struct label_plan plan = { .name = "tank", .devices = devices };
	struct label_share share;
	char why[200] = "";

	for (unsigned i = 0; i < devices; i++)
		plan.size_bytes[i] = size;
	ck_assert_msg(!label_layout(&plan, labels, &share, why, sizeof(why)), "%s", why);
	return share;
}

START_TEST(round_trip)
{
	uint8_t buf[LABEL_BYTES];
	struct label out;

	lay_out(3, GIB);
	for (unsigned i = 0; i < 3; i++) {
		label_encode(&labels[i], i & 1, buf);
		ck_assert_int_eq(label_decode(buf, &out), 0);
		ck_assert_mem_eq(&out, &labels[i], sizeof(out));
		ck_assert_int_eq(buf[20], i & 1);
	}
}
END_TEST

START_TEST(damage_is_found)
{
	uint8_t buf[LABEL_BYTES];
	struct label out;

	lay_out(1, GIB);
	label_encode(&labels[0], 0, buf);
	for (unsigned byte = 0; byte < LABEL_BYTES; byte++) {
		buf[byte] ^= 1u << byte % 8;
		ck_assert_int_eq(label_decode(buf, &out), byte < 8 ? -ENOENT : -EBADMSG);
		buf[byte] ^= 1u << byte % 8;
	}
	ck_assert_int_eq(label_decode(buf, &out), 0);
}
END_TEST

static int encode_decode(const struct label *label, struct label *out)
{
	uint8_t buf[LABEL_BYTES];

	label_encode(label, 0, buf);
	return label_decode(buf, out);
}

START_TEST(impossible_fields_are_refused)
{
	struct label base, l, out;

	lay_out(2, GIB);
	base = labels[1];
	ck_assert_int_eq(encode_decode(&base, &out), 0);
#define REFUSED(change, error)                                     \
	do {                                                       \
		l = base;                                          \
		change;                                            \
		ck_assert_int_eq(encode_decode(&l, &out), error);  \
	} while (0)
	REFUSED(l.major = 2, -EPROTONOSUPPORT);
	ck_assert_str_eq(out.name, "tank");
	REFUSED((l.major = 2, strcpy(l.name, "a\nSYSTEMD_WANTS=b")), -EPROTONOSUPPORT);
	ck_assert_str_eq(out.name, "");
	REFUSED(l.incompat = 1, -EPROTONOSUPPORT);
	REFUSED(l.device_index = 2, -EBADMSG);
	REFUSED(l.device_count = 0, -EBADMSG);
	REFUSED(l.vdev_count = 1, -EBADMSG);
	REFUSED(l.zones++, -EBADMSG);
	REFUSED((l.zones = 0, l.devices[1].zones = 0), -EBADMSG);
	REFUSED(l.zone_bytes = 3 << 20, -EBADMSG);
	REFUSED(l.zone_bytes = 1u << 31, -EBADMSG);
	REFUSED(l.slot_bytes = 0, -EBADMSG);
	REFUSED(l.slot_bytes = UINT64_MAX - 65535, -EBADMSG);
	REFUSED(l.zones_offset = UINT64_MAX - 1048575, -EBADMSG);
	REFUSED(l.size_bytes = UINT64_MAX, -EBADMSG);
	REFUSED(l.size_bytes = 4096, -EBADMSG);
	REFUSED(l.name[0] = '-', -EBADMSG);
	REFUSED(l.name[0] = 0, -EBADMSG);
	REFUSED(l.devices[0].vdev = 1, -EBADMSG);
	REFUSED(l.device_uuid[3] ^= 1, -EBADMSG);
#undef REFUSED
	l = base;
	l.minor = 9;
	ck_assert_int_eq(encode_decode(&l, &out), 0);
	ck_assert(label_read_only(&out));
	ck_assert(!label_read_only(&base));
}
END_TEST

START_TEST(noise_is_refused)
{
	uint8_t buf[LABEL_BYTES];
	struct label out;

	srandom(7);
	for (unsigned round = 0; round < 2000; round++) {
		for (unsigned i = 0; i < sizeof(buf); i++)
			buf[i] = (uint8_t)random();
		if (round & 1)
			memcpy(buf, LABEL_MAGIC, 8);
		ck_assert_int_ne(label_decode(buf, &out), 0);
	}
}
END_TEST

START_TEST(names)
{
	char long_name[80];

	memset(long_name, 'a', sizeof(long_name));
	long_name[64] = 0;
	ck_assert(!label_name_valid(long_name));
	long_name[63] = 0;
	ck_assert(label_name_valid(long_name));
	ck_assert(label_name_valid("A-b_c.9"));
	ck_assert(!label_name_valid(""));
	ck_assert(!label_name_valid(".x"));
	ck_assert(!label_name_valid("-x"));
	ck_assert(!label_name_valid("a/b"));
	ck_assert(!label_name_valid("a b"));
	ck_assert(!label_name_valid("\xc3\xa4"));
}
END_TEST

static struct device *new_device(uint64_t size)
{
	struct device *dev;

	ck_assert_int_eq(device_sim_create(size, NULL, &dev), 0);
	return dev;
}

START_TEST(copies)
{
	struct device *dev = new_device(128 * MIB);
	struct label_found found;
	struct label out, newer;

	lay_out(1, 128 * MIB);
	ck_assert_int_eq(label_read(dev, &out, &found), -ENOENT);
	ck_assert_int_eq(label_write(dev, &labels[0]), 0);
	ck_assert_int_eq(label_read(dev, &out, &found), 0);
	ck_assert_int_eq(found.error[0] | found.error[1], 0);
	ck_assert_mem_eq(&out, &labels[0], sizeof(out));

	/* Either copy alone will do. */
	sim_flip_bit(dev, 100, 0);
	ck_assert_int_eq(label_read(dev, &out, &found), 0);
	ck_assert_int_eq(found.error[0], -EBADMSG);
	sim_flip_bit(dev, 100, 0);
	sim_flip_bit(dev, 128 * MIB - 65536 + 200, 3);
	ck_assert_int_eq(label_read(dev, &out, &found), 0);
	ck_assert_int_eq(found.error[1], -EBADMSG);
	sim_flip_bit(dev, 100, 0);
	ck_assert_int_eq(label_read(dev, &out, &found), -EBADMSG);

	/* The higher generation counts. */
	newer = labels[0];
	newer.generation = 7;
	ck_assert_int_eq(label_write(dev, &newer), 0);
	ck_assert_int_eq(label_read(dev, &out, NULL), 0);
	ck_assert_uint_eq(out.generation, 7);

	ck_assert_int_eq(label_wipe(dev), 0);
	ck_assert_int_eq(label_read(dev, &out, NULL), -ENOENT);
	device_close(dev);
}
END_TEST

/* A rewrite to a format that is not known was cut between its two copies: the newer one counts, and is refused. */
START_TEST(copy_of_unknown_format)
{
	struct device *dev = new_device(64 * MIB);
	cleanup_free void *buf = NULL;
	struct label out, newer;

	ck_assert_int_eq(posix_memalign(&buf, 4096, LABEL_BYTES), 0);
	lay_out(1, 64 * MIB);
	newer = labels[0];
	newer.incompat = 1;
	for (unsigned copy = 0; copy < 2; copy++)
		for (newer.generation = 0; newer.generation < 4; newer.generation += 3) {
			ck_assert_int_eq(label_write(dev, &labels[0]), 0);
			label_encode(&newer, copy, buf);
			ck_assert_int_eq(device_write(dev, buf, LABEL_BYTES, copy ? 64 * MIB - 65536 : 0, 0), 0);
			ck_assert_int_eq(label_read(dev, &out, NULL), newer.generation ? -EPROTONOSUPPORT : 0);
			ck_assert_uint_eq(out.generation, newer.generation ? 3 : 1);
		}
	device_close(dev);
}
END_TEST

/* At each step of a rewrite, a cut leaves the old or the new label. */
struct rewrite {
	unsigned cuts;
};

static void cut_here(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct rewrite *r = arg;

	(void)op;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct device *after;
		struct label out;

		ck_assert_int_eq(sim_snapshot_cut(dev, step * 8 + seed, &after), 0);
		ck_assert_int_eq(label_read(after, &out, NULL), 0);
		ck_assert(out.generation == 1 || out.generation == 2);
		device_close(after);
		r->cuts++;
	}
}

START_TEST(rewrite_survives_cuts)
{
	struct device *dev = new_device(64 * MIB);
	struct rewrite r = { 0 };

	lay_out(1, 64 * MIB);
	ck_assert_int_eq(label_write(dev, &labels[0]), 0);
	sim_set_step_hook(dev, cut_here, &r);
	labels[0].generation = 2;
	ck_assert_int_eq(label_write(dev, &labels[0]), 0);
	sim_set_step_hook(dev, NULL, NULL);
	ck_assert_uint_ge(r.cuts, 32);
	device_close(dev);
}
END_TEST

START_TEST(truncated_device)
{
	struct device *dev = new_device(128 * MIB), *small = new_device(64 * MIB);
	cleanup_free void *buf = NULL;
	struct label out;

	ck_assert_int_eq(posix_memalign(&buf, 4096, LABEL_BYTES), 0);
	lay_out(1, 128 * MIB);
	ck_assert_int_eq(label_write(dev, &labels[0]), 0);
	ck_assert_int_eq(device_read(dev, buf, LABEL_BYTES, 0), 0);
	ck_assert_int_eq(device_write(small, buf, LABEL_BYTES, 0, 0), 0);
	ck_assert_int_eq(label_read(small, &out, NULL), -ENODATA);
	device_close(small);
	device_close(dev);
}
END_TEST

START_TEST(layouts)
{
	static const uint64_t sizes[] = { 64 * MIB, 100 * MIB + 12345, GIB, 16 * GIB, 1024 * GIB,
					  64 * 1024 * GIB };

	for (unsigned i = 0; i < 6; i++)
		for (unsigned n = 1; n <= 64; n *= 4) {
			struct label_share s = lay_out(n, sizes[i]);
			uint64_t total = n * sizes[i];
			struct label out;

			for (unsigned d = 0; d < n; d++)
				ck_assert_int_eq(encode_decode(&labels[d], &out), 0);
			ck_assert_uint_ge(s.meta_bytes, METAFS_SHARE_MIN_BYTES);
			ck_assert_uint_ge(s.meta_bytes, total / 50 + labels[0].inodes_max * 1024);
			ck_assert_uint_le(s.meta_bytes + s.data_bytes, total);
			ck_assert_uint_ge(s.data_bytes, total / 4);
			ck_assert_uint_ge(labels[0].slot_bytes, 16 * 64 * 88);
			if (sizes[i] >= 16 * GIB)
				ck_assert_uint_eq(labels[0].zone_bytes, 64 * MIB);
			if (n > 1) {
				char why[100];

				ck_assert(label_same_pool(&labels[0], &labels[1], why, sizeof(why)));
				ck_assert(!label_same_pool(&labels[0], &labels[0], why, sizeof(why)));
			}
		}
}
END_TEST

START_TEST(refused_layouts)
{
	struct label_plan plan = { .name = "p", .devices = 1, .size_bytes = { 63 * MIB } };
	struct label_share share;
	char why[200];

	ck_assert_int_eq(label_layout(&plan, labels, &share, why, sizeof(why)), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "64 MiB"));
	plan.size_bytes[0] = 64 * MIB;
	plan.inodes_max = 1 << 20;
	ck_assert_int_eq(label_layout(&plan, labels, &share, why, sizeof(why)), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "32768"));
	plan.inodes_max = 0;
	plan.name = "a b";
	ck_assert_int_eq(label_layout(&plan, labels, &share, why, sizeof(why)), -EINVAL);
	plan.name = "p";
	plan.devices = 65;
	ck_assert_int_eq(label_layout(&plan, labels, &share, why, sizeof(why)), -EINVAL);
}
END_TEST

START_TEST(printing)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	lay_out(2, GIB);
	label_print(f, &labels[0]);
	fclose(f);
	ck_assert_ptr_nonnull(strstr(text, "tank"));
	ck_assert_ptr_nonnull(strstr(text, "device 1"));
	free(text);
}
END_TEST

int main(void)
{
	return unit_run("label", round_trip, damage_is_found, impossible_fields_are_refused,
			noise_is_refused, names, copies, copy_of_unknown_format, rewrite_survives_cuts, truncated_device,
			layouts, refused_layouts, printing, NULL);
}
