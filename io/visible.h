/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text that others chose (names of files, labels of devices, paths) on its way to a terminal or a log: printable ASCII and
 * UTF-8 stay, everything else (control characters, the end of a line, what is no UTF-8) becomes \xNN.
 */
#ifndef NVFS_IO_VISIBLE_H
#define NVFS_IO_VISIBLE_H

#include <stddef.h>
#include <stdio.h>

/* Any bytes. */
void visible_print(FILE *out, const char *text, size_t len);

/* A string into a buffer of room > 0 bytes, cut off where it does not fit; the length, without the 0 at its end. */
size_t visible_copy(char *to, size_t room, const char *text);

#endif
