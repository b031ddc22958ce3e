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

static bool copy_is_bad(const struct check *c, unsigned device, int copy)
{
	const struct label_found *found = &c->copies[device];

	return found->error[copy] || found->generation[copy] != c->labels[device].generation;
}

/* One label may be repaired from the other. */
static void check_copies(struct check *c, unsigned device)
{
	const char *name = device_name(c->devices[device]);
	int err = 0;

	if (!copy_is_bad(c, device, 0) && !copy_is_bad(c, device, 1))
		return;
	if (c->options.repair)
		err = label_write(c->devices[device], &c->labels[device]);
	for (int copy = 0; copy < 2; copy++)
		if (c->copies[device].error[copy])
			check_found(c, !err, "%s: label %c %s", name, 'A' + copy,
				    label_problem(c->copies[device].error[copy]));
		else if (copy_is_bad(c, device, copy))
			check_found(c, !err, "%s: label %c is older than the other", name, 'A' + copy);
	if (err)
		check_note(c, "%s: the label cannot be written: %s", name, strerror(-err));
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
		check_note(c, "%s: not a device of nvfs; lsblk -f shows which are", device_name(dev));
		return err;
	case -ENODATA:
		check_found(c, false, "%s: the device is smaller than its label says; bring the whole of it back from a copy", device_name(dev));
		return -EBADMSG;
	case -EBADMSG:
		check_found(c, false, "%s: both labels are damaged; bring them back from a copy of the device", device_name(dev));
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
	c->copies[label.device_index] = found;
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
		if (c->options.repair && label_read_only(&c->labels[i])) {
			check_note(c, "pool %s: a newer version of nvfs has added what this one may not change; -n looks at it, or use the newer one",
				   first->name);
			return -EROFS;
		}
	}
	for (unsigned i = 0; i < c->ndevices; i++)
		check_copies(c, i);
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

/* buf has room for a slot. 0 or -ENOMEM. */
static int read_slot(struct check *c, unsigned device, unsigned which, void *buf, struct check_slot *slot)
{
	const struct label *label = &c->labels[device];
	struct metafs_table table;
	char why[160];
	int err = device_read(c->devices[device], buf, label->slot_bytes,
			      label_slot_offset(label, which));

	slot->generation = 0;
	slot->error = err ? -EIO : metafs_table_decode(buf, label->slot_bytes, &table);
	if (err)
		snprintf(slot->why, sizeof(slot->why), "cannot be read: %s", strerror(-err));
	else if (slot->error == -EBADMSG)
		snprintf(slot->why, sizeof(slot->why), "is damaged, or a power cut interrupted its writing");
	if (slot->error)
		return slot->error == -ENOMEM ? -ENOMEM : 0;
	slot->generation = table.generation;
	err = metafs_table_validate(&table, c->labels, why, sizeof(why));
	if (err == -EBADMSG)
		snprintf(slot->why, sizeof(slot->why), "is invalid: %s", why);
	if (!err && memcmp(table.pool_uuid, label->pool_uuid, 16)) {
		snprintf(slot->why, sizeof(slot->why), "is of another pool");
		err = -EBADMSG;
	}
	slot->error = err;
	metafs_table_free(&table);
	return err == -ENOMEM ? err : 0;
}

static int read_slots(struct check *c, struct check_slot (*slots)[2])
{
	int err = 0;

	for (unsigned i = 0; !err && i < c->ndevices; i++) {
		cleanup_free void *buf = aligned_alloc(NVFS_BLOCK_SIZE, c->labels[i].slot_bytes);

		if (!buf)
			return -ENOMEM;
		for (unsigned which = 0; !err && which < 2; which++)
			err = read_slot(c, i, which, buf, &slots[i][which]);
	}
	return err;
}

static uint64_t newest_table(const struct check *c)
{
	uint64_t newest = 0;

	for (unsigned i = 0; i < c->ndevices; i++)
		for (unsigned which = 0; which < 2; which++)
			if (!c->slots[i][which].error && c->slots[i][which].generation > newest)
				newest = c->slots[i][which].generation;
	return newest;
}

/* A slot without a table is what a new pool has. */
static bool slot_is_bad(const struct check_slot *slot)
{
	return slot->error && slot->error != -ENOENT;
}

static bool any_bad(const struct check *c)
{
	for (unsigned i = 0; i < c->ndevices; i++)
		if (slot_is_bad(&c->slots_now[i][0]) || slot_is_bad(&c->slots_now[i][1]))
			return true;
	return false;
}

/* This table or a newer one. */
static bool is_current(const struct check_slot *slots, uint64_t newest)
{
	return (!slots[0].error && slots[0].generation >= newest) || (!slots[1].error && slots[1].generation >= newest);
}

/* Opening the pool for writing copied the newest table to members that lack it; each start writes one slot of all. */
static void renew(struct check *c)
{
	uint32_t start;

	for (unsigned i = 0; !read_slots(c, c->slots_now) && i < 2 && any_bad(c); i++)
		if (metafs_raise_start(c->metafs, &start) < 0)
			return;
}

/* A damaged slot may be a switch that a power cut interrupted, or the medium: nobody can tell. */
void check_tables_report(struct check *c, bool renew_first)
{
	const uint64_t newest = newest_table(c);

	memcpy(c->slots_now, c->slots, sizeof(c->slots));
	if (renew_first)
		renew(c);
	for (unsigned i = 0; i < c->ndevices; i++) {
		for (unsigned which = 0; which < 2; which++)
			if (slot_is_bad(&c->slots[i][which]))
				check_found(c, !slot_is_bad(&c->slots_now[i][which]), "%s: slot %u of the file table %s",
					    device_name(c->devices[i]), which, c->slots[i][which].why);
		if (newest && !is_current(c->slots[i], newest))
			check_found(c, is_current(c->slots_now[i], newest), "%s: its file table is older than another member's",
				    device_name(c->devices[i]));
	}
}

int check_tables(struct check *c)
{
	const int err = read_slots(c, c->slots);

	if (err)
		return err;
	if (!c->options.repair || !newest_table(c))
		check_tables_report(c, false);
	if (newest_table(c))
		return 0;
	check_found(c, false, "no member has a valid file table");
	return -EBADMSG;
}
