/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "io/visible.h"

#define COLUMNS_MAX 16

struct table {
	char *headers; /* the columns' names point into it */
	const char *name[COLUMNS_MAX];
	bool right[COLUMNS_MAX];
	unsigned columns;
	char **cells;
	size_t count, room;
	bool failed;
};

struct table *table_new(const char *headers)
{
	struct table *t = calloc(1, sizeof(*t));
	char *save = NULL;

	if (!t)
		return NULL;
	t->headers = strdup(headers);
	if (!t->headers) {
		free(t);
		return NULL;
	}
	for (char *name = strtok_r(t->headers, " ", &save); name && t->columns < COLUMNS_MAX;
	     name = strtok_r(NULL, " ", &save)) {
		t->right[t->columns] = *name == '>';
		t->name[t->columns++] = *name == '>' ? name + 1 : name;
	}
	return t;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	va_list ap;
	char *raw, *text = NULL;
	size_t room;

	va_start(ap, fmt);
	if (vasprintf(&raw, fmt, ap) < 0)
		raw = NULL;
	va_end(ap);
	if (raw) {
		room = 4 * strlen(raw) + 1;
		text = malloc(room);
		if (text)
			visible_copy(text, room, raw);
		free(raw);
	}
	if (text && t->count == t->room) {
		size_t more = t->room ? 2 * t->room : 64;
		char **cells = realloc(t->cells, more * sizeof(*cells));

		if (cells) {
			t->cells = cells;
			t->room = more;
		}
	}
	if (!text || t->count == t->room) {
		free(text);
		t->failed = true;
		return;
	}
	t->cells[t->count++] = text;
}

static void print_cell(const struct table *t, FILE *out, unsigned column, const char *text, int width)
{
	bool last = column + 1 == t->columns;

	if (t->right[column])
		fprintf(out, "%*s", width, text);
	else if (last)
		fputs(text, out);
	else
		fprintf(out, "%-*s", width, text);
	fputs(last ? "\n" : "  ", out);
}

int table_print(struct table *t, FILE *out)
{
	int width[COLUMNS_MAX], rc = t->failed ? -ENOMEM : 0;

	for (unsigned c = 0; c < t->columns; c++)
		width[c] = (int)strlen(t->name[c]);
	for (size_t i = 0; i < t->count; i++)
		if ((int)strlen(t->cells[i]) > width[i % t->columns])
			width[i % t->columns] = (int)strlen(t->cells[i]);
	for (unsigned c = 0; c < t->columns; c++)
		print_cell(t, out, c, t->name[c], width[c]);
	for (size_t i = 0; i < t->count; i++)
		print_cell(t, out, i % t->columns, t->cells[i], width[i % t->columns]);
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->headers);
	free(t);
	return rc;
}
