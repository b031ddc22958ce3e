/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_TESTS_UNIT_CUT_CHECK_H
#define NVFS_TESTS_UNIT_CUT_CHECK_H

#include "io/device.h"

/*
 * What fsck.nvfs --data says of a pool as a cut of the power left it: nothing, or the test ends with what it found, after the text of `when`. A
 * slot of the file table that was being written is what a cut may leave; nothing else is.
 */
void cut_check(struct device *dev, const char *when, ...) __attribute__((format(printf, 2, 3)));

#endif
