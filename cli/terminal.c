/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/terminal.h"

#define BAR_WIDTH 40

/* ---- Colours ---- */

static enum { AUTO, ALWAYS, NEVER } colours = AUTO;

void colour_set(const char *when)
{
	colours = !strcmp(when, "always") ? ALWAYS : !strcmp(when, "never") ? NEVER : AUTO;
}

static bool is_dumb(void)
{
	const char *term = getenv("TERM");

	return !term || !*term || !strcmp(term, "dumb");
}

static bool environment_allows(void)
{
	const char *no = getenv("NO_COLOR");

	return !(no && *no) && !is_dumb();
}

bool screen_wanted(void)
{
	return isatty(STDOUT_FILENO) && !is_dumb();
}

bool colour_wanted(FILE *out)
{
	if (colours != AUTO)
		return colours == ALWAYS;
	return environment_allows() && isatty(fileno(out));
}

void colour_print(FILE *out, enum colour colour, const char *fmt, ...)
{
	static const char *const codes[] = {
		[COLOUR_BOLD] = "\033[1m", [COLOUR_RED] = "\033[31m", [COLOUR_YELLOW] = "\033[33m",
	};
	const bool wanted = colour != COLOUR_NONE && colour_wanted(out);
	va_list ap;

	if (wanted)
		fputs(codes[colour], out);
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	if (wanted)
		fputs("\033[0m", out);
}

/* ---- Bars ---- */

static bool bar_shown;

bool bar_wanted(void)
{
	return isatty(STDERR_FILENO) && !is_dumb();
}

void bar_clear(void)
{
	if (bar_shown)
		fputs("\r\033[K", stderr);
	bar_shown = false;
}

/* The estimate may be exceeded: the bar waits at its end then. */
void bar_draw(const char *what, uint64_t done, uint64_t total)
{
	unsigned filled;

	if (!what) {
		bar_clear();
		return;
	}
	if (!total) {
		fprintf(stderr, "\r\033[K%-12s %" PRIu64, what, done);
	} else {
		filled = done < total ? (unsigned)((double)done * BAR_WIDTH / (double)total) : BAR_WIDTH;
		fprintf(stderr, "\r%-12s [%.*s%*s] %3u%%", what, (int)filled,
			"########################################", (int)(BAR_WIDTH - filled), "",
			filled * 100 / BAR_WIDTH);
	}
	fflush(stderr);
	bar_shown = true;
}

/* ---- Questions ---- */

bool can_ask(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool ask_yes(const char *question)
{
	char answer[16] = "";

	fflush(stdout);
	fprintf(stderr, "%s [y/N] ", question);
	fflush(stderr);
	if (!fgets(answer, sizeof(answer), stdin))
		return false;
	answer[strcspn(answer, "\n")] = '\0';
	return !strcasecmp(answer, "y") || !strcasecmp(answer, "yes");
}
