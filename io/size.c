/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/size.h"

static const char units[] = "KMGTPE";

/* The shift of a unit: "", "B", "K", "Ki", "KiB", "KB"; -1 for anything else. */
static int unit_shift(const char *unit)
{
	const char *at;

	if (!*unit || strcasecmp(unit, "B") == 0)
		return 0;
	at = strchr(units, toupper((unsigned char)*unit));
	if (!at)
		return -1;
	unit++;
	if (*unit && strcmp(unit, "i") && strcmp(unit, "iB") && strcasecmp(unit, "B"))
		return -1;
	return 10 * (int)(at - units + 1);
}

int size_parse(const char *text, uint64_t *bytes)
{
	char *end;
	double value;
	int shift;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (const char *c = text; isdigit((unsigned char)*c) || *c == '.'; c++)
		if (*c == '.' && !isdigit((unsigned char)c[1]))
			return -EINVAL;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return -EINVAL;
	errno = 0;
	if (strcspn(text, ".eE") < strlen(text) && strpbrk(text, ".")) {
		value = strtod(text, &end);
	} else {
		unsigned long long whole = strtoull(text, &end, 10);

		shift = unit_shift(end);
		if (shift < 0)
			return -EINVAL;
		if (errno || whole > (UINT64_C(0x7fffffffffffffff) >> shift))
			return -ERANGE;
		*bytes = (uint64_t)whole << shift;
		return 0;
	}
	shift = unit_shift(end);
	if (shift <= 0) /* there is no part of a byte: the unit was forgotten */
		return -EINVAL;
	if (errno || ldexp(value, shift) >= 0x1p63)
		return -ERANGE;
	*bytes = (uint64_t)ldexp(value, shift);
	return 0;
}

const char *size_text(uint64_t bytes, char *buf, size_t len)
{
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%u", (unsigned)bytes);
		return buf;
	}
	value /= 1024;
	while (value >= 999.5 && unit + 1 < strlen(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, len, "%.*f%c", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[unit]);
	/* "1.00G" reads better as "1G". */
	char *dot = strchr(buf, '.');
	if (dot) {
		size_t unit_at = strlen(buf) - 1, end = unit_at;
		char letter = buf[unit_at];

		while (end > 0 && buf[end - 1] == '0')
			end--;
		if (end > 0 && buf[end - 1] == '.')
			end--;
		buf[end] = letter;
		buf[end + 1] = '\0';
	}
	return buf;
}

int number_parse(const char *text, uint64_t *number)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	return *end ? -EINVAL : 0;
}
