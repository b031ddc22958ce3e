/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/unit/device_io.h"

#define BLOCKS 512u
#define SIZE (BLOCKS * BLOCK)

static char file[64];
static char loop[32];
static int loop_fd = -1;

/* A loop device over a fresh file that goes when it is closed; why there is none, or NULL. */
static const char *loop_setup(uint32_t sector_bytes)
{
	struct loop_config config = {
		.block_size = sector_bytes,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control, number, fd, error;

	snprintf(file, sizeof(file), "/tmp/nvfs-loop-test-XXXXXX");
	fd = mkstemp(file);
	unlink(file);
	if (fd < 0 || ftruncate(fd, SIZE + 512))
		return "no room in /tmp";
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return "no loop devices here (needs root and the loop driver)";
	config.fd = (uint32_t)fd;
	do {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(loop, sizeof(loop), "/dev/loop%d", number);
		loop_fd = number < 0 ? -1 : open(loop, O_RDWR | O_CLOEXEC);
		if (loop_fd < 0)
			return "no free loop device";
		error = ioctl(loop_fd, LOOP_CONFIGURE, &config) ? errno : 0;
		if (error)
			close(loop_fd);
	} while (error == EBUSY); /* somebody else was faster */
	close(control);
	close(fd);
	return error ? "the loop device cannot be configured" : NULL;
}

static void setup(void)
{
	ck_assert_ptr_null(loop_setup(512));
}

static void teardown(void)
{
	close(loop_fd);
}

START_TEST(geometry_of_a_block_device)
{
	const struct device_geometry *g;
	struct device *dev;

	ck_assert_int_eq(device_open(loop, 0, &dev), 0);
	g = device_geometry(dev);
	ck_assert_int_eq(device_kind(dev), DEVICE_BLOCK);
	ck_assert_uint_eq(g->size_bytes, SIZE);
	ck_assert_uint_eq(g->logical_block_bytes, 512);
	ck_assert_uint_gt(g->max_io_bytes, BLOCK);
	ck_assert(g->volatile_cache);
	ck_assert_uint_gt(strlen(g->identity), 0);
	device_close(dev);
}
END_TEST

START_TEST(exclusive_block_device)
{
	struct device *dev, *other;

	ck_assert_int_eq(device_open(loop, DEVICE_EXCLUSIVE, &dev), 0);
	ck_assert_int_eq(device_open(loop, DEVICE_EXCLUSIVE, &other), -EBUSY);
	device_close(dev);
	ck_assert_int_eq(device_open(loop, DEVICE_EXCLUSIVE, &dev), 0);
	device_close(dev);
}
END_TEST

START_TEST(io_on_a_block_device)
{
	uint8_t *mem = io_memory(SIZE);
	struct io_request req;
	struct device *dev;
	struct reactor *r;
	int rc;

	ck_assert_int_eq(device_open(loop, DEVICE_EXCLUSIVE, &dev), 0);
	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	io_round_trip(r, dev, BLOCKS, mem, 1);
	io_vectors(r, dev, mem);
	ck_assert_int_eq(device_write(dev, mem, BLOCK, SIZE - BLOCK, IO_FUA), 0);
	ck_assert_int_eq(device_flush(dev), 0);
	req = (struct io_request){ .device = dev, .op = IO_DISCARD, .offset = 64 * BLOCK,
				   .len = 64 * BLOCK };
	/* A loop device passes a discard on as a hole, where the filesystem below has them. */
	rc = device_discard(dev, 0, 64 * BLOCK);
	ck_assert(rc == 0 || rc == -EOPNOTSUPP);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(io_one(r, &req), rc);
	ck_assert_int_eq(device_read(dev, mem, 128 * BLOCK, 0), 0);
	ck_assert(rc || (!mem[5] && !mem[127 * BLOCK + 5]));
	ck_assert_int_eq(device_read(dev, mem, BLOCK, 128 * BLOCK), 0);
	ck_assert(io_matches(mem, 128, 1));
	device_detach(r, dev);
	reactor_destroy(r);
	device_close(dev);
	munmap(mem, SIZE);
}
END_TEST

int main(void)
{
	const char *reason = loop_setup(512);
	Suite *suite = suite_create("device_block");
	TCase *tcase = tcase_create("device_block");

	if (reason)
		unit_skip(reason);
	close(loop_fd);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, geometry_of_a_block_device);
	tcase_add_test(tcase, exclusive_block_device);
	tcase_add_test(tcase, io_on_a_block_device);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
