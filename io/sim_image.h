/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of a simulated device: copied in O(size / 2 MiB), shared until it is written. */
#ifndef NVFS_IO_SIM_IMAGE_H
#define NVFS_IO_SIM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct sim_leaf;

/* Whoever has it locks it; images that share memory need no common lock. */
struct sim_image {
	struct sim_leaf **leaf;
	size_t leaves;
};

/* All zeros. 0 or -ENOMEM. */
int sim_image_init(struct sim_image *img, uint64_t size_bytes);
void sim_image_free(struct sim_image *img);

/* dst is not initialised before. 0 or -ENOMEM. */
int sim_image_clone(struct sim_image *dst, const struct sim_image *src);

void sim_image_read(const struct sim_image *img, uint64_t offset, void *buf, size_t len);

/* buf NULL writes zeros. 0 or -ENOMEM, then part of it may be written. */
int sim_image_write(struct sim_image *img, uint64_t offset, const void *buf, size_t len);

#endif
