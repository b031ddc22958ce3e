/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fuzz target's main() without libFuzzer: see fuzz.h. REPLAY_SEED and REPLAY_ROUNDS change the random part. */
#include "config.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>

#include "io/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (256u << 10)
#define ROUNDS 20000u

static uint64_t rng_state;

/* xorshift64*: the same numbers on every machine. */
static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * UINT64_C(2685821657736338717);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* An exact allocation, so that a sanitizer sees the first byte read behind the end. */
static void run(const uint8_t *data, size_t len)
{
	cleanup_free uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
}

static unsigned run_corpus(uint8_t *buf)
{
	const char *srcdir = getenv("NVFS_SRCDIR");
	char path[4096];
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", fuzz_name);
	cleanup(cleanup_dir_fn) DIR *dir = opendir(path);
	if (!dir)
		return 0;
	for (struct dirent *e; (e = readdir(dir));) {
		char file[sizeof(path) + sizeof(e->d_name) + 1];

		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		cleanup_file FILE *f = fopen(file, "rb");
		if (!f)
			continue;
		run(buf, fread(buf, 1, INPUT_MAX, f));
		n++;
	}
	return n;
}

static size_t mutate(uint8_t *buf, size_t len)
{
	const unsigned changes = 1 + rng() % 4;

	for (unsigned i = 0; i < changes && len; i++) {
		uint8_t *at = buf + rng() % len;

		switch (rng() % 5) {
		case 0:
			*at ^= 1u << rng() % 8;
			break;
		case 1:
			*at = rng();
			break;
		case 2:
			*at = rng() & 1 ? 0xff : 0;
			break;
		case 3:
			len = at - buf;
			break;
		default:
			if (len < INPUT_MAX)
				buf[len++] = rng();
		}
	}
	return len;
}

int main(void)
{
	const uint64_t seed = env_number("REPLAY_SEED", 1), rounds = env_number("REPLAY_ROUNDS", ROUNDS);
	cleanup_free uint8_t *buf = malloc(INPUT_MAX);
	unsigned nseeds = 0, ncorpus;
	size_t len;

	if (!buf)
		return EXIT_FAILURE;
	rng_state = seed ? seed : 1;
	ncorpus = run_corpus(buf);
	for (; (len = fuzz_seed(nseeds, buf, INPUT_MAX)); nseeds++) {
		const size_t step = len > 4096 ? len / 512 : 1;

		for (size_t cut = 0; cut < len; cut += step)
			run(buf, cut);
		run(buf, len);
	}
	for (uint64_t i = 0; nseeds && i < rounds; i++) {
		len = fuzz_seed(rng() % nseeds, buf, INPUT_MAX - 8);
		run(buf, mutate(buf, len));
	}
	printf("%s: %u corpus files, %u seeds, %" PRIu64 " changed inputs from seed %" PRIu64 "\n",
	       fuzz_name, ncorpus, nseeds, rounds, seed);
	return EXIT_SUCCESS;
}
