/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "io/size.h"
#include "io/visible.h"
#include "meta/records.h"

int nvfs_exit_code(int err)
{
	switch (err) {
	case -ESRCH:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ESHUTDOWN:
	case -ETIMEDOUT:
		return EXIT_NOT_SERVED;
	case -ENOENT:
		return EXIT_NOT_FOUND;
	case -ENOSPC:
	case -EDQUOT:
		return EXIT_NO_SPACE;
	case -EBUSY:
	case -EALREADY:
	case -ENOTEMPTY:
		return EXIT_BUSY;
	case -EEXIST:
		return EXIT_EXISTS;
	case -EPERM:
	case -EACCES:
		return EXIT_PERMISSION;
	case -EINVAL:
	case -ENAMETOOLONG:
	case -EMSGSIZE:
	case -ERANGE:
		return EXIT_USAGE;
	default:
		return EXIT_REFUSED;
	}
}

void nvfs_set_name(json_t *object, const char *key, const char *what, const char *name)
{
	if (object_name_validate(name, strlen(name)))
		die(EXIT_USAGE, "\"%.80s\" cannot be the name of a %s: 1 to 255 of A-Z a-z 0-9 . _ -, not starting with . or -", name, what);
	json_object_set_new(object, key, json_string(name));
}

struct client *nvfs_connect(const char *source, int want_subvolume, struct pool_ref *ref)
{
	struct client *client;
	char why[512];
	int rc = pool_ref_parse(source, ref, why, sizeof(why));

	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (want_subvolume > 0 && !ref->subvolume)
		die(EXIT_USAGE, "\"%s\" names no subvolume; write %s:NAME", source, ref->pool);
	if (want_subvolume < 0 && ref->subvolume)
		die(EXIT_USAGE, "\"%s\" names a subvolume; this is about the whole pool: %s", source, ref->pool);
	rc = serve_connect(ref, NULL, &client, why, sizeof(why));
	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	return client;
}

json_t *nvfs_call_on(struct client *client, const char *source, const char *op, json_t *request)
{
	json_t *reply;
	int rc;

	if (!request)
		request = json_object();
	json_object_set_new(request, "op", json_string(op));
	rc = client_call(client, request, -1, &reply);
	if (rc)
		die(nvfs_exit_code(rc), "%s: %s", source, client_message(client));
	return reply;
}

json_t *nvfs_call(const char *source, const char *op, const char *subvolume_key, json_t *request)
{
	const int want = !subvolume_key ? -1 : !strcmp(subvolume_key, "name");
	struct pool_ref ref;
	struct client *client = nvfs_connect(source, want, &ref);
	json_t *reply;

	if (!request)
		request = json_object();
	if (subvolume_key && ref.subvolume)
		json_object_set_new(request, subvolume_key, json_string(ref.subvolume));
	reply = nvfs_call_on(client, source, op, request);
	client_close(client);
	pool_ref_free(&ref);
	return reply;
}

/* ---- What destroys ---- */

static json_t *with_dry_run(const json_t *request)
{
	json_t *dry = request ? json_deep_copy(request) : json_object();

	json_object_set_new(dry, "dry_run", json_true());
	return dry;
}

static void confirm(const struct nvfs_args *a, const char *source, const char *op, const char *subvolume_key, const json_t *request,
		    void (*print)(FILE *out, const json_t *reply))
{
	char name[NVFS_COMMAND_NAME_MAX];
	json_t *reply;

	if (!can_ask())
		die(EXIT_USAGE, "%s destroys, and nobody is there to be asked: give --yes, or --dry-run to see what would go",
		    nvfs_command_name(a->command, name, sizeof(name)));
	reply = nvfs_call(source, op, subvolume_key, with_dry_run(request));
	print(stderr, reply);
	json_decref(reply);
	if (!ask_yes("Go on?"))
		die(EXIT_REFUSED, "nothing was done");
}

json_t *nvfs_destroy(const struct nvfs_args *a, const char *source, const char *op, const char *subvolume_key, json_t *request,
		     void (*print)(FILE *out, const json_t *reply))
{
	json_t *reply;

	if (a->dry_run) {
		reply = nvfs_call(source, op, subvolume_key, with_dry_run(request));
		if (a->json)
			print_json(reply);
		else
			print(stdout, reply);
		json_decref(reply);
		json_decref(request);
		return NULL;
	}
	if (!a->yes)
		confirm(a, source, op, subvolume_key, request, print);
	return nvfs_call(source, op, subvolume_key, request);
}

void nvfs_print_kept(FILE *out, const json_t *object)
{
	const uint64_t kept = json_u64(object, "snapshots_kept");

	if (kept == 1)
		fputs("; its snapshot stays", out);
	else if (kept)
		fprintf(out, "; its %llu snapshots stay", (unsigned long long)kept);
}

void nvfs_print_would_delete(FILE *out, const json_t *reply)
{
	char size[SIZE_TEXT_MAX];
	const json_t *o;
	size_t i;

	json_array_foreach(json_object_get(reply, "would_delete"), i, o) {
		fprintf(out, "would delete %s ", json_text(o, "kind"));
		visible_print(out, json_text(o, "name"), strlen(json_text(o, "name")));
		if (json_object_get(o, "used_bytes"))
			fprintf(out, ": %s in %llu file%s", size_text(json_u64(o, "used_bytes"), size, sizeof(size)),
				(unsigned long long)json_u64(o, "used_inodes"), json_u64(o, "used_inodes") == 1 ? "" : "s");
		nvfs_print_kept(out, o);
		fputc('\n', out);
	}
	if (!json_array_size(json_object_get(reply, "would_delete")))
		fputs("nothing would be deleted\n", out);
}

/* What was deleted is so, but nobody knows when its space is back. */
static void check_sweeps(const json_t *reply)
{
	const int failed = (int)json_u64(reply, "failed"), error = (int)json_u64(reply, "sweep_error");

	if (failed || error)
		bar_clear();
	if (failed)
		die(EXIT_REFUSED, "it is deleted, but its space comes back only when the pool is started again: the pool failed (%s) and takes no "
		    "more writes; see nvfsd's log, check the devices, unmount, and nvfs pool stop and start it", strerror(failed));
	if (error == ENOSPC)
		die(EXIT_NO_SPACE, "it is deleted, but its space is not back: there is no room for metadata to take it apart; delete other snapshots, "
		    "subvolumes or files. nvfsd goes on by itself when there is room");
	if (error)
		die(EXIT_REFUSED, "it is deleted, but its space is not back: %s; nvfsd tries again every 30 seconds, see its log", strerror(error));
}

/* What is left to sweep can only be seen as blocks that are not free yet. */
bool nvfs_wait_for_sweeps(const char *source)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	struct pool_ref ref;
	struct client *client = nvfs_connect(source, 0, &ref);
	uint64_t left, most = 0;
	json_t *reply = NULL;
	int rc;

	while (!(rc = client_call(client, json_pack("{s:s}", "op", "sweeps"), -1, &reply))) {
		left = json_u64(reply, "sweeping_bytes");
		if (!json_u64(reply, "sweeps"))
			break;
		check_sweeps(reply);
		json_decref(reply);
		most = left > most ? left : most;
		if (bar_wanted())
			bar_draw("giving back", most - left, most);
		nanosleep(&pause, NULL);
	}
	bar_clear();
	if (rc == -EPERM)
		report("warning: it was not waited for any more: you own no tenant of this pool now");
	else if (rc)
		die(nvfs_exit_code(rc), "%s: %s", source, client_message(client));
	else
		json_decref(reply);
	client_close(client);
	pool_ref_free(&ref);
	return !rc;
}

/* ---- Several pools ---- */

json_t *nvfs_ask(const char *pool, const char *op, bool quiet)
{
	struct client *client = NULL;
	json_t *reply = NULL;
	int rc = client_connect(pool, &client);

	if (rc) {
		if (!quiet)
			report("pool %s: %s", pool, strerror(-rc));
		return NULL;
	}
	client_set_timeout(client, 10);
	if (client_call(client, json_pack("{s:s}", "op", op), -1, &reply)) {
		if (!quiet)
			report("pool %s: %s", pool, client_message(client));
		reply = NULL;
	}
	client_close(client);
	return reply;
}

void nvfs_each_pool(int (*fn)(const char *pool, void *arg), void *arg)
{
	int rc = client_each_pool(fn, arg);

	if (rc)
		die(EXIT_REFUSED, "the pools that are served cannot be listed: %s: %s", NVFS_RUN_DIR, strerror(-rc));
}

/* ---- Lists ---- */

struct listing {
	const char *op, *key;
	json_t *all;
	bool failed;
};

static void take_list(struct listing *l, const char *pool, json_t *reply)
{
	json_t *object;
	size_t i;

	json_array_foreach(json_object_get(reply, l->key), i, object) {
		json_object_set_new(object, "pool", json_string(pool));
		json_array_append(l->all, object);
	}
	json_decref(reply);
}

static int list_pool(const char *pool, void *arg)
{
	struct listing *l = arg;
	json_t *reply = nvfs_ask(pool, l->op, false);

	if (reply)
		take_list(l, pool, reply);
	else
		l->failed = true;
	return 0;
}

static void list_one(struct listing *l, const char *source, bool of_subvolume)
{
	json_t *request = json_object();
	struct pool_ref ref;
	struct client *client = nvfs_connect(source, of_subvolume ? 0 : -1, &ref);

	if (ref.subvolume)
		json_object_set_new(request, "subvolume", json_string(ref.subvolume));
	take_list(l, ref.pool, nvfs_call_on(client, source, l->op, request));
	client_close(client);
	pool_ref_free(&ref);
}

int nvfs_list(const struct nvfs_args *a, const char *op, const char *key, bool of_subvolume, void (*print)(const json_t *all))
{
	struct listing l = { .op = op, .key = key, .all = json_array() };

	if (a->count)
		list_one(&l, a->words[0], of_subvolume);
	else
		nvfs_each_pool(list_pool, &l);
	if (a->json)
		print_json(l.all);
	else
		print(l.all);
	json_decref(l.all);
	return l.failed ? EXIT_REFUSED : EXIT_OK;
}

const char *nvfs_mounted_text(const json_t *object)
{
	if (!json_is_true(json_object_get(object, "mounted")))
		return "-";
	return *json_text(object, "target") ? json_text(object, "target") : "yes";
}

static void dump_json(const json_t *value, size_t flags)
{
	errno = 0;
	if (json_dumpf(value, stdout, flags | JSON_PRESERVE_ORDER))
		die(EXIT_REFUSED, "the answer cannot be written as JSON%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
	putchar('\n');
}

void print_json(const json_t *value)
{
	dump_json(value, JSON_INDENT(2));
}

void print_json_line(const json_t *value)
{
	dump_json(value, JSON_COMPACT);
}

const char *nvfs_time_text(uint64_t ns, char *buf, size_t len)
{
	const time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;

	strftime(buf, len, "%Y-%m-%d %H:%M:%S", localtime_r(&seconds, &tm));
	return buf;
}

uint64_t json_u64(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}
