/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/visible.h"
#include "meta/check_internal.h"
#include "meta/dump.h"
#include "meta/metafs_table.h"

struct dump {
	struct check *check;
	FILE *out;
	enum rec_family family;
	bool damaged;
	uint64_t printed; /* records */
};

int dump_what_parse(const char *word, enum dump_what *out)
{
	static const char *const words[] = {
		[DUMP_LABEL] = "label", [DUMP_TABLE] = "table", [DUMP_FILES] = "files",
		[DUMP_NS] = "ns",       [DUMP_MAP] = "map",	 [DUMP_SPACE] = "space",
		[DUMP_SYS] = "sys",     [DUMP_INODE] = "inode", [DUMP_ALL] = "all",
	};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(word, words[i])) {
			*out = i;
			return 0;
		}
	return -EINVAL;
}

/* ---- devices ---- */

static void dump_label_copy(struct dump *d, struct device *dev, unsigned copy, uint64_t offset)
{
	cleanup_free void *buf = aligned_alloc(NVFS_BLOCK_SIZE, LABEL_BYTES);
	struct label label;
	int err = buf ? device_read(dev, buf, LABEL_BYTES, offset) : -ENOMEM;

	if (!err)
		err = label_decode(buf, &label);
	fprintf(d->out, "%s label %c: ", device_name(dev), 'A' + (int)copy);
	if (!err) {
		label_print(d->out, &label);
		return;
	}
	d->damaged = true;
	fprintf(d->out, "%s\n", err == -EBADMSG ? "damaged" : strerror(-err));
}

static void dump_labels(struct dump *d)
{
	struct check *c = d->check;

	for (unsigned i = 0; i < c->ndevices; i++) {
		const uint64_t end = c->labels[i].size_bytes / LABEL_AREA_BYTES * LABEL_AREA_BYTES;

		dump_label_copy(d, c->devices[i], 0, 0);
		dump_label_copy(d, c->devices[i], 1, end - LABEL_AREA_BYTES);
	}
}

static void dump_slot(struct dump *d, unsigned device, unsigned slot)
{
	const struct label *label = &d->check->labels[device];
	cleanup_free void *buf = aligned_alloc(NVFS_BLOCK_SIZE, label->slot_bytes);
	struct metafs_table table;
	int err = buf ? device_read(d->check->devices[device], buf, label->slot_bytes,
				    label_slot_offset(label, slot)) :
			-ENOMEM;

	if (!err)
		err = metafs_table_decode(buf, label->slot_bytes, &table);
	fprintf(d->out, "%s slot %u: ", device_name(d->check->devices[device]), slot);
	if (!err) {
		metafs_table_print(d->out, &table);
		metafs_table_free(&table);
		return;
	}
	d->damaged |= err != -ENOENT;
	fprintf(d->out, "%s\n", err == -ENOENT ? "empty" : err == -EBADMSG ? "damaged" : strerror(-err));
}

static void dump_tables(struct dump *d)
{
	for (unsigned i = 0; i < d->check->ndevices; i++)
		for (unsigned slot = 0; slot < 2; slot++)
			dump_slot(d, i, slot);
}

/* ---- records ---- */

static int dump_entry(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct dump *d = arg;

	if (rec_print(d->out, d->family, key, key_len, value, len) < 0)
		d->damaged = true;
	fputc('\n', d->out);
	d->printed++;
	return 0;
}

static int dump_family(struct dump *d, enum db_cf cf, const void *prefix, size_t prefix_len)
{
	static const struct {
		const char *name;
		enum rec_family family;
	} cfs[DB_CF_COUNT] = {
		[DB_NS] = { "ns", REC_FAMILY_NS },
		[DB_MAP] = { "map", REC_FAMILY_MAP },
		[DB_SPACE] = { "space", REC_FAMILY_SPACE },
		[DB_SYS] = { "sys", REC_FAMILY_SYS },
	};

	d->family = cfs[cf].family;
	return check_each(d->check, cf, cfs[cf].name, prefix, prefix_len, dump_entry, d);
}

/* ---- one inode ---- */

static const struct check_subvol *choose_subvol(struct dump *d, const char *name)
{
	struct check *c = d->check;
	const struct check_subvol *only = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < c->subvols.n; i++) {
		if (!c->subvols.v[i].node || (name && strcmp(c->subvols.v[i].name, name)))
			continue;
		only = &c->subvols.v[i];
		n++;
	}
	if (n == 1)
		return only;
	if (name)
		check_note(c, "there is no subvolume %s", name);
	else if (!n)
		check_note(c, "there is no subvolume");
	else
		check_note(c, "there are %u subvolumes: name one", n);
	return NULL;
}

struct entry_search {
	const char *name;
	size_t len;
	uint64_t ino;
};

static int entry_is(void *arg, const void *key, size_t key_len, uint32_t from, const void *value,
		    size_t len)
{
	struct entry_search *s = arg;
	struct dirent_rec rec;

	(void)key, (void)key_len, (void)from;
	if (dirent_rec_decode(value, len, &rec) < 0 || rec.name_len != s->len ||
	    memcmp(rec.name, s->name, s->len))
		return 0;
	s->ino = rec.ino;
	return 1;
}

static int walk(struct check_view *view, const char *path, uint64_t *ino)
{
	*ino = INO_ROOT;
	for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
		struct entry_search s = { .name = path, .len = strcspn(path, "/") };
		uint8_t prefix[KEY_MAX];
		const int err = check_view_each(view, DB_NS, "entries", prefix,
						key_ns_prefix(prefix, view->node->tree, *ino, REC_DIRENT),
						entry_is, &s);

		if (err < 0)
			return err;
		if (!s.ino) {
			check_note(view->check, "inode %" PRIu64 " has no entry %.*s", *ino, (int)s.len,
				   s.name);
			return -ENOENT;
		}
		*ino = s.ino;
		path += s.len;
	}
	return 0;
}

/* A path unless it is all digits. */
static int resolve(struct check_view *view, const char *text, uint64_t *ino)
{
	if (*text && !text[strspn(text, "0123456789")]) {
		*ino = strtoull(text, NULL, 10);
		return 0;
	}
	return walk(view, text, ino);
}

static int dump_records_of(struct dump *d, uint32_t tree, uint64_t ino)
{
	uint8_t prefix[KEY_MAX];
	int err;

	key_ns_prefix(prefix, tree, ino, REC_INODE);
	err = dump_family(d, DB_NS, prefix, KEY_NS_PREFIX_LEN - 1);
	for (unsigned i = 0; !err && i < 2; i++) {
		const size_t len = key_ns_prefix(prefix, tree, 0, i ? REC_CUT : REC_ORPHAN);

		put_be64(prefix + len, ino);
		err = dump_family(d, DB_NS, prefix, len + 8);
	}
	key_ns_prefix(prefix, tree, ino, 0);
	return err ? err : dump_family(d, DB_MAP, prefix, KEY_NS_PREFIX_LEN - 1);
}

static int dump_inode(struct dump *d, const struct dump_request *request)
{
	struct check *c = d->check;
	const struct check_subvol *s;
	struct check_node *node;
	struct check_view view;
	uint64_t ino;
	int err = check_sys(c);

	if (err)
		return err;
	s = choose_subvol(d, request->subvolume);
	node = s ? check_node_find(c, s->tree, s->node) : NULL;
	if (!node || !request->inode)
		return -ENOENT;
	err = check_view_init(c, node, &view);
	if (!err)
		err = resolve(&view, request->inode, &ino);
	if (!err) {
		cleanup_free char *path = check_path(&view, ino);

		fprintf(d->out, "subvolume %s inode %" PRIu64 " path ", s->name, ino);
		visible_print(d->out, path && *path ? path : "/", path && *path ? strlen(path) : 1);
		fputc('\n', d->out);
		err = dump_records_of(d, s->tree, ino);
		if (!err && !d->printed) {
			check_note(c, "subvolume %s has no inode %" PRIu64, s->name, ino);
			err = -ENOENT;
		}
	}
	check_view_free(&view);
	return err;
}

/* ---- all of it ---- */

static int dump_database(struct dump *d, const struct dump_request *request)
{
	static const enum db_cf cfs[] = {
		[DUMP_NS] = DB_NS, [DUMP_MAP] = DB_MAP, [DUMP_SPACE] = DB_SPACE, [DUMP_SYS] = DB_SYS,
	};
	int err = 0;

	if (request->what == DUMP_INODE)
		return dump_inode(d, request);
	for (enum dump_what what = DUMP_NS; !err && what <= DUMP_SYS; what++)
		if (request->what == what || request->what == DUMP_ALL)
			err = dump_family(d, cfs[what], NULL, 0);
	return err;
}

static int dump_requested(struct dump *d, const struct dump_request *request)
{
	const bool all = request->what == DUMP_ALL;
	int err;

	if (all || request->what == DUMP_LABEL)
		dump_labels(d);
	if (all || request->what == DUMP_TABLE)
		dump_tables(d);
	if (request->what == DUMP_LABEL || request->what == DUMP_TABLE)
		return 0;
	err = check_open_metadata(d->check);
	if (!err && (all || request->what == DUMP_FILES))
		metafs_print(d->out, d->check->metafs);
	return err || request->what == DUMP_FILES ? err : dump_database(d, request);
}

int dump_pool(struct device **devices, unsigned count, const struct dump_request *request,
	      FILE *out, FILE *errors)
{
	const struct check_options options = { .out = errors };
	struct check *c = check_new(&options);
	struct dump d = { .check = c, .out = out };
	int err;

	if (!c)
		return -ENOMEM;
	err = check_labels(c, devices, count);
	if (!err)
		err = dump_requested(&d, request);
	if (!err && (d.damaged || c->result.found))
		err = -EBADMSG;
	check_free(c);
	return err;
}
