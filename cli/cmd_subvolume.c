/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/size.h"
#include "io/visible.h"

static const char *mounted_text(const json_t *sv)
{
	if (!json_is_true(json_object_get(sv, "mounted")))
		return "-";
	return *json_text(sv, "target") ? json_text(sv, "target") : "yes";
}

static void print_one(const json_t *sv)
{
	char size[SIZE_TEXT_MAX], used[SIZE_TEXT_MAX], when[64];
	time_t created = (time_t)(json_u64(sv, "created_ns") / 1000000000);
	struct tm tm;

	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&created, &tm));
	printf("name         %s\n", json_text(sv, "name"));
	printf("size         %s\n", size_text(json_u64(sv, "size_bytes"), size, sizeof(size)));
	printf("used         %s\n", size_text(json_u64(sv, "used_bytes"), used, sizeof(used)));
	printf("inodes       %llu of %llu\n", (unsigned long long)json_u64(sv, "used_inodes"),
	       (unsigned long long)json_u64(sv, "inodes"));
	printf("claim        %s\n", json_is_true(json_object_get(sv, "thin")) ? "thin" : "reserved");
	printf("compression  %s\n", json_text(sv, "compression"));
	printf("created      %s\n", when);
	fputs("mounted      ", stdout);
	visible_print(stdout, mounted_text(sv), strlen(mounted_text(sv)));
	putchar('\n');
}

static int show(const struct nvfs_args *a, json_t *reply)
{
	json_t *sv = json_object_get(reply, "subvolume");

	if (a->json)
		print_json(sv);
	else
		print_one(sv);
	json_decref(reply);
	return EXIT_OK;
}

static json_t *limits(const struct nvfs_args *a)
{
	json_t *request = json_object();

	if (a->size_bytes)
		json_object_set_new(request, "size_bytes", json_integer((json_int_t)a->size_bytes));
	if (a->inodes)
		json_object_set_new(request, "inodes", json_integer((json_int_t)a->inodes));
	return request;
}

int cmd_subvolume_create(const struct nvfs_args *a)
{
	json_t *request = limits(a);

	if (!a->size_bytes)
		die(EXIT_USAGE, "say how large it may become: --size 10G");
	if (a->thin)
		json_object_set_new(request, "thin", json_true());
	if (a->compression)
		json_object_set_new(request, "compression", json_string(a->compression));
	return show(a, nvfs_call(a->words[0], "subvolume.create", "name", request));
}

int cmd_subvolume_show(const struct nvfs_args *a)
{
	return show(a, nvfs_call(a->words[0], "subvolume.show", "name", NULL));
}

int cmd_subvolume_resize(const struct nvfs_args *a)
{
	if (!a->size_bytes && !a->inodes)
		die(EXIT_USAGE, "say what to change: --size 10G or --inodes N or both");
	return show(a, nvfs_call(a->words[0], "subvolume.resize", "name", limits(a)));
}

int cmd_subvolume_delete(const struct nvfs_args *a)
{
	json_t *reply = nvfs_call(a->words[0], "subvolume.delete", "name", NULL);

	if (a->json)
		print_json(reply);
	else
		printf("deleted %s; its space comes back in the background\n", a->words[0]);
	json_decref(reply);
	return EXIT_OK;
}

/* ---- list ---- */

struct listing {
	json_t *all; /* of every pool: the subvolumes, with "pool" added */
	bool failed;
};

static void take_list(struct listing *l, const char *pool, json_t *reply)
{
	json_t *sv;
	size_t i;

	json_array_foreach(json_object_get(reply, "subvolumes"), i, sv) {
		json_object_set_new(sv, "pool", json_string(json_text(reply, "pool")[0] ? json_text(reply, "pool") : pool));
		json_array_append(l->all, sv);
	}
	json_decref(reply);
}

static int list_pool(const char *pool, void *arg)
{
	struct listing *l = arg;
	json_t *reply = nvfs_ask(pool, "subvolume.list");

	if (reply)
		take_list(l, pool, reply);
	else
		l->failed = true;
	return 0;
}

static void print_list(const json_t *all)
{
	struct table *t = table_new("NAME >SIZE >USED >USE% >INODES >IUSED MOUNTED");
	char size[SIZE_TEXT_MAX], used[SIZE_TEXT_MAX];
	const json_t *sv;
	size_t i;

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	json_array_foreach(all, i, sv) {
		uint64_t s = json_u64(sv, "size_bytes"), u = json_u64(sv, "used_bytes");

		table_cell(t, "%s:%s", json_text(sv, "pool"), json_text(sv, "name"));
		table_cell(t, "%s", size_text(s, size, sizeof(size)));
		table_cell(t, "%s", size_text(u, used, sizeof(used)));
		table_cell(t, "%.0f%%", s ? 100.0 * (double)u / (double)s : 0.0);
		table_cell(t, "%llu", (unsigned long long)json_u64(sv, "inodes"));
		table_cell(t, "%llu", (unsigned long long)json_u64(sv, "used_inodes"));
		table_cell(t, "%s", mounted_text(sv));
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

int cmd_subvolume_list(const struct nvfs_args *a)
{
	struct listing l = {.all = json_array()};

	if (a->count)
		take_list(&l, a->words[0], nvfs_call(a->words[0], "subvolume.list", NULL, NULL));
	else
		nvfs_each_pool(list_pool, &l);
	if (a->json)
		print_json(l.all);
	else
		print_list(l.all);
	json_decref(l.all);
	return l.failed ? EXIT_REFUSED : EXIT_OK;
}
