/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uuid.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/device.h"
#include "meta/label.h"

/* What udev imports: IMPORT{program} in 60-nvfs.rules. A device that is not nvfs's prints nothing. */
int cmd_debug_udev(const struct nvfs_args *a)
{
	char pool[37], device[37];
	struct device *dev;
	struct label label;
	int rc = device_open(a->words[0], DEVICE_READONLY, &dev);

	if (rc)
		die(EXIT_REFUSED, "%s: %s", a->words[0], strerror(-rc));
	rc = label_read(dev, &label, NULL);
	device_close(dev);
	if (rc && rc != -EPROTONOSUPPORT)
		return EXIT_NOT_FOUND;
	uuid_unparse_lower(label.pool_uuid, pool);
	uuid_unparse_lower(label.device_uuid, device);
	printf("ID_FS_TYPE=nvfs\nID_FS_USAGE=filesystem\nID_FS_UUID=%s\nID_FS_UUID_ENC=%s\nID_FS_UUID_SUB=%s\n"
	       "ID_FS_UUID_SUB_ENC=%s\nID_FS_LABEL=%s\nID_FS_LABEL_ENC=%s\nID_FS_VERSION=%u.%u\n",
	       pool, pool, device, device, label.name, label.name, label.major, label.minor);
	return EXIT_OK;
}
