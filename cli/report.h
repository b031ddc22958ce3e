/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs say to people: one line that begins with the program's name. */
#ifndef NVFS_CLI_REPORT_H
#define NVFS_CLI_REPORT_H

/* "mkfs.nvfs: text" to stderr. */
void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What device_open() says, for people: "it is empty", ... */
const char *device_problem(int err);

/* The same as report(), and exit. */
void die(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

struct option;

/*
 * What getopt_long() refused (it returned `c`, '?' or ':', of short options that begin with ':', with opterr 0), in the same way, and exit.
 * `help` is what shows the options: "mkfs.nvfs --help".
 */
void die_of_option(int status, int c, char **argv, const struct option *longs, const char *help) __attribute__((noreturn));

#endif
