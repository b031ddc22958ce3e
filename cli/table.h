/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table for people: columns as wide as their longest cell, numbers to the right. */
#ifndef NVFS_CLI_TABLE_H
#define NVFS_CLI_TABLE_H

#include <stdio.h>

#include "cli/terminal.h"

struct table;

/* headers: one string, columns separated by spaces; a leading '>' aligns the column to the right. NULL without memory. */
struct table *table_new(const char *headers);

/* One cell after the other, row by row; the text is copied. Errors show in table_print(). */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A colour for the cell that was added last; COLOUR_NONE is fine. */
void table_colour(struct table *t, enum colour colour);

/* Leave out columns at the right that do not fit into so many characters; 0: none. */
void table_width(struct table *t, unsigned characters);

/* Print, the headers in bold, and free. 0 or -ENOMEM. */
int table_print(struct table *t, FILE *out);

#endif
