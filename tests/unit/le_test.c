/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/le.h"

#include "tests/unit/unit.h"

static const uint8_t bytes[] = { 0xff, 1, 2, 3, 4, 5, 6, 7, 8 };

START_TEST(get_reads_any_address)
{
	ck_assert_uint_eq(get_le16(bytes + 1), 0x0201);
	ck_assert_uint_eq(get_le32(bytes + 1), 0x04030201);
	ck_assert_uint_eq(get_le64(bytes + 1), 0x0807060504030201);
	ck_assert_uint_eq(get_be16(bytes + 1), 0x0102);
	ck_assert_uint_eq(get_be32(bytes + 1), 0x01020304);
	ck_assert_uint_eq(get_be64(bytes + 1), 0x0102030405060708);
}
END_TEST

START_TEST(put_writes_what_get_reads)
{
	uint8_t buf[9] = { 0xff };

	put_le64(buf + 1, 0x0807060504030201);
	ck_assert_mem_eq(buf, bytes, sizeof(bytes));
	put_be64(buf + 1, 0x0102030405060708);
	ck_assert_mem_eq(buf, bytes, sizeof(bytes));
	put_le32(buf + 1, 0x04030201);
	put_be16(buf + 5, 0x0506);
	ck_assert_mem_eq(buf, bytes, sizeof(bytes));
}
END_TEST

int main(void)
{
	return unit_run("le", get_reads_any_address, put_writes_what_get_reads, NULL);
}
