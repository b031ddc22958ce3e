/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From what people type to a pool: POOL[:SUBVOLUME[@SNAPSHOT]], where POOL is a name, or
 * a device or file that is a member of it.
 */
#ifndef NVFS_CLI_FIND_POOL_H
#define NVFS_CLI_FIND_POOL_H

#include <stddef.h>

struct pool_ref {
	char *pool;       /* its name */
	char *subvolume;  /* or NULL when the source named none */
	char *snapshot;   /* or NULL; only after pool_ref_parse_snapshot() */
	char **devices;   /* the members' paths when the source was a path, else NULL; NULL-terminated */
	char *twice;      /* NULL, or another one that says it is one of those which were looked for: nobody can tell which */
	char uuid[37];    /* the pool's, when the source was a path, else "" */
};

/*
 * Take apart and look up a source. For a path the label is read and, when the pool has more devices, the other
 * members are looked for among the machine's block devices and beside the file. 0; or -errno and why has the sentence. Free with pool_ref_free() in
 * both cases.
 */
int pool_ref_parse(const char *source, struct pool_ref *ref, char *why, size_t why_len);
/* The same where a snapshot is as good as a subvolume; pool_ref_parse() refuses it. */
int pool_ref_parse_snapshot(const char *source, struct pool_ref *ref, char *why, size_t why_len);
void pool_ref_free(struct pool_ref *ref);

#endif
