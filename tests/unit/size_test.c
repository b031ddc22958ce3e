/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>

#include "io/size.h"
#include "tests/unit/unit.h"

START_TEST(sizes_are_read)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0}, {"1", 1}, {"4096", 4096}, {"4096B", 4096}, {"64M", 64u << 20}, {"512Mi", 512u << 20},
		{"2GiB", UINT64_C(2) << 30}, {"2GB", UINT64_C(2) << 30}, {"1g", 1u << 30}, {"1.5G", UINT64_C(3) << 29},
		{"7E", UINT64_C(7) << 60}, {"0.5K", 512},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t n = 1;

		ck_assert_msg(size_parse(good[i].text, &n) == 0 && n == good[i].bytes, "%s", good[i].text);
	}
}
END_TEST

START_TEST(nonsense_is_refused)
{
	static const char *const bad[] = {"", "-1", "+1", "1X", "1Gx", "1..5G", "1.", ".5G", "0x10", "1e3", "G", "1 G", "nan", "inf", "1.5",
					  "2.0", "1.5B", "1.2.3G"};
	uint64_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(size_parse(bad[i], &n) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(size_parse("8E", &n), -ERANGE);
	ck_assert_int_eq(size_parse("8.5E", &n), -ERANGE);
	ck_assert_int_eq(size_parse("99999999999999999999", &n), -ERANGE);
	ck_assert_int_eq(number_parse("12k", &n), -EINVAL);
	ck_assert_int_eq(number_parse("99999999999999999999", &n), -ERANGE);
}
END_TEST

START_TEST(sizes_are_written)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0"}, {1023, "1023"}, {1024, "1K"}, {1536, "1.5K"}, {UINT64_C(1) << 30, "1G"}, {UINT64_C(10) << 30, "10G"},
		{UINT64_C(1234) << 20, "1.21G"}, {(UINT64_C(1) << 40) - 1, "1T"}, {UINT64_C(100) << 20, "100M"},
	};
	char buf[SIZE_TEXT_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_str_eq(size_text(cases[i].bytes, buf, sizeof(buf)), cases[i].text);
}
END_TEST

int main(void)
{
	return unit_run("size", sizes_are_read, nonsense_is_refused, sizes_are_written, NULL);
}
