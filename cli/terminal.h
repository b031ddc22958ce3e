/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What depends on whether a person looks: colours, bars, questions. */
#ifndef NVFS_CLI_TERMINAL_H
#define NVFS_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum colour { COLOUR_NONE, COLOUR_BOLD, COLOUR_RED, COLOUR_YELLOW };

/*
 * "always", "never" or "auto", as from the start: on a terminal that is not dumb, unless NO_COLOR is in the environment
 * (https://no-color.org).
 */
void colour_set(const char *when);

/* Whether text to out gets colours. */
bool colour_wanted(FILE *out);

/* printf() in a colour, where colours are wanted. */
void colour_print(FILE *out, enum colour colour, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Whether stdout is a terminal that can be drawn over. */
bool screen_wanted(void);

/* Whether there is a terminal at stderr for a bar. */
bool bar_wanted(void);

/*
 * Draw over the line that was drawn before. total 0: a number without a bar. done may be more than total, which may be an estimate. what
 * NULL: take it away.
 */
void bar_draw(const char *what, uint64_t done, uint64_t total);
void bar_clear(void);

/* Whether a person can be asked: terminals at stdin and stderr. */
bool can_ask(void);

/* Ask on stderr; only "y" or "yes" is a yes. */
bool ask_yes(const char *question);

#endif
