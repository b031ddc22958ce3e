/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H
/*
 * What the random-operation tests share: a generator that gives the same numbers for the same seed everywhere, a ring of
 * the last operations, and the ways to take the filesystem's caches away.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* xorshift64*; never 0. */
extern uint64_t model_state;

void model_seed(uint64_t seed);
uint64_t model_random(void);
/* 0 <= result < n; n > 0. */
uint64_t model_below(uint64_t n);
bool model_chance(unsigned one_in);

/* The operation that is about to be done; shown with the ones before it when the test fails. */
void model_op(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Operations begun so far. */
uint64_t model_ops(void);
/* Prints each operation as it begins. */
void model_trace(bool on);
/* Prints the reason, the last operations and how to repeat them, and ends the test with status 1. */
void model_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Said by model_fail: the command line that repeats the run. */
void model_set_repeat(int argc, char **argv, uint64_t seed);

/* Runs CMD by the shell; a status other than 0 fails the test. */
void model_shell(const char *cmd);
/* Drops the kernel's clean caches. False when not allowed. */
bool model_drop_caches(void);

/* "64k", "1M", "3G", or a plain number; ends the program with a message when it is none. */
uint64_t model_number(const char *option, const char *text);

#endif
