/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_OP_H
#define NVFS_META_OP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/device.h"
#include "io/reactor.h"
#include "meta/db.h"

/*
 * An op is one request in execution: a FUSE request, a step of a background
 * job, a call of a test. The functions of meta/ that take an op are
 * *restartable*:
 *
 *   - They collect every input first. When one is missing (a cold record, an
 *     old block, room under the dirty cap, a busy file) they change nothing, arrange for
 *     it, and return META_WAIT.
 *   - When it is there, op->run(op) is called from the reactor's loop (never
 *     from inside the function that returned META_WAIT); it calls the same
 *     function with the same arguments again.
 *   - Everything else they return is final: 0 or a count, or -errno with nothing changed.
 *
 * So between the checks and the change of a handler nothing else of that
 * subvolume runs, and no handler needs to undo anything. Work that must not be done again by a
 * restart (I/O that was started, a write-back that was waited for) is remembered in the op, in the
 * `stage` and `io` fields that belong to the function at work.
 *
 * Reactor thread only, as is everything that takes an op.
 */

#define META_WAIT (-4095) /* no errno: the op waits and will be run again */

struct subvol;
struct op_input; /* a record that a worker fetched for this op */
struct op_io;    /* buffers and requests of this op's device I/O */

struct op {
	/* Set by the creator before the first call. */
	struct subvol *sv;
	void (*run)(struct op *op);
	uint32_t uid, gid; /* of the caller: fsuid and fsgid */
	uint32_t session;  /* with unique: names the result of a replayable request; 0 = none */
	uint16_t slot;     /* request slot of the session */
	uint64_t unique;

	/* Of meta/, for the caller: set-id bits of the file were taken away, which no answer to a write can say. */
	bool killed_setid;

	/* Of meta/: what it writes was accepted before, so the subvolume's gate is open for it (subvol_internal.h). */
	bool passes_gate;

	/* Belong to the functions of meta/; zero at the start. */
	int stage;
	int error;              /* of an input */
	unsigned steps;         /* which parts of a compound change are done: names*.c, attr.c */
	uint64_t moment;        /* a sequence that the op remembers over restarts */
	uint64_t blocks, own_blocks; /* that the op counts over restarts: fallocate.c; */
	uint32_t counted_node;  /* while this was the live node */
	struct file *keeps;     /* pinned; blocks were taken for the op: file_take_ahead() */
	uint64_t room_moment;   /* what was given back up to then may be what a charge lacks: subvol_charge_op() */
	struct op_io *io;       /* device I/O, with the function that op_finish() calls for it */
	void (*io_release)(struct op *op);

	/* op.c's own. */
	unsigned pending;       /* what the op waits for: inputs, a queue, a timer, op_hold() */
	unsigned restarts;
	bool deferred;          /* its message is on the way: it will be run */
	struct op_input *inputs;
	struct op_queue *queue; /* the one that it is in */
	struct op *next;        /* there */
	struct reactor_msg msg;
	struct reactor_timer timer;
};

/* Make op ready for its first call: zero, then the given fields. */
void op_init(struct op *op, struct subvol *sv, void (*run)(struct op *op));

/* After the final return: release what the op still holds (inputs, buffers, pins). The op can be initialised again. */
void op_finish(struct op *op);

/*
 * Wait for something of the caller's own, such as device I/O: each op_hold() returns META_WAIT and is answered by one
 * op_release(), on the reactor thread. The op runs again when nothing is pending any more, whatever mixture it waits for.
 */
int op_hold(struct op *op);
void op_release(struct op *op);

/*
 * A FIFO of ops that wait for the same thing. op_wait() queues (an op is in one queue at a time) and returns META_WAIT;
 * op_wake_all() takes the queue and has each op run again, in order, from the reactor's loop
 * (reactor_defer).
 */
struct op_queue {
	struct op *head, *tail;
};

int op_wait(struct op *op, struct op_queue *q);
void op_wake_all(struct op_queue *q);
void op_wake_one(struct op_queue *q);

/* Run op again in the next iteration (a stalled RocksDB: after delay_ns). Returns META_WAIT. */
int op_again(struct op *op, uint64_t delay_ns);

/*
 * Read a record for op: 0 with *out (release it), -ENOENT, -EIO, or META_WAIT when RocksDB has to go to
 * the device: a worker reads it, op is run again and then finds the value as its input (and, should
 * the subvolume's records have changed since, reads once more).
 */
int op_get(struct op *op, enum db_cf cf, const void *key, size_t key_len, struct db_value *out);

/*
 * ---- Replayable requests ----
 *
 * Every change of the namespace by an op with a session leaves its result in the batch (record `R`). Before a request that may have
 * been executed by an earlier worker is executed, ask for it: 1 and *ino, the inode that the reply is about (0: none), when it was;
 * 0 when it was not; META_WAIT, -EIO.
 */
int op_replayed(struct op *op, uint64_t *ino);

#endif
