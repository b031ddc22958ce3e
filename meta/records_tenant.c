/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>

#include "meta/records_internal.h"

_Static_assert(sizeof(struct tenant_limits) == DISK_TENANT_LIMITS * sizeof(uint64_t),
	       "limits are nine numbers");

static bool owners_valid(const uint32_t *ids, unsigned count)
{
	if (count > TENANT_OWNERS_MAX)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (ids[i] == UINT32_MAX) /* nobody's: (uid_t)-1 */
			return false;
	return true;
}

int tenant_rec_validate(const struct tenant_rec *rec)
{
	const struct tenant_settings *s = &rec->set;
	const uint64_t most = INT64_MAX / NVFS_BLOCK_SIZE;

	VALID(rec->flags == 0);
	VALID(s->limits.used_blocks <= most && s->limits.provisioned_blocks <= most && s->limits.inodes <= INT64_MAX);
	VALID(s->soft_blocks <= most && s->default_size_blocks <= most && s->default_inodes <= INT64_MAX);
	VALID(!s->soft_blocks || s->grace_s);
	VALID(s->default_claim <= TENANT_CLAIM_THIN && s->default_compression <= TENANT_COMPRESSION_LZ4);
	VALID(owners_valid(s->uids, s->uid_count) && owners_valid(s->gids, s->gid_count));
	return object_name_validate(rec->name, rec->name_len);
}

static void limits_get(const struct disk_tenant *d, struct tenant_limits *out)
{
	uint64_t limits[DISK_TENANT_LIMITS];

	for (unsigned i = 0; i < DISK_TENANT_LIMITS; i++)
		limits[i] = get_le64((const uint8_t *)d->limits + i * sizeof(le64_t));
	memcpy(out, limits, sizeof(limits));
}

int tenant_rec_decode(const void *data, size_t len, struct tenant_rec *out)
{
	const struct disk_tenant *d = data;
	const uint8_t *ids;

	VALID(head_is(data, len, REC_TENANT, sizeof(*d)));
	VALID(d->uid_count <= TENANT_OWNERS_MAX && d->gid_count <= TENANT_OWNERS_MAX);
	VALID(len == sizeof(*d) + d->name_len + (d->uid_count + d->gid_count) * sizeof(le32_t));
	*out = (struct tenant_rec){
		.flags = get_le16(&d->flags),
		.name_len = d->name_len,
		.set = {
			.soft_blocks = get_le64(&d->soft_blocks),
			.grace_s = get_le32(&d->grace_s),
			.default_size_blocks = get_le64(&d->default_size_blocks),
			.default_inodes = get_le64(&d->default_inodes),
			.default_claim = d->default_claim,
			.default_compression = d->default_compression,
			.uid_count = d->uid_count,
			.gid_count = d->gid_count,
		},
		.soft_since_ns = (int64_t)get_le64(&d->soft_since_ns),
		.created_ns = (int64_t)get_le64(&d->created_ns),
		.name = (const char *)d->name,
	};
	limits_get(d, &out->set.limits);
	ids = d->name + d->name_len;
	for (unsigned i = 0; i < d->uid_count; i++, ids += sizeof(le32_t))
		out->set.uids[i] = get_le32(ids);
	for (unsigned i = 0; i < d->gid_count; i++, ids += sizeof(le32_t))
		out->set.gids[i] = get_le32(ids);
	return tenant_rec_validate(out);
}

size_t tenant_rec_encode(const struct tenant_rec *rec, void *buf)
{
	const struct tenant_settings *s = &rec->set;
	struct disk_tenant *d = buf;
	uint64_t limits[DISK_TENANT_LIMITS];
	uint8_t *ids;

	assert(tenant_rec_validate(rec) == 0);
	head_put(buf, REC_TENANT, sizeof(*d));
	put_le16(&d->flags, rec->flags);
	memcpy(limits, &s->limits, sizeof(limits));
	for (unsigned i = 0; i < DISK_TENANT_LIMITS; i++)
		put_le64((uint8_t *)d->limits + i * sizeof(le64_t), limits[i]);
	put_le64(&d->soft_blocks, s->soft_blocks);
	put_le64(&d->soft_since_ns, (uint64_t)rec->soft_since_ns);
	put_le64(&d->default_size_blocks, s->default_size_blocks);
	put_le64(&d->default_inodes, s->default_inodes);
	put_le64(&d->created_ns, (uint64_t)rec->created_ns);
	put_le32(&d->grace_s, s->grace_s);
	d->default_claim = s->default_claim;
	d->default_compression = s->default_compression;
	d->uid_count = s->uid_count;
	d->gid_count = s->gid_count;
	d->name_len = rec->name_len;
	memcpy(d->name, rec->name, rec->name_len);
	ids = d->name + d->name_len;
	for (unsigned i = 0; i < s->uid_count; i++, ids += sizeof(le32_t))
		put_le32(ids, s->uids[i]);
	for (unsigned i = 0; i < s->gid_count; i++, ids += sizeof(le32_t))
		put_le32(ids, s->gids[i]);
	return (size_t)(ids - (uint8_t *)buf);
}
