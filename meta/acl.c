/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <sys/stat.h>

#include "io/le.h"
#include "meta/acl.h"

#define ACL_VERSION 2
#define ACL_UNDEFINED_ID UINT32_MAX

enum { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16, TAG_OTHER = 32 };

struct acl_entry {
	le16_t tag, perm;
	le32_t id;
} __attribute__((packed));

struct acl_head {
	le32_t version;
	struct acl_entry entries[];
} __attribute__((packed));

static unsigned count_of(size_t len)
{
	return (unsigned)((len - sizeof(struct acl_head)) / sizeof(struct acl_entry));
}

static uint32_t perm_of(const struct acl_entry *e)
{
	return get_le16(&e->perm);
}

/* The order is that of the tags; named ones need an id and a mask, the three classes are there once. */
int acl_validate(const void *acl, size_t len)
{
	const struct acl_head *head = acl;
	unsigned last = 0, seen = 0;

	if (len < sizeof(*head) || (len - sizeof(*head)) % sizeof(struct acl_entry) ||
	    get_le32(&head->version) != ACL_VERSION)
		return -EINVAL;
	for (unsigned i = 0; i < count_of(len); i++) {
		const struct acl_entry *e = &head->entries[i];
		const unsigned tag = get_le16(&e->tag);
		const bool named = tag == TAG_USER || tag == TAG_GROUP;

		if (get_le16(&e->perm) > 7 || !tag || tag > TAG_OTHER || (tag & (tag - 1)) || tag < last)
			return -EINVAL;
		if (!named && (seen & tag))
			return -EINVAL;
		if (named && get_le32(&e->id) == ACL_UNDEFINED_ID)
			return -EINVAL;
		seen |= tag;
		last = tag;
	}
	if (!seen)
		return 0;
	if ((seen & (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER)) != (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER))
		return -EINVAL;
	return (seen & (TAG_USER | TAG_GROUP)) && !(seen & TAG_MASK) ? -EINVAL : 0;
}

static struct acl_entry *find(struct acl_head *head, size_t len, unsigned tag)
{
	for (unsigned i = 0; i < count_of(len); i++)
		if (get_le16(&head->entries[i].tag) == tag)
			return &head->entries[i];
	return NULL;
}

/* Whoever the mode's group bits stand for: the mask, else the owning group. */
static struct acl_entry *group_class(struct acl_head *head, size_t len)
{
	return find(head, len, TAG_MASK) ?: find(head, len, TAG_GROUP_OBJ);
}

static bool is_plain(const struct acl_head *head, size_t len)
{
	for (unsigned i = 0; i < count_of(len); i++)
		if (get_le16(&head->entries[i].tag) & (TAG_USER | TAG_GROUP | TAG_MASK))
			return false;
	return true;
}

static void restrict_class(struct acl_entry *e, uint32_t *mode, unsigned shift)
{
	const uint32_t perm = perm_of(e) & *mode >> shift;

	put_le16(&e->perm, (uint16_t)perm);
	*mode = (*mode & ~(UINT32_C(7) << shift)) | perm << shift;
}

bool acl_inherit(void *acl, size_t len, uint32_t *mode)
{
	struct acl_head *head = acl;

	restrict_class(find(head, len, TAG_USER_OBJ), mode, 6);
	restrict_class(group_class(head, len), mode, 3);
	restrict_class(find(head, len, TAG_OTHER), mode, 0);
	return is_plain(head, len);
}

void acl_chmod(void *acl, size_t len, uint32_t mode)
{
	struct acl_head *head = acl;

	put_le16(&find(head, len, TAG_USER_OBJ)->perm, mode >> 6 & 7);
	put_le16(&group_class(head, len)->perm, mode >> 3 & 7);
	put_le16(&find(head, len, TAG_OTHER)->perm, mode & 7);
}

bool acl_to_mode(const void *acl, size_t len, uint32_t *mode)
{
	struct acl_head *head = (struct acl_head *)acl;

	*mode = (*mode & ~UINT32_C(0777)) | perm_of(find(head, len, TAG_USER_OBJ)) << 6 |
		perm_of(group_class(head, len)) << 3 | perm_of(find(head, len, TAG_OTHER));
	return is_plain(head, len);
}
