/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/log.h"

int main(int argc, char **argv)
{
	struct nvfs_args a;
	int status;

	log_set_ident("nvfs");
	log_set_level(LOG_LEVEL_WARN);
	nvfs_parse(argc, argv, &a);
	status = a.command->run(&a);
	/* Who reads half an answer must not take it for all. */
	if (fflush(stdout) || ferror(stdout))
		die(EXIT_REFUSED, "the answer cannot be written: %s", strerror(errno));
	return status;
}
