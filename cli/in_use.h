/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What mkfs.nvfs must not overwrite without being told twice, or at all. */
#ifndef NVFS_CLI_IN_USE_H
#define NVFS_CLI_IN_USE_H

#include <stddef.h>

/*
 * 0: nobody uses it (mounted, swap, member of something, a loop device's file, a served pool). -EBUSY and why says
 * who; other errors of opening it. The device is not kept.
 */
int in_use_check(const char *path, char *why, size_t why_len);

/* 0: nothing known lies on it. -EEXIST and why says what (a filesystem, a partition table, a pool of nvfs). */
int signature_check(const char *path, char *why, size_t why_len);

/* Remove the signatures that signature_check() saw, so that nobody takes the device for what it was. 0 or -errno. */
int signature_wipe(const char *path);

#endif
