/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/crc.h"

#include <string.h>

#include "tests/unit/unit.h"

/* RFC 3720, appendix B.4, and the usual check value. */
START_TEST(known_values)
{
	uint8_t buf[32];

	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283);
	ck_assert_uint_eq(crc32c(0, "", 0), 0);
	memset(buf, 0, sizeof(buf));
	ck_assert_uint_eq(crc32c(0, buf, sizeof(buf)), 0x8A9136AA);
	memset(buf, 0xff, sizeof(buf));
	ck_assert_uint_eq(crc32c(0, buf, sizeof(buf)), 0x62A8AB43);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)i;
	ck_assert_uint_eq(crc32c(0, buf, sizeof(buf)), 0x46DD794E);
}
END_TEST

static uint32_t crc32c_bitwise(const uint8_t *p, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0);
	}
	return ~crc;
}

START_TEST(any_length_alignment_and_split)
{
	uint8_t buf[5000];

	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 31 + i / 7);
	for (size_t len = 0; len <= 4500; len += len < 300 ? 1 : 131) {
		size_t off = len % 17;
		size_t cut = len / 3;
		uint32_t want = crc32c_bitwise(buf + off, len);

		ck_assert_uint_eq(crc32c(0, buf + off, len), want);
		ck_assert_uint_eq(crc32c(crc32c(0, buf + off, cut), buf + off + cut, len - cut),
				  want);
	}
}
END_TEST

int main(void)
{
	return unit_run("crc", known_values, any_length_alignment_and_split, NULL);
}
