/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every stored block against its checksum, in the order of the maps. What a record inherited is checked with the record
 * that it inherited from.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"
#include "meta/check_internal.h"

struct data_pass {
	struct check *check;
	uint8_t *buf;  /* CHUNK_BYTES, aligned */
	uint8_t *data; /* CHUNK_BYTES, what a compressed run holds */
	uint64_t done;
	uint64_t bad_ino; /* of the last bad block, of bad_node of bad_tree */
	uint32_t bad_tree, bad_node;
	char *bad_path;
};

/* Blocks of one file lie together, and a path is searched for in whole directories. */
static const char *path_of(struct data_pass *p, const struct map_key *k)
{
	struct check_node *n = check_node_find(p->check, k->tree, k->node);
	struct check_view view = { 0 };

	if (p->bad_ino != k->ino || p->bad_tree != k->tree || p->bad_node != k->node) {
		p->bad_ino = k->ino;
		p->bad_tree = k->tree;
		p->bad_node = k->node;
		free(p->bad_path);
		p->bad_path = NULL;
		if (n && check_view_init(p->check, n, &view) == 0)
			p->bad_path = check_path(&view, k->ino);
		check_view_free(&view);
	}
	return p->bad_path && *p->bad_path ? p->bad_path : "?";
}

static void bad_block(struct data_pass *p, const struct map_key *k, const struct map_run *run,
		      unsigned block, const char *what)
{
	struct check *c = p->check;
	const uint64_t offset = (k->chunk * CHUNK_BLOCKS + run->block + block) * NVFS_BLOCK_SIZE;
	const uint64_t address = run->address + (run->flags & RUN_COMPRESSED ? 0 : block);

	check_found(c, false, "%s: inode %" PRIu64 " (%s) offset %" PRIu64 ": %s at %s byte %" PRIu64,
		    check_node_name(c, k->tree, k->node), k->ino, path_of(p, k), offset, what,
		    device_name(c->devices[run->vdev]), address * NVFS_BLOCK_SIZE);
}

static void check_compressed(struct data_pass *p, const struct map_key *k, const struct map_run *run,
			     uint32_t crc)
{
	const int raw = run->raw_blocks * (int)NVFS_BLOCK_SIZE;

	if (crc32c(0, p->buf, run->stored_bytes) != crc)
		bad_block(p, k, run, 0, "wrong checksum");
	else if (LZ4_decompress_safe((const char *)p->buf, (char *)p->data, (int)run->stored_bytes,
				     raw) != raw)
		bad_block(p, k, run, 0, "cannot be decompressed");
}

static void check_run(struct data_pass *p, const struct map_key *k, const struct map_run *run,
		      const uint32_t *crcs)
{
	struct check *c = p->check;
	const uint64_t len = run->stored_blocks * (uint64_t)NVFS_BLOCK_SIZE;

	if (run->vdev >= c->ndevices ||
	    run->address * NVFS_BLOCK_SIZE + len > c->labels[run->vdev].size_bytes)
		return; /* reported with the maps */
	if (device_read(c->devices[run->vdev], p->buf, len, run->address * NVFS_BLOCK_SIZE)) {
		bad_block(p, k, run, 0, "cannot be read");
		return;
	}
	if (run->flags & RUN_COMPRESSED) {
		check_compressed(p, k, run, crcs[0]);
		return;
	}
	for (unsigned b = 0; b < map_run_ncrcs(run); b++)
		if (crc32c(0, p->buf + b * NVFS_BLOCK_SIZE, NVFS_BLOCK_SIZE) != crcs[b])
			bad_block(p, k, run, b, "wrong checksum");
}

static int data_step(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct data_pass *p = arg;
	struct map_key k;
	struct map_rec rec;
	unsigned crc = 0;

	if (map_key_parse(key, key_len, &k) < 0 || map_rec_decode(value, len, &rec) < 0)
		return 0;
	for (unsigned i = 0; i < rec.nruns; i++) {
		const struct map_run *run = &rec.runs[i];

		if (map_run_stored(run) && !(run->flags & RUN_INHERITED)) {
			check_run(p, &k, run, rec.crcs + crc);
			p->done += run->stored_blocks;
			check_progress(p->check, "data", p->done, p->check->result.data_blocks);
		}
		crc += map_run_ncrcs(run);
	}
	return 0;
}

int check_data(struct check *c)
{
	struct data_pass pass = { .check = c };
	int err = -ENOMEM;

	pass.buf = aligned_alloc(NVFS_BLOCK_SIZE, CHUNK_BYTES);
	pass.data = malloc(CHUNK_BYTES);
	c->own_progress = true;
	if (pass.buf && pass.data)
		err = check_each(c, DB_MAP, "data", NULL, 0, data_step, &pass);
	c->own_progress = false;
	free(pass.buf);
	free(pass.data);
	free(pass.bad_path);
	return err;
}
