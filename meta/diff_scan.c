/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two views side by side. Nearly all records are of nodes that are ancestors of both: of those a comparison of keys is all that is
 * done. Values are kept only where the views differ.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/diff_internal.h"
#include "meta/lineage.h"

#define NODE_BYTES 4u

static int keep(struct diff_seen *seen, uint32_t node, const void *value, size_t len)
{
	if (len > seen->room || !seen->value) {
		uint8_t *bigger = realloc(seen->value, len + 64);

		if (!bigger)
			return -ENOMEM;
		seen->value = bigger;
		seen->room = len + 64;
	}
	memcpy(seen->value, value, len);
	seen->len = len;
	seen->node = node;
	return 0;
}

/* One version of the record at hand; newer ones came before. */
static int take(struct diff_scan *s)
{
	const uint32_t node = ~get_be32(s->scan.key + s->key_len - NODE_BYTES);
	bool sees[VIEWS];
	int r = 0;

	for (unsigned v = 0; v < VIEWS; v++)
		sees[v] = !s->seen[v].node && lineage_has(s->views->lineage[v], s->views->generations[v], node);
	if (sees[FROM] && sees[TO] && !(s->want_same && s->want_same(s->arg, s->key, s->key_len))) {
		s->seen[FROM].node = s->seen[TO].node = node;
		return 0;
	}
	for (unsigned v = 0; v < VIEWS && !r; v++)
		if (sees[v])
			r = keep(&s->seen[v], node, s->scan.value, s->scan.value_len);
	return r;
}

static void begin(struct diff_scan *s)
{
	memcpy(s->key, s->scan.key, s->scan.key_len);
	s->key_len = s->scan.key_len;
	s->seen[FROM].node = s->seen[TO].node = 0;
}

static bool same_record(const struct diff_scan *s)
{
	return s->key_len == s->scan.key_len && !memcmp(s->key, s->scan.key, s->key_len - NODE_BYTES);
}

static void hide_whiteouts(struct diff_scan *s)
{
	for (unsigned v = 0; v < VIEWS; v++)
		if (s->cf == DB_NS && s->seen[v].node && is_whiteout(s->seen[v].value, s->seen[v].len))
			s->seen[v].node = 0;
}

/* All versions of the record were seen. */
static int finish(struct diff_scan *s)
{
	const bool same = s->seen[FROM].node == s->seen[TO].node;

	if (same && !(s->want_same && s->seen[FROM].node && s->want_same(s->arg, s->key, s->key_len)))
		return 0;
	hide_whiteouts(s);
	if (!s->seen[FROM].node && !s->seen[TO].node)
		return 0;
	return s->fn(s->arg, s->key, s->key_len, s->seen);
}

static void prepare(struct diff_scan *s)
{
	s->scan.m = s->views->m;
	s->scan.cf = s->cf;
	s->scan.prefix_len = 4;
	put_be32(s->scan.prefix, s->views->tree);
}

/* Keys of both families have the inode's number behind the tree's. */
static int step(struct diff_scan *s)
{
	const uint64_t ino = s->scan.key_len >= 12 ? get_be64(s->scan.key + 4) : 0;

	return moment_step(s->views->m, s->done + ino, s->total);
}

int diff_scan_run(struct diff_scan *s, const uint8_t *prefix, size_t prefix_len)
{
	int more, r = 0;

	prepare(s);
	s->key_len = 0;
	for (more = moment_scan_seek(&s->scan, prefix, prefix_len);
	     more > 0 && s->scan.key_len >= prefix_len && !memcmp(s->scan.key, prefix, prefix_len); more = moment_scan_next(&s->scan)) {
		if (s->key_len && !same_record(s)) {
			r = finish(s);
			s->key_len = 0;
		}
		if (!s->key_len)
			begin(s);
		r = r ?: take(s) ?: step(s);
		if (r)
			return r;
	}
	if (more < 0)
		return more;
	return s->key_len ? finish(s) : 0;
}

int diff_scan_get(struct diff_scan *s, const uint8_t *key, size_t len)
{
	int more, r = 0;

	prepare(s);
	memcpy(s->key, key, len);
	s->key_len = len + NODE_BYTES;
	s->seen[FROM].node = s->seen[TO].node = 0;
	for (more = moment_scan_seek(&s->scan, key, len); more > 0 && same_record(s) && !(s->seen[FROM].node && s->seen[TO].node);
	     more = moment_scan_next(&s->scan)) {
		r = take(s);
		if (r)
			return r;
	}
	if (more < 0)
		return more;
	hide_whiteouts(s);
	return moment_step(s->views->m, 0, 0);
}

void diff_scan_end(struct diff_scan *s)
{
	moment_scan_end(&s->scan);
	for (unsigned v = 0; v < VIEWS; v++)
		free(s->seen[v].value);
}
