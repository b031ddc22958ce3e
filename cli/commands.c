/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <string.h>

#include "cli/nvfs.h"

/* In the order of help. */
const struct nvfs_group nvfs_groups[] = {
	{"pool", "devices, served together", pool_commands},
	{"subvolume", "what is mounted, with a size", subvolume_commands},
	{"snapshot", "what a subvolume was", snapshot_commands},
	{"clone", "a subvolume from another", clone_commands},
	{"tenant", "who owns subvolumes, limits", tenant_commands},
	{"sync", "make all written durable", sync_commands},
	{"du", "who holds how much", usage_commands},
	{"top", "what is going on now", top_commands},
	{"events", "what happened lately", events_commands},
	{"debug", "records of a pool", debug_commands},
	{"completion", "for bash", completion_commands},
	{.name = NULL},
};

const struct nvfs_option nvfs_common_options[] = {
	{"dry-run", OPTION_FLAG, NULL, "only say what would go", 0},
	{"yes", OPTION_FLAG, NULL, "ask nothing", 'y'},
	{"wait", OPTION_FLAG, NULL, "return when all of it is done", 0},
	{"color", OPTION_CHOICE, "auto|always|never", "by default on a terminal only", 0},
	{"json", OPTION_FLAG, NULL, "one JSON value for programs", 'j'},
	{"help", OPTION_FLAG, NULL, "this", 'h'},
	{"version", OPTION_FLAG, NULL, "which nvfs this is", 'V'},
	{.name = NULL},
};

bool nvfs_has_common(const struct nvfs_command *command, const struct nvfs_option *option)
{
	if (!strcmp(option->name, "dry-run") || !strcmp(option->name, "yes"))
		return command->flags & NVFS_DESTROYS;
	if (!strcmp(option->name, "wait"))
		return command->flags & NVFS_LONG;
	if (!strcmp(option->name, "json"))
		return !(command->flags & NVFS_NO_JSON);
	return true;
}

const struct nvfs_group *nvfs_find_group(const char *name)
{
	for (const struct nvfs_group *g = nvfs_groups; g->name; g++)
		if (!strcmp(g->name, name))
			return g;
	return NULL;
}

const struct nvfs_command *nvfs_find_command(const struct nvfs_group *group, const char *verb)
{
	for (const struct nvfs_command *c = group->commands; c->group; c++)
		if (!c->verb || (verb && !strcmp(c->verb, verb)))
			return c;
	return NULL;
}
