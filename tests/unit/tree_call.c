/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that calls: ops of meta/, the names of its files, what is in their blocks. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "meta/orphan.h"
#include "tests/unit/tree_internal.h"

enum tree_kind kind_of(unsigned f)
{
	return f < 4 ? TREE_PLAIN : f == 4 ? TREE_WIDE : TREE_SMALL;
}

uint64_t slot_at(unsigned f, unsigned slot)
{
	return (uint64_t)slot * (kind_of(f) == TREE_WIDE ? WIDE : 1) * BLOCK;
}

#define CALL(function, expression)                        \
	int function(struct op *op, void *arg)            \
	{                                                 \
		struct call *c = arg;                     \
                                                          \
		return (int)(expression);                 \
	}

CALL(do_lookup, names_lookup(op, c->ino, c->name, strlen(c->name), &c->attr))
CALL(do_link, names_link(op, c->ino, c->ino2, c->name, strlen(c->name), &c->attr))
CALL(do_unlink, names_unlink(op, c->ino, c->name, strlen(c->name)))
CALL(do_setattr, attr_set(op, c->ino, c->flags, &c->attr, &c->attr))
CALL(do_setxattr, xattr_set(op, c->ino, c->name, c->data, c->len, 0, false))
CALL(do_getxattr, xattr_get(op, c->ino, c->name, c->data, c->len))
CALL(do_removexattr, xattr_remove(op, c->ino, c->name))
CALL(do_write, data_write(op, c->ino, c->offset, c->data, c->len, c->flags))
CALL(do_fallocate, data_fallocate(op, c->ino, (int)c->flags, c->offset, c->len))
CALL(do_copy, data_copy_range(op, c->ino, c->offset, c->ino2, c->offset2, c->len))
CALL(do_sync, ((void)c, data_sync_all(op)))
CALL(is_busy, ((void)c, reaper_busy(op->sv) || cutter_busy(op->sv->data)))
CALL(do_know, (lookup_add(op->sv, c->ino, 1), 0))
CALL(do_forget, (lookup_forget(op->sv, c->ino, 1), 0))

int do_create(struct op *op, void *arg)
{
	struct call *c = arg;
	const struct names_new what = { .mode = c->flags };

	return names_create(op, c->ino, c->name, strlen(c->name), &what, &c->attr);
}

int do_read(struct op *op, void *arg)
{
	struct call *c = arg;
	struct iovec *iov;
	unsigned count;
	uint8_t *to = c->data;
	ssize_t r = data_read(op, c->ino, c->offset, c->len, c->flags, &iov, &count);

	for (unsigned i = 0; r >= 0 && i < count; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	return (int)r;
}

int call(struct subvol *sv, call_fn fn, struct call c)
{
	return subvol_call(sv, fn, &c);
}

void file_name(char *out, unsigned f)
{
	sprintf(out, "f%u", f);
}

void link_name(char *out, unsigned f, unsigned n)
{
	memset(out, 'x', LINK_NAME);
	out[sprintf(out, "l%u-%u", f, n)] = '-';
	out[LINK_NAME] = 0;
}

void tree_fill(void *block, uint32_t content, size_t len)
{
	uint32_t *words = block;

	/* What can be compressed is, in some subvolumes. */
	for (size_t i = 0; i < len / 4; i++)
		words[i] = content ? content * 2654435761u + (uint32_t)(content % 3 ? i / 64 : i * i * 40503u) : 0;
}
