/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "io/visible.h"

__attribute__((format(printf, 1, 0))) static void vreport(const char *fmt, va_list ap)
{
	char line[4096];

	vsnprintf(line, sizeof(line), fmt, ap);
	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	visible_print(stderr, line, strlen(line));
	fputc('\n', stderr);
}

const char *device_problem(int err)
{
	switch (err) {
	case -ENXIO:
		return "it is empty";
	case -ENOTBLK:
		return "it is neither a regular file nor a block device";
	default:
		return strerror(-err);
	}
}

void report(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vreport(fmt, ap);
	va_end(ap);
}

void die(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vreport(fmt, ap);
	va_end(ap);
	exit(status);
}

/* A long one that takes no value and was given one: the word that was read last. A short one may have more behind it in its word. */
static bool has_needless_value(const char *word, const struct option *longs)
{
	const char *value = strchr(word, '=');

	if (strncmp(word, "--", 2) || !value)
		return false;
	for (; longs->name; longs++)
		if (longs->val == optopt && longs->has_arg == no_argument &&
		    !strncmp(longs->name, word + 2, (size_t)(value - word - 2)))
			return true;
	return false;
}

void die_of_option(int status, int c, char **argv, const struct option *longs, const char *help)
{
	const char *last = argv[optind - 1];

	if (c == ':')
		die(status, "%s needs a value; \"%s\" lists the options", last, help);
	if (!optopt || has_needless_value(last, longs))
		die(status, "%s is no option; \"%s\" lists them", last, help);
	die(status, "-%c is no option; \"%s\" lists them", optopt, help);
}
