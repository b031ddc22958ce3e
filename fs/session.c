/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "fs/drain.h"
#include "fs/held.h"
#include "fs/session.h"
#include "io/log.h"

/*
 * What is done to libfuse's INIT: it was written for an older kernel than the
 * one below, so the reply passes through reply_init(), which sets
 * the flags that it does not know. Its own parser is used for what it parses correctly.
 *
 * libfuse replies through our writev, with a header and parts; session_reply() writes
 * them itself and then only has libfuse free its request, because fuse_reply_iov() allocates and copies.
 */

#define BATCH 32               /* requests read in one call of the source */
#define SUBMIT_EARLY 8         /* device requests that end a batch: the device should not wait for the rest of it */
#define BATCH_BYTES (1u << 20) /* of requests, that end one, too: copying them takes time, in which others wait */
#define PROBE_MIN_NS 200000u
#define PROBE_MAX_NS 20000000u
#define MAX_BACKGROUND 128u
#define SHORT_REPLY 256u       /* bytes, header included */
/* No session takes the last buffers: another one on the reactor would starve. */
#define SESSION_SLOTS (REQUEST_SLOTS - REQUEST_SLOTS / 8)

enum state { NEW, ACTIVE, PAUSED, HELD, ENDING, ENDED };

struct session {
	struct request_pool *pool;
	struct reactor *reactor;
	int fd;                        /* libfuse closes it */
	struct fuse_session *fuse;
	const struct session_ops *ops;
	struct session_options options;
	void *arg;
	char *name;
	enum state state;
	int reason;
	bool initialised, initialising, abandoned;
	bool setxattr_ext;
	unsigned max_background;
	bool parallel_dio;             /* asked for, and the kernel can do it */
	struct request *current;
	struct reactor_source source;
	uint32_t batch_bytes;          /* of the requests of this batch */
	struct reactor_timer probe;
	uint64_t probe_ns;
	struct held held;
	struct reactor_timer held_timer; /* armed while anything waits in held */
	struct reactor_msg end_msg, resume_msg, look_msg;
	bool resuming, looking;
	struct drains drains;
	struct latency latency[LATENCY_KINDS];
	_Atomic uint64_t requests;     /* written by the reactor thread */
	_Atomic uint64_t late;         /* as requests */
	_Atomic uint32_t in_flight;
	_Atomic bool mounted;
};

/* ---- Replies ---- */

static void count(_Atomic uint32_t *n, int by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + (uint32_t)by,
			      memory_order_relaxed);
}

static uint32_t in_flight(const struct session *s)
{
	return atomic_load_explicit(&s->in_flight, memory_order_relaxed);
}

/*
 * A kernel that does not offer this flag (before Linux 6.6) leaves in its cache what a direct write of such an opening has replaced, for
 * others to read.
 */
static void decide_parallel_dio(struct session *s, const struct fuse_init_in *in)
{
	s->parallel_dio = s->options.parallel_dio && (in->flags & FUSE_INIT_EXT) &&
			  ((uint64_t)in->flags2 << 32 & ABI_DIRECT_IO_ALLOW_MMAP);
	if (s->options.parallel_dio && !s->parallel_dio)
		log_warn("%s: parallel_dio needs Linux 6.6 and is ignored", s->name);
}

/* Flags that libfuse does not know, each only when the kernel offers it. */
static void amend_init(struct session *s, const struct fuse_init_in *in, struct fuse_init_out *out)
{
	uint64_t flags2 = out->flags2;

	decide_parallel_dio(s, in);

	out->flags |= in->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
	out->flags &= ~(uint32_t)(FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA);
	if (in->flags & FUSE_INIT_EXT) {
		out->flags |= FUSE_INIT_EXT;
		flags2 |= ((uint64_t)in->flags2 << 32 & ABI_ALLOW_IDMAP) >> 32;
		if (s->parallel_dio)
			flags2 |= ABI_DIRECT_IO_ALLOW_MMAP >> 32;
	}
	out->flags2 = (uint32_t)flags2;
}

static ssize_t reply_init(struct session *s, struct iovec *iov, int n)
{
	struct fuse_init_out out;
	struct iovec amended[2] = { iov[0], { &out, sizeof(out) } };

	if (n != 2 || iov[1].iov_len != sizeof(out))
		return writev(s->fd, iov, n);
	memcpy(&out, iov[1].iov_base, sizeof(out));
	amend_init(s, request_arg(s->current), &out);
	s->setxattr_ext = out.flags & FUSE_SETXATTR_EXT;
	return writev(s->fd, amended, 2);
}

/*
 * Everything that libfuse sends. An error is nobody's problem: the process that asked was killed (ENOENT), or the
 * filesystem unmounted; libfuse would print it.
 */
static ssize_t on_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	struct session *s = userdata;
	ssize_t sent;

	(void)fd;
	sent = s->initialising ? reply_init(s, iov, n) : writev(s->fd, iov, n);
	if (sent < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED)
		log_error("%s: a reply was refused: %s", s->name, strerror(errno));
	return sent < 0 ? 0 : sent;
}

/* Never used: the session reads for itself. */
static ssize_t on_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static void resume_soon(struct session *s);

/* Read once more, whether anything came or not. */
static void look_soon(struct session *s)
{
	if (s->looking)
		return;
	s->looking = true;
	reactor_defer(s->reactor, &s->look_msg);
}

static void give_back(struct session *s, struct request *r)
{
	const uint64_t number = r->number;

	request_put(s->pool, r);
	if (s->drains.list && drain_answered(&s->drains, number))
		look_soon(s);
}

static void finish(struct request *r)
{
	struct session *s = r->session;
	void *hold = r->hold;

	if (hold)
		s->ops->release(s, hold);
	give_back(s, r);
	count(&s->in_flight, -1);
	if (s->state == ENDING && in_flight(s) == 0)
		reactor_defer(s->reactor, &s->end_msg);
	else if (s->state == PAUSED)
		resume_soon(s);
}

/* The kernel maps the memory of each piece by itself: what is short goes out in one. */
static ssize_t write_short(int fd, const struct fuse_out_header *head, const struct iovec *iov, unsigned n)
{
	uint8_t reply[SHORT_REPLY], *at = reply;

	memcpy(at, head, sizeof(*head));
	at += sizeof(*head);
	for (unsigned i = 0; i < n; i++) {
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return write(fd, reply, head->len);
}

static ssize_t write_long(int fd, const struct fuse_out_header *head, const struct iovec *iov, unsigned n)
{
	struct iovec parts[1 + SESSION_IOV_MAX];

	parts[0] = (struct iovec){ (void *)head, sizeof(*head) };
	memcpy(parts + 1, iov, n * sizeof(*iov));
	return writev(fd, parts, (int)n + 1);
}

static int write_reply(struct request *r, int error, const struct iovec *iov, unsigned n)
{
	struct fuse_out_header head = { .unique = r->unique, .error = error };
	size_t len = sizeof(head);
	int fd = r->session->fd;

	assert(n <= SESSION_IOV_MAX);
	if (error)
		n = 0;
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	head.len = (uint32_t)len;
	if ((len <= SHORT_REPLY ? write_short(fd, &head, iov, n) : write_long(fd, &head, iov, n)) >= 0)
		return 0;
	if (errno != ENOENT && errno != ENODEV && errno != ECONNABORTED)
		log_error("%s: the reply to request %llu (opcode %u) was refused: %s",
			  r->session->name, (unsigned long long)r->unique, r->in->opcode,
			  strerror(errno));
	return -errno;
}

static enum latency_kind latency_kind(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
		return LATENCY_READ;
	case FUSE_WRITE:
		return LATENCY_WRITE;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
		return LATENCY_SYNC;
	default:
		return LATENCY_OTHER;
	}
}

int session_reply(struct request *r, int error, const struct iovec *iov, unsigned iovcnt)
{
	int err;

	ASSERT_ON_REACTOR(r->session->reactor);
	err = write_reply(r, error, iov, iovcnt);
	latency_add(&r->session->latency[latency_kind(r->in->opcode)], monotonic_now_ns() - r->arrived_ns);
	session_reply_none(r);
	return err;
}

int session_reply_buf(struct request *r, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };

	return session_reply(r, 0, &iov, len ? 1 : 0);
}

/* offset -1: attributes only. */
static void notify_inval(struct session *s, uint64_t ino, int64_t offset, int64_t length, const char *what)
{
	struct fuse_notify_inval_inode_out out = { .ino = ino, .off = offset, .len = length };
	struct fuse_out_header head = { .len = sizeof(head) + sizeof(out), .error = FUSE_NOTIFY_INVAL_INODE };
	struct iovec iov[2] = { { &head, sizeof(head) }, { &out, sizeof(out) } };

	/* ENOENT: the kernel has nothing of the file; the others are those of an end. */
	if (writev(s->fd, iov, 2) < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED && errno != ENOTCONN)
		log_warn("%s: inode %llu: the kernel did not %s: %s", s->name, (unsigned long long)ino, what, strerror(errno));
}

void session_write_back(struct session *s, uint64_t ino, uint64_t offset, uint64_t length)
{
	notify_inval(s, ino, (int64_t)offset, (int64_t)length, "write back");
}

void session_attr_changed(struct session *s, uint64_t ino)
{
	notify_inval(s, ino, -1, 0, "forget attributes");
}

void session_dir_changed(struct session *s, uint64_t dir)
{
	notify_inval(s, dir, 0, 0, "forget a directory");
}

void session_name_gone(struct session *s, uint64_t dir, const char *name)
{
	const size_t len = strlen(name);
	struct fuse_notify_inval_entry_out out = { .parent = dir, .namelen = (uint32_t)len };
	struct fuse_out_header head = { .len = (uint32_t)(sizeof(head) + sizeof(out) + len + 1), .error = FUSE_NOTIFY_INVAL_ENTRY };
	struct iovec iov[3] = { { &head, sizeof(head) }, { &out, sizeof(out) }, { (void *)name, len + 1 } };

	if (writev(s->fd, iov, 3) < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED && errno != ENOTCONN)
		log_warn("%s: the kernel did not forget %s: %s", s->name, name, strerror(errno));
}

void session_reply_none(struct request *r)
{
	if (r->fuse)
		fuse_reply_none(r->fuse);
	r->fuse = NULL;
	finish(r);
}

struct request *session_take(struct session *s, fuse_req_t fuse)
{
	struct request *r = s->current;

	assert(r && !r->taken);
	r->taken = true;
	r->fuse = fuse;
	return r;
}

/* ---- Requests ---- */

static void dispatch_init(struct session *s, const struct fuse_buf *buf)
{
	s->initialising = true;
	fuse_session_process_buf(s->fuse, buf);
	s->initialising = false;
	s->initialised = true;
	atomic_store_explicit(&s->mounted, true, memory_order_relaxed);
	if (s->ops->mounted)
		s->ops->mounted(s);
}

static void dispatch(struct session *s, struct request *r)
{
	struct fuse_buf buf = { .size = r->in->len, .mem = (void *)r->in };

	atomic_store_explicit(&s->requests,
			      atomic_load_explicit(&s->requests, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	count(&s->in_flight, 1);
	r->session = s;
	s->current = r;
	if (r->in->opcode == FUSE_INIT && !s->initialised)
		dispatch_init(s, &buf);
	else if (!s->ops->early || !s->ops->early(s, r))
		fuse_session_process_buf(s->fuse, &buf);
	s->current = NULL;
	/* r may be gone when it was taken; then `taken` stays as it is until the slot is used again, which is not before we read. */
	if (!r->taken)
		finish(r);
}

/* ---- States ---- */

static void leave_source(struct session *s)
{
	if (s->state == ACTIVE)
		reactor_source_remove(s->reactor, &s->source);
	reactor_timer_cancel(s->reactor, &s->probe);
}

static void end(struct session *s, int reason)
{
	if (s->state >= ENDING)
		return;
	leave_source(s);
	reactor_timer_cancel(s->reactor, &s->held_timer);
	held_drop(&s->held);
	drain_cancel_all(&s->drains);
	s->state = ENDING;
	s->reason = reason;
	if (in_flight(s) == 0)
		reactor_defer(s->reactor, &s->end_msg);
}

static void on_end(struct reactor *r, struct reactor_msg *msg)
{
	struct session *s = (void *)((char *)msg - offsetof(struct session, end_msg));

	(void)r;
	/* A message on its way would find the session gone: let it come first. */
	if (s->resuming || s->looking) {
		reactor_defer(s->reactor, &s->end_msg);
		return;
	}
	s->state = ENDED;
	atomic_store_explicit(&s->mounted, false, memory_order_relaxed);
	s->ops->ended(s, s->reason);
}

static void pause_reading(struct session *s)
{
	leave_source(s);
	s->state = PAUSED;
	/* Buffers may be in the hands of others: look again, whoever gives one back. */
	reactor_timer_add(s->reactor, &s->probe, reactor_now_ns(s->reactor) + PROBE_MIN_NS);
}

static void activate(struct session *s)
{
	if (reactor_source_add(s->reactor, &s->source)) {
		s->state = PAUSED;
		reactor_timer_add(s->reactor, &s->probe,
				  reactor_now_ns(s->reactor) + PROBE_MAX_NS);
		return;
	}
	s->state = ACTIVE;
}

static void on_resume(struct reactor *r, struct reactor_msg *msg)
{
	struct session *s = (void *)((char *)msg - offsetof(struct session, resume_msg));

	(void)r;
	s->resuming = false;
	if (s->state != PAUSED)
		return;
	reactor_timer_cancel(s->reactor, &s->probe);
	activate(s);
}

static void resume_soon(struct session *s)
{
	if (s->resuming)
		return;
	s->resuming = true;
	reactor_defer(s->reactor, &s->resume_msg);
}

/* ---- Limits ---- */

static void arm_held(struct session *s)
{
	const uint64_t at = held_next_look(&s->held, reactor_now_ns(s->reactor));

	if (at == REACTOR_NEVER_NS)
		reactor_timer_cancel(s->reactor, &s->held_timer);
	else
		reactor_timer_add(s->reactor, &s->held_timer, at);
}

/* A killed process goes at once, whatever its limits are: what it asked for was not begun. */
static void let_killed_go(struct session *s)
{
	struct request *r;

	while ((r = held_killed(&s->held))) {
		r->session = s;
		write_reply(r, -EINTR, NULL, 0);
		give_back(s, r);
	}
}

static void count_late(struct session *s)
{
	latency_bump(&s->late, 1);
	if (s->ops->late)
		s->ops->late(s);
}

/* Execute what has just been read, or hold it. */
static void admit(struct session *s, struct request *r)
{
	const struct fuse_interrupt_in *in = request_arg(r);
	uint64_t bytes = 0;
	enum throttle_kind kind = s->ops->cost ? s->ops->cost(r, &bytes) : THROTTLE_NONE;
	bool now, owed;

	if (r->in->opcode == FUSE_INTERRUPT && s->held.count && request_arg_len(r) >= sizeof(*in)) {
		held_interrupt(&s->held, in->unique);
		let_killed_go(s);
	}
	owed = s->held.owes;
	now = kind == THROTTLE_NONE || held_admit(&s->held, r, kind, bytes, reactor_now_ns(s->reactor));
	if (!now || s->held.owes)
		arm_held(s);
	if (!now || (s->held.owes && !owed))
		count_late(s);
	if (now)
		dispatch(s, r);
}

static void stop_reading(struct session *s)
{
	leave_source(s);
	s->state = HELD;
}

static void on_held(struct reactor *reactor, struct reactor_timer *t)
{
	struct session *s = (void *)((char *)t - offsetof(struct session, held_timer));
	struct request *r;

	(void)reactor;
	let_killed_go(s);
	while ((r = held_due(&s->held, reactor_now_ns(s->reactor))))
		dispatch(s, r);
	if (s->state == HELD && session_gone(s)) { /* the read that would say so is not made */
		end(s, 0);
		return;
	}
	if (s->state == HELD && held_room(&s->held))
		activate(s);
	arm_held(s);
}

/* Read and not answered. */
static uint32_t in_hand(const struct session *s)
{
	return in_flight(s) + s->held.count;
}

/* One request. False when there is none to be had now. */
static bool receive(struct session *s)
{
	struct request *r;
	int err;

	if (in_flight(s) + s->held.count >= SESSION_SLOTS) {
		pause_reading(s);
		return false;
	}
	if (!held_room(&s->held)) {
		stop_reading(s);
		return false;
	}
	err = request_get(s->pool, s->fd, s->options.number, &r);
	switch (err) {
	case 0:
		r->number = ++s->drains.read;
		s->batch_bytes += r->in->len;
		admit(s, r);
		return s->state == ACTIVE;
	case -EINTR:
	case -ENOENT: /* the request was interrupted before we got it */
		return true;
	case -EAGAIN:
		if (s->drains.list && in_hand(s) < s->max_background)
			drain_idle(&s->drains, in_hand(s));
		return false;
	case -ENOBUFS:
		pause_reading(s);
		return false;
	case -ENODEV:       /* unmounted */
	case -ECONNABORTED: /* aborted through fusectl */
		end(s, 0);
		return false;
	default:
		log_error("%s: /dev/fuse cannot be read: %s", s->name, strerror(-err));
		end(s, err);
		return false;
	}
}

static bool on_source(struct reactor *r, struct reactor_source *source)
{
	struct session *s = (void *)((char *)source - offsetof(struct session, source));
	bool any = false;

	s->batch_bytes = 0;
	for (int i = 0; i < BATCH && (!i || (reactor_prepared(r) < SUBMIT_EARLY && !reactor_turn_is_over(r))) &&
			s->batch_bytes < BATCH_BYTES && receive(s); i++)
		any = true;
	return any;
}

static void on_look(struct reactor *r, struct reactor_msg *msg)
{
	struct session *s = (void *)((char *)msg - offsetof(struct session, look_msg));

	s->looking = false;
	if (s->state == ACTIVE)
		on_source(r, &s->source);
}

void session_drain(struct session *s, struct session_drain *d)
{
	ASSERT_ON_REACTOR(s->reactor);
	if (s->state == NEW || s->state >= ENDING) {
		d->done(d, false);
		return;
	}
	drain_start(&s->drains, d);
	look_soon(s);
}

void session_drain_cancel(struct session *s, struct session_drain *d)
{
	drain_cancel(&s->drains, d);
}

/* Not mounted yet? EPERM says so. */
static void probe_mount(struct session *s)
{
	struct request *r;
	int err = request_get(s->pool, s->fd, s->options.number, &r);

	if (err == -EPERM && s->abandoned) {
		end(s, -ECANCELED);
		return;
	}
	if (err == -EPERM || err == -ENOBUFS) {
		s->probe_ns = s->probe_ns * 2 < PROBE_MAX_NS ? s->probe_ns * 2 : PROBE_MAX_NS;
		reactor_timer_add(s->reactor, &s->probe,
				  reactor_now_ns(s->reactor) + s->probe_ns);
		return;
	}
	if (err && err != -EAGAIN && err != -EINTR && err != -ENOENT) {
		if (err != -ENODEV && err != -ECONNABORTED)
			log_error("%s: /dev/fuse cannot be read: %s", s->name, strerror(-err));
		end(s, err);
		return;
	}
	activate(s);
	if (err)
		return;
	r->number = ++s->drains.read;
	dispatch(s, r);
}

static void on_probe(struct reactor *r, struct reactor_timer *t)
{
	struct session *s = (void *)((char *)t - offsetof(struct session, probe));

	(void)r;
	if (s->state == NEW)
		probe_mount(s);
	else if (s->state == PAUSED)
		resume_soon(s);
}

void session_start(struct session *s)
{
	ASSERT_ON_REACTOR(s->reactor);
	s->probe_ns = PROBE_MIN_NS;
	probe_mount(s);
}

void session_abandon(struct session *s)
{
	ASSERT_ON_REACTOR(s->reactor);
	s->abandoned = true;
	if (s->state != NEW)
		return;
	reactor_timer_cancel(s->reactor, &s->probe);
	probe_mount(s);
}

void session_stop(struct session *s)
{
	ASSERT_ON_REACTOR(s->reactor);
	end(s, -ESHUTDOWN);
}

/* ---- Making and freeing ---- */

/* libfuse's op.init: what it may ask the kernel for by its own interface. */
static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	struct session *s = userdata;
	unsigned want = FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_ASYNC_DIO |
			FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL |
			FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA |
			FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT;

	if (s->options.writeback)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want = conn->capable & want;
	conn->max_write = REQUEST_DATA_MAX;
	conn->max_readahead = REQUEST_DATA_MAX;
	conn->max_background = s->max_background;
	conn->congestion_threshold = conn->max_background - conn->max_background / 4;
	conn->time_gran = 1;
}

static int make_fuse(struct session *s, int fd)
{
	static const struct fuse_custom_io io = { .writev = on_writev, .read = on_read };
	struct fuse_lowlevel_ops ops = *s->ops->fuse;
	char *argv[] = { s->name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	ops.init = on_init;
	s->fuse = fuse_session_new(&args, &ops, sizeof(ops), s);
	fuse_opt_free_args(&args);
	if (!s->fuse)
		return -ENOMEM;
	if (fuse_session_custom_io(s->fuse, &io, fd)) {
		fuse_session_destroy(s->fuse);
		s->fuse = NULL;
		return -EINVAL;
	}
	s->fd = fd;
	return 0;
}

int session_create(struct request_pool *pool, int fd, const struct session_ops *ops,
		   const struct session_options *options, void *arg, struct session **out)
{
	struct session *s = calloc(1, sizeof(*s));
	int flags = fcntl(fd, F_GETFL), err;

	if (!s)
		return -ENOMEM;
	s->pool = pool;
	s->reactor = request_pool_reactor(pool);
	s->ops = ops;
	s->options = *options;
	s->arg = arg;
	s->name = strdup(options->name);
	s->source = (struct reactor_source){ .poll = on_source, .party = options->party, .fd = fd, .events = POLLIN };
	s->probe.fn = on_probe;
	held_init(&s->held, pool, &options->throttles);
	s->held_timer.fn = on_held;
	s->end_msg.fn = on_end;
	s->look_msg.fn = on_look;
	s->max_background = options->max_background ? options->max_background : MAX_BACKGROUND;
	s->resume_msg.fn = on_resume;
	err = !s->name				       ? -ENOMEM
	      : flags < 0			       ? -errno
	      : fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno
						       : make_fuse(s, fd);
	if (err) {
		free(s->name);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void session_destroy(struct session *s)
{
	if (!s)
		return;
	assert(s->state == NEW || s->state == ENDED);
	fuse_session_destroy(s->fuse);
	free(s->name);
	free(s);
}

void *session_arg(const struct session *s)
{
	return s->arg;
}

const char *session_name(const struct session *s)
{
	return s->name;
}

uint32_t session_number(const struct session *s)
{
	return s->options.number;
}

struct reactor *session_reactor(const struct session *s)
{
	return s->reactor;
}

bool session_writeback(const struct session *s)
{
	return s->options.writeback;
}

bool session_parallel_dio(const struct session *s)
{
	return s->parallel_dio;
}

bool session_setxattr_ext(const struct session *s)
{
	return s->setxattr_ext;
}

/*
 * POLLERR: not connected, not yet or no more. A read with a buffer that is too small takes nothing and
 * tells which: EPERM before the mount, EINVAL ever after.
 */
bool session_gone(const struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	char byte;

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) && read(s->fd, &byte, 1) < 0 &&
	       errno != EPERM;
}

const struct latency *session_latency(const struct session *s)
{
	return s->latency;
}

void session_stats(const struct session *s, struct session_stats *out)
{
	out->requests = atomic_load_explicit(&s->requests, memory_order_relaxed);
	out->late = atomic_load_explicit(&s->late, memory_order_relaxed);
	out->in_flight = in_flight(s);
	out->mounted = atomic_load_explicit(&s->mounted, memory_order_relaxed);
}
