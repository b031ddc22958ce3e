/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/cleanup.h"
#include "io/size.h"
#include "io/visible.h"

/* A group is one request: docs/control-protocol.md. */
#define GROUP_MAX 1500u
#define GROUP_BYTES_MAX (63u << 10) /* of the names; the rest of the 64 KiB is for what is around them */

void snapshot_arg_free(struct snapshot_arg *arg)
{
	free(arg->source);
	free(arg->snapshot);
}

static char *copy(const char *text, size_t len)
{
	char *out = strndup(text, len);

	if (!out)
		die(EXIT_REFUSED, "out of memory");
	return out;
}

/* A path may have an '@', so it counts behind the last colon only. */
struct snapshot_arg snapshot_arg_split(const char *word)
{
	const char *colon = strrchr(word, ':'), *at = colon ? strchr(colon, '@') : NULL;

	if (!at)
		return (struct snapshot_arg){ .source = copy(word, strlen(word)) };
	return (struct snapshot_arg){ copy(word, (size_t)(at - word)), copy(at + 1, strlen(at + 1)) };
}

static struct snapshot_arg split_snapshot(const char *word)
{
	struct snapshot_arg arg = snapshot_arg_split(word);

	if (!strchr(word, ':') || !arg.snapshot)
		die(EXIT_USAGE, "\"%s\" names no snapshot; write POOL:SUBVOLUME@SNAPSHOT", word);
	return arg;
}

static json_t *with_snapshot(const struct snapshot_arg *arg)
{
	json_t *request = json_object();

	nvfs_set_name(request, "snapshot", "snapshot", arg->snapshot);
	return request;
}

static void print_warnings(const json_t *reply)
{
	const json_t *warning;
	size_t i;

	json_array_foreach(json_object_get(reply, "warnings"), i, warning)
		report("warning: %s", json_string_value(warning) ? json_string_value(warning) : "?");
}

/* ---- create ---- */

/* what: "a group is of one". */
static void check_one_pool(const char *first, const char *source, const char *what, char **pool)
{
	struct pool_ref ref;
	char why[512];
	int rc = pool_ref_parse(source, &ref, why, sizeof(why));

	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (*pool && strcmp(*pool, ref.pool))
		die(EXIT_USAGE, "%s and %s are of two pools; %s", first, source, what);
	if (!*pool)
		*pool = copy(ref.pool, strlen(ref.pool));
	pool_ref_free(&ref);
}

/* The pool alone, as it was named first, and the list of what the words name. */
static json_t *create_list(const struct nvfs_args *a, char **source)
{
	cleanup_free char *pool = NULL;
	json_t *list = json_array(), *item;

	for (unsigned i = 0; i < a->count; i++) {
		struct snapshot_arg arg = split_snapshot(a->words[i]);
		const char *colon = strrchr(arg.source, ':');

		check_one_pool(a->words[0], arg.source, "a group is of one", &pool);
		item = with_snapshot(&arg);
		json_object_set_new(item, "subvolume", json_string(colon + 1));
		json_array_append_new(list, item);
		if (!*source)
			*source = copy(arg.source, (size_t)(colon - arg.source));
		snapshot_arg_free(&arg);
	}
	return list;
}

static void check_size(const struct nvfs_args *a, const json_t *list)
{
	const size_t bytes = json_dumpb(list, NULL, 0, JSON_COMPACT);

	if (a->count > GROUP_MAX)
		die(EXIT_USAGE, "a group has at most %u snapshots, and these are %u; make several groups", GROUP_MAX, a->count);
	if (bytes > GROUP_BYTES_MAX)
		die(EXIT_USAGE, "the names of these %u snapshots need %zu bytes of a request, and %u is the most; make several groups", a->count,
		    bytes, GROUP_BYTES_MAX);
}

static int cmd_snapshot_create(const struct nvfs_args *a)
{
	cleanup_free char *source = NULL;
	json_t *reply, *made, *s;
	size_t i;

	if (a->count > 1 && !arg_given(a, "group"))
		die(EXIT_USAGE, "snapshots of several subvolumes at one moment are a group: nvfs snapshot create --group ...");
	reply = create_list(a, &source);
	check_size(a, reply);
	reply = nvfs_call(source, "snapshot.create", NULL, json_pack("{s:o}", "snapshots", reply));
	print_warnings(reply);
	made = json_object_get(reply, "snapshots");
	if (a->json)
		print_json(arg_given(a, "group") ? made : json_array_get(made, 0));
	else
		json_array_foreach(made, i, s)
			printf("created %s:%s@%s\n", source, json_text(s, "subvolume"), json_text(s, "snapshot"));
	json_decref(reply);
	return EXIT_OK;
}

/* ---- list, show ---- */

static void print_list(const json_t *all)
{
	struct table *t = table_new("NAME CREATED >USED >HELD MOUNTED");
	char used[SIZE_TEXT_MAX], held[SIZE_TEXT_MAX], when[NVFS_TIME_TEXT];
	const json_t *s;
	size_t i;

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	json_array_foreach(all, i, s) {
		table_cell(t, "%s:%s@%s", json_text(s, "pool"), json_text(s, "subvolume"), json_text(s, "snapshot"));
		table_cell(t, "%s", nvfs_time_text(json_u64(s, "created_ns"), when, sizeof(when)));
		table_cell(t, "%s", size_text(json_u64(s, "used_bytes"), used, sizeof(used)));
		table_cell(t, "%s", size_text(json_u64(s, "held_bytes"), held, sizeof(held)));
		table_cell(t, "%s", nvfs_mounted_text(s));
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static int cmd_snapshot_list(const struct nvfs_args *a)
{
	return nvfs_list(a, "snapshot.list", "snapshots", true, print_list);
}

static void print_one(const json_t *s)
{
	char text[SIZE_TEXT_MAX], when[NVFS_TIME_TEXT];

	printf("name         %s@%s%s\n", json_text(s, "subvolume"), json_text(s, "snapshot"),
	       json_is_true(json_object_get(s, "subvolume_deleted")) ? " (its subvolume was deleted)" : "");
	printf("created      %s\n", nvfs_time_text(json_u64(s, "created_ns"), when, sizeof(when)));
	if (json_object_get(s, "group"))
		printf("group        %llu\n", (unsigned long long)json_u64(s, "group"));
	printf("size         %s\n", size_text(json_u64(s, "size_bytes"), text, sizeof(text)));
	printf("used         %s\n", size_text(json_u64(s, "used_bytes"), text, sizeof(text)));
	printf("held         %s\n", size_text(json_u64(s, "held_bytes"), text, sizeof(text)));
	printf("inodes       %llu of %llu\n", (unsigned long long)json_u64(s, "used_inodes"), (unsigned long long)json_u64(s, "inodes"));
	fputs("mounted      ", stdout);
	visible_print(stdout, nvfs_mounted_text(s), strlen(nvfs_mounted_text(s)));
	putchar('\n');
}

static int cmd_snapshot_show(const struct nvfs_args *a)
{
	struct snapshot_arg arg = split_snapshot(a->words[0]);
	json_t *reply = nvfs_call(arg.source, "snapshot.show", "subvolume", with_snapshot(&arg));

	if (a->json)
		print_json(json_object_get(reply, "snapshot"));
	else
		print_one(json_object_get(reply, "snapshot"));
	json_decref(reply);
	snapshot_arg_free(&arg);
	return EXIT_OK;
}

/* ---- delete, rollback ---- */

static int cmd_snapshot_delete(const struct nvfs_args *a)
{
	struct snapshot_arg arg = split_snapshot(a->words[0]);
	json_t *reply = nvfs_destroy(a, arg.source, "snapshot.delete", "subvolume", with_snapshot(&arg), nvfs_print_would_delete);

	if (reply) {
		const bool waited = a->wait && nvfs_wait_for_sweeps(arg.source);

		if (a->json)
			print_json(reply);
		else
			printf("deleted %s%s\n", a->words[0],
			       waited ? "; its space is back" : "; what it alone held comes back in the background");
	}
	json_decref(reply);
	snapshot_arg_free(&arg);
	return EXIT_OK;
}

static void print_would_roll_back(FILE *out, const json_t *reply)
{
	const json_t *w = json_object_get(reply, "would_roll_back");
	char used[SIZE_TEXT_MAX], when[NVFS_TIME_TEXT];

	fprintf(out, "would make subvolume %s what it was at %s; %s in %llu file%s that it has now would be gone\n", json_text(w, "subvolume"),
		nvfs_time_text(json_u64(w, "to_ns"), when, sizeof(when)), size_text(json_u64(w, "used_bytes"), used, sizeof(used)),
		(unsigned long long)json_u64(w, "used_inodes"), json_u64(w, "used_inodes") == 1 ? "" : "s");
}

static int cmd_snapshot_rollback(const struct nvfs_args *a)
{
	struct snapshot_arg arg = split_snapshot(a->words[0]);
	json_t *reply = nvfs_destroy(a, arg.source, "snapshot.rollback", "subvolume", with_snapshot(&arg), print_would_roll_back);

	if (reply && a->json)
		print_json(json_object_get(reply, "subvolume"));
	else if (reply)
		printf("%s is what %s has; snapshots made later are still there\n", arg.source, a->words[0]);
	json_decref(reply);
	snapshot_arg_free(&arg);
	return EXIT_OK;
}

/* ---- clone ---- */

/* The name of the new subvolume, which is in the same pool. */
static json_t *clone_name(const struct nvfs_args *a, const char *source)
{
	cleanup_free char *pool = NULL;
	struct pool_ref ref;
	char why[512];
	json_t *name;
	int rc = pool_ref_parse(a->words[1], &ref, why, sizeof(why));

	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (!ref.subvolume)
		die(EXIT_USAGE, "\"%s\" names no subvolume; write %s:NAME", a->words[1], ref.pool);
	name = json_string(ref.subvolume);
	pool_ref_free(&ref);
	check_one_pool(NULL, source, NULL, &pool);
	check_one_pool(source, a->words[1], "a clone shares blocks with its origin, and is in the same pool", &pool);
	return name;
}

static int cmd_clone(const struct nvfs_args *a)
{
	struct snapshot_arg arg = snapshot_arg_split(a->words[0]);
	json_t *request, *reply;

	if (!strchr(a->words[0], ':'))
		die(EXIT_USAGE, "\"%s\" names no subvolume; write POOL:SUBVOLUME or POOL:SUBVOLUME@SNAPSHOT", a->words[0]);
	if (arg_given(a, "thin") && arg_given(a, "reserved"))
		die(EXIT_USAGE, "a clone is --thin or --reserved, not both");
	request = arg.snapshot ? with_snapshot(&arg) : json_object();
	json_object_set_new(request, "name", clone_name(a, arg.source));
	if (arg_given(a, "size"))
		json_object_set_new(request, "size_bytes", json_integer((json_int_t)arg_number(a, "size")));
	if (arg_given(a, "inodes"))
		json_object_set_new(request, "inodes", json_integer((json_int_t)arg_number(a, "inodes")));
	if (arg_given(a, "thin") || arg_given(a, "reserved"))
		json_object_set_new(request, arg_given(a, "thin") ? "thin" : "reserved", json_true());
	reply = nvfs_call(arg.source, "clone.create", "subvolume", request);
	print_warnings(reply);
	if (a->json)
		print_json(json_object_get(reply, "subvolume"));
	else
		printf("cloned %s to %s\n", a->words[0], a->words[1]);
	json_decref(reply);
	snapshot_arg_free(&arg);
	return EXIT_OK;
}

static const struct nvfs_option create_options[] = {
	{"group", OPTION_FLAG, NULL, "of several subvolumes, at one moment: all or none", 0},
	{.name = NULL},
};

static const struct nvfs_option clone_options[] = {
	{"size", OPTION_SIZE, "SIZE", "how large it may become; else as its origin", 's'},
	{"inodes", OPTION_NUMBER, "N", "how many files; else as its origin", 'N'},
	{"thin", OPTION_FLAG, NULL, "reserve nothing: share what the pool has left", 0},
	{"reserved", OPTION_FLAG, NULL, "reserve its size, whatever its origin does", 0},
	{.name = NULL},
};

const struct nvfs_command snapshot_commands[] = {
	{.group = "snapshot", .verb = "create", .run = cmd_snapshot_create, .min = 1, .max = UINT_MAX, .args = "POOL:VOL@NEW...",
	 .options = create_options, .help = "keep what a subvolume is now, at once",
	 .more = "Mounted or not, whatever is in it: writers wait a moment, none fails.\n"
		 "It costs only what is changed afterwards.",
	 .examples = "nvfs snapshot create tank:web@monday\n"
		     "nvfs snapshot create --group tank:db@s1 tank:wal@s1"},
	{.group = "snapshot", .verb = "list", .run = cmd_snapshot_list, .min = 0, .max = 1, .args = "[POOL[:VOL]]",
	 .help = "all, oldest first",
	 .more = "HELD is what it shares with no older one: what it is charged for.",
	 .examples = "nvfs snapshot list tank:web\n"
		     "nvfs snapshot list tank --json | jq -r '.[].snapshot'"},
	{.group = "snapshot", .verb = "show", .run = cmd_snapshot_show, .min = 1, .max = 1, .args = "POOL:VOL@SNAP",
	 .help = "all about one",
	 .examples = "nvfs snapshot show tank:web@monday"},
	{.group = "snapshot", .verb = "diff", .run = cmd_snapshot_diff, .min = 1, .max = 2, .args = "POOL:VOL[@SNAP] [POOL:VOL[@SNAP]]",
	 .help = "paths that changed since then, or up to another",
	 .more = "Sorted by path: + created, - deleted, M data was written, A attributes only,\n"
		 "R renamed. Of a directory, data is its names. With one name: up to now.\n"
		 "With --json one object a line.",
	 .examples = "nvfs snapshot diff tank:web@monday\n"
		     "nvfs snapshot diff tank:web@monday tank:web@tuesday --json | jq -r .path"},
	{.group = "snapshot", .verb = "delete", .run = cmd_snapshot_delete, .min = 1, .max = 1, .args = "POOL:VOL@SNAP",
	 .flags = NVFS_DESTROYS | NVFS_LONG, .help = "delete it; others are as before",
	 .more = "Not while it is mounted. What it alone held comes back in the background.",
	 .examples = "nvfs snapshot delete tank:web@monday\n"
		     "nvfs snapshot delete tank:web@monday --yes --wait"},
	{.group = "snapshot", .verb = "rollback", .run = cmd_snapshot_rollback, .min = 1, .max = 1, .args = "POOL:VOL@SNAP",
	 .flags = NVFS_DESTROYS, .help = "make the subvolume what it was then",
	 .more = "Not while it is mounted. What it is now is gone, unless another snapshot has\n"
		 "it; later snapshots stay.",
	 .examples = "nvfs snapshot rollback tank:web@monday --dry-run\n"
		     "nvfs snapshot rollback tank:web@monday"},
	{.group = NULL},
};

const struct nvfs_command clone_commands[] = {
	{.group = "clone", .run = cmd_clone, .min = 2, .max = 2, .args = "POOL:VOL[@SNAP] POOL:NEW",
	 .options = clone_options, .help = "a subvolume that begins as another is",
	 .more = "Of a snapshot, or of the subvolume as it is now. It stands on its own: its\n"
		 "origin can be deleted.",
	 .examples = "nvfs clone tank:web@monday tank:web-test\n"
		     "nvfs clone tank:web tank:copy --thin --size 20G"},
	{.group = NULL},
};
