/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <uuid.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/device.h"
#include "meta/dump.h"
#include "meta/label.h"

/*
 * What udev imports: IMPORT{program} in 60-nvfs.rules. A device that is not nvfs's prints nothing; one that is damaged or was cut off is
 * not to be taken for empty either.
 */
static int cmd_debug_udev(const struct nvfs_args *a)
{
	char pool[37], device[37];
	struct device *dev;
	struct label label;
	int rc = device_open(a->words[0], DEVICE_READONLY, &dev);

	if (rc)
		die(EXIT_REFUSED, "%s: %s", a->words[0], device_problem(rc));
	rc = label_read(dev, &label, NULL);
	device_close(dev);
	if (rc && rc != -EPROTONOSUPPORT && rc != -ENODATA && rc != -EBADMSG)
		return EXIT_NOT_FOUND;
	puts("ID_FS_TYPE=nvfs\nID_FS_USAGE=filesystem");
	if (rc == -EBADMSG) /* who it is cannot be believed */
		return EXIT_OK;
	uuid_unparse_lower(label.pool_uuid, pool);
	uuid_unparse_lower(label.device_uuid, device);
	printf("ID_FS_UUID=%s\nID_FS_UUID_ENC=%s\nID_FS_UUID_SUB=%s\nID_FS_UUID_SUB_ENC=%s\nID_FS_VERSION=%u.%u\n",
	       pool, pool, device, device, label.major, label.minor);
	if (label.name[0])
		printf("ID_FS_LABEL=%s\nID_FS_LABEL_ENC=%s\n", label.name, label.name);
	return EXIT_OK;
}

/* ---- dump ---- */

/* Exclusively: the records of a served pool are in its daemon's memory. */
static struct device *open_member(const char *path)
{
	struct device *dev;
	int rc = device_open(path, DEVICE_READONLY | DEVICE_EXCLUSIVE, &dev);

	if (rc == -EBUSY)
		die(EXIT_BUSY, "%s is in use; stop its pool first (nvfs pool stop POOL)", path);
	if (rc)
		die(nvfs_exit_code(rc), "%s: %s", path, device_problem(rc));
	return dev;
}

/* All members, found by one of them; that one alone when its label cannot say who the others are. */
static unsigned open_members(const char *path, struct device **devices)
{
	struct pool_ref ref = {0};
	char why[512], with_slash[PATH_MAX];
	unsigned n = 0;
	int rc;

	/* A file here, not the name of a pool. */
	snprintf(with_slash, sizeof(with_slash), "%s%s", strchr(path, '/') ? "" : "./", path);
	rc = pool_ref_parse(with_slash, &ref, why, sizeof(why));
	if (ref.twice)
		die(EXIT_REFUSED, "%s and another one are the same member of pool %s, one a copy; move it away", ref.twice, ref.pool);
	if (!rc && ref.devices)
		while (ref.devices[n] && n < LABEL_DEVICES_MAX) {
			devices[n] = open_member(ref.devices[n]);
			n++;
		}
	if (!n)
		devices[n++] = open_member(path);
	pool_ref_free(&ref);
	return n;
}

static int cmd_debug_dump(const struct nvfs_args *a)
{
	struct dump_request request = {.what = DUMP_ALL};
	struct device *devices[LABEL_DEVICES_MAX];
	unsigned n;
	int rc;

	if (a->count > 1 && dump_what_parse(a->words[1], &request.what))
		die(EXIT_USAGE, "%s is none of: label, table, files, ns, map, space, sys, inode, all", a->words[1]);
	request.inode = a->count > 2 ? a->words[2] : NULL;
	request.subvolume = a->count > 3 ? a->words[3] : NULL;
	if ((request.what == DUMP_INODE) != (a->count > 2))
		die(EXIT_USAGE, "usage: nvfs debug dump DEVICE inode NUMBER|/PATH [SUBVOLUME]");
	n = open_members(a->words[0], devices);
	rc = dump_pool(devices, n, &request, stdout, stderr);
	while (n)
		device_close(devices[--n]);
	if (rc == -ENOMEM)
		report("out of memory");
	return rc ? nvfs_exit_code(rc) : EXIT_OK;
}

const struct nvfs_command debug_commands[] = {
	{.group = "debug", .verb = "dump", .run = cmd_debug_dump, .min = 1, .max = 4, .args = "DEVICE [WHAT [INODE [NAME]]]",
	 .flags = NVFS_NO_JSON, .help = "records of a pool that is not served",
	 .more = "WHAT is label, table, files, ns, map, space, sys, inode or all.\n"
		 "INODE is a number, or a path from the root of the subvolume NAME.",
	 .examples = "nvfs debug dump /dev/nvme0n1 label\n"
		     "nvfs debug dump ./tank.img inode /etc/passwd web"},
	{.group = "debug", .verb = "udev", .run = cmd_debug_udev, .min = 1, .max = 1, .args = "DEVICE",
	 .flags = NVFS_NO_JSON, .help = "ID_FS_TYPE, UUID, LABEL for udev",
	 .examples = "nvfs debug udev /dev/nvme0n1"},
	{.group = NULL},
};
