/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <string.h>

#include "io/visible.h"
#include "tests/unit/unit.h"

static const struct {
	const char *text, *expected;
} cases[] = {
	{ "", "" },
	{ "a name, \"quoted\" ~", "a name, \"quoted\" ~" },
	{ "\x1b[2J", "\\x1b[2J" },
	{ "a\nb\tc\r\x7f", "a\\x0ab\\x09c\\x0d\\x7f" },
	{ "gr\xc3\xb6\xc3\x9f" "e \xe4\xb8\xad \xf0\x9f\x98\x80", "gr\xc3\xb6\xc3\x9f" "e \xe4\xb8\xad \xf0\x9f\x98\x80" },
	/* Control characters beyond ASCII, alone and as UTF-8. */
	{ "\x9b" "2J", "\\x9b2J" },
	{ "\xc2\x9b" "2J", "\\xc2\\x9b2J" },
	{ "\xc2\xa0", "\xc2\xa0" },
	/* Too long for what it says, a half of a pair, beyond the last, cut off. */
	{ "\xc0\x9b", "\\xc0\\x9b" },
	{ "\xe0\x82\x9b", "\\xe0\\x82\\x9b" },
	{ "\xed\xa0\x80", "\\xed\\xa0\\x80" },
	{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },
	{ "\xf0\x9f\x98", "\\xf0\\x9f\\x98" },
};

START_TEST(shows_what_can_be_shown)
{
	const char *text = cases[_i].text, *expected = cases[_i].expected;
	char printed[64] = "", copied[64];
	FILE *f = fmemopen(printed, sizeof(printed), "w");

	visible_print(f, text, strlen(text));
	fclose(f);
	ck_assert_str_eq(printed, expected);
	ck_assert_uint_eq(visible_copy(copied, sizeof(copied), text), strlen(expected));
	ck_assert_str_eq(copied, expected);
}
END_TEST

START_TEST(cuts_at_a_character)
{
	char buf[8];

	ck_assert_uint_eq(visible_copy(buf, 8, "abcdefghij"), 7);
	ck_assert_str_eq(buf, "abcdefg");
	ck_assert_uint_eq(visible_copy(buf, 8, "abcd\x1b"), 4);
	ck_assert_str_eq(buf, "abcd");
	ck_assert_uint_eq(visible_copy(buf, 8, "abc\x1bz"), 7);
	ck_assert_str_eq(buf, "abc\\x1b");
	ck_assert_uint_eq(visible_copy(buf, 3, "\xe4\xb8\xad"), 0);
	ck_assert_str_eq(buf, "");
	ck_assert_uint_eq(visible_copy(buf, 1, "x"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("visible");
	TCase *tcase = tcase_create("visible");

	tcase_add_loop_test(tcase, shows_what_can_be_shown, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tcase, cuts_at_a_character);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
