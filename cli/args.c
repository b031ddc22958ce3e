/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/size.h"

/*
 * Options may stand before the command's words, so getopt_long() gets those of all commands; which of them the command has is seen
 * afterwards. An option of two commands is one entry.
 */

#define UNION_MAX 96
#define FIRST_VAL 256 /* of long_options[0]; below are letters */

struct seen {
	const struct nvfs_option *option;
	const char *text; /* NULL: not given */
};

static struct seen seen[UNION_MAX];
static struct option long_options[UNION_MAX + 1];
static char letters[2 * UNION_MAX + 2] = ":";
static unsigned seen_count;

static void add_option(const struct nvfs_option *option)
{
	for (unsigned i = 0; i < seen_count; i++)
		if (!strcmp(seen[i].option->name, option->name))
			return;
	if (seen_count == UNION_MAX)
		abort(); /* the table is the program's own */
	long_options[seen_count] = (struct option){
		option->name, option->kind == OPTION_FLAG ? no_argument : required_argument, NULL, FIRST_VAL + (int)seen_count};
	seen[seen_count++].option = option;
	if (option->letter) {
		size_t len = strlen(letters);

		letters[len++] = option->letter;
		letters[len] = option->kind == OPTION_FLAG ? '\0' : ':';
	}
}

static void add_options(const struct nvfs_option *options)
{
	for (; options && options->name; options++)
		add_option(options);
}

static void collect_options(void)
{
	memset(seen, 0, sizeof(seen));
	memset(long_options, 0, sizeof(long_options));
	memset(letters + 1, 0, sizeof(letters) - 1);
	seen_count = 0;
	add_options(nvfs_common_options);
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		for (const struct nvfs_command *c = g->commands; c->group; c++)
			add_options(c->options);
}

static struct seen *seen_by_val(int val)
{
	if (val >= FIRST_VAL)
		return &seen[val - FIRST_VAL];
	for (unsigned i = 0; i < seen_count; i++)
		if (seen[i].option->letter == val)
			return &seen[i];
	return NULL;
}

static bool is_given(const char *name)
{
	for (unsigned i = 0; i < seen_count; i++)
		if (!strcmp(seen[i].option->name, name))
			return seen[i].text != NULL;
	return false;
}

/* ---- Values ---- */

static bool is_choice(const char *text, const char *choices)
{
	size_t len = strlen(text);

	for (const char *at = choices; at; at = strchr(at, '|')) {
		at += *at == '|';
		if (len && !strchr(text, '|') && !strncmp(at, text, len) && (at[len] == '|' || !at[len]))
			return true;
	}
	return false;
}

/* "off|lz4" for people: "off and lz4". */
static const char *spoken(const char *choices, char *buf, size_t len)
{
	char *last;

	snprintf(buf, len, "%s", choices);
	last = strrchr(buf, '|');
	if (last)
		snprintf(buf + (last - buf), len - (size_t)(last - buf), " and %s", choices + (last - buf) + 1);
	for (char *bar = buf; (bar = strchr(bar, '|'));)
		*bar = ',';
	return buf;
}

static void parse_value(const struct nvfs_option *o, struct nvfs_value *v)
{
	char list[128];

	if ((o->kind == OPTION_SIZE_OR_NONE || o->kind == OPTION_NUMBER_OR_NONE) && !strcmp(v->text, "none")) {
		v->number = 0;
		return;
	}
	if (o->kind == OPTION_SIZE_OR_NONE && (size_parse(v->text, &v->number) || !v->number))
		die(EXIT_USAGE, "--%s %s is no size; write one like 10M, or none", o->name, v->text);
	if (o->kind == OPTION_NUMBER_OR_NONE && (number_parse(v->text, &v->number) || !v->number))
		die(EXIT_USAGE, "--%s %s is no whole number above 0; write one, or none", o->name, v->text);
	if (o->kind == OPTION_SIZE && (size_parse(v->text, &v->number) || !v->number))
		die(EXIT_USAGE, "--%s %s is no size; write one like 10G or 512Mi", o->name, v->text);
	if (o->kind == OPTION_NUMBER && (number_parse(v->text, &v->number) || !v->number))
		die(EXIT_USAGE, "--%s %s is no whole number above 0", o->name, v->text);
	if (o->kind == OPTION_NUMBER && v->number > INT64_MAX)
		die(EXIT_USAGE, "--%s %s is too large a number; up to %" PRId64 " would work", o->name, v->text, INT64_MAX);
	if (o->kind == OPTION_CHOICE && !is_choice(v->text, o->value))
		die(EXIT_USAGE, "--%s %s is unknown; there are %s", o->name, v->text, spoken(o->value, list, sizeof(list)));
}

static bool take_own(const struct seen *s, struct nvfs_args *a)
{
	const struct nvfs_option *own = a->command->options;

	for (unsigned i = 0; own && own[i].name; i++)
		if (!strcmp(own[i].name, s->option->name)) {
			a->values[i].text = s->text;
			parse_value(&own[i], &a->values[i]);
			return true;
		}
	return false;
}

static bool has_common(const struct nvfs_args *a, const char *name)
{
	for (const struct nvfs_option *o = nvfs_common_options; o->name; o++)
		if (!strcmp(o->name, name))
			return nvfs_has_common(a->command, o);
	return false;
}

static void take_colour(void)
{
	for (unsigned i = 0; i < seen_count; i++)
		if (!strcmp(seen[i].option->name, "color") && seen[i].text) {
			struct nvfs_value v = {.text = seen[i].text};

			parse_value(seen[i].option, &v);
			colour_set(v.text);
		}
}

/* An option that a command does not have must not seem to have been obeyed. */
static void take_values(struct nvfs_args *a)
{
	char name[NVFS_COMMAND_NAME_MAX];

	for (unsigned i = 0; i < seen_count; i++) {
		if (!seen[i].text || take_own(&seen[i], a) || has_common(a, seen[i].option->name))
			continue;
		die(EXIT_USAGE, "--%s means nothing to nvfs %s", seen[i].option->name,
		    nvfs_command_name(a->command, name, sizeof(name)));
	}
	a->json = is_given("json");
	a->yes = is_given("yes");
	a->dry_run = is_given("dry-run");
	a->wait = is_given("wait");
	take_colour();
}

static unsigned own_index(const struct nvfs_args *a, const char *name)
{
	const struct nvfs_option *own = a->command->options;

	for (unsigned i = 0; own && own[i].name; i++)
		if (!strcmp(own[i].name, name))
			return i;
	abort(); /* a command asks for an option that its table does not have */
}

bool arg_given(const struct nvfs_args *a, const char *name)
{
	return arg_text(a, name) != NULL;
}

const char *arg_text(const struct nvfs_args *a, const char *name)
{
	return a->values[own_index(a, name)].text;
}

uint64_t arg_number(const struct nvfs_args *a, const char *name)
{
	return a->values[own_index(a, name)].number;
}

/* ---- Words ---- */

static void read_options(int argc, char **argv)
{
	int c;

	opterr = 0;
	optind = 0; /* from the start, whoever used it before */
	while ((c = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		struct seen *s = c == '?' || c == ':' ? NULL : seen_by_val(c);

		if (!s)
			die_of_option(EXIT_USAGE, c, argv, long_options, "nvfs --help");
		s->text = s->option->kind == OPTION_FLAG ? "" : optarg;
	}
}

/* The help of as much of a command as was given. */
static void help_and_exit(const struct nvfs_args *a)
{
	const struct nvfs_group *g = a->count ? nvfs_find_group(a->words[0]) : NULL;
	const struct nvfs_command *c = g ? nvfs_find_command(g, a->count > 1 ? a->words[1] : NULL) : NULL;

	if (c)
		help_command(stdout, c);
	else if (g)
		help_group(stdout, g);
	else
		help_all(stdout);
	exit(fflush(stdout) || ferror(stdout) ? EXIT_REFUSED : EXIT_OK);
}

static void find_command(struct nvfs_args *a)
{
	const struct nvfs_group *g = nvfs_find_group(a->words[0]);

	if (!g)
		die(EXIT_USAGE, "there is no command \"%s\"; \"nvfs --help\" lists them", a->words[0]);
	a->command = nvfs_find_command(g, a->count > 1 ? a->words[1] : NULL);
	if (!a->command && a->count == 1) {
		help_group(stderr, g);
		exit(EXIT_USAGE);
	}
	if (!a->command)
		die(EXIT_USAGE, "there is no command \"%s %s\"; \"nvfs %s --help\" lists them", g->name, a->words[1], g->name);
	a->words += a->command->verb ? 2 : 1;
	a->count -= a->command->verb ? 2 : 1;
}

void nvfs_parse(int argc, char **argv, struct nvfs_args *a)
{
	char name[NVFS_COMMAND_NAME_MAX];

	memset(a, 0, sizeof(*a));
	collect_options();
	read_options(argc, argv);
	a->words = argv + optind;
	a->count = (unsigned)(argc - optind);
	if (is_given("version")) {
		puts("nvfs " PACKAGE_VERSION);
		exit(EXIT_OK);
	}
	if (is_given("help"))
		help_and_exit(a);
	if (a->count && !strcmp(a->words[0], "help")) {
		a->words++;
		a->count--;
		help_and_exit(a);
	}
	if (!a->count) {
		help_all(stderr);
		exit(EXIT_USAGE);
	}
	find_command(a);
	if (a->count < a->command->min || a->count > a->command->max)
		die(EXIT_USAGE, "usage: nvfs %s %s", nvfs_command_name(a->command, name, sizeof(name)), a->command->args);
	take_values(a);
}
