/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records of a pool that nobody serves, for people. */
#ifndef NVFS_META_DUMP_H
#define NVFS_META_DUMP_H

#include <stdint.h>
#include <stdio.h>

struct device;

enum dump_what {
	DUMP_LABEL, /* both copies of each device */
	DUMP_TABLE, /* both slots of the file table of each device */
	DUMP_FILES, /* what metafs shows to RocksDB */
	DUMP_NS,
	DUMP_MAP,
	DUMP_SPACE,
	DUMP_SYS,
	DUMP_INODE, /* everything about one inode */
	DUMP_ALL,   /* all but DUMP_INODE */
};

struct dump_request {
	enum dump_what what;
	const char *subvolume; /* DUMP_INODE: by name; may be NULL when there is only one */
	const char *inode;     /* DUMP_INODE: a number, or a path from the subvolume's root */
};

/* From the word that people type: "label", "table", ... 0 or -EINVAL. */
int dump_what_parse(const char *word, enum dump_what *out);

/*
 * Print one record a line. The devices are all members of a pool, open (read-only will do) and
 * locked by the caller; nothing is written. 0; -EBADMSG when something was damaged, and shown as that; other
 * errors when it could not be read, with a line in `errors`.
 */
int dump_pool(struct device **devices, unsigned count, const struct dump_request *request,
	      FILE *out, FILE *errors);

#endif
