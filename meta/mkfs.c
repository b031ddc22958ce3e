/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/log.h"
#include "meta/db.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "meta/mkfs.h"
#include "meta/sysrec.h"

#define DIRTY_BYTES_DEFAULT (UINT64_C(256) << 20)
#define DIRTY_SHARE 16u /* of the data space, at most */
#define OVERCOMMIT_DEFAULT 200u
#define DEFAULT_TENANT "default"

struct creation {
	struct device **devices;
	unsigned count;
	const struct pool_create_options *opts;
	struct label *labels;
	struct label_share share;
	char *why;
	size_t why_len;
};

static int fail(struct creation *c, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct creation *c, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, c->why_len, fmt, ap);
	va_end(ap);
	return error;
}

static int plan(struct creation *c)
{
	struct label_plan plan = {
		.name = c->opts->name,
		.devices = c->count,
		.inodes_max = c->opts->inodes_max,
	};

	for (unsigned i = 0; i < c->count && i < LABEL_DEVICES_MAX; i++)
		plan.size_bytes[i] = device_geometry(c->devices[i])->size_bytes;
	return label_layout(&plan, c->labels, &c->share, c->why, c->why_len);
}

/* The cap of dirty data decides the headroom; both are small in a small pool. */
static int pool_record(struct creation *c, struct pool_rec *out)
{
	const uint64_t share = c->share.data_bytes / DIRTY_SHARE;
	uint64_t dirty = c->opts->dirty_bytes;

	if (!dirty)
		dirty = share < DIRTY_BYTES_DEFAULT ? share : DIRTY_BYTES_DEFAULT;
	if (dirty > c->share.data_bytes / 4)
		return fail(c, -ENOSPC,
			    "room for %" PRIu64 " bytes of dirty data, twice, would take more than half of the %" PRIu64
			    " bytes for data; at most %" PRIu64 " would work",
			    dirty, c->share.data_bytes, c->share.data_bytes / 4);
	if (c->opts->overcommit_percent && c->opts->overcommit_percent < 100)
		return fail(c, -EINVAL, "overcommit is 100 percent (none) or more, not %u", c->opts->overcommit_percent);
	*out = (struct pool_rec){
		.next_subvol = 1,
		.next_tree = 1,
		.next_node = 1,
		.next_tenant = NVFS_TENANT_DEFAULT + 1,
		.next_session = 1,
		.overcommit_percent = c->opts->overcommit_percent ? c->opts->overcommit_percent : OVERCOMMIT_DEFAULT,
		.headroom_blocks = 2 * (dirty / NVFS_BLOCK_SIZE),
	};
	return 0;
}

static int wipe_slots(struct device *dev, const struct label *label)
{
	const size_t len = LABEL_AREA_BYTES;
	void *zeros = NULL;
	int r = -posix_memalign(&zeros, DEVICE_ALIGN_BYTES, len);

	if (r)
		return r;
	memset(zeros, 0, len);
	for (uint64_t at = 0; !r && at < 2 * label->slot_bytes; at += len)
		r = device_write(dev, zeros, len, label_slot_offset(label, 0) + at, 0);
	free(zeros);
	return r ? r : device_flush(dev);
}

/* Until the new labels are written no device is a member of anything. */
static int wipe(struct creation *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		int r = label_wipe(c->devices[i]);

		if (!r)
			r = wipe_slots(c->devices[i], &c->labels[i]);
		if (r)
			return fail(c, r, "%s cannot be written: %s", device_name(c->devices[i]), strerror(-r));
	}
	return 0;
}

static int put_records(struct db *db, const struct pool_rec *rec)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	const struct tenant_rec tenant = { .name = DEFAULT_TENANT, .name_len = sizeof(DEFAULT_TENANT) - 1 };
	int r;

	if (!batch)
		return -ENOMEM;
	sysrec_put_pool(db, batch, rec);
	sysrec_put_tenant(db, batch, NVFS_TENANT_DEFAULT, &tenant);
	r = db_write(db, batch, 0);
	if (!r)
		r = db_sync(db);
	return r ? r : db_flush(db);
}

static int make_store(struct creation *c, const struct pool_rec *rec)
{
	const struct metafs_options mo = { .devices = c->devices, .labels = c->labels };
	const struct db_options dbo = { .create = true };
	struct metafs *mf = NULL;
	struct db *db = NULL;
	int r = metafs_format(c->devices, c->labels, &c->share);

	if (!r)
		r = metafs_open(&mo, &mf);
	if (!r)
		r = db_open(mf, &dbo, &db);
	if (!r)
		r = put_records(db, rec);
	db_close(db);
	if (!r)
		r = metafs_seal(mf);
	metafs_close(mf);
	return r ? fail(c, r, "the metadata store cannot be made: %s", strerror(-r)) : 0;
}

static int write_labels(struct creation *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		int r = device_flush(c->devices[i]);

		if (!r)
			r = label_write(c->devices[i], &c->labels[i]);
		if (r)
			return fail(c, r, "the label of %s cannot be written: %s", device_name(c->devices[i]), strerror(-r));
	}
	return 0;
}

static int check(struct creation *c, struct pool_rec *rec)
{
	int r = plan(c);

	return r ? r : pool_record(c, rec);
}

static int make(struct creation *c)
{
	struct pool_rec rec;
	int r = check(c, &rec);

	if (!r)
		r = wipe(c);
	if (!r)
		r = make_store(c, &rec);
	return r ? r : write_labels(c);
}

static int create_or_check(struct device **devices, unsigned count, const struct pool_create_options *opts, bool create,
			   char *why, size_t why_len)
{
	cleanup_free struct label *labels = calloc(LABEL_DEVICES_MAX, sizeof(*labels));
	char unused[1];
	struct creation c = {
		.devices = devices,
		.count = count,
		.opts = opts,
		.labels = labels,
		.why = why ? why : unused,
		.why_len = why ? why_len : sizeof(unused),
	};
	struct pool_rec rec;

	if (!labels)
		return -ENOMEM;
	return create ? make(&c) : check(&c, &rec);
}

int pool_create(struct device **devices, unsigned count, const struct pool_create_options *opts, char *why, size_t why_len)
{
	return create_or_check(devices, count, opts, true, why, why_len);
}

int pool_create_check(struct device **devices, unsigned count, const struct pool_create_options *opts, char *why,
		      size_t why_len)
{
	return create_or_check(devices, count, opts, false, why, why_len);
}
