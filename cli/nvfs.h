/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The nvfs command: what its subcommands share. */
#ifndef NVFS_CLI_NVFS_H
#define NVFS_CLI_NVFS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/find_pool.h"
#include "cli/serve.h"

/* Exit codes, stable: nvfs(8). */
enum nvfs_exit {
	EXIT_OK = 0,
	EXIT_REFUSED = 1,  /* the daemon or the system said no */
	EXIT_USAGE = 2,
	EXIT_NOT_SERVED = 3,
	EXIT_NOT_FOUND = 4,
	EXIT_NO_SPACE = 5, /* ENOSPC, EDQUOT */
	EXIT_BUSY = 6,
};

/* What the command line had besides the positional arguments. */
struct nvfs_args {
	bool given[128]; /* options, by their letters */
	bool json, force;
	uint64_t size_bytes, inodes;
	const char *compression;
	bool thin;
	char **words;      /* positional */
	unsigned count;
};

/* One per subcommand; returns an exit code. */
int cmd_subvolume_create(const struct nvfs_args *a);
int cmd_subvolume_list(const struct nvfs_args *a);
int cmd_subvolume_show(const struct nvfs_args *a);
int cmd_subvolume_resize(const struct nvfs_args *a);
int cmd_subvolume_delete(const struct nvfs_args *a);
int cmd_pool_list(const struct nvfs_args *a);
int cmd_pool_show(const struct nvfs_args *a);
int cmd_pool_start(const struct nvfs_args *a);
int cmd_pool_stop(const struct nvfs_args *a);
int cmd_sync(const struct nvfs_args *a);
int cmd_debug_udev(const struct nvfs_args *a);
int cmd_debug_dump(const struct nvfs_args *a);

/*
 * Look the source up, connect, send {"op": op, ...} and close. want_subvolume: the source must name one, which is put into the request under this
 * key. Exits with a line and the code of the kind of error; else the reply, the caller's.
 */
json_t *nvfs_call(const char *source, const char *op, const char *subvolume_key, json_t *request);

/*
 * The same for one of several pools, without a subvolume: a pool that does not answer in 10 s, or refuses, gets a line on stderr and
 * NULL, so that it does not hide the others.
 */
json_t *nvfs_ask(const char *pool, const char *op);

/* client_each_pool(), or exits with a line that says why the pools are not known. */
void nvfs_each_pool(int (*fn)(const char *pool, void *arg), void *arg);

/* Exit code of an errno. */
int nvfs_exit_code(int err);

/* Print value as JSON, one line end. */
void print_json(const json_t *value);

/* Numbers of a reply. */
uint64_t json_u64(const json_t *object, const char *key);
const char *json_text(const json_t *object, const char *key);

#endif
