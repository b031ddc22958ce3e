/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/serve.h"

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

/* ---- Following ---- */

/* What was seen last, so that one who begins again neither misses nor repeats any. */
struct follower {
	const char *source;
	const struct pool_ref *ref;
	json_int_t since, opening; /* opening 0: it was not said yet */
	bool json;
};

static void take_event(struct follower *f, const json_t *e)
{
	f->since = (json_int_t)json_u64(e, "number");
	print_event(e, f->json);
}

static json_t *request_of(const struct follower *f, bool following)
{
	json_t *request = json_pack("{s:s,s:I,s:b}", "op", "events", "since", f->since, "follow", following);

	if (request && f->opening)
		json_object_set_new(request, "opening", json_integer(f->opening));
	return request;
}

static void take_reply(struct follower *f, json_t *reply)
{
	const json_t *e;
	size_t i;

	print_lost(json_u64(reply, "lost"), f->json);
	json_array_foreach(json_object_get(reply, "events"), i, e)
		take_event(f, e);
	f->since = (json_int_t)json_u64(reply, "last");
	f->opening = (json_int_t)json_u64(reply, "opening");
	json_decref(reply);
}

/* Whether it is worth another try: the daemon is not there, or is just going or coming. */
static bool may_come_back(int rc)
{
	return rc == -ESRCH || rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -ESHUTDOWN || rc == -EBUSY;
}

/* Waits half a second. Whoever reads us may be gone meanwhile, and nothing is written that would show it. */
static void pause_following(void)
{
	struct pollfd out = {.fd = STDOUT_FILENO};

	if (poll(&out, 1, 500) > 0)
		exit(EXIT_REFUSED);
}

/* What is asked for once it is served again. */
static struct client *begin_again(struct follower *f)
{
	struct client *client;
	json_t *reply;
	char why[512];
	int rc;

	for (;;) {
		pause_following();
		rc = serve_connect(f->ref, NULL, &client, why, sizeof(why));
		if (rc && !may_come_back(rc))
			die(nvfs_exit_code(rc), "%s", why);
		if (rc)
			continue;
		rc = client_call(client, request_of(f, true), -1, &reply);
		if (!rc)
			break;
		if (!may_come_back(rc))
			die(nvfs_exit_code(rc), "%s: %s", f->source, client_message(client));
		client_close(client);
	}
	if (json_is_true(json_object_get(reply, "restarted")))
		report("%s: nvfsd was started anew: what happened before that and was not shown is not kept", f->source);
	else
		report("%s: nvfsd is there again", f->source);
	take_reply(f, reply);
	return client;
}

/* Until whoever reads us ends, or the daemon says that it tells no more. */
static void follow(struct client *client, struct follower *f)
{
	const json_t *event;
	json_t *line;
	int rc;

	for (;;) {
		if (fflush(stdout))
			die(EXIT_REFUSED, "the events cannot be written: %s", strerror(errno));
		rc = client_next(client, &line);
		if (rc == -ECONNRESET) {
			client_close(client);
			report("%s: the connection to nvfsd ended; waiting until the pool is served again", f->source);
			client = begin_again(f);
			continue;
		}
		if (rc)
			die(nvfs_exit_code(rc), "%s: %s", f->source, client_message(client));
		if (json_is_true(json_object_get(line, "end")))
			die(nvfs_exit_code(-(int)json_u64(line, "errno")), "%s: %s", f->source, json_text(line, "message"));
		print_lost(json_u64(line, "lost"), f->json);
		event = json_object_get(line, "event");
		if (event)
			take_event(f, event);
		json_decref(line);
	}
}

static int cmd_events(const struct nvfs_args *a)
{
	const bool following = arg_given(a, "follow");
	struct pool_ref ref;
	struct client *client = nvfs_connect(a->words[0], -1, &ref);
	struct follower f = {.source = a->words[0], .ref = &ref, .since = (json_int_t)arg_number(a, "since"), .json = a->json};

	take_reply(&f, nvfs_call_on(client, a->words[0], "events", request_of(&f, following)));
	if (following)
		follow(client, &f);
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
		 "devices, limits that were reached. With --json one object a line.\n"
		 "--follow waits for a daemon that ends or is started anew, and says so.",
	 .examples = "nvfs events tank\n"
		     "nvfs events tank --follow --json | jq -r 'select(.severity == \"error\").text'"},
	{.group = NULL},
};
