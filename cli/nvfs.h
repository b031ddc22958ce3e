/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nvfs command: what its subcommands share. A file cmd_*.c has the functions of a kind of object and ends with a table of their
 * commands; commands.c lists the tables. Parsing, help and completion follow from the tables alone.
 */
#ifndef NVFS_CLI_NVFS_H
#define NVFS_CLI_NVFS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/find_pool.h"
#include "cli/serve.h"
#include "cli/terminal.h"

/* Exit codes, stable: nvfs(8). */
enum nvfs_exit {
	EXIT_OK = 0,
	EXIT_REFUSED = 1,  /* the daemon or the system said no */
	EXIT_USAGE = 2,
	EXIT_NOT_SERVED = 3, /* or the daemon went away, or is ending */
	EXIT_NOT_FOUND = 4,
	EXIT_NO_SPACE = 5, /* ENOSPC, EDQUOT */
	EXIT_BUSY = 6,
	EXIT_EXISTS = 7,
	EXIT_PERMISSION = 8,
};

/* ---- Commands ---- */

enum nvfs_kind {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_SIZE,   /* 10G, above 0 */
	OPTION_NUMBER, /* whole, above 0 */
	OPTION_SIZE_OR_NONE,   /* the same, or "none", which is 0 */
	OPTION_NUMBER_OR_NONE,
	OPTION_CHOICE, /* one of what `value` lists: "off|lz4" */
};

struct nvfs_option {
	const char *name;  /* without "--"; NULL ends a list. In all commands that have it the same, with or without a value */
	enum nvfs_kind kind;
	const char *value; /* what help calls the value; NULL for a flag */
	const char *help;  /* a few words */
	char letter;       /* 0, or a short one */
};

#define NVFS_DESTROYS 1u /* --dry-run, --yes */
#define NVFS_NO_JSON 2u
#define NVFS_LONG 4u     /* --wait */
#define NVFS_HIDDEN 8u   /* not for people: help does not list it */

struct nvfs_args;

struct nvfs_command {
	const char *group, *verb; /* verb NULL: a command of one word; group NULL ends a table */
	int (*run)(const struct nvfs_args *a); /* returns an exit code */
	unsigned min, max;        /* words behind the command's own */
	/*
	 * These words, for people and for completion: POOL, POOL:VOL (one that there is), POOL:NEW, POOL:VOL@SNAP, POOL/TENANT, DEVICE and
	 * others; [] around those that may be left out, "..." behind one that may be repeated.
	 */
	const char *args;
	const struct nvfs_option *options; /* its own, or NULL */
	unsigned flags;
	const char *help;     /* one line of at most 60 characters */
	const char *more;     /* lines, or NULL */
	const char *examples; /* lines as they are typed */
};

struct nvfs_group {
	const char *name; /* NULL ends the list */
	const char *help; /* at most 28 characters */
	const struct nvfs_command *commands;
};

extern const struct nvfs_group nvfs_groups[];
extern const struct nvfs_command pool_commands[];
extern const struct nvfs_command usage_commands[];
extern const struct nvfs_command subvolume_commands[];
extern const struct nvfs_command snapshot_commands[];
extern const struct nvfs_command clone_commands[];
extern const struct nvfs_command tenant_commands[];
extern const struct nvfs_command sync_commands[];
extern const struct nvfs_command top_commands[];
extern const struct nvfs_command events_commands[];
extern const struct nvfs_command debug_commands[];
extern const struct nvfs_command completion_commands[];

/* Options that commands have by their flags. */
extern const struct nvfs_option nvfs_common_options[];
bool nvfs_has_common(const struct nvfs_command *command, const struct nvfs_option *option);

const struct nvfs_group *nvfs_find_group(const char *name);
/* Of a group of one word verb is ignored. */
const struct nvfs_command *nvfs_find_command(const struct nvfs_group *group, const char *verb);

/* ---- The command line ---- */

#define NVFS_OPTIONS_MAX 24 /* of a command, the common ones not counted */

struct nvfs_value {
	const char *text; /* NULL: not given; "" for a flag */
	uint64_t number;  /* OPTION_SIZE, OPTION_NUMBER */
};

struct nvfs_args {
	const struct nvfs_command *command;
	char **words;
	unsigned count;
	bool json, yes, dry_run, wait;
	struct nvfs_value values[NVFS_OPTIONS_MAX]; /* in the order of the command's options */
};

/* Fills a, or prints help and exits, or exits with a line. argv is permuted, and must live as long as a. */
void nvfs_parse(int argc, char **argv, struct nvfs_args *a);

/* An option of the command, by name: it must have it. */
bool arg_given(const struct nvfs_args *a, const char *name);
const char *arg_text(const struct nvfs_args *a, const char *name);  /* NULL when it was not given */
uint64_t arg_number(const struct nvfs_args *a, const char *name);   /* 0 when it was not given */

/* The help of everything, of a group, of a command. */
void help_all(FILE *out);
void help_group(FILE *out, const struct nvfs_group *group);
void help_command(FILE *out, const struct nvfs_command *command);
/* "subvolume create" */
const char *nvfs_command_name(const struct nvfs_command *command, char *buf, size_t len);
#define NVFS_COMMAND_NAME_MAX 40

/* ---- Calls ---- */

/*
 * Take a source apart and connect to its pool's daemon. want_subvolume: 1 it must name one, -1 it must not, 0 it may. Exits with a line
 * and the code of the kind of error. The client and what is in ref are the caller's.
 */
struct client *nvfs_connect(const char *source, int want_subvolume, struct pool_ref *ref);

/* {"op": op, ...} over a connection; exits with a line that begins with source. The reply is the caller's. */
json_t *nvfs_call_on(struct client *client, const char *source, const char *op, json_t *request);

/*
 * Both, and close. subvolume_key: the key of the request that gets the source's subvolume; "name": it must have one; NULL: it must have
 * none. request may be NULL; it is taken.
 */
json_t *nvfs_call(const char *source, const char *op, const char *subvolume_key, json_t *request);

/*
 * nvfs_call() of a command with NVFS_DESTROYS: with --dry-run the daemon only says what would go, which `print` prints; without --yes a
 * person is shown that and asked, and where nobody can be asked it is refused. NULL: the command is done (exit with EXIT_OK). print may be
 * called with a reply whose "dry_run" is true only.
 */
json_t *nvfs_destroy(const struct nvfs_args *a, const char *source, const char *op, const char *subvolume_key, json_t *request,
		     void (*print)(FILE *out, const json_t *reply));

/* What a reply of subvolume.delete, or one of its list "would_delete", says of snapshots: "; its 2 snapshots stay", or nothing. */
void nvfs_print_kept(FILE *out, const json_t *object);

/* For print above: the list "would_delete" of a reply. */
void nvfs_print_would_delete(FILE *out, const json_t *reply);

/*
 * Wait until all that was deleted in the pool of this source is taken apart, with a bar where somebody looks. Exits with a line when
 * the daemon goes away. False, with a line: who asks is an owner, whom the pool does not tell.
 */
bool nvfs_wait_for_sweeps(const char *source);

/*
 * The same for one of several pools, without a subvolume: a pool that does not answer in 10 s, or refuses, gets a line on stderr and
 * NULL, so that it does not hide the others. quiet: without the line.
 */
json_t *nvfs_ask(const char *pool, const char *op, bool quiet);

/*
 * The list that request `op` gives under `key`, of the pool that the command's word names, or without one of all pools that are served;
 * each of its objects gets "pool". of_subvolume: the word may name one, which the request gets. Prints it as JSON or by print. The exit code.
 */
int nvfs_list(const struct nvfs_args *a, const char *op, const char *key, bool of_subvolume, void (*print)(const json_t *all));

/* Of a subvolume or snapshot: where it is mounted, "yes", or "-". */
const char *nvfs_mounted_text(const json_t *object);

/* client_each_pool(), or exits with a line that says why the pools are not known. */
void nvfs_each_pool(int (*fn)(const char *pool, void *arg), void *arg);

/* POOL:VOL@SNAP taken apart: what is before the '@', and behind it. Of a word without one, snapshot is NULL. */
struct snapshot_arg {
	char *source, *snapshot;
};
struct snapshot_arg snapshot_arg_split(const char *word);
void snapshot_arg_free(struct snapshot_arg *arg);

/* object[key] = a name that was typed; exits with a line when it cannot be that of a `what`: "snapshot", "tenant". */
void nvfs_set_name(json_t *object, const char *key, const char *what, const char *name);

/* In cmd_usage.c, with `nvfs du`, whose answers come in lines as well. */
int cmd_snapshot_diff(const struct nvfs_args *a);

/* Exit code of an errno. */
int nvfs_exit_code(int err);

/* Print value as JSON: over several lines for people who look at it, or on one, for what goes on. */
void print_json(const json_t *value);
void print_json_line(const json_t *value);

/* Nanoseconds since 1970, in the local time; buf, which has NVFS_TIME_TEXT bytes or more. */
#define NVFS_TIME_TEXT 64
const char *nvfs_time_text(uint64_t ns, char *buf, size_t len);

/* Numbers of a reply. */
uint64_t json_u64(const json_t *object, const char *key);
const char *json_text(const json_t *object, const char *key);

#endif
