/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_CLI_COMPLETION_H
#define NVFS_CLI_COMPLETION_H

#include <jansson.h>

/*
 * What may stand in place of the last word of a command line of nvfs, of which it is the beginning: words, each once, or "?files" for names of
 * files. Names of what pools have are asked of those that are served; what does not answer soon is left out. An array, the caller's.
 */
json_t *completion_words(const char *line);

#endif
