/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cli/in_use.h"
#include "cli/report.h"
#include "io/cleanup.h"
#include "io/device.h"
#include "meta/label.h"

/* The loop device that has this file behind it, into name. */
static bool loop_of(const char *path, char *name, size_t len)
{
	char real[PATH_MAX], backing[PATH_MAX];
	glob_t g = {0};
	bool found = false;

	if (!realpath(path, real) || glob("/sys/block/loop*/loop/backing_file", 0, NULL, &g))
		return false;
	for (size_t i = 0; i < g.gl_pathc && !found; i++) {
		cleanup_file FILE *f = fopen(g.gl_pathv[i], "re");

		if (!f || !fgets(backing, sizeof(backing), f))
			continue;
		backing[strcspn(backing, "\n")] = '\0';
		if (strcmp(backing, real) == 0) {
			found = true;
			snprintf(name, len, "/dev/%.*s", (int)strcspn(g.gl_pathv[i] + 11, "/"),
				 g.gl_pathv[i] + 11);
		}
	}
	globfree(&g);
	return found;
}

/* What is behind this loop device, into name. */
static bool file_of_loop(const char *path, char *name, size_t len)
{
	char attribute[64];
	cleanup_file FILE *f = NULL;
	struct stat st;

	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return false;
	snprintf(attribute, sizeof(attribute), "/sys/dev/block/%u:%u/loop/backing_file", major(st.st_rdev), minor(st.st_rdev));
	f = fopen(attribute, "re");
	if (!f || !fgets(name, (int)len, f))
		return false;
	name[strcspn(name, "\n")] = '\0';
	return true;
}

static int check_open(const char *path)
{
	struct device *dev;
	int rc = device_open(path, DEVICE_EXCLUSIVE | DEVICE_READONLY, &dev);

	if (!rc)
		device_close(dev);
	return rc;
}

int in_use_check(const char *path, char *why, size_t why_len)
{
	char loop[64], file[PATH_MAX];
	int rc;

	if (file_of_loop(path, file, sizeof(file)) && check_open(file) == -EBUSY) {
		snprintf(why, why_len, "the file behind it, %s, is in use: nvfs pool list shows by whom", file);
		return -EBUSY;
	}
	if (loop_of(path, loop, sizeof(loop))) {
		snprintf(why, why_len, "it is behind the loop device %s; detach that with losetup -d %s", loop, loop);
		return -EBUSY;
	}
	rc = check_open(path);
	if (rc == -EBUSY)
		snprintf(why, why_len, "it is in use: mounted, swapped to, part of another device, or served by nvfsd "
				       "(lsblk and nvfs pool list show by whom); release it first");
	else if (rc)
		snprintf(why, why_len, "%s", device_problem(rc));
	return rc;
}

static blkid_probe new_probe(int fd)
{
	blkid_probe pr = blkid_new_probe();

	if (!pr || blkid_probe_set_device(pr, fd, 0, 0)) {
		blkid_free_probe(pr);
		return NULL;
	}
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_LABEL | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_MAGIC);
	blkid_probe_enable_partitions(pr, 1);
	blkid_probe_set_partitions_flags(pr, BLKID_PARTS_MAGIC);
	return pr;
}

static int nvfs_check(const char *path, char *why, size_t why_len)
{
	struct device *dev;
	struct label label;
	int rc = device_open(path, DEVICE_READONLY, &dev);

	if (rc == -ENXIO) /* an empty file holds nothing */
		return 0;
	if (rc)
		return rc;
	rc = label_read(dev, &label, NULL);
	device_close(dev);
	if (rc == -ENOENT)
		return 0;
	if (rc == -EIO)
		return rc;
	if (rc == -EBADMSG)
		snprintf(why, why_len, "it holds a damaged pool of nvfs");
	else if (rc == -EPROTONOSUPPORT)
		snprintf(why, why_len, "it holds a pool of a newer nvfs");
	else
		snprintf(why, why_len, "it holds the pool %s of nvfs", label.name);
	return -EEXIST;
}

int signature_check(const char *path, char *why, size_t why_len)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *type = NULL, *label = NULL;
	blkid_probe pr;
	int rc;

	if (fd < 0)
		return -errno;
	rc = nvfs_check(path, why, why_len);
	if (rc)
		return rc;
	pr = new_probe(fd);
	if (!pr)
		return -ENOMEM;
	rc = blkid_do_safeprobe(pr);
	if (rc == 0) {
		if (!blkid_probe_lookup_value(pr, "TYPE", &type, NULL))
			blkid_probe_lookup_value(pr, "LABEL", &label, NULL);
		else
			blkid_probe_lookup_value(pr, "PTTYPE", &type, NULL);
		snprintf(why, why_len, "it holds %s%s%s%s", type ? type : "something", label ? " labelled \"" : "",
			 label ? label : "", label ? "\"" : "");
	} else if (rc == -2) {
		snprintf(why, why_len, "it holds several signatures at once");
	}
	blkid_free_probe(pr);
	return rc == 0 || rc == -2 ? -EEXIST : rc == 1 ? 0 : -EIO;
}

int signature_wipe(const char *path)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	blkid_probe pr;
	int rc;

	if (fd < 0)
		return -errno;
	pr = new_probe(fd);
	if (!pr)
		return -ENOMEM;
	while ((rc = blkid_do_probe(pr)) == 0)
		if (blkid_do_wipe(pr, 0))
			break;
	blkid_free_probe(pr);
	return rc != 1 || fsync(fd) ? -EIO : 0; /* 1: there is nothing more */
}
