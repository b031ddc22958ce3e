/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_SESSION_H
#define NVFS_FS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <fuse_lowlevel.h>

#include "fs/latency.h"
#include "fs/request.h"

/*
 * A FUSE connection on a reactor: reads requests, has libfuse parse and dispatch
 * them, writes the replies. What the requests mean is the handlers' affair.
 *
 *	new --mounted--> active <--> paused (no buffer free), held (its limits let no more be read)
 *	  \                 \________/
 *	   \__________________v
 *	                    ending --last request answered--> ended()
 *
 * A handler is one of libfuse's operations. The session that it serves is
 * fuse_req_userdata(req), the request session_take(). It answers now or later, by session_reply_*() and nothing else;
 * if it did not take the request, that has to be answered (by libfuse's fuse_reply_*) when it returns.
 *
 * The descriptor may come before mount(2) was called for it. The kernel has no event for "mounted", so the session tries to
 * read until it is (a few times a millisecond at first, 20 ms apart later), or until session_abandon() says that
 * nobody is going to mount it.
 *
 * Reactor thread only, but for what says otherwise.
 */

struct session;

struct session_ops {
	const struct fuse_lowlevel_ops *fuse; /* init is the session's */
	size_t priv_bytes;                    /* that the handlers expect in request->priv */
	/*
	 * Called before libfuse's dispatcher with each request but INIT: true when the request was
	 * taken, or needs no answer.
	 */
	bool (*early)(struct session *s, struct request *r);
	/* What a request counts as for the limits, and the bytes of data that it moves. May be NULL: nothing is limited. */
	enum throttle_kind (*cost)(const struct request *r, uint64_t *bytes);
	/* A limit holds a request back; called for each. May be NULL. */
	void (*late)(struct session *s);
	/* A request is over whose `hold` was set. The memory of the request may be used for a little longer. */
	void (*release)(struct session *s, void *hold);
	/* The kernel is ready for requests: mount(2) was called and INIT answered. May be NULL. */
	void (*mounted)(struct session *s);
	/*
	 * Nothing of the session is under way any more and the kernel asks for nothing: it was
	 * unmounted or aborted (reason 0), abandoned (-ECANCELED), stopped (-ESHUTDOWN), or its descriptor failed. The last
	 * call; session_destroy() from any thread from now on, but not from here.
	 */
	void (*ended)(struct session *s, int reason);
};

struct session_options {
	const char *name;   /* for messages; copied */
	uint32_t number;    /* of the session, not 0: request marks, exactly once */
	bool writeback;     /* the kernel's write-back cache */
	bool parallel_dio;  /* OPEN is answered: O_DIRECT writers of one file work at the same time */
	unsigned max_background; /* 0: 128 */
	struct throttles throttles; /* the limits; theirs is a longer life */
	const void *party;  /* with whose sessions it shares the turns of the reactor: its tenant's */
};

/*
 * Make a session for fd, which is the session's from success on. Starts with session_start(). 0, -ENOMEM or -EINVAL.
 * Any thread.
 */
int session_create(struct request_pool *pool, int fd, const struct session_ops *ops,
		   const struct session_options *options, void *arg, struct session **out);

void session_start(struct session *s);

/* Nobody will call mount(2) any more: ends a session that is not mounted at this moment, leaves others alone. */
void session_abandon(struct session *s);

/* Read no more; ended() comes when what is under way was answered. */
void session_stop(struct session *s);

/* After ended(), or when it was never started. Closes the descriptor. Any thread. */
void session_destroy(struct session *s);

void *session_arg(const struct session *s);
const char *session_name(const struct session *s);
uint32_t session_number(const struct session *s);
struct reactor *session_reactor(const struct session *s);
bool session_writeback(const struct session *s);
bool session_parallel_dio(const struct session *s);
bool session_setxattr_ext(const struct session *s); /* struct fuse_setxattr_in has its longer form */

/* The request that is being dispatched; the caller answers it by session_reply_*(). fuse may be NULL (early). */
struct request *session_take(struct session *s, fuse_req_t fuse);

/*
 * Answer r with error (0 or -errno) and, when that is 0, the parts of iov (at most SESSION_IOV_MAX). r is gone
 * afterwards. 0, or -errno when the kernel did not take the reply (-ENOENT: nobody waits for it any more), which matters only where it counts lookups.
 */
#define SESSION_IOV_MAX 1000
int session_reply(struct request *r, int error, const struct iovec *iov, unsigned iovcnt);
int session_reply_buf(struct request *r, const void *buf, size_t len);

/*
 * Have the kernel write back what it has dirty of a file from an offset on (length 0: to the end), and drop it from its cache. Sleeps until
 * the writes were answered, so: any thread but a reactor's, while a request of the session is not answered.
 */
void session_write_back(struct session *s, uint64_t ino, uint64_t offset, uint64_t length);

/*
 * A request took away what its answer cannot say (set-id bits): the kernel is to ask for the attributes again, before it shows them or
 * executes the file. Before that answer, so that the caller's reference keeps the inode from being on its way out, which would be waited
 * for; so not for what the kernel writes back by itself. Any thread.
 */
void session_attr_changed(struct session *s, uint64_t ino);

/*
 * There is no such name in this directory any more, which no request of the session's took away: the kernel forgets it and all below. Or,
 * the second: what the directory has, has changed. Both wait for requests in the directory, so: any thread but a reactor's.
 */
void session_name_gone(struct session *s, uint64_t dir, const char *name);
void session_dir_changed(struct session *s, uint64_t dir);

/* A request without an answer (FORGET) was handled. */
void session_reply_none(struct request *r);

/* Call d->done() when all that the kernel had queued until now was answered (fs/drain.h). */
struct session_drain;
void session_drain(struct session *s, struct session_drain *d);
/* Of one that is not done: done(false) comes at once. */
void session_drain_cancel(struct session *s, struct session_drain *d);

/* Whether it was mounted and the kernel's side is gone; the session ends soon, or has. Any thread. */
bool session_gone(const struct session *s);

/* Numbers of a moment; any thread. */
struct session_stats {
	uint64_t requests, late; /* late: that a limit held back */
	uint32_t in_flight; /* without those that wait for a limit */
	bool mounted;
};
void session_stats(const struct session *s, struct session_stats *out);

/* An array of LATENCY_KINDS, which lives as long as the session. Any thread. */
const struct latency *session_latency(const struct session *s);

#endif
