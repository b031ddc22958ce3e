/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking a pool.
 *
 *	labels          both copies of each member; who is missing
 *	file tables     both slots of each member
 *	metafs, RocksDB opened as a mount would (-n: read-only, the logs are replayed into memory)
 *	tables          each block of RocksDB's tables against its checksum
 *	sys             nodes, subvolumes, tenants, their indexes
 *	ns, map         each record by itself: form, node, place; holders and counters are counted; where a node's inodes begin
 *	views           what each node sees: inodes, entries, links, sizes, against each other
 *	space, counters what was counted against what is stored
 *	data            with --data: every block against its checksum
 *
 * Everything that is stored twice is computed from its origin and compared: holders from the maps,
 * counters from the records, link counts from entries. Memory is 3 bits a data block and 56 bytes an
 * inode of the largest subvolume.
 *
 * Repair changes what can be computed (copies, holders, counters, link counts and other sums, orphan records) and removes
 * what leads nowhere (an entry without its inode, parts of an inode without the inode). It never
 * guesses about data, never removes an inode that nothing leads to, and repairs no record while
 * others cannot be read. Fixes are collected
 * while a pass reads and written when it is over; then everything is checked again, until a round has
 * nothing to fix. A problem is counted once, however many rounds see it.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
#include "io/visible.h"
#include "meta/check_internal.h"

#define ROUNDS_MAX 6
#define FIXES_BYTES_MAX (4u << 20)
#define PROGRESS_EVERY 4096

/* ---- reporting ---- */

/* FNV-1a. */
static uint64_t hash_line(const char *line)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *line; line++)
		h = (h ^ (uint8_t)*line) * UINT64_C(1099511628211);
	return h ? h : 1;
}

static void seen_put(uint64_t *table, size_t max, uint64_t h)
{
	size_t i = h % max;

	while (table[i])
		i = (i + 1) % max;
	table[i] = h;
}

/* Grows by doubling; without memory a line may be printed twice. */
static void seen_grow(struct check *c)
{
	const size_t max = c->seen_max ? c->seen_max * 2 : 1024;
	uint64_t *bigger = calloc(max, sizeof(*bigger));

	if (!bigger)
		return;
	for (size_t i = 0; i < c->seen_max; i++)
		if (c->seen[i])
			seen_put(bigger, max, c->seen[i]);
	free(c->seen);
	c->seen = bigger;
	c->seen_max = max;
}

/* Whether the line was printed before; remembers it. */
static bool seen_before(struct check *c, const char *line)
{
	const uint64_t h = hash_line(line);

	if (c->nseen * 2 >= c->seen_max)
		seen_grow(c);
	if (c->nseen * 2 >= c->seen_max)
		return false;
	for (size_t i = h % c->seen_max; c->seen[i]; i = (i + 1) % c->seen_max)
		if (c->seen[i] == h)
			return true;
	seen_put(c->seen, c->seen_max, h);
	c->nseen++;
	return false;
}

/* With what a hostile pool has in its names. */
static void print_line(struct check *c, const char *line, const char *outcome)
{
	check_progress(c, NULL, 0, 0);
	if (!c->options.out)
		return;
	visible_print(c->options.out, line, strlen(line));
	fprintf(c->options.out, "%s\n", outcome);
}

bool check_found(struct check *c, bool fixable, const char *fmt, ...)
{
	/* What could not be read must not be taken for what is not there. */
	const bool fix = fixable && c->options.repair && !c->incomplete;
	char line[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->found_round++;
	c->fixed_round += fix;
	if (!seen_before(c, line)) {
		c->result.found++;
		c->result.repaired += fix;
		print_line(c, line, fix ? ": repaired" : "");
	}
	return fix;
}

void check_note(struct check *c, const char *fmt, ...)
{
	char line[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	print_line(c, line, "");
}

void check_progress(struct check *c, const char *what, uint64_t done, uint64_t total)
{
	if (c->options.progress)
		c->options.progress(c->options.arg, what, done, total);
}

void check_malformed(struct check *c, enum rec_family family, const void *key, size_t key_len,
		     const void *value, size_t value_len)
{
	static const char *const names[] = { "ns", "map", "space", "sys" };
	char line[2048] = "";
	FILE *f = fmemopen(line, sizeof(line) - 1, "w");

	if (f) {
		rec_print(f, family, key, key_len, value, value_len);
		fclose(f);
	}
	check_found(c, false, "%s: %s", names[family], line);
	c->incomplete = true;
}

/* ---- helpers ---- */

void *check_array_add(void **v, size_t *n, size_t *max, size_t size)
{
	if (*n == *max) {
		const size_t more = *max ? *max * 2 : 16;
		void *bigger = realloc(*v, more * size);

		if (!bigger)
			return NULL;
		*v = bigger;
		*max = more;
	}
	return memset((char *)*v + (*n)++ * size, 0, size);
}

static int node_cmp(const void *key, const void *element)
{
	const uint32_t *k = key;
	const struct check_node *n = element;

	if (k[0] != n->tree)
		return k[0] < n->tree ? -1 : 1;
	return (k[1] > n->id) - (k[1] < n->id);
}

struct check_node *check_node_find(struct check *c, uint32_t tree, uint32_t id)
{
	const uint32_t key[2] = { tree, id };

	return c->nodes.n ? bsearch(key, c->nodes.v, c->nodes.n, sizeof(*c->nodes.v), node_cmp) : NULL;
}

static int id_cmp(const void *key, const void *element)
{
	const uint32_t *id = key, *other = element; /* the first member of each */

	return (*id > *other) - (*id < *other);
}

/* In the order of their keys, which is that of their numbers. */
#define FIND_BY_ID(array, id) \
	((array).n ? bsearch(&(id), (array).v, (array).n, sizeof(*(array).v), id_cmp) : NULL)

struct check_tree *check_tree_find(struct check *c, uint32_t tree)
{
	return FIND_BY_ID(c->trees, tree);
}

struct check_tenant *check_tenant_find(struct check *c, uint32_t id)
{
	return FIND_BY_ID(c->tenants, id);
}

bool check_sequence_given(const struct check *c, uint64_t sequence)
{
	return sequence >> 40 <= metafs_start(c->metafs);
}

struct check_subvol *check_subvol_find(struct check *c, uint32_t id)
{
	return FIND_BY_ID(c->subvols, id);
}

const char *check_node_name(struct check *c, uint32_t tree, uint32_t node)
{
	static char text[NAME_BYTES_MAX + 64];
	const struct check_node *n = check_node_find(c, tree, node);
	const struct check_subvol *s = n ? check_subvol_find(c, n->subvol) : NULL;

	if (s && s->node == node)
		snprintf(text, sizeof(text), "subvolume %s", s->name);
	else if (s)
		snprintf(text, sizeof(text), "subvolume %s node %u", s->name, node);
	else
		snprintf(text, sizeof(text), "tree %u node %u", tree, node);
	return text;
}

/* The first key that does not have the prefix; false if there is none. */
static bool prefix_end(const uint8_t *prefix, size_t len, uint8_t *end, size_t *end_len)
{
	memcpy(end, prefix, len);
	for (*end_len = len; *end_len; --*end_len)
		if (++end[*end_len - 1])
			return true;
	return false;
}

int check_each(struct check *c, enum db_cf cf, const char *what, const void *prefix,
	       size_t prefix_len, check_fn fn, void *arg)
{
	uint8_t end[KEY_MAX];
	size_t end_len = 0, key_len, value_len;
	const bool bounded = prefix_len && prefix_end(prefix, prefix_len, end, &end_len);
	cleanup_db_iter struct db_iter *it =
		db_iter_new(c->db, cf, prefix_len ? prefix : NULL, prefix_len, bounded ? end : NULL,
			    end_len, 0);
	struct db_stats stats;
	uint64_t done = 0;
	int r = 0;

	if (!it)
		return -ENOMEM;
	db_stats(c->db, &stats);
	for (db_iter_first(it); !r && db_iter_valid(it); db_iter_next(it)) {
		const void *key = db_iter_key(it, &key_len);
		const void *value = db_iter_value(it, &value_len);

		if (done++ % PROGRESS_EVERY == 0 && !c->own_progress)
			check_progress(c, what, done, prefix_len ? 0 : stats.keys_estimate[cf]);
		r = fn(arg, key, key_len, value, value_len);
	}
	c->result.records += done;
	if (r)
		return r;
	r = db_iter_error(it);
	if (r < 0) {
		check_found(c, false, "RocksDB cannot read all of %s: %s", what, strerror(-r));
		c->incomplete = true;
	}
	return 0;
}

int check_write_fixes(struct check *c, bool all)
{
	int err;

	if (!c->fixes || !db_batch_count(c->fixes) ||
	    (!all && db_batch_bytes(c->fixes) < FIXES_BYTES_MAX))
		return 0;
	err = db_write(c->db, c->fixes, 0);
	if (!err && all)
		err = db_sync(c->db);
	db_batch_clear(c->fixes);
	if (err)
		check_note(c, "the repairs cannot be written: %s", strerror(-err));
	return err;
}

/* ---- a round ---- */

static int holders_new(struct check *c)
{
	struct space_vdev vdevs[LABEL_DEVICES_MAX];
	const struct metafs_range *ranges;
	const unsigned n = metafs_ranges(c->metafs, &ranges);
	struct space_zones *reserved = calloc(n ? n : 1, sizeof(*reserved));
	struct space_config config = { .nvdevs = c->ndevices, .vdevs = vdevs, .nreserved = n,
				       .reserved = reserved, .streams = 1 };
	int err = reserved ? 0 : -ENOMEM;

	for (unsigned i = 0; i < c->ndevices; i++)
		vdevs[i] = (struct space_vdev){
			.zones_block = label_zone_block(&c->labels[i], 0),
			.zone_blocks = label_zone_blocks(&c->labels[i]),
			.zone_count = c->labels[i].zones,
		};
	for (unsigned i = 0; !err && i < n; i++)
		reserved[i] = (struct space_zones){ ranges[i].vdev, ranges[i].first,
						    ranges[i].count };
	if (!err)
		err = space_create(&config, &c->holders);
	free(reserved);
	return err;
}

static void round_clear(struct check *c)
{
	space_destroy(c->holders);
	c->holders = NULL;
	c->nodes.n = c->subvols.n = c->tenants.n = c->trees.n = 0;
	c->has_pool = c->incomplete = false;
	c->found_round = c->fixed_round = 0;
	c->result.inodes = c->result.data_blocks = c->result.records = 0;
}

static int check_one_view(struct check *c, struct check_node *node)
{
	struct check_view view;
	int err = check_view_init(c, node, &view);

	if (!err)
		err = check_ns_view(&view);
	if (!err)
		err = check_map_view(&view);
	if (!err)
		err = check_inodes(&view);
	if (!err && view.node->named)
		c->result.inodes += view.inodes.n;
	check_view_free(&view);
	return err == -EBADMSG ? 0 : err;
}

/* Reading all records touches no filter, and of an index only what a walk needs. */
static void table_verified(void *arg, const char *name, unsigned done, unsigned all, int err)
{
	struct check *c = arg;

	check_progress(c, "tables", done, all);
	if (!err)
		return;
	check_found(c, false, "RocksDB's table %s is damaged: %s", name, strerror(-err));
	c->incomplete = true;
}

static int check_round(struct check *c)
{
	int err;

	round_clear(c);
	err = db_verify_tables(c->db, table_verified, c);
	if (!err)
		err = holders_new(c);
	if (!err)
		err = check_sys(c);
	if (!err)
		err = check_ns_records(c);
	if (!err)
		err = check_map_records(c);
	if (!err)
		check_first_inodes(c);
	for (size_t i = 0; !err && i < c->nodes.n; i++)
		if (c->nodes.v[i].state == NODE_LIVE || c->nodes.v[i].state == NODE_SNAPSHOT)
			err = check_one_view(c, &c->nodes.v[i]);
	if (!err)
		err = check_space(c);
	if (!err)
		check_counters(c);
	if (!err)
		err = check_write_fixes(c, true);
	return err;
}

static int check_rounds(struct check *c)
{
	int err = 0;

	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		err = check_round(c);
		if (err || !c->fixed_round)
			break;
	}
	/* What the last round still saw, and what it would have had to fix once more. */
	c->result.left = c->found_round;
	return err;
}

/* ---- opening ---- */

int check_open_metadata(struct check *c)
{
	const struct metafs_options mo = {
		.devices = c->devices,
		.labels = c->labels,
		.read_only = !c->options.repair,
	};
	const struct db_options dbo = { .read_only = !c->options.repair };
	int err = metafs_open(&mo, &c->metafs);

	if (c->options.repair)
		check_tables_report(c, !err);
	if (err) {
		check_found(c, false, "the metadata store cannot be opened: %s", strerror(-err));
		return err == -EIO || err == -ENOMEM ? err : -EBADMSG;
	}
	err = db_open(c->metafs, &dbo, &c->db);
	if (err) {
		check_found(c, false, "RocksDB cannot be opened: %s", strerror(-err));
		return err == -ENOMEM ? err : -EBADMSG;
	}
	c->fixes = db_batch_new();
	return c->fixes ? 0 : -ENOMEM;
}

void check_free(struct check *c)
{
	const bool written = c && c->db && c->options.repair;

	if (!c)
		return;
	db_batch_free(c->fixes);
	db_close(c->db);
	if (written)
		metafs_seal(c->metafs); /* it has logged why not */
	metafs_close(c->metafs);
	space_destroy(c->holders);
	free(c->nodes.v);
	free(c->subvols.v);
	free(c->tenants.v);
	free(c->trees.v);
	free(c->seen);
	free(c);
}

struct check *check_new(const struct check_options *options)
{
	struct check *c = calloc(1, sizeof(*c));

	if (c)
		c->options = *options;
	return c;
}

static int check_all(struct check *c, struct device **devices, unsigned count)
{
	uint64_t device_problems;
	int err = check_labels(c, devices, count);

	if (!err)
		err = check_tables(c);
	if (!err)
		err = check_open_metadata(c);
	device_problems = c->found_round - c->fixed_round;
	if (!err)
		err = check_rounds(c);
	else
		c->result.left = device_problems;
	if (!err)
		c->result.left += device_problems;
	/* Blocks are compared after the last round, with the maps as they are now. */
	if (!err && c->options.data) {
		const uint64_t before = c->result.found;

		err = check_data(c);
		c->result.left += c->result.found - before;
	}
	return err;
}

int check_pool(struct device **devices, unsigned count, const struct check_options *options,
	       struct check_result *out)
{
	struct check *c = check_new(options);
	int err;

	*out = (struct check_result){ 0 };
	if (!c)
		return -ENOMEM;
	err = check_all(c, devices, count);
	if (c->result.left > c->result.found)
		c->result.left = c->result.found;
	*out = c->result;
	check_free(c);
	return err;
}
