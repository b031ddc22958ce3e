/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/size.h"
#include "io/visible.h"

static void print_bytes(const char *what, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	printf("%-14s%s\n", what, size_text(bytes, text, sizeof(text)));
}

static void print_count(const char *what, uint64_t count, const char *hold, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	printf("%-14s%llu, which %s %s\n", what, (unsigned long long)count, hold, size_text(bytes, text, sizeof(text)));
}

/* Sizes of all subvolumes, and how many of these are sure. */
static void print_promises(const json_t *p)
{
	char promised[SIZE_TEXT_MAX], reserved[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX], left[SIZE_TEXT_MAX], room[SIZE_TEXT_MAX];

	printf("%-14s%s, of which %s reserved\n", "promised", size_text(json_u64(p, "promised_bytes"), promised, sizeof(promised)),
	       size_text(json_u64(p, "reserved_bytes"), reserved, sizeof(reserved)));
	if (json_object_get(p, "unclaimed_bytes"))
		printf("%-14s%s for new or thin ones; %s stay free for writing\n", "unreserved",
		       size_text(json_u64(p, "unclaimed_bytes"), left, sizeof(left)),
		       size_text(json_u64(p, "headroom_bytes"), room, sizeof(room)));
	printf("%-14s%llu %%: up to %s\n", "overcommit", (unsigned long long)json_u64(p, "overcommit_percent"),
	       size_text(json_u64(p, "promise_limit_bytes"), limit, sizeof(limit)));
}

static void print_sessions(const json_t *sessions)
{
	const json_t *s;
	size_t i;

	json_array_foreach(sessions, i, s) {
		printf("%-14s%s on ", i ? "" : "mounted", json_text(s, "subvolume"));
		visible_print(stdout, json_text(s, "target"), strlen(json_text(s, "target")));
		putchar('\n');
	}
}

static void print_pool(const json_t *reply)
{
	const json_t *p = json_object_get(reply, "pool"), *d;
	size_t i;

	printf("%-14s%s\n", "name", json_text(p, "name"));
	printf("%-14s%s\n", "uuid", json_text(p, "uuid"));
	json_array_foreach(json_object_get(p, "devices"), i, d)
		printf("%-14s%s\n", i ? "" : "devices", json_string_value(d));
	if (json_object_get(p, "failed"))
		printf("%-14s%s: it takes no more writes; see nvfsd's log, check the devices, stop and start it\n", "failed",
		       strerror((int)json_u64(p, "failed")));
	print_bytes("data", json_u64(p, "data_bytes"));
	print_bytes("used", json_u64(p, "used_bytes"));
	print_bytes("free", json_u64(p, "free_bytes"));
	print_promises(p);
	if (json_u64(p, "snapshots") || json_u64(p, "snapshot_bytes"))
		print_count("snapshots", json_u64(p, "snapshots"), "hold", json_u64(p, "snapshot_bytes"));
	if (json_u64(p, "sweeps"))
		print_count("deleted", json_u64(p, "sweeps"), "still hold", json_u64(p, "sweeping_bytes"));
	if (json_object_get(p, "sweep_error"))
		printf("%-14sand do not give it back now: %s\n", "", strerror((int)json_u64(p, "sweep_error")));
	print_bytes("metadata", json_u64(p, "meta_bytes"));
	print_bytes("metadata free", json_u64(p, "meta_free_bytes"));
	printf("%-14s%llu in all\n", "inodes", (unsigned long long)json_u64(p, "inodes"));
	print_bytes("dirty", json_u64(p, "dirty_bytes"));
	printf("%-14s%llu, %llu mounted\n", "subvolumes", (unsigned long long)json_u64(p, "subvolumes"),
	       (unsigned long long)json_u64(p, "open_subvolumes"));
	print_sessions(json_object_get(reply, "sessions"));
	printf("%-14s%llu of checksums, %llu of devices\n", "errors", (unsigned long long)json_u64(p, "checksum_errors"),
	       (unsigned long long)json_u64(p, "io_errors"));
	printf("%-14ssupervisor %llu, worker %llu\n", "processes", (unsigned long long)json_u64(p, "supervisor_pid"),
	       (unsigned long long)json_u64(p, "worker_pid"));
}

static int cmd_pool_show(const struct nvfs_args *a)
{
	json_t *reply = nvfs_call(a->words[0], "pool.show", NULL, NULL);

	if (a->json) {
		json_t *pool = json_object_get(reply, "pool");

		json_object_set(pool, "sessions", json_object_get(reply, "sessions"));
		print_json(pool);
	} else {
		print_pool(reply);
	}
	json_decref(reply);
	return EXIT_OK;
}

static int cmd_pool_set(const struct nvfs_args *a)
{
	json_t *reply;

	if (!arg_given(a, "overcommit"))
		die(EXIT_USAGE, "say what to change: --overcommit 150");
	reply = nvfs_call(a->words[0], "pool.set", NULL,
			  json_pack("{s:I}", "overcommit_percent", (json_int_t)arg_number(a, "overcommit")));
	if (a->json)
		print_json(json_object_get(reply, "pool"));
	else
		print_promises(json_object_get(reply, "pool"));
	json_decref(reply);
	return EXIT_OK;
}

struct collection {
	json_t *pools;
	bool failed;
};

static int collect(const char *pool, void *arg)
{
	struct collection *c = arg;
	json_t *reply = nvfs_ask(pool, "pool.show", false);

	if (reply)
		json_array_append(c->pools, json_object_get(reply, "pool"));
	else
		c->failed = true;
	json_decref(reply);
	return 0;
}

static void print_pools(const json_t *pools)
{
	struct table *t = table_new("POOL >DATA >FREE >RESERVED >SUBVOLUMES >MOUNTED >ERRORS");
	char text[3][SIZE_TEXT_MAX];
	const json_t *p;
	size_t i;

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	json_array_foreach(pools, i, p) {
		table_cell(t, "%s", json_text(p, "name"));
		table_cell(t, "%s", size_text(json_u64(p, "data_bytes"), text[0], SIZE_TEXT_MAX));
		table_cell(t, "%s", size_text(json_u64(p, "free_bytes"), text[1], SIZE_TEXT_MAX));
		table_cell(t, "%s", size_text(json_u64(p, "reserved_bytes"), text[2], SIZE_TEXT_MAX));
		table_cell(t, "%llu", (unsigned long long)json_u64(p, "subvolumes"));
		table_cell(t, "%llu", (unsigned long long)json_u64(p, "open_subvolumes"));
		table_cell(t, "%llu", (unsigned long long)(json_u64(p, "checksum_errors") + json_u64(p, "io_errors")));
		table_colour(t, json_u64(p, "checksum_errors") + json_u64(p, "io_errors") ? COLOUR_RED : COLOUR_NONE);
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static int cmd_pool_list(const struct nvfs_args *a)
{
	struct collection c = {.pools = json_array()};

	nvfs_each_pool(collect, &c);
	if (a->json)
		print_json(c.pools);
	else
		print_pools(c.pools);
	json_decref(c.pools);
	return c.failed ? EXIT_REFUSED : EXIT_OK;
}

/* One name, or the devices of one pool: the first one's label tells the pool, all of them are handed on. */
static void parse_start(const struct nvfs_args *a, struct pool_ref *ref)
{
	char why[512];
	int rc = pool_ref_parse(a->words[0], ref, why, sizeof(why));

	if (rc == -ENXIO && ref->pool && a->count > 1) /* the rest of the members is on the command line */
		rc = 0;
	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (ref->subvolume)
		die(EXIT_USAGE, "\"%s\" names a subvolume; a pool is started as a whole: %s", a->words[0], ref->pool);
	if (a->count == 1)
		return;
	for (char **d = ref->devices; d && *d; d++)
		free(*d);
	free(ref->devices);
	free(ref->twice);
	ref->twice = NULL;
	ref->devices = calloc(a->count + 1, sizeof(*ref->devices));
	if (!ref->devices)
		die(EXIT_REFUSED, "out of memory");
	for (unsigned i = 0; i < a->count; i++) {
		ref->devices[i] = realpath(a->words[i], NULL);
		if (!ref->devices[i])
			die(nvfs_exit_code(-errno), "%s: %s", a->words[i], strerror(errno));
	}
}

static int cmd_pool_start(const struct nvfs_args *a)
{
	json_t *answer;
	struct client *client;
	struct pool_ref ref;
	char why[512];
	bool started;
	int rc;

	parse_start(a, &ref);
	rc = serve_connect(&ref, &started, &client, why, sizeof(why));
	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	client_close(client);
	if (a->json) {
		answer = json_pack("{s:s, s:b}", "pool", ref.pool, "started", started);
		print_json(answer);
		json_decref(answer);
	} else {
		printf("pool %s is served%s\n", ref.pool, started ? "" : " already");
	}
	pool_ref_free(&ref);
	return EXIT_OK;
}

static int cmd_pool_stop(const struct nvfs_args *a)
{
	json_t *reply = nvfs_call(a->words[0], "pool.stop", NULL, json_pack("{s:b}", "force", arg_given(a, "force")));

	if (a->json)
		print_json(reply);
	else
		printf("pool %s is stopped; everything is committed\n", a->words[0]);
	json_decref(reply);
	return EXIT_OK;
}

static const struct nvfs_option stop_options[] = {
	{"force", OPTION_FLAG, NULL, "end the mounts first", 'f'},
	{.name = NULL},
};

static const struct nvfs_option set_options[] = {
	{"overcommit", OPTION_NUMBER, "PERCENT", "what thin subvolumes may be promised", 0},
	{.name = NULL},
};

const struct nvfs_command pool_commands[] = {
	{.group = "pool", .verb = "list", .run = cmd_pool_list, .min = 0, .max = 0, .args = "",
	 .help = "the pools that are served",
	 .examples = "nvfs pool list\n"
		     "nvfs pool list --json | jq -r '.[].name'"},
	{.group = "pool", .verb = "show", .run = cmd_pool_show, .min = 1, .max = 1, .args = "POOL",
	 .help = "what is promised, used, free",
	 .examples = "nvfs pool show tank"},
	{.group = "pool", .verb = "set", .run = cmd_pool_set, .min = 1, .max = 1, .args = "POOL", .options = set_options,
	 .help = "change its settings",
	 .more = "Overcommit is how much all subvolumes together may be promised, in percent of\n"
		 "what the pool can hold: 100 is no more than that. Reserved ones always fit.",
	 .examples = "nvfs pool set tank --overcommit 150"},
	{.group = "pool", .verb = "start", .run = cmd_pool_start, .min = 1, .max = 64, .args = "POOL|DEVICE...",
	 .help = "start its daemon",
	 .more = "One device of several is enough: the others are looked for.\n"
		 "A path has a slash in it. Says so when it is served already.",
	 .examples = "nvfs pool start tank\n"
		     "nvfs pool start /dev/nvme0n1\n"
		     "nvfs pool start ./tank.img"},
	{.group = "pool", .verb = "stop", .run = cmd_pool_stop, .min = 1, .max = 1, .args = "POOL",
	 .options = stop_options, .help = "commit and stop it",
	 .more = "Refused while something is mounted, unless --force ends the mounts.",
	 .examples = "nvfs pool stop tank"},
	{.group = NULL},
};

static int cmd_sync(const struct nvfs_args *a)
{
	json_t *reply = nvfs_call(a->words[0], "sync", "subvolume", NULL);

	if (a->json)
		print_json(reply);
	json_decref(reply);
	return EXIT_OK;
}

const struct nvfs_command sync_commands[] = {
	{.group = "sync", .run = cmd_sync, .min = 1, .max = 1, .args = "POOL[:VOL]",
	 .help = "make everything written so far durable",
	 .more = "Of a pool: of all that is mounted.",
	 .examples = "nvfs sync tank\n"
		     "nvfs sync tank:web"},
	{.group = NULL},
};
