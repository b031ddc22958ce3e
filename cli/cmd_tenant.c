/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/nvfs.h"
#include "cli/report.h"
#include "cli/table.h"
#include "io/size.h"
#include "io/visible.h"

#define OWNERS_MAX 32

/* ---- POOL/TENANT ---- */

/* At the last slash: the pool may be a path. */
struct tenant_arg {
	char *pool, *name;
};

static struct tenant_arg split_tenant(const char *word)
{
	struct tenant_arg arg = {.pool = strdup(word)};
	char *slash = arg.pool ? strrchr(arg.pool, '/') : NULL;

	if (!arg.pool)
		die(EXIT_REFUSED, "out of memory");
	if (!slash || slash == arg.pool || !slash[1])
		die(EXIT_USAGE, "\"%s\" names no tenant; write POOL/TENANT", word);
	*slash = '\0';
	if (strchr(arg.pool, '/') && access(arg.pool, F_OK) && errno == ENOENT)
		die(EXIT_NOT_FOUND, "\"%s\" names no tenant: there is no file %s, and no name has a slash; write POOL/TENANT", word, arg.pool);
	arg.name = slash + 1;
	return arg;
}

static json_t *with_name(const struct tenant_arg *arg, json_t *request)
{
	if (!request)
		request = json_object();
	nvfs_set_name(request, "name", "tenant", arg->name);
	return request;
}

/* ---- What is wanted ---- */

static const struct limit {
	const char *option, *key, *title;
	bool bytes;
	const char *use; /* key of what there is of it, or NULL */
} limits[] = {
	{"used", "used_bytes", "used", true, "used_bytes"},
	{"provisioned", "provisioned_bytes", "provisioned", true, "provisioned_bytes"},
	{"inodes", "inodes", "inodes", false, "inodes"},
	{"subvolumes", "subvolumes", "subvolumes", false, "subvolumes"},
	{"snapshots", "snapshots", "snapshots", false, "snapshots"},
	{"read-iops", "read_iops", "read iops", false, NULL},
	{"write-iops", "write_iops", "write iops", false, NULL},
	{"read-bps", "read_bps", "read bps", true, NULL},
	{"write-bps", "write_bps", "write bps", true, NULL},
	{"soft", "soft_bytes", "soft limit", true, NULL},
};

#define LIMITS (sizeof(limits) / sizeof(limits[0]))

/* "7d", "12h", "30m", "45s", or seconds. */
static json_int_t parse_grace(const char *text)
{
	static const struct {
		char unit;
		unsigned seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'\0', 1}};
	char *end;
	unsigned long long n;

	errno = 0;
	n = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
	for (size_t i = 0; n && !errno && i < sizeof(units) / sizeof(units[0]); i++)
		if (*end == units[i].unit && (!*end || !end[1]) && n <= UINT32_MAX / units[i].seconds)
			return (json_int_t)(n * units[i].seconds);
	die(EXIT_USAGE, "--grace %s is no time; write one like 7d, 12h, 30m or 45s", text);
}

static json_t *wanted_limits(const struct nvfs_args *a)
{
	json_t *object = json_object();

	for (size_t i = 0; i < LIMITS; i++)
		if (arg_given(a, limits[i].option))
			json_object_set_new(object, limits[i].key, json_integer((json_int_t)arg_number(a, limits[i].option)));
	if (arg_given(a, "grace"))
		json_object_set_new(object, "grace_s", json_integer(parse_grace(arg_text(a, "grace"))));
	return object;
}

static json_t *wanted_defaults(const struct nvfs_args *a)
{
	const char *claim = arg_text(a, "default-claim"), *compression = arg_text(a, "default-compression");
	json_t *object = json_object();

	if (arg_given(a, "default-size"))
		json_object_set_new(object, "size_bytes", json_integer((json_int_t)arg_number(a, "default-size")));
	if (arg_given(a, "default-inodes"))
		json_object_set_new(object, "inodes", json_integer((json_int_t)arg_number(a, "default-inodes")));
	if (claim)
		json_object_set_new(object, "thin", !strcmp(claim, "none") ? json_null() : json_boolean(!strcmp(claim, "thin")));
	if (compression)
		json_object_set_new(object, "compression", !strcmp(compression, "none") ? json_null() : json_string(compression));
	return object;
}

static bool user_id(const char *name, uint64_t *id)
{
	const struct passwd *p = getpwnam(name);

	if (p)
		*id = p->pw_uid;
	return p != NULL;
}

static bool group_id(const char *name, uint64_t *id)
{
	const struct group *g = getgrnam(name);

	if (g)
		*id = g->gr_gid;
	return g != NULL;
}

/* "alice,1001", or "none". */
static json_t *parse_owners(const char *option, const char *text, bool (*lookup)(const char *name, uint64_t *id))
{
	char *list = strdup(text), *save = NULL;
	json_t *array = json_array();
	uint64_t id;

	if (!list || !array)
		die(EXIT_REFUSED, "out of memory");
	if (strcmp(list, "none"))
		for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
			if ((number_parse(name, &id) && !lookup(name, &id)) || id >= UINT32_MAX)
				die(EXIT_USAGE, "--%s: %s is neither known here nor a number", option, name);
			json_array_append_new(array, json_integer((json_int_t)id));
		}
	if (!json_array_size(array) && strcmp(text, "none"))
		die(EXIT_USAGE, "--%s \"%s\" is empty; write numbers or names with commas, or none", option, text);
	if (json_array_size(array) > OWNERS_MAX)
		die(EXIT_USAGE, "--%s: at most %d; a group may have any number of members", option, OWNERS_MAX);
	free(list);
	return array;
}

static void set_if_any(json_t *request, const char *key, json_t *object)
{
	if (json_object_size(object))
		json_object_set(request, key, object);
	json_decref(object);
}

static json_t *wanted(const struct nvfs_args *a)
{
	json_t *request = json_object();

	set_if_any(request, "limits", wanted_limits(a));
	set_if_any(request, "defaults", wanted_defaults(a));
	if (arg_given(a, "owner-uid"))
		json_object_set_new(request, "owner_uids", parse_owners("owner-uid", arg_text(a, "owner-uid"), user_id));
	if (arg_given(a, "owner-gid"))
		json_object_set_new(request, "owner_gids", parse_owners("owner-gid", arg_text(a, "owner-gid"), group_id));
	return request;
}

/* ---- Print ---- */

static const char *amount(uint64_t n, bool bytes, char *buf, size_t len)
{
	if (bytes)
		return size_text(n, buf, len);
	snprintf(buf, len, "%llu", (unsigned long long)n);
	return buf;
}

static const char *span_text(uint64_t s, char *buf, size_t len)
{
	if (s % 86400 == 0)
		snprintf(buf, len, "%llud", (unsigned long long)(s / 86400));
	else if (s % 3600 == 0)
		snprintf(buf, len, "%lluh", (unsigned long long)(s / 3600));
	else if (s % 60 == 0)
		snprintf(buf, len, "%llum", (unsigned long long)(s / 60));
	else
		snprintf(buf, len, "%llus", (unsigned long long)s);
	return buf;
}

static void print_soft(const json_t *t)
{
	const json_t *limit = json_object_get(t, "limits");
	const uint64_t since = json_u64(t, "soft_since_ns"), grace = json_u64(limit, "grace_s");
	char size[SIZE_TEXT_MAX], span[32], when[NVFS_TIME_TEXT];

	if (!json_u64(limit, "soft_bytes"))
		return;
	printf("%-14s%s, for at most %s above it\n", "soft limit", size_text(json_u64(limit, "soft_bytes"), size, sizeof(size)),
	       span_text(grace, span, sizeof(span)));
	if (since)
		printf("%-14ssince %s", "", nvfs_time_text(since, when, sizeof(when)));
	if (since)
		printf(" above it; nothing grows %s %s\n", since / 1000000000 + grace > (uint64_t)time(NULL) ? "from" : "since",
		       nvfs_time_text(since + grace * 1000000000, when, sizeof(when)));
}

/* With who waited for it, if anybody did. */
static void print_rate(const json_t *t, const struct limit *l, uint64_t limit)
{
	const json_t *by = json_object_get(json_object_get(t, "throttled_by"), "tenant"), *held = json_object_get(by, l->key);
	char text[SIZE_TEXT_MAX];

	printf("%-14s%s/s", l->title, amount(limit, l->bytes, text, sizeof(text)));
	if (json_u64(held, "ops"))
		printf("; %llu requests waited %.1f s for it", (unsigned long long)json_u64(held, "ops"), (double)json_u64(held, "ns") / 1e9);
	putchar('\n');
}

/* What there is, and of how much; a rate only if it is limited. */
static void print_limit(const json_t *t, const struct limit *l)
{
	const uint64_t limit = json_u64(json_object_get(t, "limits"), l->key);
	const uint64_t use = l->use ? json_u64(json_object_get(t, "use"), l->use) : 0;
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

	if (l->use && limit)
		printf("%-14s%s of %s\n", l->title, amount(use, l->bytes, a, sizeof(a)), amount(limit, l->bytes, b, sizeof(b)));
	else if (l->use)
		printf("%-14s%s\n", l->title, amount(use, l->bytes, a, sizeof(a)));
	else if (limit)
		print_rate(t, l, limit);
}

static void print_defaults(const json_t *t)
{
	const json_t *d = json_object_get(t, "defaults"), *thin = json_object_get(d, "thin");
	const char *compression = json_text(d, "compression"), *comma = "";
	char size[SIZE_TEXT_MAX];

	if (!json_u64(d, "size_bytes") && !json_u64(d, "inodes") && !json_is_boolean(thin) && !*compression)
		return;
	printf("%-14s", "new ones get");
	if (json_u64(d, "size_bytes"))
		printf("%s", size_text(json_u64(d, "size_bytes"), size, sizeof(size))), comma = ", ";
	if (json_u64(d, "inodes"))
		printf("%s%llu inodes", comma, (unsigned long long)json_u64(d, "inodes")), comma = ", ";
	if (json_is_boolean(thin))
		printf("%s%s", comma, json_is_true(thin) ? "thin" : "reserved"), comma = ", ";
	if (*compression)
		printf("%scompression %s", comma, compression);
	putchar('\n');
}

static void print_owners(const char *title, const json_t *ids)
{
	const json_t *id;
	size_t i;

	if (!json_array_size(ids))
		return;
	printf("%-14s", title);
	json_array_foreach(ids, i, id)
		printf("%s%lld", i ? ", " : "", (long long)json_integer_value(id));
	putchar('\n');
}

static void print_one(const json_t *t)
{
	char when[NVFS_TIME_TEXT];

	printf("%-14s%s\n", "name", json_text(t, "name"));
	for (size_t i = 0; i < LIMITS; i++)
		if (strcmp(limits[i].option, "soft"))
			print_limit(t, &limits[i]);
	print_soft(t);
	print_defaults(t);
	print_owners("owner uids", json_object_get(t, "owner_uids"));
	print_owners("owner gids", json_object_get(t, "owner_gids"));
	if (json_u64(t, "created_ns"))
		printf("%-14s%s\n", "created", nvfs_time_text(json_u64(t, "created_ns"), when, sizeof(when)));
}

/* What was allowed and has to be said is no part of the table. */
static int show(const struct nvfs_args *a, json_t *reply)
{
	json_t *tenant = json_object_get(reply, "tenant");

	if (*json_text(reply, "note"))
		report("%s", json_text(reply, "note"));
	if (a->json && *json_text(reply, "note"))
		json_object_set(tenant, "note", json_object_get(reply, "note"));
	if (a->json)
		print_json(tenant);
	else
		print_one(tenant);
	json_decref(reply);
	return EXIT_OK;
}

/* ---- Commands ---- */

static int call_and_show(const struct nvfs_args *a, const char *op, json_t *request)
{
	struct tenant_arg arg = split_tenant(a->words[0]);
	json_t *reply = nvfs_call(arg.pool, op, NULL, with_name(&arg, request));

	free(arg.pool);
	return show(a, reply);
}

static int cmd_tenant_create(const struct nvfs_args *a)
{
	return call_and_show(a, "tenant.create", wanted(a));
}

static int cmd_tenant_show(const struct nvfs_args *a)
{
	return call_and_show(a, "tenant.show", NULL);
}

static int cmd_tenant_set(const struct nvfs_args *a)
{
	json_t *request = wanted(a);

	if (!json_object_size(request))
		die(EXIT_USAGE, "say what to change: --used 100G, --soft none, --owner-uid alice, ...; nvfs tenant set --help lists all");
	return call_and_show(a, "tenant.set", request);
}

static int cmd_tenant_delete(const struct nvfs_args *a)
{
	struct tenant_arg arg = split_tenant(a->words[0]);
	json_t *reply = nvfs_destroy(a, arg.pool, "tenant.delete", NULL, with_name(&arg, NULL), nvfs_print_would_delete);

	free(arg.pool);
	if (!reply)
		return EXIT_OK;
	if (a->json)
		print_json(reply);
	else
		printf("deleted %s\n", a->words[0]);
	json_decref(reply);
	return EXIT_OK;
}

/* ---- list ---- */

static void limit_cells(struct table *t, const json_t *tenant, const char *key, bool bytes)
{
	const uint64_t use = json_u64(json_object_get(tenant, "use"), key), limit = json_u64(json_object_get(tenant, "limits"), key);
	char text[SIZE_TEXT_MAX];

	table_cell(t, "%s", amount(use, bytes, text, sizeof(text)));
	table_colour(t, !limit || use < limit / 10 * 9 ? COLOUR_NONE : use >= limit ? COLOUR_RED : COLOUR_YELLOW);
	table_cell(t, "%s", limit ? amount(limit, bytes, text, sizeof(text)) : "-");
}

static void print_list(const json_t *all)
{
	struct table *t = table_new("NAME >USED >LIMIT >PROVISIONED >LIMIT >INODES >LIMIT >SUBVOLUMES >SNAPSHOTS SOFT");
	const json_t *tenant;
	size_t i;

	if (!t)
		die(EXIT_REFUSED, "out of memory");
	json_array_foreach(all, i, tenant) {
		const json_t *use = json_object_get(tenant, "use"), *limit = json_object_get(tenant, "limits");

		table_cell(t, "%s/%s", json_text(tenant, "pool"), json_text(tenant, "name"));
		limit_cells(t, tenant, "used_bytes", true);
		limit_cells(t, tenant, "provisioned_bytes", true);
		limit_cells(t, tenant, "inodes", false);
		table_cell(t, "%llu", (unsigned long long)json_u64(use, "subvolumes"));
		table_cell(t, "%llu", (unsigned long long)json_u64(use, "snapshots"));
		table_cell(t, "%s", !json_u64(limit, "soft_bytes") ? "-" : json_u64(tenant, "soft_since_ns") ? "above" : "below");
	}
	if (table_print(t, stdout))
		die(EXIT_REFUSED, "out of memory");
}

static int cmd_tenant_list(const struct nvfs_args *a)
{
	return nvfs_list(a, "tenant.list", "tenants", false, print_list);
}

static const struct nvfs_option options[] = {
	{"used", OPTION_SIZE_OR_NONE, "SIZE", "what all its subvolumes and snapshots hold", 0},
	{"soft", OPTION_SIZE_OR_NONE, "SIZE", "the same, for a while more is allowed", 0},
	{"grace", OPTION_TEXT, "TIME", "how long: 7d, 12h, 30m, 45s; by default 7d", 0},
	{"provisioned", OPTION_SIZE_OR_NONE, "SIZE", "sizes of its subvolumes together", 0},
	{"inodes", OPTION_NUMBER_OR_NONE, "N", "files and directories", 'N'},
	{"subvolumes", OPTION_NUMBER_OR_NONE, "N", "how many", 0},
	{"snapshots", OPTION_NUMBER_OR_NONE, "N", "how many", 0},
	{"read-iops", OPTION_NUMBER_OR_NONE, "N", "reads and lookups a second", 0},
	{"write-iops", OPTION_NUMBER_OR_NONE, "N", "writes and changes of names a second", 0},
	{"read-bps", OPTION_SIZE_OR_NONE, "SIZE", "bytes read a second", 0},
	{"write-bps", OPTION_SIZE_OR_NONE, "SIZE", "bytes written a second", 0},
	{"default-size", OPTION_SIZE_OR_NONE, "SIZE", "of new subvolumes", 0},
	{"default-inodes", OPTION_NUMBER_OR_NONE, "N", "of new subvolumes", 0},
	{"default-claim", OPTION_CHOICE, "thin|reserved|none", "of new subvolumes", 0},
	{"default-compression", OPTION_CHOICE, "off|lz4|none", "of new subvolumes", 0},
	{"owner-uid", OPTION_TEXT, "LIST", "users who may administer it, or none", 0},
	{"owner-gid", OPTION_TEXT, "LIST", "groups whose members may, or none", 0},
	{.name = NULL},
};

const struct nvfs_command tenant_commands[] = {
	{.group = "tenant", .verb = "create", .run = cmd_tenant_create, .min = 1, .max = 1, .args = "POOL/NEW",
	 .options = options, .help = "make an owner of subvolumes, with limits over all of them",
	 .more = "What is not limited is free. Its owners make, resize, snapshot and delete its\n"
		 "subvolumes themselves, and see nothing of other tenants.",
	 .examples = "nvfs tenant create tank/red --used 100G --subvolumes 20 --owner-uid alice\n"
		     "nvfs tenant create tank/blue --used 50G --soft 40G --grace 3d"},
	{.group = "tenant", .verb = "list", .run = cmd_tenant_list, .min = 0, .max = 1, .args = "[POOL]",
	 .help = "use and limits of all",
	 .examples = "nvfs tenant list tank"},
	{.group = "tenant", .verb = "show", .run = cmd_tenant_show, .min = 1, .max = 1, .args = "POOL/TENANT",
	 .help = "all about one",
	 .examples = "nvfs tenant show tank/red"},
	{.group = "tenant", .verb = "set", .run = cmd_tenant_set, .min = 1, .max = 1, .args = "POOL/TENANT",
	 .options = options, .help = "change limits, at once; \"none\" takes one away",
	 .more = "A limit below what is used is allowed: nothing of that grows until it is below.",
	 .examples = "nvfs tenant set tank/red --used 200G --write-iops 1000\n"
		     "nvfs tenant set tank/red --soft none --owner-uid alice,bob"},
	{.group = "tenant", .verb = "delete", .run = cmd_tenant_delete, .min = 1, .max = 1, .args = "POOL/TENANT",
	 .flags = NVFS_DESTROYS, .help = "delete one that has no subvolumes and snapshots",
	 .examples = "nvfs tenant delete tank/red"},
	{.group = NULL},
};
