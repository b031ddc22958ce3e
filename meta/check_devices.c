/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The members of a pool: labels, and the two slots of the file table. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "meta/check_internal.h"
#include "meta/metafs_table.h"

/* ---- labels ---- */

static const char *label_problem(int err)
{
	switch (err) {
	case -ENOENT:
		return "is not there";
	case -EBADMSG:
		return "is damaged";
	case -EPROTONOSUPPORT:
		return "is of another version";
	default:
		return strerror(-err);
	}
}

/* One label may be repaired from the other. */
static void check_copies(struct check *c, struct device *dev, const struct label *label,
			 const struct label_found *found)
{
	bool fix = false;

	for (int copy = 0; copy < 2; copy++) {
		if (found->error[copy])
			fix |= check_found(c, true, "%s: label %c %s", device_name(dev), 'A' + copy,
					   label_problem(found->error[copy]));
		else if (found->generation[copy] != label->generation)
			fix |= check_found(c, true, "%s: label %c is older than the other",
					   device_name(dev), 'A' + copy);
	}
	if (!fix)
		return;
	const int err = label_write(dev, label);

	if (err)
		check_found(c, false, "%s: the label cannot be written: %s", device_name(dev),
			    strerror(-err));
}

static int read_label(struct check *c, struct device *dev)
{
	struct label_found found;
	struct label label;
	const int err = label_read(dev, &label, &found);

	switch (err) {
	case 0:
		break;
	case -ENOENT:
		check_note(c, "%s: not a device of nvfs", device_name(dev));
		return err;
	case -ENODATA:
		check_found(c, false, "%s: the device is smaller than its label says", device_name(dev));
		return -EBADMSG;
	case -EBADMSG:
		check_found(c, false, "%s: both labels are damaged", device_name(dev));
		return err;
	case -EPROTONOSUPPORT:
		check_note(c, "%s: made by a newer version of nvfs, whose fsck.nvfs is needed",
			   device_name(dev));
		return err;
	default:
		check_note(c, "%s: %s", device_name(dev), strerror(-err));
		return err;
	}
	if (c->devices[label.device_index]) {
		const struct label *other = &c->labels[label.device_index];

		check_note(c, memcmp(label.pool_uuid, other->pool_uuid, 16) ? "%s: of another pool than %s"
									    : "%s: the same member of the pool as %s",
			   device_name(dev), device_name(c->devices[label.device_index]));
		return -EINVAL;
	}
	c->devices[label.device_index] = dev;
	c->labels[label.device_index] = label;
	check_copies(c, dev, &label, &found);
	return 0;
}

static int check_members(struct check *c, const struct label *first)
{
	char why[256];

	c->ndevices = first->device_count;
	memcpy(c->result.pool, first->name, sizeof(c->result.pool) - 1);
	for (unsigned i = 0; i < c->ndevices; i++) {
		if (!c->devices[i]) {
			check_note(c, "pool %s: member %u of %u is missing: name all devices", first->name,
				   i + 1, c->ndevices);
			return -ENXIO;
		}
		if (&c->labels[i] != first &&
		    !label_same_pool(first, &c->labels[i], why, sizeof(why))) {
			check_note(c, "%s: not of the same pool: %s", device_name(c->devices[i]), why);
			return -EINVAL;
		}
	}
	return 0;
}

int check_labels(struct check *c, struct device **devices, unsigned count)
{
	const struct label *first = NULL;
	int err;

	if (count == 0 || count > LABEL_DEVICES_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		err = read_label(c, devices[i]);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < LABEL_DEVICES_MAX; i++) {
		if (!c->devices[i])
			continue;
		if (!first)
			first = &c->labels[i];
		else if (memcmp(first->pool_uuid, c->labels[i].pool_uuid, 16)) {
			check_note(c, "%s: of pool %s, not of %s", device_name(c->devices[i]),
				   c->labels[i].name, first->name);
			return -EINVAL;
		}
	}
	return check_members(c, first);
}

/* ---- file tables ---- */

struct slot {
	int error; /* of the decoder */
	uint64_t generation;
};

static int read_slot(struct check *c, unsigned device, unsigned which, void *buf, struct slot *slot)
{
	const struct label *label = &c->labels[device];
	struct metafs_table table;
	char why[256];
	int err = device_read(c->devices[device], buf, label->slot_bytes,
			      label_slot_offset(label, which));

	if (err) {
		check_found(c, false, "%s: slot %u of the file table cannot be read: %s",
			    device_name(c->devices[device]), which, strerror(-err));
		slot->error = -EIO;
		return 0;
	}
	slot->error = metafs_table_decode(buf, label->slot_bytes, &table);
	if (slot->error == -ENOMEM)
		return -ENOMEM;
	if (slot->error)
		return 0;
	slot->generation = table.generation;
	if (metafs_table_validate(&table, c->labels, why, sizeof(why)) < 0 ||
	    memcmp(table.pool_uuid, label->pool_uuid, 16)) {
		check_found(c, true, "%s: slot %u of the file table: %s",
			    device_name(c->devices[device]), which, why);
		slot->error = -EBADMSG;
	}
	metafs_table_free(&table);
	return 0;
}

/*
 * A slot without a table is what a new pool has; a damaged one may be a switch that a power cut interrupted, or
 * the medium: nobody can tell. Opening the pool for writing writes a new table to every slot.
 */
static void check_slot(struct check *c, unsigned device, unsigned which, const struct slot *slot)
{
	if (slot->error == -EBADMSG)
		check_found(c, true, "%s: slot %u of the file table is damaged, or a power cut interrupted its writing",
			    device_name(c->devices[device]), which);
}

/* Whether any slot of any member is damaged; reports nothing. */
static bool any_damaged(struct check *c)
{
	struct metafs_table table;
	bool damaged = false;

	for (unsigned i = 0; i < c->ndevices; i++) {
		cleanup_free void *buf = aligned_alloc(NVFS_BLOCK_SIZE, c->labels[i].slot_bytes);

		for (unsigned which = 0; buf && which < 2; which++) {
			if (device_read(c->devices[i], buf, c->labels[i].slot_bytes,
					label_slot_offset(&c->labels[i], which)))
				continue;
			const int err = metafs_table_decode(buf, c->labels[i].slot_bytes, &table);

			damaged |= err == -EBADMSG;
			if (!err)
				metafs_table_free(&table);
		}
	}
	return damaged;
}

void check_tables_renew(struct check *c)
{
	uint32_t start;

	for (unsigned i = 0; i < 2 && any_damaged(c); i++)
		if (metafs_raise_start(c->metafs, &start) < 0)
			return;
}

int check_tables(struct check *c)
{
	struct slot slots[LABEL_DEVICES_MAX][2] = { 0 };
	uint64_t newest = 0;
	int err = 0;

	for (unsigned i = 0; !err && i < c->ndevices; i++) {
		cleanup_free void *buf = aligned_alloc(NVFS_BLOCK_SIZE, c->labels[i].slot_bytes);

		if (!buf)
			return -ENOMEM;
		for (unsigned which = 0; !err && which < 2; which++) {
			struct slot *slot = &slots[i][which];

			err = read_slot(c, i, which, buf, slot);
			check_slot(c, i, which, slot);
			if (!slot->error && slot->generation > newest)
				newest = slot->generation;
		}
	}
	if (err)
		return err;
	for (unsigned i = 0; newest && i < c->ndevices; i++)
		if ((slots[i][0].error || slots[i][0].generation < newest) &&
		    (slots[i][1].error || slots[i][1].generation < newest))
			check_found(c, true, "%s: its file table is older than another member's",
				    device_name(c->devices[i]));
	if (!newest) {
		check_found(c, false, "no member has a valid file table");
		return -EBADMSG;
	}
	return 0;
}
