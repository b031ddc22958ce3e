/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top_stats.h"

static const char *const kind_keys[TOP_KINDS] = {"read", "write", "sync", "other"};

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* Counters only grow, while it is the same mount. */
static uint64_t grown(const json_t *before, const json_t *after, const char *key)
{
	const uint64_t from = number(before, key), to = number(after, key);

	return to > from ? to - from : 0;
}

static void take_kind(struct top_row *r, enum top_kind kind, const json_t *before, const json_t *after)
{
	const json_t *then = json_object_get(json_object_get(before, kind_keys[kind]), "buckets");
	const json_t *l = json_object_get(after, kind_keys[kind]), *now = json_object_get(l, "buckets");

	r->total_ns[kind] = grown(json_object_get(before, kind_keys[kind]), l, "total_ns");
	for (size_t i = 0; i < TOP_BUCKETS; i++) {
		const uint64_t from = (uint64_t)json_integer_value(json_array_get(then, i));
		const uint64_t to = (uint64_t)json_integer_value(json_array_get(now, i));

		r->buckets[kind][i] = to > from ? to - from : 0;
		r->counts[kind] += r->buckets[kind][i];
	}
}

/* The same mount in the other answer, or NULL. */
static const json_t *find_before(const json_t *before, const json_t *sv)
{
	const json_t *b;
	size_t i;

	json_array_foreach(json_object_get(before, "subvolumes"), i, b)
		if (number(b, "session") == number(sv, "session") && !strcmp(text(b, "name"), text(sv, "name")))
			return b;
	return NULL;
}

static const struct {
	const char *level, *limit, *text;
} held_keys[TOP_LIMITS] = {
	{"subvolume", "read_iops", "read_iops"},      {"subvolume", "write_iops", "write_iops"},
	{"subvolume", "read_bps", "read_bps"},        {"subvolume", "write_bps", "write_bps"},
	{"tenant", "read_iops", "tenant read_iops"},  {"tenant", "write_iops", "tenant write_iops"},
	{"tenant", "read_bps", "tenant read_bps"},    {"tenant", "write_bps", "tenant write_bps"},
};

static uint64_t held_of(const json_t *sv, unsigned i)
{
	const json_t *level = json_object_get(json_object_get(sv, "throttled_by"), held_keys[i].level);

	return number(json_object_get(level, held_keys[i].limit), "ns");
}

static void take_held(struct top_row *r, const json_t *before, const json_t *after)
{
	for (unsigned i = 0; i < TOP_LIMITS; i++) {
		const uint64_t now = held_of(after, i), then = before ? held_of(before, i) : 0;

		r->held_ns[i] = now > then ? now - then : 0;
	}
}

const char *top_held_by(const struct top_row *r)
{
	unsigned most = 0;

	for (unsigned i = 1; i < TOP_LIMITS; i++)
		if (r->held_ns[i] > r->held_ns[most])
			most = i;
	return r->held_ns[most] ? held_keys[most].text : NULL;
}

static void take_row(struct top_row *r, const json_t *before, const json_t *after, const json_t *sv)
{
	const json_t *then = find_before(before, sv);

	memset(r, 0, sizeof(*r));
	snprintf(r->name, sizeof(r->name), "%s:%s", text(after, "pool"), text(sv, "name"));
	snprintf(r->tenant, sizeof(r->tenant), "%s/%s", text(after, "pool"), text(sv, "tenant"));
	r->seconds = before ? (double)grown(before, after, "time_ns") / 1e9 : 0;
	for (unsigned k = 0; k < TOP_KINDS; k++)
		take_kind(r, k, then, sv);
	r->read_bytes = grown(then, sv, "read_bytes");
	r->written_bytes = grown(then, sv, "written_bytes");
	r->throttled = grown(then, sv, "throttled");
	take_held(r, then, sv);
	r->dirty_bytes = number(sv, "dirty_bytes");
	r->cached_inodes = number(sv, "cached_inodes");
	r->subvolumes = 1;
}

int top_add(struct top *t, const json_t *before, const json_t *after)
{
	const json_t *list = json_object_get(after, "subvolumes"), *sv;
	struct top_row *rows = realloc(t->rows, (t->count + json_array_size(list) + 1) * sizeof(*rows));
	size_t i;

	if (!rows)
		return -ENOMEM;
	t->rows = rows;
	json_array_foreach(list, i, sv)
		take_row(&t->rows[t->count++], before, after, sv);
	return 0;
}

void top_free(struct top *t)
{
	free(t->rows);
	*t = (struct top){0};
}

/* ---- Tenants ---- */

static void add_up(struct top_row *to, const struct top_row *r)
{
	for (unsigned k = 0; k < TOP_KINDS; k++) {
		to->counts[k] += r->counts[k];
		to->total_ns[k] += r->total_ns[k];
		for (unsigned i = 0; i < TOP_BUCKETS; i++)
			to->buckets[k][i] += r->buckets[k][i];
	}
	to->read_bytes += r->read_bytes;
	to->written_bytes += r->written_bytes;
	to->throttled += r->throttled;
	for (unsigned i = 0; i < TOP_LIMITS; i++)
		to->held_ns[i] += r->held_ns[i];
	to->dirty_bytes += r->dirty_bytes;
	to->cached_inodes += r->cached_inodes;
	to->subvolumes += r->subvolumes;
}

static struct top_row *find_tenant(struct top *t, size_t count, const char *tenant)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(t->rows[i].tenant, tenant))
			return &t->rows[i];
	return NULL;
}

void top_by_tenant(struct top *t)
{
	size_t count = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct top_row *same = find_tenant(t, count, t->rows[i].tenant);

		if (same) {
			add_up(same, &t->rows[i]);
			continue;
		}
		if (count != i)
			t->rows[count] = t->rows[i];
		memcpy(t->rows[count].name, t->rows[count].tenant, sizeof(t->rows[count].name));
		count++;
	}
	t->count = count;
}

/* ---- Numbers ---- */

double top_rate(const struct top_row *r, uint64_t n)
{
	return r->seconds > 0 ? (double)n / r->seconds : 0;
}

double top_mean_us(const struct top_row *r, enum top_kind kind)
{
	return r->counts[kind] ? (double)r->total_ns[kind] / (double)r->counts[kind] / 1000 : 0;
}

/* Bucket n has what took from 2^(n-1) us on; between its ends the answers are taken to be spread evenly. */
double top_p99_us(const struct top_row *r, enum top_kind kind)
{
	const double wanted = 0.99 * (double)r->counts[kind];
	double seen = 0;

	for (unsigned i = 0; i < TOP_BUCKETS && r->counts[kind]; i++) {
		const double here = (double)r->buckets[kind][i], from = i ? (double)(UINT64_C(1) << (i - 1)) : 0, to = i ? 2 * from : 1;

		if (seen + here >= wanted)
			return from + (to - from) * (wanted - seen) / here;
		seen += here;
	}
	return 0;
}

/* ---- Order ---- */

static double weight(const struct top_row *r, char key)
{
	switch (key) {
	case 'r':
		return (double)r->counts[TOP_READ];
	case 'w':
		return (double)r->counts[TOP_WRITE];
	case 'b':
		return (double)(r->read_bytes + r->written_bytes);
	case 'l':
		return top_p99_us(r, TOP_READ) > top_p99_us(r, TOP_WRITE) ? top_p99_us(r, TOP_READ) : top_p99_us(r, TOP_WRITE);
	case 'd':
		return (double)r->dirty_bytes;
	case 'c':
		return (double)r->cached_inodes;
	case 't':
		return (double)r->throttled;
	default: /* all that it does */
		return (double)(r->counts[TOP_READ] + r->counts[TOP_WRITE] + r->counts[TOP_SYNC] + r->counts[TOP_OTHER]);
	}
}

static char sort_key;

static int compare(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	const double wx = sort_key == 'n' ? 0 : weight(x, sort_key), wy = sort_key == 'n' ? 0 : weight(y, sort_key);

	if (wx != wy)
		return wx < wy ? 1 : -1;
	return strcmp(x->name, y->name);
}

bool top_sort(struct top *t, char key)
{
	if (!key || !strchr("anrwbldct", key))
		return false;
	sort_key = key;
	if (t->count)
		qsort(t->rows, t->count, sizeof(*t->rows), compare);
	return true;
}

/* ---- For programs ---- */

static json_t *kind_json(const struct top_row *r, enum top_kind kind)
{
	return json_pack("{s:f,s:f,s:f}", "per_s", top_rate(r, r->counts[kind]), "mean_us", top_mean_us(r, kind), "p99_us",
			 top_p99_us(r, kind));
}

json_t *top_row_json(const struct top_row *r, bool tenant)
{
	const char *name = strchr(r->name, tenant ? '/' : ':'), *owner = strchr(r->tenant, '/');
	json_t *j = json_object();

	json_object_set_new(j, "pool", json_stringn(r->name, name ? (size_t)(name - r->name) : 0));
	json_object_set_new(j, tenant ? "tenant" : "subvolume", json_string(name ? name + 1 : ""));
	if (tenant)
		json_object_set_new(j, "subvolumes", json_integer(r->subvolumes));
	else
		json_object_set_new(j, "tenant", json_string(owner ? owner + 1 : ""));
	for (unsigned k = 0; k < TOP_KINDS; k++)
		json_object_set_new(j, kind_keys[k], kind_json(r, k));
	json_object_update_new(j, json_pack("{s:f,s:f,s:f,s:I,s:I}", "read_bytes_per_s", top_rate(r, r->read_bytes),
					    "written_bytes_per_s", top_rate(r, r->written_bytes), "throttled_per_s",
					    top_rate(r, r->throttled), "dirty_bytes", (json_int_t)r->dirty_bytes, "cached_inodes",
					    (json_int_t)r->cached_inodes));
	json_object_set_new(j, "held_by", top_held_by(r) ? json_string(top_held_by(r)) : json_null());
	return j;
}
