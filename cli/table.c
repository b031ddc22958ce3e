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
	char *name[COLUMNS_MAX];
	bool right[COLUMNS_MAX];
	unsigned columns;
	struct cell {
		char *text;
		enum colour colour;
	} *cells;
	size_t count, room;
	unsigned width; /* of the screen; 0: any */
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
		struct cell *cells = realloc(t->cells, more * sizeof(*cells));

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
	t->cells[t->count++] = (struct cell){.text = text};
}

void table_colour(struct table *t, enum colour colour)
{
	if (t->count)
		t->cells[t->count - 1].colour = colour;
}

void table_width(struct table *t, unsigned characters)
{
	t->width = characters;
}

/* Blanks are outside of the colour. */
static void print_cell(const struct table *t, FILE *out, unsigned column, const struct cell *cell, int width, unsigned shown)
{
	const int blanks = width - (int)strlen(cell->text);

	if (column >= shown)
		return;
	if (t->right[column])
		fprintf(out, "%*s", blanks, "");
	colour_print(out, cell->colour, "%s", cell->text);
	if (!t->right[column] && column + 1 < shown)
		fprintf(out, "%*s", blanks, "");
	fputs(column + 1 == shown ? "\n" : "  ", out);
}

/* Columns that fit; the first one is always there. */
static unsigned fitting(const struct table *t, const int *width)
{
	unsigned sum = 0, shown = 0;

	while (shown < t->columns) {
		sum += (unsigned)width[shown] + (shown ? 2 : 0);
		if (shown && t->width && sum >= t->width)
			break;
		shown++;
	}
	return shown;
}

int table_print(struct table *t, FILE *out)
{
	int width[COLUMNS_MAX], rc = t->failed ? -ENOMEM : 0;
	unsigned shown;

	for (unsigned c = 0; c < t->columns; c++)
		width[c] = (int)strlen(t->name[c]);
	for (size_t i = 0; i < t->count; i++)
		if ((int)strlen(t->cells[i].text) > width[i % t->columns])
			width[i % t->columns] = (int)strlen(t->cells[i].text);
	shown = fitting(t, width);
	for (unsigned c = 0; c < t->columns; c++)
		print_cell(t, out, c, &(struct cell){.text = t->name[c], .colour = COLOUR_BOLD}, width[c], shown);
	for (size_t i = 0; i < t->count; i++)
		print_cell(t, out, i % t->columns, &t->cells[i], width[i % t->columns], shown);
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t->headers);
	free(t);
	return rc;
}
