/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of a reactor: for io/ only. Everything here is "reactor thread" unless it says more. */
#ifndef NVFS_IO_REACTOR_RING_H
#define NVFS_IO_REACTOR_RING_H

#include <liburing.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "io/reactor.h"
#include "io/spin.h"
#include "io/turns.h"

#define REACTOR_FILES 64           /* registered descriptors */
#define REACTOR_BUFFERS 16         /* registered stretches of memory ... */
#define REACTOR_BUFFER_BYTES ((size_t)1 << 30) /* ... of at most this, the kernel's limit */

struct msg_list {
	struct reactor_msg *head, **tail;
};

static inline void msg_list_init(struct msg_list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static inline void msg_list_push(struct msg_list *l, struct reactor_msg *msg)
{
	msg->next = NULL;
	*l->tail = msg;
	l->tail = &msg->next;
}

static inline struct reactor_msg *msg_list_pop(struct msg_list *l)
{
	struct reactor_msg *msg = l->head;

	if (msg) {
		l->head = msg->next;
		if (!l->head)
			l->tail = &l->head;
	}
	return msg;
}

/* As reactor_stats, each counter written by the reactor only and read by anybody. */
struct reactor_counters {
	atomic_uint_fast64_t iterations, sleeps, wakeups, submit_calls, submitted, completions;
	atomic_uint_fast64_t spin_ns, spin_hits, fixed_ios, queued_ios;
};

static inline void counter_add(atomic_uint_fast64_t *c, uint64_t n)
{
	/* One writer: no locked instruction is needed. */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

struct reactor {
	/* Any thread. */
	_Alignas(64) _Atomic(struct reactor_msg *) mailbox;
	atomic_bool stop_posted;
	atomic_uintptr_t owner; /* pthread_self() of the reactor's thread, 0 before the first run */
	int wake_fd;            /* eventfd; constant */

	/* Reactor thread. */
	_Alignas(64) struct io_uring ring;
	uint64_t now_ns;
	unsigned inflight;       /* SQEs whose last CQE has not come */
	unsigned inflight_limit; /* size of the completion queue */
	unsigned armed_polls;    /* of inflight: they may be any number, and leave device requests their room */
	bool iterating;
	bool running;            /* inside reactor_run() */
	bool stopping;
	bool firing;             /* inside the timer phase */
	bool wake_armed;
	unsigned ios;            /* device requests not answered */
	struct reactor_op wake_op;
	uint64_t wake_value;
	struct reactor_msg stop_msg;
	struct msg_list deferred;
	struct msg_list room_waiters;
	struct reactor_timer *timers; /* root of a pairing heap */
	struct reactor_source *sources, *resting; /* asked in each iteration; not asked until their polls complete */
	struct reactor_source *source_next, *source_asked;
	struct turns turns;                /* parties with sources among those that are asked */
	uint64_t turn_end_ns;              /* of the source that is being asked; 0: it shares with nobody */
	struct reactor_poll_op *polls;     /* all of them */
	struct reactor_poll_op *poll_todo; /* to be armed or cancelled before the next submission */
	struct spin spin;
	struct reactor_counters count;

	/* Registered with the ring. */
	uint64_t file_owner[REACTOR_FILES]; /* device id, 0: empty */
	bool files_registered;
	struct {
		uintptr_t base;
		size_t bytes;
	} buffer[REACTOR_BUFFERS];
	unsigned buffers;
	bool buffers_registered, buffers_refused;

	/* Of reactor_start_thread(). */
	pthread_t thread;
	char thread_name[16];
	bool thread_started;
	sem_t thread_bound;
};

/*
 * An SQE to prepare now, submitting those before it if need be, or NULL when
 * the ring is full. reactor_start_sqe() has to follow.
 */
struct io_uring_sqe *reactor_get_sqe(struct reactor *r);

/* Count it, and give its completion to op (NULL: to nobody). After it was prepared. */
void reactor_start_sqe(struct reactor *r, struct io_uring_sqe *sqe, struct reactor_op *op);

/* Whether a request may take an SQE now: nobody waits, and there is room for its CQE. */
bool reactor_has_room(struct reactor *r);

/* Run msg->fn when there is room, in order of arrival. fn takes at most one SQE. */
void reactor_await_room(struct reactor *r, struct reactor_msg *msg);

/*
 * The index in the ring's file table under which fd of the device with this id
 * (never 0, never reused) is registered, registering it at first use; -1 when
 * it cannot be. slot is the device's place, below REACTOR_FILES.
 */
int reactor_fixed_file(struct reactor *r, unsigned slot, uint64_t id, int fd);
void reactor_forget_file(struct reactor *r, unsigned slot, uint64_t id);

/* The ring's references to files keep them open and locked: drop them all. */
void reactor_forget_files(struct reactor *r);

/* The index of the registered buffer that contains the range, or -1. */
int reactor_fixed_buffer(const struct reactor *r, const void *base, size_t len_bytes);

/* ---- reactor_timer.c ---- */

uint64_t reactor_next_deadline(const struct reactor *r); /* REACTOR_NEVER_NS: none */
bool reactor_run_timers(struct reactor *r);

/* ---- reactor_poll.c ---- */

bool reactor_run_sources(struct reactor *r);
void reactor_arm_sources(struct reactor *r);
void reactor_prepare_polls(struct reactor *r);
void reactor_free_polls(struct reactor *r);

#endif
