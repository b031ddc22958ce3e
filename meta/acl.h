/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_ACL_H
#define NVFS_META_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * POSIX ACLs (acl(5)) in the form of their xattrs: a version and entries of tag, permissions and
 * id, little-endian (linux/posix_acl_xattr.h). The kernel checks permissions; what is ours is
 * to keep ACL and mode in step.
 */

#define ACL_ACCESS_NAME "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"

/* Whether these bytes are an ACL that the kernel would take: 0 or -EINVAL. An empty one is none. */
int acl_validate(const void *acl, size_t len);

/*
 * The access ACL of something new below a directory with this default ACL, whose creator asked for *mode: acl is
 * changed in place, *mode gets the permissions that result. True when the mode says all of it, so that the ACL need not be stored.
 */
bool acl_inherit(void *acl, size_t len, uint32_t *mode);

/* chmod: the ACL in place becomes what mode says. */
void acl_chmod(void *acl, size_t len, uint32_t mode);

/* A new access ACL: *mode becomes what it says. True when the mode says all of it. */
bool acl_to_mode(const void *acl, size_t len, uint32_t *mode);

#endif
