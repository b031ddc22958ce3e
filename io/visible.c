/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/visible.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ESCAPE_BYTES 4 /* \xNN */

static bool between(uint8_t c, uint8_t low, uint8_t high)
{
	return c >= low && c <= high;
}

/*
 * How many bytes of a character that may be shown stand here, 0 for none. UTF-8 by the table of well-formed sequences in the Unicode
 * standard, without the control characters from U+0080 on.
 */
static size_t shown(const uint8_t *c, size_t len)
{
	size_t n;
	uint8_t low = 0x80, high = 0xbf;

	if (c[0] < 0x80)
		return c[0] >= 0x20 && c[0] != 0x7f;
	n = between(c[0], 0xc2, 0xdf) ? 2 : between(c[0], 0xe0, 0xef) ? 3 : between(c[0], 0xf0, 0xf4) ? 4 : 0;
	if (!n || n > len)
		return 0;
	if (c[0] == 0xc2 || c[0] == 0xe0)
		low = 0xa0;
	else if (c[0] == 0xf0)
		low = 0x90;
	else if (c[0] == 0xed)
		high = 0x9f;
	else if (c[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < n; i++, low = 0x80, high = 0xbf)
		if (!between(c[i], low, high))
			return 0;
	return n;
}

void visible_print(FILE *out, const char *text, size_t len)
{
	for (size_t at = 0, n; at < len; at += n ? n : 1) {
		n = shown((const uint8_t *)text + at, len - at);
		if (n)
			fwrite(text + at, 1, n, out);
		else
			fprintf(out, "\\x%02x", (uint8_t)text[at]);
	}
}

size_t visible_copy(char *to, size_t room, const char *text)
{
	size_t len = strlen(text), put = 0;

	for (size_t at = 0, n; at < len; at += n ? n : 1) {
		n = shown((const uint8_t *)text + at, len - at);
		if (put + (n ? n : ESCAPE_BYTES) >= room)
			break;
		if (n)
			memcpy(to + put, text + at, n);
		else
			snprintf(to + put, ESCAPE_BYTES + 1, "\\x%02x", (uint8_t)text[at]);
		put += n ? n : ESCAPE_BYTES;
	}
	to[put] = '\0';
	return put;
}
