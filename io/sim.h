/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_SIM_H
#define NVFS_IO_SIM_H

#include "io/device.h"

/*
 * The device of the tests: memory that forgets what a real device may forget,
 * and misbehaves on request. It works through device_*() like any other,
 * synchronously and on reactors, from any number of threads.
 *
 * Everything random is drawn from seeds: the same calls in the same order give
 * the same result.
 */

struct sim_options {
	uint32_t sector_bytes;  /* the unit of tearing: 512 (when 0) or 4096 */
	bool write_through;     /* no volatile cache: answered writes are durable */
	bool no_discard;        /* discard is -EOPNOTSUPP */
	bool discard_garbage;   /* a discarded range reads as noise; without, as zeros */
};

/* A zeroed device. opts may be NULL. 0, -ENOMEM or -EINVAL. device_close() frees it. */
int device_sim_create(uint64_t size_bytes, const struct sim_options *opts, struct device **out);

/* ---- Power ---- */

/*
 * Cut the power: of the writes and discards not yet durable, those in flight
 * included, a subset chosen by seed survives, possibly torn at sectors; the
 * rest is gone. Until sim_power_on() every request fails with -EIO, and one
 * that was in flight now never has an effect any more.
 */
void sim_power_cut(struct device *dev, uint64_t seed);
void sim_power_on(struct device *dev);

/*
 * A new device, powered and without faults, as this one would look after a cut
 * now; this one goes on undisturbed. Costs memory only for what they come to
 * differ in. 0 or -ENOMEM.
 */
int sim_snapshot_cut(struct device *dev, uint64_t seed, struct device **out);

/* The same with nothing lost: what a reader sees now. */
int sim_snapshot_current(struct device *dev, struct device **out);

/* Writes and discards that a cut now could lose. */
size_t sim_unflushed(struct device *dev);

/*
 * Called after each write, flush and discard that had an effect, without locks
 * held, on the thread that caused it; step counts them from 1. The place to
 * take a snapshot. NULL removes it. When sim_set_step_hook() returns no other thread is in the one before.
 */
typedef void (*sim_step_fn)(struct device *dev, enum io_op op, uint64_t step, void *arg);
void sim_set_step_hook(struct device *dev, sim_step_fn fn, void *arg);

/* ---- Faults ---- */

struct sim_faults {
	uint64_t seed;

	/* The Nth operation from now fails (1: the next; 0: none), that one only. */
	uint64_t fail_read_at, fail_write_at, fail_flush_at;

	/* Each fails with this probability, in millionths. */
	uint32_t fail_read_ppm, fail_write_ppm, fail_flush_ppm;

	/* Each write that touches these bytes fails. */
	uint64_t bad_from_bytes, bad_to_bytes;

	int error; /* a positive errno for all of them; 0 is EIO */

	/* Transfers fewer bytes than asked for (whole blocks, and at least one). */
	uint32_t short_ppm;

	/* A read gives one flipped bit, or one 4096-byte block of the neighbour. */
	uint32_t bit_flip_ppm, misdirect_ppm;

	/*
	 * An asynchronous request is answered after a time drawn from here, so
	 * they overtake each other; a synchronous one sleeps as long.
	 */
	uint64_t latency_min_ns, latency_max_ns;
};

/* Replace the faults; NULL is none. Any thread. */
void sim_set_faults(struct device *dev, const struct sim_faults *faults);

/* Flip one bit of the medium itself, durable. */
void sim_flip_bit(struct device *dev, uint64_t offset_bytes, unsigned bit);

#endif
