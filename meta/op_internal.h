/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_OP_INTERNAL_H
#define NVFS_META_OP_INTERNAL_H

#include "io/workers.h"
#include "meta/op.h"

/*
 * Inputs: what workers read from the device for an op. An input is found by its kind and key when
 * the op runs again. It is *fresh* while the subvolume has written nothing since it was asked for.
 */

enum op_input_kind { OP_INPUT_RECORD, OP_INPUT_WALK, OP_INPUT_RANGE };

struct op_input {
	struct work work;
	void (*fetch)(struct op_input *in); /* on a worker: fills in what follows in the derived struct */
	void (*clear)(struct op_input *in); /* what fetch left; then the input is freed or fetched again */
	struct op *op;                      /* NULL: the op ended first */
	struct subvol *sv;
	struct db *db;
	struct op_input *next;
	uint64_t epoch;
	bool running;
	enum op_input_kind kind;
	enum db_cf cf;
	size_t key_len;
	uint8_t *key; /* into the derived struct's allocation */
};

struct op_input *op_input_find(struct op *op, enum op_input_kind kind, enum db_cf cf, const void *key, size_t key_len);
bool op_input_fresh(const struct op *op, const struct op_input *in);

/* Add a new input (malloc'ed, fields below epoch set) to the op's list. */
void op_input_add(struct op *op, struct op_input *in);

/* Have a worker run fetch. Returns META_WAIT. */
int op_input_start(struct op *op, struct op_input *in);

/* Forget what it had. When that is old it counts as a reason to ask for quiet. */
void op_input_reset(struct op *op, struct op_input *in);

/* For subvol_write(): 0, or META_WAIT when another op has asked that nothing be written until it ran. */
int op_check_quiet(struct op *op);

#endif
