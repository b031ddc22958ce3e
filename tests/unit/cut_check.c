/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "meta/check.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/unit.h"

void cut_check(struct device *dev, const char *when, ...)
{
	static char text[1 << 16];
	struct check_options options = { .data = true };
	struct check_result result;
	char about[256];
	va_list args;
	int err;

	memset(text, 0, sizeof(text));
	options.out = fmemopen(text, sizeof(text), "w");
	ck_assert_ptr_nonnull(options.out);
	err = check_pool(&dev, 1, &options, &result);
	fclose(options.out);
	if (!err && (!result.found || (result.found == 1 && strstr(text, "a power cut interrupted its writing"))))
		return;
	va_start(args, when);
	vsnprintf(about, sizeof(about), when, args);
	va_end(args);
	ck_abort_msg("%s: %d\n%s", about, err, text);
}
