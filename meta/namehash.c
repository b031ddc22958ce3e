/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <sodium/crypto_shorthash_siphash24.h>

#include "io/le.h"
#include "meta/namehash.h"

_Static_assert(crypto_shorthash_siphash24_BYTES == 8, "the hash is 64 bits");
_Static_assert(crypto_shorthash_siphash24_KEYBYTES == NAMEHASH_KEY_BYTES, "the label has room");

uint64_t cookie_of(const uint8_t key[NAMEHASH_KEY_BYTES], const void *name, size_t len)
{
	uint8_t out[crypto_shorthash_siphash24_BYTES];
	uint64_t h;

	crypto_shorthash_siphash24(out, name, len, key);
	h = get_le64(out) & INT64_MAX;
	return h < COOKIE_MIN || h > COOKIE_MAX ? COOKIE_MIN : h;
}

uint64_t name_check_of(const uint8_t key[NAMEHASH_KEY_BYTES], const void *name, size_t len)
{
	uint8_t other[NAMEHASH_KEY_BYTES], out[crypto_shorthash_siphash24_BYTES];

	for (unsigned i = 0; i < NAMEHASH_KEY_BYTES; i++)
		other[i] = key[i] ^ 0x5c;
	crypto_shorthash_siphash24(out, name, len, other);
	return get_le64(out);
}

#define COOKIES (COOKIE_MAX - COOKIE_MIN + 1)

uint64_t cookie_add(uint64_t cookie, unsigned steps)
{
	return COOKIE_MIN + (cookie - COOKIE_MIN + steps) % COOKIES;
}

uint64_t cookie_distance(uint64_t from, uint64_t to)
{
	return to >= from ? to - from : COOKIES - (from - to);
}
