/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "tests/unit/unit.h"

/* The nvfs command: its tables, and what comes of a command line. */

/* A command line whose words have no spaces; '' is an empty one. It lives as long as the process. */
static void parse(struct nvfs_args *a, const char *line)
{
	char *text = strdup(line), *save = NULL, **argv = calloc(strlen(line) + 3, sizeof(*argv));
	int argc = 0;

	argv[argc++] = strdup("nvfs");
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(word, "''") ? word : word + 2;
	nvfs_parse(argc, argv, a);
}

START_TEST(words_and_options_in_any_order)
{
	struct nvfs_args a;

	parse(&a, "--size 2G subvolume --json create tank:web --thin");
	ck_assert_str_eq(a.command->verb, "create");
	ck_assert_uint_eq(a.count, 1);
	ck_assert_str_eq(a.words[0], "tank:web");
	ck_assert(a.json);
	ck_assert_uint_eq(arg_number(&a, "size"), 2ull << 30);
	ck_assert(arg_given(&a, "thin"));
	ck_assert(!arg_given(&a, "inodes"));
	ck_assert_ptr_null(arg_text(&a, "compression"));
	parse(&a, "subvolume resize --inodes=7 -- --size");
	ck_assert_str_eq(a.words[0], "--size");
	ck_assert_uint_eq(arg_number(&a, "inodes"), 7);
	ck_assert(!arg_given(&a, "size"));
}
END_TEST

START_TEST(a_word_can_be_a_command)
{
	struct nvfs_args a;

	parse(&a, "sync tank");
	ck_assert_str_eq(a.command->group, "sync");
	ck_assert_uint_eq(a.count, 1);
	ck_assert_str_eq(a.words[0], "tank");
}
END_TEST

/* Each exits with a line. */
static const char *const wrong[] = {
	"nosuch",
	"subvolume",
	"subvolume nosuch",
	"subvolume create",
	"subvolume create a:b c:d",
	"subvolume create a:b --size",
	"subvolume create a:b --size 0",
	"subvolume create a:b --size much",
	"subvolume create a:b --inodes -1",
	"subvolume create a:b --compression lz",
	"subvolume create a:b --compression ''",
	"subvolume create a:b --compression off|lz4",
	"subvolume list --size 1G",
	"subvolume create a:b --thin=yes",
	"pool list --nosuch",
	"pool list -Z",
	"debug dump x --json",
};

START_TEST(wrong_usage_is_2)
{
	struct nvfs_args a;

	parse(&a, wrong[_i]);
}
END_TEST

START_TEST(help_is_no_error)
{
	static const char *const asked[] = {
		"--help", "help", "pool --help", "help pool show", "--version",
		"sync --help", "nosuch --help",
	};
	struct nvfs_args a;

	parse(&a, asked[_i]);
}
END_TEST

/* ---- Help ---- */

static char *help_text(void (*print)(FILE *out, const void *of), const void *of)
{
	size_t len;
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);

	print(out, of);
	fclose(out);
	return text;
}

static void of_all(FILE *out, const void *of)
{
	(void)of;
	help_all(out);
}

static void of_group(FILE *out, const void *of)
{
	help_group(out, of);
}

static void of_command(FILE *out, const void *of)
{
	help_command(out, of);
}

static void check_screen(char *text, unsigned lines_max)
{
	unsigned lines = 0;
	char *save = NULL;

	ck_assert_msg(lines_max == 0 || text[strlen(text) - 1] == '\n', "the last line has no end: %s", text);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	ck_assert_msg(!lines_max || lines <= lines_max, "%u lines: %s", lines, text);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ck_assert_msg(strlen(line) < 80, "too wide for a terminal: %s", line);
	free(text);
}

START_TEST(help_fits_a_screen)
{
	check_screen(help_text(of_all, NULL), 23);
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++) {
		check_screen(help_text(of_group, g), 23);
		for (const struct nvfs_command *c = g->commands; c->group; c++)
			check_screen(help_text(of_command, c), 0);
	}
}
END_TEST

static unsigned count_options(const struct nvfs_command *c)
{
	unsigned n = 0;

	for (const struct nvfs_option *o = c->options; o && o->name; o++)
		n++;
	return n;
}

/* What parsing relies on. */
static void check_command(const struct nvfs_group *g, const struct nvfs_command *c)
{
	ck_assert_str_eq(g->name, c->group);
	ck_assert_ptr_nonnull(c->run);
	ck_assert_uint_le(c->min, c->max);
	ck_assert_uint_le(count_options(c), NVFS_OPTIONS_MAX);
	ck_assert_msg(c->examples && !strncmp(c->examples, "nvfs ", 5), "nvfs %s %s has no example", c->group, c->verb);
	for (const struct nvfs_option *o = c->options; o && o->name; o++) {
		ck_assert_msg((o->kind == OPTION_FLAG) == !o->value, "--%s of nvfs %s %s", o->name, c->group, c->verb);
		ck_assert_ptr_nonnull(o->help);
	}
}

static void check_same_option(const struct nvfs_option *a, const struct nvfs_option *b)
{
	if (strcmp(a->name, b->name))
		return;
	ck_assert_msg((a->kind == OPTION_FLAG) == (b->kind == OPTION_FLAG), "--%s has a value here and none there", a->name);
	ck_assert_msg(a->letter == b->letter, "--%s has two letters", a->name);
}

START_TEST(tables_are_sound)
{
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		for (const struct nvfs_command *c = g->commands; c->group; c++) {
			check_command(g, c);
			for (const struct nvfs_option *o = c->options; o && o->name; o++) {
				for (const struct nvfs_option *p = nvfs_common_options; p->name; p++)
					ck_assert_str_ne(o->name, p->name);
				for (const struct nvfs_group *h = nvfs_groups; h->name; h++)
					for (const struct nvfs_command *d = h->commands; d->group; d++)
						for (const struct nvfs_option *p = d->options; p && p->name; p++)
							check_same_option(o, p);
			}
		}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("command");
	TCase *parsing = tcase_create("parsing"), *help = tcase_create("help");

	tcase_add_test(parsing, words_and_options_in_any_order);
	tcase_add_test(parsing, a_word_can_be_a_command);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		tcase_add_loop_exit_test(parsing, wrong_usage_is_2, EXIT_USAGE, (int)i, (int)i + 1);
	tcase_add_loop_exit_test(help, help_is_no_error, EXIT_OK, 0, 7);
	tcase_add_test(help, help_fits_a_screen);
	tcase_add_test(help, tables_are_sound);
	suite_add_tcase(s, parsing);
	suite_add_tcase(s, help);
	return unit_run_suite(s);
}
