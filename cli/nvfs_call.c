/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/nvfs.h"
#include "cli/report.h"

int nvfs_exit_code(int err)
{
	switch (err) {
	case -ESRCH:
	case -ECONNREFUSED:
		return EXIT_NOT_SERVED;
	case -ENOENT:
		return EXIT_NOT_FOUND;
	case -ENOSPC:
	case -EDQUOT:
		return EXIT_NO_SPACE;
	case -EBUSY:
		return EXIT_BUSY;
	case -EINVAL:
		return EXIT_USAGE;
	default:
		return EXIT_REFUSED;
	}
}

json_t *nvfs_call(const char *source, const char *op, const char *subvolume_key, json_t *request)
{
	struct client *client;
	struct pool_ref ref;
	char why[512];
	json_t *reply;
	int rc = pool_ref_parse(source, &ref, why, sizeof(why));

	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (subvolume_key && strcmp(subvolume_key, "name") == 0 && !ref.subvolume)
		die(EXIT_USAGE, "\"%s\" names no subvolume; write %s:NAME", source, ref.pool);
	if (!subvolume_key && ref.subvolume)
		die(EXIT_USAGE, "\"%s\" names a subvolume; this is about the whole pool: %s", source, ref.pool);
	rc = serve_connect(&ref, NULL, &client, why, sizeof(why));
	if (rc)
		die(nvfs_exit_code(rc), "%s", why);
	if (!request)
		request = json_object();
	json_object_set_new(request, "op", json_string(op));
	if (subvolume_key && ref.subvolume)
		json_object_set_new(request, subvolume_key, json_string(ref.subvolume));
	rc = client_call(client, request, -1, &reply);
	if (rc)
		die(nvfs_exit_code(rc), "%s: %s", source, client_message(client));
	client_close(client);
	pool_ref_free(&ref);
	return reply;
}

json_t *nvfs_ask(const char *pool, const char *op)
{
	struct client *client = NULL;
	json_t *reply = NULL;
	int rc = client_connect(pool, &client);

	if (rc) {
		report("pool %s: %s", pool, strerror(-rc));
		return NULL;
	}
	client_set_timeout(client, 10);
	if (client_call(client, json_pack("{s:s}", "op", op), -1, &reply)) {
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

void print_json(const json_t *value)
{
	errno = 0;
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER))
		die(EXIT_REFUSED, "the answer cannot be written as JSON%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
	putchar('\n');
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
