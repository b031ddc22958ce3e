/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mount of nvfs as the kernel shows it, and the way from it to its daemon. */
#ifndef NVFS_CLI_MOUNTED_H
#define NVFS_CLI_MOUNTED_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/client.h"

struct mounted {
	char *source, *target;
	bool last; /* no other mount of the same filesystem in this namespace */
};

/*
 * What is mounted on dir. 0; -ENOENT when nothing is, -EMEDIUMTYPE when it is not nvfs, -ENOMEM, and why has the sentence. Free with
 * mounted_free() in any case.
 */
int mounted_find(const char *dir, struct mounted *m, char *why, size_t why_len);
void mounted_free(struct mounted *m);

/*
 * Connect to the daemon that serves it: 0, *client, and the subvolume's name (free it); or -errno and why. timeout_s: how long each
 * request may take; 0: for ever.
 */
int mounted_reach(const struct mounted *m, unsigned timeout_s, struct client **client, char **subvolume, char *why,
		  size_t why_len);

/*
 * umount(8) takes the type from statfs(2), which knows only "fuse", and passes over the helper, unless libmount's own table
 * has a line for the directory. These add and remove it; where there is no table nothing is done.
 */
void mounted_note(const char *source, const char *dir);
void mounted_forget(const char *dir);

#endif
