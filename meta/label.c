/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/label.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"

bool label_read_only(const struct label *label)
{
	return label->minor > LABEL_MINOR || (label->ro_compat & ~LABEL_RO_COMPAT_KNOWN);
}

bool label_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > LABEL_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static uint32_t label_length(unsigned devices)
{
	return offsetof(struct label_disk, devices) + devices * sizeof(struct label_device_disk);
}

static uint32_t label_crc(const void *buf)
{
	static const uint8_t zero[4];
	const uint8_t *p = buf;
	size_t at = offsetof(struct label_disk, crc);
	uint32_t crc = crc32c(0, p, at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, p + at + 4, LABEL_BYTES - at - 4);
}

void label_encode(const struct label *label, unsigned copy, void *buf)
{
	struct label_disk *d = buf;

	memset(buf, 0, LABEL_BYTES);
	memcpy(d->magic, LABEL_MAGIC, sizeof(d->magic));
	d->length = htole32(label_length(label->device_count));
	d->major = htole16(label->major);
	d->minor = htole16(label->minor);
	d->copy = (uint8_t)copy;
	d->compat = htole64(label->compat);
	d->ro_compat = htole64(label->ro_compat);
	d->incompat = htole64(label->incompat);
	memcpy(d->pool_uuid, label->pool_uuid, 16);
	memcpy(d->device_uuid, label->device_uuid, 16);
	memcpy(d->name, label->name, sizeof(d->name));
	d->generation = htole64(label->generation);
	d->created_ns = htole64((uint64_t)label->created_ns);
	d->device_index = htole16(label->device_index);
	d->device_count = htole16(label->device_count);
	d->vdev_count = htole16(label->vdev_count);
	d->size_bytes = htole64(label->size_bytes);
	d->slot_bytes = htole64(label->slot_bytes);
	d->zones_offset = htole64(label->zones_offset);
	d->zone_bytes = htole32(label->zone_bytes);
	d->zones = htole32(label->zones);
	memcpy(d->hash_key, label->hash_key, 16);
	d->inodes_max = htole64(label->inodes_max);
	for (unsigned i = 0; i < label->device_count; i++) {
		const struct label_device *from = &label->devices[i];
		struct label_device_disk *to = &d->devices[i];

		memcpy(to->uuid, from->uuid, 16);
		to->size_bytes = htole64(from->size_bytes);
		to->vdev = htole16(from->vdev);
		to->flags = htole16(from->flags);
		to->zones = htole32(from->zones);
	}
	d->crc = htole32(label_crc(buf));
}

static void decode_fields(const struct label_disk *d, struct label *out)
{
	memset(out, 0, sizeof(*out));
	out->major = le16toh(d->major);
	out->minor = le16toh(d->minor);
	out->compat = le64toh(d->compat);
	out->ro_compat = le64toh(d->ro_compat);
	out->incompat = le64toh(d->incompat);
	memcpy(out->pool_uuid, d->pool_uuid, 16);
	memcpy(out->device_uuid, d->device_uuid, 16);
	memcpy(out->name, d->name, LABEL_NAME_MAX);
	out->generation = le64toh(d->generation);
	out->created_ns = (int64_t)le64toh(d->created_ns);
	out->device_index = le16toh(d->device_index);
	out->device_count = le16toh(d->device_count);
	out->vdev_count = le16toh(d->vdev_count);
	out->size_bytes = le64toh(d->size_bytes);
	out->slot_bytes = le64toh(d->slot_bytes);
	out->zones_offset = le64toh(d->zones_offset);
	out->zone_bytes = le32toh(d->zone_bytes);
	out->zones = le32toh(d->zones);
	memcpy(out->hash_key, d->hash_key, 16);
	out->inodes_max = le64toh(d->inodes_max);
}

static void decode_devices(const struct label_disk *d, struct label *out)
{
	for (unsigned i = 0; i < out->device_count; i++) {
		const struct label_device_disk *from = &d->devices[i];
		struct label_device *to = &out->devices[i];

		memcpy(to->uuid, from->uuid, 16);
		to->size_bytes = le64toh(from->size_bytes);
		to->vdev = le16toh(from->vdev);
		to->flags = le16toh(from->flags);
		to->zones = le32toh(from->zones);
	}
}

static uint64_t copy_b_offset(uint64_t size_bytes)
{
	return size_bytes / LABEL_AREA_BYTES * LABEL_AREA_BYTES - LABEL_AREA_BYTES;
}

static bool geometry_possible(const struct label *l)
{
	uint64_t end;

	if (l->size_bytes < LABEL_DEVICE_MIN_BYTES || l->size_bytes > UINT64_MAX / 2)
		return false;
	end = copy_b_offset(l->size_bytes);
	if (!l->slot_bytes || l->slot_bytes % LABEL_AREA_BYTES || l->slot_bytes > end / 2)
		return false;
	if (l->zones_offset % (1 << 20) || l->zones_offset > end ||
	    l->zones_offset < LABEL_AREA_BYTES + 2 * l->slot_bytes)
		return false;
	if (l->zone_bytes < (4u << 20) || l->zone_bytes > (64u << 20) ||
	    (l->zone_bytes & (l->zone_bytes - 1)))
		return false;
	return l->zones && l->zones <= (end - l->zones_offset) / l->zone_bytes;
}

static bool devices_possible(const struct label *l)
{
	const struct label_device *self = &l->devices[l->device_index];

	for (unsigned i = 0; i < l->device_count; i++)
		if (l->devices[i].vdev != i || !l->devices[i].zones)
			return false;
	return !memcmp(self->uuid, l->device_uuid, 16) && self->size_bytes == l->size_bytes &&
	       self->zones == l->zones;
}

static bool label_possible(const struct label_disk *d, const struct label *l)
{
	if (!l->device_count || l->device_count > LABEL_DEVICES_MAX ||
	    l->device_index >= l->device_count || l->vdev_count != l->device_count)
		return false;
	if (le32toh(d->length) != label_length(l->device_count) || d->copy > 1)
		return false;
	return label_name_valid(l->name) && geometry_possible(l);
}

int label_decode(const void *buf, struct label *out)
{
	const struct label_disk *d = buf;

	memset(out, 0, sizeof(*out));
	if (memcmp(d->magic, LABEL_MAGIC, sizeof(d->magic)))
		return -ENOENT;
	if (le32toh(d->crc) != label_crc(buf))
		return -EBADMSG;
	decode_fields(d, out);
	/* Names go to terminals and, line by line, to udev: one of a later format, or of a forger, is no exception. */
	if (!label_name_valid(out->name))
		memset(out->name, 0, sizeof(out->name));
	if (out->major != LABEL_MAJOR || (out->incompat & ~LABEL_INCOMPAT_KNOWN))
		return -EPROTONOSUPPORT;
	if (!label_possible(d, out))
		return -EBADMSG;
	decode_devices(d, out);
	return devices_possible(out) ? 0 : -EBADMSG;
}

static void print_uuid(FILE *out, const char *what, const uint8_t *uuid)
{
	char text[37];

	uuid_unparse_lower(uuid, text);
	fprintf(out, "%s %s\n", what, text);
}

void label_print(FILE *out, const struct label *l)
{
	fprintf(out, "label of device %u of %u, generation %" PRIu64 "\n", l->device_index,
		l->device_count, l->generation);
	fprintf(out, "  format            %u.%u\n", l->major, l->minor);
	fprintf(out, "  features          compat %#" PRIx64 ", ro_compat %#" PRIx64 ", incompat %#" PRIx64 "\n",
		l->compat, l->ro_compat, l->incompat);
	fprintf(out, "  pool              %s\n", l->name);
	print_uuid(out, "  pool uuid        ", l->pool_uuid);
	print_uuid(out, "  device uuid      ", l->device_uuid);
	fprintf(out, "  created           %" PRId64 " ns\n", l->created_ns);
	fprintf(out, "  size              %" PRIu64 " bytes\n", l->size_bytes);
	fprintf(out, "  metafs slots      2 of %" PRIu64 " bytes\n", l->slot_bytes);
	fprintf(out, "  zones             %" PRIu32 " of %" PRIu32 " bytes from %" PRIu64 "\n", l->zones,
		l->zone_bytes, l->zones_offset);
	fprintf(out, "  inodes            at most %" PRIu64 "\n", l->inodes_max);
	for (unsigned i = 0; i < l->device_count; i++) {
		const struct label_device *d = &l->devices[i];

		fprintf(out, "  device %-2u         vdev %u, %" PRIu64 " bytes, %" PRIu32 " zones, flags %#x", i,
			d->vdev, d->size_bytes, d->zones, d->flags);
		print_uuid(out, ", uuid", d->uuid);
	}
}

/* ---- Devices ---- */

static void *label_buffer(void)
{
	void *buf = NULL;

	if (posix_memalign(&buf, DEVICE_ALIGN_BYTES, LABEL_BYTES))
		return NULL;
	return buf;
}

static int read_copy(struct device *dev, uint64_t offset, struct label *out)
{
	cleanup_free void *buf = label_buffer();
	int err;

	if (!buf)
		return -ENOMEM;
	err = device_read(dev, buf, LABEL_BYTES, offset);
	return err ? err : label_decode(buf, out);
}

/* The worse news last, so that "not ours" is said only when no copy says more. */
static int worst(int a, int b)
{
	static const int order[] = { -ENOENT, -EIO, -EBADMSG, -EPROTONOSUPPORT };

	for (int i = 3; i >= 0; i--)
		if (a == order[i] || b == order[i])
			return order[i];
	return a;
}

/* Of a copy of a format that is not known the generation counts too: the other one may be what was before it. */
static bool unknown_counts(const struct label_found *found, int copy, const struct label *it, const struct label *other)
{
	return found->error[copy] == -EPROTONOSUPPORT &&
	       (found->error[!copy] || it->generation > other->generation);
}

int label_read(struct device *dev, struct label *out, struct label_found *found)
{
	uint64_t size = device_geometry(dev)->size_bytes, at_b;
	struct label_found local;
	struct label b;

	if (!found)
		found = &local;
	memset(found, 0, sizeof(*found));
	if (size < 2 * LABEL_AREA_BYTES)
		return -ENOENT;
	found->error[0] = read_copy(dev, 0, out);
	if (!found->error[0] && out->size_bytes > size)
		return -ENODATA;
	at_b = copy_b_offset(found->error[0] ? size : out->size_bytes);
	found->error[1] = read_copy(dev, at_b, &b);
	if (!found->error[0])
		found->generation[0] = out->generation;
	if (!found->error[1])
		found->generation[1] = b.generation;
	if (!found->error[0] && !found->error[1] && memcmp(out->pool_uuid, b.pool_uuid, 16))
		return -EBADMSG;
	if (unknown_counts(found, 0, out, &b))
		return -EPROTONOSUPPORT;
	if (unknown_counts(found, 1, &b, out)) {
		*out = b;
		return -EPROTONOSUPPORT;
	}
	if (found->error[0] && found->error[1])
		return worst(found->error[0], found->error[1]);
	if (found->error[0] || (!found->error[1] && b.generation > out->generation))
		*out = b;
	return out->size_bytes > size ? -ENODATA : 0;
}

static int write_copy(struct device *dev, const struct label *label, unsigned copy, uint64_t offset)
{
	cleanup_free void *buf = label_buffer();
	int err;

	if (!buf)
		return -ENOMEM;
	label_encode(label, copy, buf);
	err = device_write(dev, buf, LABEL_BYTES, offset, 0);
	return err ? err : device_flush(dev);
}

int label_write(struct device *dev, const struct label *label)
{
	int err = write_copy(dev, label, 1, copy_b_offset(label->size_bytes));

	return err ? err : write_copy(dev, label, 0, 0);
}

int label_wipe(struct device *dev)
{
	uint64_t size = device_geometry(dev)->size_bytes;
	cleanup_free void *zeros = NULL;
	int err;

	if (size < 2 * LABEL_AREA_BYTES)
		return -ENOSPC;
	if (posix_memalign(&zeros, DEVICE_ALIGN_BYTES, LABEL_AREA_BYTES))
		return -ENOMEM;
	memset(zeros, 0, LABEL_AREA_BYTES);
	err = device_write(dev, zeros, LABEL_AREA_BYTES, 0, 0);
	if (!err)
		err = device_write(dev, zeros, LABEL_AREA_BYTES, copy_b_offset(size), 0);
	return err ? err : device_flush(dev);
}

bool label_same_pool(const struct label *a, const struct label *b, char *why, size_t len)
{
	const char *what = NULL;

	if (memcmp(a->pool_uuid, b->pool_uuid, 16))
		what = "they belong to different pools";
	else if (a->device_count != b->device_count)
		what = "they name different numbers of devices";
	else if (a->device_index == b->device_index)
		what = "both are the same member";
	else if (strcmp(a->name, b->name) || a->slot_bytes != b->slot_bytes ||
		 memcmp(a->hash_key, b->hash_key, 16) || a->inodes_max != b->inodes_max)
		what = "their pool's name, hash key, slots or inode limit differ";
	else if (memcmp(a->devices, b->devices, sizeof(a->devices)))
		what = "their lists of devices differ";
	if (what)
		snprintf(why, len, "%s", what);
	return !what;
}
