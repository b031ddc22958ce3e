/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cli/completion.h"
#include "cli/nvfs.h"
#include "cli/report.h"

/* packaging/nvfs.bash */
static const char bash_script[] =
#include "cli/completion_bash.inc"
	;

static int cmd_completion_bash(const struct nvfs_args *a)
{
	(void)a;
	fputs(bash_script, stdout);
	return EXIT_OK;
}

/* What the script asks at each Tab. */
static int cmd_completion_words(const struct nvfs_args *a)
{
	json_t *words = completion_words(a->words[0]);
	const json_t *w;
	size_t i;

	json_array_foreach(words, i, w)
		puts(json_string_value(w));
	json_decref(words);
	return EXIT_OK;
}

const struct nvfs_command completion_commands[] = {
	{.group = "completion", .verb = "bash", .run = cmd_completion_bash, .min = 0, .max = 0, .args = "", .flags = NVFS_NO_JSON,
	 .help = "print the script that completes commands in bash",
	 .more = "Installed where bash-completion finds it; for one shell alone, read it there.",
	 .examples = "nvfs completion bash\n"
		     "source <(nvfs completion bash)"},
	{.group = "completion", .verb = "words", .run = cmd_completion_words, .min = 1, .max = 1, .args = "LINE",
	 .flags = NVFS_NO_JSON | NVFS_HIDDEN, .help = "what may stand in place of the line's last word",
	 .examples = "nvfs completion words \"nvfs subvolume sh\""},
	{.group = NULL},
};
