/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/* What the kernel tells of a block device: by ioctl, and in /sys/dev/block. */

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "io/cleanup.h"
#include "io/device_ops.h"

#define DEFAULT_MAX_IO_BYTES (128u << 10)

/* The first line of an attribute; empty when it is not there. */
static void sysfs_read(const char *dir, const char *attribute, char *out, size_t size)
{
	char path[160];
	cleanup_file FILE *f = NULL;
	size_t n;

	out[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s", dir, attribute);
	f = fopen(path, "re");
	if (!f || !fgets(out, (int)size, f)) {
		out[0] = '\0';
		return;
	}
	n = strlen(out);
	while (n && (out[n - 1] == '\n' || out[n - 1] == ' '))
		out[--n] = '\0';
}

static uint64_t sysfs_number(const char *dir, const char *attribute)
{
	char text[32];

	sysfs_read(dir, attribute, text, sizeof(text));
	return strtoull(text, NULL, 10);
}

/* A partition has its queue, and its hardware, one level up. */
static void sysfs_disk(dev_t rdev, char *dir, size_t size)
{
	char probe[8];

	snprintf(dir, size, "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	sysfs_read(dir, "partition", probe, sizeof(probe));
	if (probe[0])
		snprintf(dir, size, "/sys/dev/block/%u:%u/..", major(rdev), minor(rdev));
}

static void block_identity(const char *disk, const char *name, struct device_geometry *g)
{
	static const char *const unique[] = { "wwid", "device/wwid", "serial", "device/serial" };
	char model[40], id[48] = "";

	sysfs_read(disk, "device/model", model, sizeof(model));
	for (unsigned i = 0; i < sizeof(unique) / sizeof(unique[0]) && !id[0]; i++)
		sysfs_read(disk, unique[i], id, sizeof(id));
	if (id[0])
		snprintf(g->identity, sizeof(g->identity), "%s%s%s", model, model[0] ? " " : "", id);
	else
		snprintf(g->identity, sizeof(g->identity), "%s", name);
}

static void block_queue(const char *disk, struct device_geometry *g)
{
	char cache[32];
	uint64_t kib = sysfs_number(disk, "queue/max_sectors_kb");

	sysfs_read(disk, "queue/write_cache", cache, sizeof(cache));
	g->volatile_cache = strcmp(cache, "write through") != 0; /* unknown: assume there is one */
	g->discard = sysfs_number(disk, "queue/discard_max_bytes") ||
		     sysfs_number(disk, "queue/write_zeroes_max_bytes");
	g->max_io_bytes = kib ? (uint32_t)(kib << 10) : DEFAULT_MAX_IO_BYTES;
}

int device_block_geometry(int fd, const char *name, struct device_geometry *g)
{
	uint64_t size;
	int logical;
	struct stat st;
	char disk[64];

	memset(g, 0, sizeof(*g));
	if (fstat(fd, &st) || ioctl(fd, BLKGETSIZE64, &size) || ioctl(fd, BLKSSZGET, &logical))
		return -errno;
	g->size_bytes = size / DEVICE_ALIGN_BYTES * DEVICE_ALIGN_BYTES;
	g->logical_block_bytes = (uint32_t)logical;
	sysfs_disk(st.st_rdev, disk, sizeof(disk));
	block_queue(disk, g);
	block_identity(disk, name, g);
	return 0;
}
