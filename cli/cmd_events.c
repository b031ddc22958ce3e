/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"

static enum colour colour_of(const char *severity)
{
	return !strcmp(severity, "error") ? COLOUR_RED : !strcmp(severity, "warning") ? COLOUR_YELLOW : COLOUR_NONE;
}

/* With --json a line for each, so that a program can follow. */
static void print_event(const json_t *e, bool json)
{
	const char *subvolume = json_text(e, "subvolume");
	const char *tenant = strcmp(json_text(e, "tenant"), "default") ? json_text(e, "tenant") : "";
	char when[NVFS_TIME_TEXT];

	if (json) {
		print_json_line(e);
		return;
	}
	printf("%s  ", nvfs_time_text(json_u64(e, "time_ns"), when, sizeof(when)));
	colour_print(stdout, colour_of(json_text(e, "severity")), "%-7s", json_text(e, "severity"));
	printf("  %-20s  %s%s%s%s%s%s\n", json_text(e, "kind"), subvolume, *subvolume ? ": " : "", *tenant ? "tenant " : "", tenant,
	       *tenant ? ": " : "", json_text(e, "text"));
}

static void print_lost(uint64_t lost, bool json)
{
	if (lost && json)
		printf("{\"lost\":%" PRIu64 "}\n", lost);
	else if (lost)
		printf("%" PRIu64 " events are not kept any more\n", lost);
}

static void print_line(const json_t *line, bool json)
{
	const json_t *event = json_object_get(line, "event");

	print_lost(json_u64(line, "lost"), json);
	if (event)
		print_event(event, json);
}

/* Until the daemon ends, or whoever reads us. */
static int follow(struct client *client, const char *source, bool json)
{
	json_t *line;
	int rc;

	for (;;) {
		if (fflush(stdout))
			die(EXIT_REFUSED, "the events cannot be written: %s", strerror(errno));
		rc = client_next(client, &line);
		if (rc)
			die(nvfs_exit_code(rc), "%s: %s", source, client_message(client));
		print_line(line, json);
		json_decref(line);
	}
}

static int cmd_events(const struct nvfs_args *a)
{
	const bool following = arg_given(a, "follow");
	struct pool_ref ref;
	struct client *client = nvfs_connect(a->words[0], -1, &ref);
	json_t *reply, *request = json_pack("{s:I,s:b}", "since", (json_int_t)arg_number(a, "since"), "follow", following);
	const json_t *e;
	size_t i;

	reply = nvfs_call_on(client, a->words[0], "events", request);
	print_lost(json_u64(reply, "lost"), a->json);
	json_array_foreach(json_object_get(reply, "events"), i, e)
		print_event(e, a->json);
	json_decref(reply);
	if (following)
		return follow(client, a->words[0], a->json);
	client_close(client);
	pool_ref_free(&ref);
	return EXIT_OK;
}

static const struct nvfs_option events_options[] = {
	{"follow", OPTION_FLAG, NULL, "go on as they come", 0},
	{"since", OPTION_NUMBER, "NUMBER", "only those after this one", 0},
	{.name = NULL},
};

const struct nvfs_command events_commands[] = {
	{.group = "events", .run = cmd_events, .min = 1, .max = 1, .args = "POOL", .options = events_options,
	 .help = "what happened in a pool lately",
	 .more = "The last 1,000 since its daemon started: mounts, errors of checksums and of\n"
		 "devices, limits that were reached. With --json one object a line.",
	 .examples = "nvfs events tank\n"
		     "nvfs events tank --follow --json | jq -r 'select(.severity == \"error\").text'"},
	{.group = NULL},
};
