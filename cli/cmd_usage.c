/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/cleanup.h"
#include "io/size.h"
#include "io/visible.h"

/*
 * Answers that come in lines: progress, what was asked for, and an end, which may be a refusal. The daemon does not wait long for who
 * does not read, and a pager may not: so all of it is taken first.
 */
static void take_lines(struct client *client, const char *source, const char *what, void (*fn)(json_t *line, void *arg), void *arg)
{
	json_t *line, *end = NULL;
	const json_t *progress;
	int rc;

	while (!end) {
		rc = client_next(client, &line);
		if (rc) {
			bar_clear();
			die(nvfs_exit_code(rc), "%s: %s", source, client_message(client));
		}
		progress = json_object_get(line, "progress");
		if (progress && bar_wanted())
			bar_draw(what, json_u64(progress, "done"), json_u64(progress, "total"));
		else if (json_object_get(line, "warning"))
			report("warning: %s", json_text(line, "warning"));
		else if (json_object_get(line, "end"))
			end = json_incref(line);
		else if (!progress)
			fn(line, arg);
		json_decref(line);
	}
	bar_clear();
	if (!json_is_true(json_object_get(end, "ok")))
		die(nvfs_exit_code(-(int)json_u64(end, "errno")), "%s: %s", source, json_text(end, "message"));
	json_decref(end);
}

/* ---- snapshot diff ---- */

/* What is printed when all of it has come. */
struct output {
	FILE *spool; /* the file that it waits in */
	bool json;
};

static json_t *side_of(const char *word, char **pool)
{
	struct snapshot_arg arg = snapshot_arg_split(word);
	struct pool_ref ref;
	char why[512];
	json_t *side;
	int rc = pool_ref_parse(arg.source, &ref, why, sizeof(why));

	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (!ref.subvolume)
		die(EXIT_USAGE, "\"%s\" names no subvolume; write POOL:SUBVOLUME or POOL:SUBVOLUME@SNAPSHOT", word);
	if (*pool && strcmp(*pool, ref.pool))
		die(EXIT_USAGE, "%s is of another pool than %s; a diff is of one", word, *pool);
	free(*pool);
	*pool = strdup(ref.pool);
	side = json_pack("{s:s}", "subvolume", ref.subvolume);
	if (arg.snapshot)
		nvfs_set_name(side, "snapshot", "snapshot", arg.snapshot);
	if (!*pool || !side)
		die(EXIT_REFUSED, "out of memory");
	pool_ref_free(&ref);
	snapshot_arg_free(&arg);
	return side;
}

static char letter_of(const char *change)
{
	static const char *const names[] = { "created", "deleted", "renamed", "modified", "attributes" };

	for (unsigned i = 0; i < 5; i++)
		if (!strcmp(change, names[i]))
			return "+-RMA"[i];
	return '?';
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void print_path(FILE *out, const json_t *change, const char *key, const char *hex_key)
{
	const char *hex = json_string_value(json_object_get(change, hex_key)), *path = json_text(change, key);

	if (!hex)
		visible_print(out, path, strlen(path));
	for (; hex && hex[0] && hex[1]; hex += 2) {
		const char c = (char)(hex_digit(hex[0]) << 4 | hex_digit(hex[1]));

		visible_print(out, &c, 1);
	}
	if (!strcmp(json_text(change, "type"), "directory") && strcmp(path, "/"))
		fputc('/', out);
}

/* What the letter does not say. */
static void print_what(FILE *out, const json_t *change, char letter)
{
	const json_t *what;
	const char *text, *before = "  (";
	size_t i;

	json_array_foreach(json_object_get(change, "what"), i, what) {
		text = json_string_value(what) ? json_string_value(what) : "?";
		if (letter == 'M' && (!strcmp(text, "data") || !strcmp(text, "times")))
			continue;
		fprintf(out, "%s%s", before, text);
		before = ", ";
	}
	if (*before == ',')
		fputc(')', out);
}

static void print_change(json_t *change, void *arg)
{
	const struct output *o = arg;
	const char letter = letter_of(json_text(change, "change"));

	if (o->json) {
		if (json_dumpf(change, o->spool, JSON_COMPACT | JSON_PRESERVE_ORDER))
			die(EXIT_REFUSED, "the changes cannot be kept: %s", strerror(errno));
		fputc('\n', o->spool);
		return;
	}
	fprintf(o->spool, "%c  ", letter);
	if (json_object_get(change, "old_path")) {
		print_path(o->spool, change, "old_path", "old_path_hex");
		fputs(" -> ", o->spool);
	}
	print_path(o->spool, change, "path", "path_hex");
	print_what(o->spool, change, letter);
	fputc('\n', o->spool);
}

static void print_spool(FILE *spool)
{
	static char buf[1 << 16];
	size_t n;

	if (fflush(spool) || fseek(spool, 0, SEEK_SET))
		die(EXIT_REFUSED, "the changes cannot be kept: %s", strerror(errno));
	while ((n = fread(buf, 1, sizeof(buf), spool)) > 0)
		if (fwrite(buf, 1, n, stdout) != n)
			break;
	if (ferror(spool) || fflush(stdout) || ferror(stdout))
		die(EXIT_REFUSED, "the changes cannot be written: %s", strerror(errno));
	fclose(spool);
}

int cmd_snapshot_diff(const struct nvfs_args *a)
{
	struct output o = {.spool = tmpfile(), .json = a->json};
	struct snapshot_arg first = snapshot_arg_split(a->words[0]);
	const char *to = a->count > 1 ? a->words[1] : first.source;
	cleanup_free char *pool = NULL;
	json_t *request = json_object(), *reply;
	struct client *client;
	struct pool_ref ref;

	if (!o.spool)
		die(EXIT_REFUSED, "no temporary file can be made: %s", strerror(errno));
	if (a->count == 1 && !first.snapshot)
		die(EXIT_USAGE, "\"%s\" is no snapshot: name what it shall be compared with, too", a->words[0]);
	json_object_set_new(request, "from", side_of(a->words[0], &pool));
	json_object_set_new(request, "to", side_of(to, &pool));
	client = nvfs_connect(first.source, 0, &ref);
	reply = nvfs_call_on(client, pool, "snapshot.diff", request);
	json_decref(reply);
	take_lines(client, pool, "comparing", print_change, &o);
	print_spool(o.spool);
	client_close(client);
	pool_ref_free(&ref);
	snapshot_arg_free(&first);
	return EXIT_OK;
}

/* ---- du ---- */

struct usage_list {
	json_t *usage, *pools; /* arrays */
	const char *pool;
};

static void take_usage(json_t *line, void *arg)
{
	struct usage_list *l = arg;
	json_t *usage = json_object_get(line, "usage"), *total = json_object_get(line, "total");

	if (usage || total)
		json_object_set_new(usage ? usage : total, "pool", json_string(l->pool));
	if (usage)
		json_array_append(l->usage, usage);
	else if (total)
		json_array_append(l->pools, total);
}

static void count_in(struct usage_list *l, const char *source, const char *snapshot)
{
	struct pool_ref ref;
	struct client *client = nvfs_connect(source, 0, &ref);
	json_t *request = json_object();

	if (ref.subvolume)
		json_object_set_new(request, "subvolume", json_string(ref.subvolume));
	if (snapshot)
		nvfs_set_name(request, "snapshot", "snapshot", snapshot);
	l->pool = ref.pool;
	json_decref(nvfs_call_on(client, source, "du", request));
	take_lines(client, source, "counting", take_usage, l);
	client_close(client);
	pool_ref_free(&ref);
}

static int count_pool(const char *pool, void *arg)
{
	count_in(arg, pool, NULL);
	return 0;
}

static void size_cell(struct table *t, const json_t *usage, const char *key)
{
	char text[SIZE_TEXT_MAX];

	table_cell(t, "%s", size_text(json_u64(usage, key), text, sizeof(text)));
}

static void print_usage(const json_t *all)
{
	struct table *t = table_new("NAME >REFERENCED >STORED >EXCLUSIVE >SHARED >COMPRESSED >DOUBLE");
	const json_t *u;
	size_t i;

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	json_array_foreach(all, i, u) {
		const char *snapshot = json_text(u, "snapshot");

		table_cell(t, "%s:%s%s%s", json_text(u, "pool"), json_text(u, "subvolume"), *snapshot ? "@" : "", snapshot);
		size_cell(t, u, "referenced_bytes");
		size_cell(t, u, "stored_bytes");
		size_cell(t, u, "exclusive_bytes");
		size_cell(t, u, "shared_bytes");
		size_cell(t, u, "saved_by_compression_bytes");
		size_cell(t, u, "saved_by_sharing_bytes");
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static void print_pool(const json_t *p)
{
	char held[SIZE_TEXT_MAX], all[SIZE_TEXT_MAX], free_text[SIZE_TEXT_MAX], text[SIZE_TEXT_MAX], leaving[SIZE_TEXT_MAX];

	printf("%s: %s of %s stored, %s free; compression saves %s, ", json_text(p, "pool"),
	       size_text(json_u64(p, "held_bytes"), held, sizeof(held)), size_text(json_u64(p, "data_bytes"), all, sizeof(all)),
	       size_text(json_u64(p, "free_bytes"), free_text, sizeof(free_text)),
	       size_text(json_u64(p, "saved_by_compression_bytes"), text, sizeof(text)));
	printf("sharing %s", size_text(json_u64(p, "saved_by_sharing_bytes"), text, sizeof(text)));
	if (json_u64(p, "leaving_bytes"))
		printf("; %s of it nobody has any more, and comes back", size_text(json_u64(p, "leaving_bytes"), leaving, sizeof(leaving)));
	putchar('\n');
}

static int cmd_du(const struct nvfs_args *a)
{
	struct usage_list l = {.usage = json_array(), .pools = json_array()};
	json_t *both;
	const json_t *p;
	size_t i;

	if (a->count) {
		struct snapshot_arg arg = snapshot_arg_split(a->words[0]);

		count_in(&l, arg.source, arg.snapshot);
		snapshot_arg_free(&arg);
	} else {
		nvfs_each_pool(count_pool, &l);
	}
	both = json_pack("{s:o,s:o}", "usage", l.usage, "pools", l.pools);
	if (a->json) {
		print_json(both);
	} else {
		print_usage(l.usage);
		json_array_foreach(l.pools, i, p)
			print_pool(p);
	}
	json_decref(both);
	return EXIT_OK;
}

const struct nvfs_command usage_commands[] = {
	{.group = "du", .run = cmd_du, .min = 0, .max = 1, .args = "[POOL[:VOL[@SNAP]]]",
	 .help = "what each stores, and deleting it would free",
	 .more = "REFERENCED is visible in it; STORED on devices; EXCLUSIVE what deleting it, and\n"
		 "only it, gives back; SHARED what others have, too. COMPRESSED and DOUBLE\n"
		 "(files that share blocks) is what it would take besides.",
	 .examples = "nvfs du tank\n"
		     "nvfs du tank:web --json | jq '.usage[].exclusive_bytes'"},
	{.group = NULL},
};
