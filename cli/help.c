/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <string.h>

#include "cli/nvfs.h"

const char *nvfs_command_name(const struct nvfs_command *command, char *buf, size_t len)
{
	snprintf(buf, len, "%s%s%s", command->group, command->verb ? " " : "", command->verb ? command->verb : "");
	return buf;
}

static void print_verbs(FILE *out, const struct nvfs_group *group)
{
	char verbs[128] = "";

	for (const struct nvfs_command *c = group->commands; c->group; c++)
		if (c->verb && !(c->flags & NVFS_HIDDEN)) {
			size_t len = strlen(verbs);

			snprintf(verbs + len, sizeof(verbs) - len, "%s%s", len ? " " : "", c->verb);
		}
	fprintf(out, "  %-10s %-37s %s\n", group->name, verbs, group->help);
}

void help_all(FILE *out)
{
	fputs("usage: nvfs COMMAND [WORDS] [OPTIONS]\n\n", out);
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		print_verbs(out, g);
	fputs("\n"
	      "nvfs COMMAND --help and nvfs COMMAND VERB --help show options and examples.\n"
	      "All but debug and completion have --json. Sizes are written like 10G or 512Mi.\n"
	      "All of it, with the exit codes: man nvfs.\n",
	      out);
}

static void print_usage(FILE *out, const struct nvfs_command *c)
{
	char name[NVFS_COMMAND_NAME_MAX];

	fprintf(out, "nvfs %s%s%s", nvfs_command_name(c, name, sizeof(name)), *c->args ? " " : "", c->args);
}

void help_group(FILE *out, const struct nvfs_group *group)
{
	if (!group->commands->verb) {
		help_command(out, group->commands);
		return;
	}
	fprintf(out, "usage: nvfs %s VERB [WORDS] [OPTIONS]: %s\n\n", group->name, group->help);
	for (const struct nvfs_command *c = group->commands; c->group; c++) {
		if (c->flags & NVFS_HIDDEN)
			continue;
		fputs("  ", out);
		print_usage(out, c);
		fprintf(out, "\n      %s\n", c->help);
	}
	fprintf(out, "\nnvfs %s VERB --help shows options and examples.\n", group->name);
}

#define OPTION_WIDTH 25

static void print_option(FILE *out, const struct nvfs_option *o)
{
	char text[64];

	snprintf(text, sizeof(text), "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
	if (strlen(text) > OPTION_WIDTH)
		fprintf(out, "  %s\n  %*s %s\n", text, OPTION_WIDTH, "", o->help);
	else
		fprintf(out, "  %-*s %s\n", OPTION_WIDTH, text, o->help);
}

static void print_lines(FILE *out, const char *prefix, const char *lines)
{
	while (lines && *lines) {
		size_t len = strcspn(lines, "\n");

		fprintf(out, "%s%.*s\n", prefix, (int)len, lines);
		lines += len + (lines[len] == '\n');
	}
}

void help_command(FILE *out, const struct nvfs_command *c)
{
	fputs("usage: ", out);
	print_usage(out, c);
	fprintf(out, " [OPTIONS]\n\n%c%s.\n", *c->help - ('a' <= *c->help && *c->help <= 'z' ? 'a' - 'A' : 0), c->help + 1);
	print_lines(out, "", c->more);
	fputs("\noptions:\n", out);
	for (const struct nvfs_option *o = c->options; o && o->name; o++)
		print_option(out, o);
	for (const struct nvfs_option *o = nvfs_common_options; o->name; o++)
		if (nvfs_has_common(c, o) && strcmp(o->name, "version"))
			print_option(out, o);
	if (c->examples) {
		fputs("\nexamples:\n", out);
		print_lines(out, "  ", c->examples);
	}
}
