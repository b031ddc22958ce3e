/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "fs/admin_internal.h"
#include "fs/server.h"
#include "io/log.h"
#include "meta/tenant.h"

/* ---- Numbers of a tenant, by their keys ---- */

#define LIMIT(field) offsetof(struct tenant_settings, limits.field)

static const struct number {
	const char *key;
	size_t at;           /* of a uint64_t in struct tenant_settings */
	unsigned field;      /* enum tenant_field */
	bool bytes;          /* in the request bytes, here blocks */
} limit_numbers[] = {
	{ "used_bytes", LIMIT(used_blocks), TENANT_USED, true },
	{ "provisioned_bytes", LIMIT(provisioned_blocks), TENANT_PROVISIONED, true },
	{ "inodes", LIMIT(inodes), TENANT_INODES, false },
	{ "subvolumes", LIMIT(subvolumes), TENANT_SUBVOLUMES, false },
	{ "snapshots", LIMIT(snapshots), TENANT_SNAPSHOTS, false },
	{ "read_iops", LIMIT(read_iops), TENANT_READ_IOPS, false },
	{ "write_iops", LIMIT(write_iops), TENANT_WRITE_IOPS, false },
	{ "read_bps", LIMIT(read_bytes_per_s), TENANT_READ_BYTES, false },
	{ "write_bps", LIMIT(write_bytes_per_s), TENANT_WRITE_BYTES, false },
	{ "soft_bytes", offsetof(struct tenant_settings, soft_blocks), TENANT_SOFT, true },
	{ NULL, 0, 0, false },
}, default_numbers[] = {
	{ "size_bytes", offsetof(struct tenant_settings, default_size_blocks), TENANT_DEFAULT_SIZE, true },
	{ "inodes", offsetof(struct tenant_settings, default_inodes), TENANT_DEFAULT_INODES, false },
	{ NULL, 0, 0, false },
};

static uint64_t *number_of(struct tenant_settings *set, const struct number *n)
{
	return (uint64_t *)((char *)set + n->at);
}

/* ---- Objects ---- */

static json_t *numbers_object(const struct tenant_settings *set, const struct number *numbers)
{
	json_t *object = json_object();

	for (const struct number *n = numbers; n->key; n++) {
		const uint64_t v = *number_of((struct tenant_settings *)set, n);

		json_object_set_new(object, n->key, json_integer(n->bytes ? BYTES(v) : (json_int_t)v));
	}
	return object;
}

static json_t *defaults_object(const struct tenant_settings *set)
{
	json_t *object = numbers_object(set, default_numbers);

	json_object_set_new(object, "thin", set->default_claim ? json_boolean(set->default_claim == TENANT_CLAIM_THIN) : json_null());
	json_object_set_new(object, "compression",
			    set->default_compression ? json_string(set->default_compression == TENANT_COMPRESSION_LZ4 ? "lz4" : "off")
						     : json_null());
	return object;
}

static json_t *ids_array(const uint32_t *ids, unsigned count)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(array, json_integer(ids[i]));
	return array;
}

static json_t *tenant_object(const struct tenant_info *info)
{
	const struct tenant_settings *set = &info->set;
	json_t *limits = numbers_object(set, limit_numbers), *object;

	json_object_set_new(limits, "grace_s", json_integer(set->grace_s));
	object = json_pack("{s:s,s:I,s:o,s:{s:I,s:I,s:I,s:I,s:I},s:o,s:o,s:o,s:I,s:I}", "name", info->name, "id", (json_int_t)info->id,
			 "limits", limits, "use", "used_bytes", BYTES(info->used_blocks), "provisioned_bytes",
			 BYTES(info->provisioned_blocks), "inodes", (json_int_t)info->used_inodes, "subvolumes",
			 (json_int_t)info->subvolumes, "snapshots", (json_int_t)info->snapshots, "defaults", defaults_object(set),
			 "owner_uids", ids_array(set->uids, set->uid_count), "owner_gids", ids_array(set->gids, set->gid_count),
			 "soft_since_ns", (json_int_t)info->soft_since_ns, "created_ns", (json_int_t)info->created_ns);
	if (object)
		admin_add_throttled(object, &info->throttled);
	return object;
}

static json_t *refused(int err, const char *why, const char *what, const char *name)
{
	if (why[0])
		return control_refuse(err, "%s", why);
	if (err == -ENOENT)
		return control_refuse(err, "there is no tenant %s; nvfs tenant list shows them", name);
	return control_refuse(err, "tenant %s cannot be %s: %s", name, what, strerror(-err));
}

/* note: "" or what was allowed and has to be said. */
static json_t *reply_tenant(struct admin_context *c, const char *name, const char *note)
{
	struct tenant_info info;
	int err = tenant_info(c->server->pool, name, &info);
	json_t *fields;

	if (err)
		return refused(err, "", "read", name);
	fields = json_pack("{s:o}", "tenant", tenant_object(&info));
	if (note[0])
		json_object_set_new(fields, "note", json_string(note));
	return admin_ok(fields);
}

/* ---- Requests ---- */

/* What a request says of a tenant. */
struct wanted {
	const char *name;
	struct tenant_settings set;
	unsigned fields;
};

static json_t *bad_key(const char *where, const char *key, const char *what)
{
	return control_refuse(EINVAL, "%s%s%s: %s", where, where[0] ? "." : "", key, what);
}

static const struct number *find_number(const struct number *numbers, const char *key)
{
	while (numbers->key && strcmp(numbers->key, key))
		numbers++;
	return numbers->key ? numbers : NULL;
}

/* NULL, or the refusal. */
static json_t *take_number(const char *where, const struct number *n, const json_t *value, struct wanted *w)
{
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value) || v < 0)
		return bad_key(where, n->key, "a whole number, 0 for none");
	/* A limit that is reached in the middle of a block is reached before it; a size is rounded up, as that of a subvolume. */
	*number_of(&w->set, n) = !n->bytes                         ? (uint64_t)v
				 : n->field == TENANT_DEFAULT_SIZE ? ((uint64_t)v + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE
				 : v && v < NVFS_BLOCK_SIZE        ? 1
								   : (uint64_t)v / NVFS_BLOCK_SIZE;
	w->fields |= n->field;
	return NULL;
}

static json_t *take_limits(const json_t *limits, struct wanted *w)
{
	const char *key;
	json_t *value, *bad = NULL;

	json_object_foreach((json_t *)limits, key, value) {
		const struct number *n = find_number(limit_numbers, key);

		if (n) {
			bad = take_number("limits", n, value, w);
		} else if (!strcmp(key, "grace_s")) {
			if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > UINT32_MAX)
				return bad_key("limits", key, "a number of seconds, at least 1");
			w->set.grace_s = (uint32_t)json_integer_value(value);
			w->fields |= TENANT_GRACE;
		} else {
			bad = bad_key("limits", key, "there is no such limit");
		}
		if (bad)
			return bad;
	}
	return NULL;
}

static json_t *take_defaults(const json_t *defaults, struct wanted *w)
{
	const char *key;
	json_t *value, *bad = NULL;

	json_object_foreach((json_t *)defaults, key, value) {
		const struct number *n = find_number(default_numbers, key);
		const char *text = json_string_value(value);

		if (n) {
			bad = take_number("defaults", n, value, w);
		} else if (!strcmp(key, "thin") && (json_is_boolean(value) || json_is_null(value))) {
			w->set.default_claim = json_is_null(value) ? TENANT_CLAIM_UNSAID
					       : json_is_true(value) ? TENANT_CLAIM_THIN : TENANT_CLAIM_RESERVED;
			w->fields |= TENANT_DEFAULT_CLAIM;
		} else if (!strcmp(key, "compression") && (json_is_null(value) || (text && (!strcmp(text, "off") || !strcmp(text, "lz4"))))) {
			w->set.default_compression = !text ? TENANT_COMPRESSION_UNSAID
						     : *text == 'l' ? TENANT_COMPRESSION_LZ4 : TENANT_COMPRESSION_OFF;
			w->fields |= TENANT_DEFAULT_COMPRESSION;
		} else {
			bad = bad_key("defaults", key, "there are size_bytes, inodes, thin (true, false, null) and compression "
						       "(\"off\", \"lz4\", null)");
		}
		if (bad)
			return bad;
	}
	return NULL;
}

static json_t *take_ids(const char *key, const json_t *array, uint32_t *ids, uint8_t *count)
{
	json_t *value;
	size_t i;

	if (!json_is_array(array) || json_array_size(array) > TENANT_OWNERS_MAX)
		return bad_key("", key, "an array of at most 32 numbers");
	json_array_foreach((json_t *)array, i, value) {
		if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= UINT32_MAX)
			return bad_key("", key, "numbers of users or groups");
		ids[i] = (uint32_t)json_integer_value(value);
	}
	*count = (uint8_t)json_array_size(array);
	return NULL;
}

/* NULL, or the refusal. */
static json_t *take_request(struct admin_context *c, struct wanted *w)
{
	json_t *limits = NULL, *defaults = NULL, *uids = NULL, *gids = NULL, *bad = NULL;
	json_error_t error;
	const char *op;

	memset(w, 0, sizeof(*w));
	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?o,s?o,s?o,s?o!}", "op", &op, "name", &w->name, "limits", &limits,
			   "defaults", &defaults, "owner_uids", &uids, "owner_gids", &gids))
		return admin_bad_request(&error);
	if ((limits && !json_is_object(limits)) || (defaults && !json_is_object(defaults)))
		return control_refuse(EINVAL, "limits and defaults are objects");
	if (limits)
		bad = take_limits(limits, w);
	if (!bad && defaults)
		bad = take_defaults(defaults, w);
	if (!bad && uids)
		bad = take_ids("owner_uids", uids, w->set.uids, &w->set.uid_count);
	if (!bad && gids)
		bad = take_ids("owner_gids", gids, w->set.gids, &w->set.gid_count);
	w->fields |= (uids ? TENANT_UIDS : 0) | (gids ? TENANT_GIDS : 0);
	return bad;
}

static json_t *create(struct admin_context *c)
{
	char why[1024] = "";
	struct wanted w;
	json_t *bad = take_request(c, &w);
	int err;

	if (bad)
		return bad;
	err = tenant_create(c->server->pool, w.name, &w.set, why, sizeof(why));
	if (err)
		return refused(err, why, "created", w.name);
	log_info("%s: tenant %s was created by user %u", pool_name(c->server->pool), w.name, (unsigned)c->peer->uid);
	admin_tell(c, EVENT_TENANT_CREATED, NULL, w.name, "created");
	return reply_tenant(c, w.name, "");
}

static json_t *set(struct admin_context *c)
{
	char why[1024] = "";
	struct wanted w;
	json_t *bad = take_request(c, &w);
	int err;

	if (bad)
		return bad;
	if (!w.fields)
		return control_refuse(EINVAL, "limits, defaults, owner_uids or owner_gids is needed: what shall change?");
	err = tenant_set(c->server->pool, w.name, &w.set, w.fields, why, sizeof(why));
	if (err)
		return refused(err, why, "changed", w.name);
	log_info("%s: tenant %s was changed by user %u%s%s", pool_name(c->server->pool), w.name, (unsigned)c->peer->uid,
		 why[0] ? ": " : "", why);
	admin_tell(c, EVENT_TENANT_CHANGED, NULL, w.name, "its settings were changed");
	return reply_tenant(c, w.name, why);
}

static json_t *show(struct admin_context *c)
{
	json_error_t error;
	const char *op, *name;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s!}", "op", &op, "name", &name))
		return admin_bad_request(&error);
	return reply_tenant(c, name, "");
}

static int add_tenant(const struct tenant_info *info, void *arg)
{
	return json_array_append_new(arg, tenant_object(info)) ? -ENOMEM : 0;
}

static json_t *list(struct admin_context *c)
{
	json_error_t error;
	const char *op;
	json_t *array;
	int err;

	if (json_unpack_ex(c->request, &error, 0, "{s:s!}", "op", &op))
		return admin_bad_request(&error);
	array = json_array();
	err = tenant_each(c->server->pool, add_tenant, array);
	if (!err)
		return admin_ok(json_pack("{s:o}", "tenants", array));
	json_decref(array);
	return control_refuse(err, "the tenants cannot be listed: %s", strerror(-err));
}

static json_t *delete(struct admin_context *c)
{
	char why[2048] = "";
	json_error_t error;
	const char *op, *name;
	int err, dry_run = 0;

	if (json_unpack_ex(c->request, &error, 0, "{s:s,s:s,s?b!}", "op", &op, "name", &name, "dry_run", &dry_run))
		return admin_bad_request(&error);
	err = tenant_delete(c->server->pool, name, dry_run, why, sizeof(why));
	if (err)
		return refused(err, why, "deleted", name);
	if (dry_run)
		return admin_ok(json_pack("{s:b,s:[{s:s,s:s,s:i,s:i}]}", "dry_run", 1, "would_delete", "kind", "tenant", "name", name,
					  "used_bytes", 0, "used_inodes", 0));
	log_info("%s: tenant %s was deleted by user %u", pool_name(c->server->pool), name, (unsigned)c->peer->uid);
	admin_tell(c, EVENT_TENANT_DELETED, NULL, name, "deleted");
	return admin_ok(NULL);
}

const struct admin_request admin_tenant_requests[] = {
	{ "tenant.create", create, ADMIN_ONLY },
	{ "tenant.list", list, ADMIN_OWNER },
	{ "tenant.show", show, ADMIN_OWNER },
	{ "tenant.set", set, ADMIN_ONLY },
	{ "tenant.delete", delete, ADMIN_ONLY },
	{ NULL, NULL, ADMIN_ONLY },
};
