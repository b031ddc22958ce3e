/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "model.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING 256
#define LINE 512

uint64_t model_state = 1;

static char ring[RING][LINE];
static uint64_t op_count;
static bool tracing;
static char repeat[4096];

void model_seed(uint64_t seed)
{
	model_state = seed * 0x9E3779B97F4A7C15ULL + 0x1234567;
	if (!model_state)
		model_state = 1;
	for (int i = 0; i < 16; i++)
		model_random();
}

uint64_t model_random(void)
{
	model_state ^= model_state >> 12;
	model_state ^= model_state << 25;
	model_state ^= model_state >> 27;
	return model_state * 0x2545F4914F6CDD1DULL;
}

uint64_t model_below(uint64_t n)
{
	return (model_random() >> 11) % n;
}

bool model_chance(unsigned one_in)
{
	return model_below(one_in) == 0;
}

void model_op(const char *fmt, ...)
{
	char *line = ring[op_count % RING];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, LINE, fmt, ap);
	va_end(ap);
	op_count++;
	if (tracing)
		printf("%llu %s\n", (unsigned long long)op_count, line);
}

uint64_t model_ops(void)
{
	return op_count;
}

void model_trace(bool on)
{
	tracing = on;
}

void model_set_repeat(int argc, char **argv, uint64_t seed)
{
	size_t n = 0;

	for (int i = 0; i < argc && n + 256 < sizeof(repeat); i++)
		n += (size_t)snprintf(repeat + n, sizeof(repeat) - n, "%s ", argv[i]);
	if (n + 64 < sizeof(repeat))
		snprintf(repeat + n, sizeof(repeat) - n, "--seed %llu", (unsigned long long)seed);
}

void model_fail(const char *fmt, ...)
{
	uint64_t first = op_count > RING ? op_count - RING : 0;
	va_list ap;

	for (uint64_t i = first; i < op_count; i++)
		printf("# %llu %s\n", (unsigned long long)i + 1, ring[i % RING]);
	printf("# failed in operation %llu: ", (unsigned long long)op_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n# repeat by: %s\n", repeat);
	fflush(stdout);
	_exit(1);
}

void model_shell(const char *cmd)
{
	int rc;

	fflush(NULL);
	rc = system(cmd);
	if (rc)
		model_fail("`%s` ended with status 0x%x", cmd, (unsigned)rc);
}

bool model_drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	bool done = fd >= 0 && write(fd, "3\n", 2) == 2;

	if (fd >= 0)
		close(fd);
	return done;
}

uint64_t model_number(const char *option, const char *text)
{
	static const char units[] = "kmgt";
	char *end;
	unsigned long long n = strtoull(text, &end, 0);
	const char *unit = *end ? strchr(units, *end | 0x20) : NULL;

	if (end == text || (*end && (!unit || end[1]))) {
		fprintf(stderr, "--%s %s: a number with k, M, G or T is needed\n", option, text);
		exit(2);
	}
	return unit ? n << (10 * (unit - units + 1)) : n;
}
