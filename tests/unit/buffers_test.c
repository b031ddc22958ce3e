/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/buffers.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#define MIB (1u << 20)

START_TEST(bad_arguments)
{
	static char region[MIB];
	struct buffers *b;

	ck_assert_int_eq(buffers_create(NULL, NULL, 0, &b), -EINVAL);
	ck_assert_int_eq(buffers_create(NULL, NULL, MIB + 4096, &b), -EINVAL);
	ck_assert_int_eq(buffers_create(NULL, region + 1, MIB, &b), -EINVAL);
}
END_TEST

START_TEST(whole_region_in_every_class)
{
	struct buffers *b;

	ck_assert_int_eq(buffers_create(NULL, NULL, 2 * MIB, &b), 0);
	for (size_t size = BUFFER_MIN_BYTES; size <= BUFFER_MAX_BYTES; size *= 2) {
		size_t n = 2 * MIB / size;
		void **p = calloc(n, sizeof(*p));

		for (size_t i = 0; i < n; i++) {
			p[i] = buffers_get(b, size - 1);
			ck_assert(buffers_contains(b, p[i]));
			ck_assert_uint_eq((uintptr_t)p[i] % 4096, 0);
			memset(p[i], (int)i, size);
		}
		ck_assert_uint_eq(buffers_used_bytes(b), 2 * MIB);
		for (size_t i = 0; i < n; i++) {
			ck_assert_uint_eq(*(unsigned char *)p[i], i & 0xff);
			ck_assert_uint_eq(((unsigned char *)p[i])[size - 1], i & 0xff);
			buffers_put(b, p[i], size - 1);
		}
		ck_assert_uint_eq(buffers_used_bytes(b), 0);
		free(p);
	}
	ck_assert_uint_eq(buffers_fallbacks(b), 0);
	buffers_destroy(b);
}
END_TEST

START_TEST(plain_memory_when_used_up_or_too_large)
{
	struct buffers *b;
	void *p, *q, *large;

	ck_assert_int_eq(buffers_create(NULL, NULL, MIB, &b), 0);
	p = buffers_get(b, MIB);
	q = buffers_get(b, 100);
	large = buffers_get(b, MIB + 1);
	ck_assert(buffers_contains(b, p));
	ck_assert(!buffers_contains(b, q));
	ck_assert_uint_eq((uintptr_t)q % 4096, 0);
	ck_assert_uint_eq((uintptr_t)large % 4096, 0);
	ck_assert_uint_eq(buffers_fallbacks(b), 2);
	memset(large, 1, MIB + 1);
	buffers_put(b, large, MIB + 1);
	buffers_put(b, q, 100);
	buffers_put(b, p, MIB);
	buffers_put(b, NULL, 4096);
	buffers_destroy(b);
}
END_TEST

struct held {
	unsigned char *p;
	size_t len;
	unsigned char mark;
};

/* Random gets and puts never overlap, and all of it merges again in the end. */
START_TEST(random_use)
{
	struct held held[200] = { 0 };
	struct buffers *b;

	ck_assert_int_eq(buffers_create(NULL, NULL, 4 * MIB, &b), 0);
	srand(7);
	for (unsigned i = 0; i < 20000; i++) {
		struct held *h = &held[(unsigned)rand() % 200];

		if (h->p) {
			ck_assert_uint_eq(h->p[0], h->mark);
			ck_assert_uint_eq(h->p[h->len - 1], h->mark);
			buffers_put(b, h->p, h->len);
			h->p = NULL;
			continue;
		}
		h->len = 1 + (size_t)rand() % (BUFFER_MIN_BYTES << rand() % 7);
		h->p = buffers_get(b, h->len);
		h->mark = (unsigned char)rand();
		memset(h->p, h->mark, h->len);
	}
	for (unsigned i = 0; i < 200; i++)
		if (held[i].p)
			buffers_put(b, held[i].p, held[i].len);
	ck_assert_uint_eq(buffers_used_bytes(b), 0);
	for (unsigned i = 0; i < 4; i++) {
		held[i].p = buffers_get(b, MIB);
		ck_assert(buffers_contains(b, held[i].p));
	}
	for (unsigned i = 0; i < 4; i++)
		buffers_put(b, held[i].p, MIB);
	buffers_destroy(b);
}
END_TEST

int main(void)
{
	return unit_run("buffers", bad_arguments, whole_region_in_every_class,
			plain_memory_when_used_up_or_too_large, random_use, NULL);
}
