/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people type and read them: 1G, 512Mi, 4096, 1.5T. All units are powers of 1024. */
#ifndef NVFS_IO_SIZE_H
#define NVFS_IO_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* 0, -EINVAL for anything else than a number, with a point before a unit above B, and a unit of B K M G T P (with i, iB or B), -ERANGE above 2^63-1. */
int size_parse(const char *text, uint64_t *bytes);

/* Three significant digits and a unit ("1.5G"), into buf. Returns buf. */
const char *size_text(uint64_t bytes, char *buf, size_t len);

#define SIZE_TEXT_MAX 24

/* A plain whole number: 0, -EINVAL, -ERANGE. */
int number_parse(const char *text, uint64_t *number);

#endif
