/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/log.h"
#include "io/size.h"

static const struct command {
	const char *group, *name; /* name NULL: a command of one word */
	int (*run)(const struct nvfs_args *a);
	unsigned min, max;        /* positional arguments */
	const char *options;      /* that it has, by their letters */
	const char *args, *help;
} commands[] = {
	{"subvolume", "create", cmd_subvolume_create, 1, 1, "jsNct", "POOL:NAME --size SIZE [--inodes N] [--thin] [--compression lz4]", "make an empty subvolume"},
	{"subvolume", "list", cmd_subvolume_list, 0, 1, "j", "[POOL]", "sizes and use of all"},
	{"subvolume", "show", cmd_subvolume_show, 1, 1, "j", "POOL:NAME", "all about one"},
	{"subvolume", "resize", cmd_subvolume_resize, 1, 1, "jsN", "POOL:NAME [--size SIZE] [--inodes N]", "change its limits"},
	{"subvolume", "delete", cmd_subvolume_delete, 1, 1, "j", "POOL:NAME", "delete it and all that is in it"},
	{"pool", "list", cmd_pool_list, 0, 0, "j", "", "the pools that are served"},
	{"pool", "show", cmd_pool_show, 1, 1, "j", "POOL", "what is promised, used, free"},
	{"pool", "start", cmd_pool_start, 1, 64, "j", "POOL | DEVICE...", "start its daemon"},
	{"pool", "stop", cmd_pool_stop, 1, 1, "jf", "POOL [--force]", "commit and stop it"},
	{"sync", NULL, cmd_sync, 1, 1, "j", "POOL[:NAME]", "make everything written durable"},
	{"debug", "dump", cmd_debug_dump, 1, 4, "", "DEVICE [WHAT [INODE [NAME]]]", "records of a pool that is not served"},
	{"debug", "udev", cmd_debug_udev, 1, 1, "", "DEVICE", "ID_FS_TYPE, UUID, LABEL for udev"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *out)
{
	fputs("usage: nvfs COMMAND ... [--json]\n\n", out);
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];
		char line[128];

		snprintf(line, sizeof(line), "%s%s%s %s", c->group, c->name ? " " : "", c->name ? c->name : "", c->args);
		fprintf(out, "  nvfs %-58s%s %s\n", line, strlen(line) > 58 ? "\n      " : "", c->help);
	}
	fputs("\nSizes are written like 10G or 512Mi. Examples and exit codes: man nvfs.\n", out);
}

static const struct option long_options[] = {
	{"json", no_argument, NULL, 'j'},        {"size", required_argument, NULL, 's'},
	{"inodes", required_argument, NULL, 'N'}, {"force", no_argument, NULL, 'f'},
	{"compression", required_argument, NULL, 'c'}, {"thin", no_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},        {"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

static void take_option(int c, char **argv, struct nvfs_args *a)
{
	if (c < 128)
		a->given[c] = true;
	switch (c) {
	case 'j':
		a->json = true;
		return;
	case 'f':
		a->force = true;
		return;
	case 't':
		a->thin = true;
		return;
	case 'c':
		if (strcmp(optarg, "off") && strcmp(optarg, "lz4"))
			die(EXIT_USAGE, "--compression %s is unknown; there are off and lz4", optarg);
		a->compression = optarg;
		return;
	case 's':
		if (size_parse(optarg, &a->size_bytes) || !a->size_bytes)
			die(EXIT_USAGE, "--size %s is no size; write one like 10G or 512Mi", optarg);
		return;
	case 'N':
		if (number_parse(optarg, &a->inodes) || !a->inodes)
			die(EXIT_USAGE, "--inodes %s is no whole number above 0", optarg);
		return;
	case 'h':
		print_usage(stdout);
		exit(EXIT_OK);
	case 'V':
		puts("nvfs " PACKAGE_VERSION);
		exit(EXIT_OK);
	default:
		die_of_option(EXIT_USAGE, c, argv, long_options, "nvfs --help");
	}
}

/* An option that a command does not have must not seem to have been obeyed. */
static void check_options(const struct nvfs_args *a, const struct command *command)
{
	for (const struct option *o = long_options; o->name; o++)
		if (a->given[o->val] && !strchr(command->options, o->val))
			die(EXIT_USAGE, "--%s means nothing to nvfs %s%s%s", o->name, command->group,
			    command->name ? " " : "", command->name ? command->name : "");
}

static const struct command *find_command(struct nvfs_args *a)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];
		unsigned words = c->name ? 2 : 1;

		if (a->count < words || strcmp(a->words[0], c->group) || (c->name && strcmp(a->words[1], c->name)))
			continue;
		a->words += words;
		a->count -= words;
		return c;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct nvfs_args a = {0};
	const struct command *command;
	int c;

	log_set_ident("nvfs");
	log_set_level(LOG_LEVEL_WARN);
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":jfs:N:hV", long_options, NULL)) != -1)
		take_option(c, argv, &a);
	a.words = argv + optind;
	a.count = (unsigned)(argc - optind);
	if (!a.count) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	command = find_command(&a);
	if (!command)
		die(EXIT_USAGE, "there is no command \"%s%s%s\"; \"nvfs --help\" lists them", a.words[0], a.count > 1 ? " " : "",
		    a.count > 1 ? a.words[1] : "");
	if (a.count < command->min || a.count > command->max)
		die(EXIT_USAGE, "usage: nvfs %s %s%s%s", command->group, command->name ? command->name : "",
		    command->name ? " " : "", command->args);
	check_options(&a, command);
	c = command->run(&a);
	/* Who reads half an answer must not take it for all. */
	if (fflush(stdout) || ferror(stdout))
		die(EXIT_REFUSED, "the answer cannot be written: %s", strerror(errno));
	return c;
}
