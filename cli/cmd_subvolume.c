/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/size.h"
#include "io/visible.h"

static const struct {
	const char *option, *key, *title;
	bool bytes;
} rates[] = {
	{"read-iops", "read_iops", "read iops", false},
	{"write-iops", "write_iops", "write iops", false},
	{"read-bps", "read_bps", "read bps", true},
	{"write-bps", "write_bps", "write bps", true},
};

/* Of the limits those that there are. */
static void print_rates(const json_t *sv)
{
	const json_t *limits = json_object_get(sv, "rates");
	char size[SIZE_TEXT_MAX];

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t rate = json_u64(limits, rates[i].key);

		if (rate && rates[i].bytes)
			printf("%-12s %s/s\n", rates[i].title, size_text(rate, size, sizeof(size)));
		else if (rate)
			printf("%-12s %llu/s\n", rates[i].title, (unsigned long long)rate);
	}
}

static void print_one(const json_t *sv)
{
	char size[SIZE_TEXT_MAX], used[SIZE_TEXT_MAX], when[NVFS_TIME_TEXT];

	printf("name         %s\n", json_text(sv, "name"));
	printf("tenant       %s\n", json_text(sv, "tenant"));
	printf("size         %s\n", size_text(json_u64(sv, "size_bytes"), size, sizeof(size)));
	printf("used         %s\n", size_text(json_u64(sv, "used_bytes"), used, sizeof(used)));
	printf("inodes       %llu of %llu\n", (unsigned long long)json_u64(sv, "used_inodes"),
	       (unsigned long long)json_u64(sv, "inodes"));
	printf("claim        %s\n", json_is_true(json_object_get(sv, "thin")) ? "thin" : "reserved");
	printf("compression  %s\n", json_text(sv, "compression"));
	printf("created      %s\n", nvfs_time_text(json_u64(sv, "created_ns"), when, sizeof(when)));
	print_rates(sv);
	fputs("mounted      ", stdout);
	visible_print(stdout, nvfs_mounted_text(sv), strlen(nvfs_mounted_text(sv)));
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

	if (arg_given(a, "size"))
		json_object_set_new(request, "size_bytes", json_integer((json_int_t)arg_number(a, "size")));
	if (arg_given(a, "inodes"))
		json_object_set_new(request, "inodes", json_integer((json_int_t)arg_number(a, "inodes")));
	return request;
}

static int cmd_subvolume_create(const struct nvfs_args *a)
{
	json_t *request = limits(a);

	if (arg_given(a, "thin") && arg_given(a, "reserved"))
		die(EXIT_USAGE, "--thin or --reserved, not both");
	if (arg_given(a, "thin") || arg_given(a, "reserved"))
		json_object_set_new(request, "thin", json_boolean(arg_given(a, "thin")));
	if (arg_given(a, "tenant"))
		nvfs_set_name(request, "tenant", "tenant", arg_text(a, "tenant"));
	if (arg_given(a, "compression"))
		json_object_set_new(request, "compression", json_string(arg_text(a, "compression")));
	return show(a, nvfs_call(a->words[0], "subvolume.create", "name", request));
}

static int cmd_subvolume_show(const struct nvfs_args *a)
{
	return show(a, nvfs_call(a->words[0], "subvolume.show", "name", NULL));
}

static int cmd_subvolume_resize(const struct nvfs_args *a)
{
	if (!arg_given(a, "size") && !arg_given(a, "inodes"))
		die(EXIT_USAGE, "say what to change: --size 10G or --inodes N or both");
	return show(a, nvfs_call(a->words[0], "subvolume.resize", "name", limits(a)));
}

static int cmd_subvolume_set(const struct nvfs_args *a)
{
	json_t *request = json_object();

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		if (arg_given(a, rates[i].option))
			json_object_set_new(request, rates[i].key, json_integer((json_int_t)arg_number(a, rates[i].option)));
	if (!json_object_size(request))
		die(EXIT_USAGE, "say what to change: --read-iops, --write-iops, --read-bps or --write-bps");
	return show(a, nvfs_call(a->words[0], "subvolume.set", "name", request));
}

static int cmd_subvolume_delete(const struct nvfs_args *a)
{
	json_t *reply = nvfs_destroy(a, a->words[0], "subvolume.delete", "name", NULL, nvfs_print_would_delete);
	bool waited;

	if (!reply)
		return EXIT_OK;
	waited = a->wait && nvfs_wait_for_sweeps(a->words[0]);
	if (a->json) {
		print_json(reply);
	} else {
		printf("deleted %s%s", a->words[0], waited ? "; its space is back" : "; its space comes back in the background");
		nvfs_print_kept(stdout, reply);
		putchar('\n');
	}
	json_decref(reply);
	return EXIT_OK;
}

/* ---- list ---- */

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
		table_colour(t, u >= s ? COLOUR_RED : u >= s / 10 * 9 ? COLOUR_YELLOW : COLOUR_NONE);
		table_cell(t, "%llu", (unsigned long long)json_u64(sv, "inodes"));
		table_cell(t, "%llu", (unsigned long long)json_u64(sv, "used_inodes"));
		table_cell(t, "%s", nvfs_mounted_text(sv));
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static int cmd_subvolume_list(const struct nvfs_args *a)
{
	return nvfs_list(a, "subvolume.list", "subvolumes", false, print_list);
}

static const struct nvfs_option create_options[] = {
	{"size", OPTION_SIZE, "SIZE", "how large it may become", 's'},
	{"tenant", OPTION_TEXT, "TENANT", "whose it is, and counts for; by default \"default\"", 0},
	{"inodes", OPTION_NUMBER, "N", "how many files; by default one for each 16 KiB", 'N'},
	{"thin", OPTION_FLAG, NULL, "reserve nothing: share what the pool has left", 0},
	{"reserved", OPTION_FLAG, NULL, "reserve its size, whatever its tenant's default is", 0},
	{"compression", OPTION_CHOICE, "off|lz4", "compress where that pays", 0},
	{.name = NULL},
};

static const struct nvfs_option set_options[] = {
	{"read-iops", OPTION_NUMBER_OR_NONE, "N", "reads and lookups a second, or none", 0},
	{"write-iops", OPTION_NUMBER_OR_NONE, "N", "writes and changes of names a second, or none", 0},
	{"read-bps", OPTION_SIZE_OR_NONE, "SIZE", "bytes read a second, or none", 0},
	{"write-bps", OPTION_SIZE_OR_NONE, "SIZE", "bytes written a second, or none", 0},
	{.name = NULL},
};

static const struct nvfs_option resize_options[] = {
	{"size", OPTION_SIZE, "SIZE", "how large it may become", 's'},
	{"inodes", OPTION_NUMBER, "N", "how many files, directories counted", 'N'},
	{.name = NULL},
};

const struct nvfs_command subvolume_commands[] = {
	{.group = "subvolume", .verb = "create", .run = cmd_subvolume_create, .min = 1, .max = 1, .args = "POOL:NEW",
	 .options = create_options, .help = "make an empty subvolume",
	 .more = "Its size is reserved, so that it can be filled whatever others do;\n"
		 "with --thin it shares what the pool has left.",
	 .examples = "nvfs subvolume create tank:web --size 2G\n"
		     "nvfs subvolume create tank:logs --size 10G --thin --compression lz4\n"
		     "nvfs subvolume create tank:db --size 20G --tenant red"},
	{.group = "subvolume", .verb = "list", .run = cmd_subvolume_list, .min = 0, .max = 1, .args = "[POOL]",
	 .help = "sizes and use of all",
	 .examples = "nvfs subvolume list\n"
		     "nvfs subvolume list tank --json | jq -r '.[] | select(.mounted) | .name'"},
	{.group = "subvolume", .verb = "show", .run = cmd_subvolume_show, .min = 1, .max = 1, .args = "POOL:VOL",
	 .help = "all about one",
	 .examples = "nvfs subvolume show tank:web"},
	{.group = "subvolume", .verb = "resize", .run = cmd_subvolume_resize, .min = 1, .max = 1, .args = "POOL:VOL",
	 .options = resize_options, .help = "change its limits, mounted or not",
	 .more = "Below what is used it is refused.",
	 .examples = "nvfs subvolume resize tank:web --size 4G\n"
		     "nvfs subvolume resize tank:web --inodes 1000000"},
	{.group = "subvolume", .verb = "set", .run = cmd_subvolume_set, .min = 1, .max = 1, .args = "POOL:VOL",
	 .options = set_options, .help = "limit its operations and bytes a second",
	 .more = "At once, for requests too that wait already. Its tenant's limits count besides.",
	 .examples = "nvfs subvolume set tank:web --write-iops 500 --write-bps 20M\n"
		     "nvfs subvolume set tank:web --write-bps none"},
	{.group = "subvolume", .verb = "delete", .run = cmd_subvolume_delete, .min = 1, .max = 1, .args = "POOL:VOL",
	 .flags = NVFS_DESTROYS | NVFS_LONG, .help = "delete it and all that is in it",
	 .more = "Not while it is mounted. Its space comes back in the background; its snapshots\n"
		 "stay, can be mounted and cloned, and are charged, until each is deleted.\n"
		 "A person is asked; a script has to give --yes.",
	 .examples = "nvfs subvolume delete tank:web\n"
		     "nvfs subvolume delete tank:web --dry-run\n"
		     "nvfs subvolume delete tank:web --yes --wait"},
	{.group = NULL},
};
