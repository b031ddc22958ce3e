/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Two levels: an array of leaves, a leaf of 512 pages of 4 KiB. Both are
 * counted and shared by copies; a holder of a count above one copies before it
 * writes. A count that is one can't be raised by others, as only a holder
 * copies. What is missing is zeros.
 */

#include "io/sim_image.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define LEAF_PAGES 512u
#define LEAF_BYTES ((uint64_t)PAGE_BYTES * LEAF_PAGES)

struct sim_page {
	atomic_uint refs;
	uint8_t data[PAGE_BYTES];
};

struct sim_leaf {
	atomic_uint refs;
	struct sim_page *page[LEAF_PAGES];
};

static void page_put(struct sim_page *p)
{
	if (p && atomic_fetch_sub(&p->refs, 1) == 1)
		free(p);
}

static void leaf_put(struct sim_leaf *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < LEAF_PAGES; i++)
		page_put(l->page[i]);
	free(l);
}

int sim_image_init(struct sim_image *img, uint64_t size_bytes)
{
	img->leaves = (size_t)((size_bytes + LEAF_BYTES - 1) / LEAF_BYTES);
	img->leaf = calloc(img->leaves, sizeof(*img->leaf));
	return img->leaf ? 0 : -ENOMEM;
}

void sim_image_free(struct sim_image *img)
{
	for (size_t i = 0; img->leaf && i < img->leaves; i++)
		leaf_put(img->leaf[i]);
	free(img->leaf);
	img->leaf = NULL;
}

int sim_image_clone(struct sim_image *dst, const struct sim_image *src)
{
	dst->leaves = src->leaves;
	dst->leaf = malloc(src->leaves * sizeof(*dst->leaf));
	if (!dst->leaf)
		return -ENOMEM;
	for (size_t i = 0; i < src->leaves; i++) {
		dst->leaf[i] = src->leaf[i];
		if (dst->leaf[i])
			atomic_fetch_add(&dst->leaf[i]->refs, 1);
	}
	return 0;
}

/* The leaf in *slot, made if need be, and nobody else's. NULL: no memory. */
static struct sim_leaf *leaf_own(struct sim_leaf **slot)
{
	struct sim_leaf *old = *slot, *l;

	if (old && atomic_load(&old->refs) == 1)
		return old;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	atomic_init(&l->refs, 1);
	for (unsigned i = 0; old && i < LEAF_PAGES; i++) {
		l->page[i] = old->page[i];
		if (l->page[i])
			atomic_fetch_add(&l->page[i]->refs, 1);
	}
	leaf_put(old);
	return *slot = l;
}

static struct sim_page *page_own(struct sim_page **slot)
{
	struct sim_page *old = *slot, *p;

	if (old && atomic_load(&old->refs) == 1)
		return old;
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	if (old)
		memcpy(p->data, old->data, PAGE_BYTES);
	else
		memset(p->data, 0, PAGE_BYTES);
	page_put(old);
	return *slot = p;
}

/* Within one page. */
static int page_write(struct sim_image *img, uint64_t offset, const void *buf, size_t len)
{
	struct sim_leaf **slot = &img->leaf[offset / LEAF_BYTES], *l;
	unsigned i = (unsigned)(offset % LEAF_BYTES / PAGE_BYTES);
	struct sim_page *p;

	if (!buf && (!*slot || !(*slot)->page[i]))
		return 0;
	l = leaf_own(slot);
	if (!l)
		return -ENOMEM;
	if (!buf && len == PAGE_BYTES) {
		page_put(l->page[i]);
		l->page[i] = NULL;
		return 0;
	}
	p = page_own(&l->page[i]);
	if (!p)
		return -ENOMEM;
	if (buf)
		memcpy(p->data + offset % PAGE_BYTES, buf, len);
	else
		memset(p->data + offset % PAGE_BYTES, 0, len);
	return 0;
}

static size_t page_rest(uint64_t offset, size_t len)
{
	size_t rest = PAGE_BYTES - offset % PAGE_BYTES;

	return rest < len ? rest : len;
}

int sim_image_write(struct sim_image *img, uint64_t offset, const void *buf, size_t len)
{
	const char *from = buf;

	while (len) {
		size_t n = page_rest(offset, len);
		int rc = page_write(img, offset, from, n);

		if (rc)
			return rc;
		from = from ? from + n : NULL;
		offset += n;
		len -= n;
	}
	return 0;
}

void sim_image_read(const struct sim_image *img, uint64_t offset, void *buf, size_t len)
{
	char *to = buf;

	while (len) {
		const struct sim_leaf *l = img->leaf[offset / LEAF_BYTES];
		const struct sim_page *p = l ? l->page[offset % LEAF_BYTES / PAGE_BYTES] : NULL;
		size_t n = page_rest(offset, len);

		if (p)
			memcpy(to, p->data + offset % PAGE_BYTES, n);
		else
			memset(to, 0, n);
		to += n;
		offset += n;
		len -= n;
	}
}
