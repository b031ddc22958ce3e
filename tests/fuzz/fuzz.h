/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzz target is one file with LLVMFuzzerTestOneInput() and fuzz_seed(). With clang and
 * --enable-fuzzers it links libFuzzer (tests/fuzz/NAME_fuzz CORPUS_DIR). With any compiler,
 * `make check` links it with replay.c, which runs what is in tests/fuzz/corpus/NAME, every seed, every
 * truncation of a seed and a fixed number of random changes to seeds.
 *
 * A target must abort() when a property does not hold: a decoder that accepts bytes has a record
 * that its validator, encoder and printer take, and that decodes to the same.
 */
#ifndef NVFS_TESTS_FUZZ_H
#define NVFS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Write the i-th well-formed input, at most max bytes, and return its length; 0 when there is no i-th. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t max);

/* The name of the folder below tests/fuzz/corpus. */
extern const char fuzz_name[];

#define FUZZ_CHECK(condition)                                                          \
	do {                                                                           \
		if (!(condition)) {                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                       \
		}                                                                      \
	} while (0)

#endif
