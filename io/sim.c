/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Two images: `current` is what a reader sees, `durable` what a power cut
 * cannot take. A write is begun (its data copied, on the list `flying`) and
 * ended (applied to current, moved to the list `cached`, in order); a flush
 * applies the cached writes that had ended when it *began* to durable. A cut
 * chooses among cached and flying ones: nothing ever said that a device keeps
 * them in order, or waits for the end of a write before it starts on it.
 *
 * FUA goes straight to durable when it ends. An older cached write of the same
 * sectors must then not come back over it, so these sectors of it are dead.
 *
 * A cut makes all that is flying `lost`: whoever began it still ends it, gets
 * -EIO, and it has no effect, also when the power is back by then.
 *
 * One lock over everything; latencies are slept without it.
 */

#include "io/sim.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "io/cleanup.h"
#include "io/device_ops.h"
#include "io/sim_image.h"

#define BLOCK DEVICE_ALIGN_BYTES
#define PPM 1000000u

struct sim_write {
	uint64_t offset, len;
	uint8_t *data;      /* NULL: zeros, a discard */
	uint64_t ended;     /* position in the order of ends; 0: flying */
	uint8_t *dead;      /* one byte per sector, NULL: none is */
	bool fua, lost;
	enum io_op op;
	struct sim_write *prev, *next;
};

/* An operation under way. */
struct sim_flight {
	struct sim_write *write;
	uint64_t generation;
	uint64_t flush_mark; /* ends before it began */
};

struct sim {
	struct device dev; /* first */
	struct sim_options opts;
	pthread_mutex_t lock;

	/* lock: */
	struct sim_image current, durable;
	struct sim_write *flying, *cached;
	uint64_t ends;       /* writes ended */
	uint64_t generation; /* of the power supply */
	bool powered;
	struct sim_faults faults;
	uint64_t rng;
	uint64_t reads, writes, flushes; /* since faults were set */
	uint64_t steps;
	sim_step_fn hook;
	void *hook_arg;
	unsigned telling;    /* threads in the hook */
	pthread_cond_t told; /* one of them came back */
};

static struct sim *to_sim(struct device *dev)
{
	return (struct sim *)dev;
}

/* ---- Chance ---- */

/* splitmix64: Steele, Lea, Flood, 2014. */
static uint64_t rng_next(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
	z = (z ^ z >> 27) * 0x94D049BB133111EB;
	return z ^ z >> 31;
}

static uint64_t rng_below(uint64_t *state, uint64_t n)
{
	return n ? rng_next(state) % n : 0;
}

/* Draws only when there is something to draw, so that faults do not shift each other. */
static bool chance(uint64_t *state, uint32_t ppm)
{
	return ppm && rng_below(state, PPM) < ppm;
}

static int fault_error(const struct sim *s)
{
	return s->faults.error ? -s->faults.error : -EIO;
}

static int fault_hit(struct sim *s, uint64_t *count, uint64_t at, uint32_t ppm)
{
	++*count;
	return *count == at || chance(&s->rng, ppm) ? fault_error(s) : 0;
}

static int fault_place(struct sim *s, const struct sim_write *w)
{
	return w->offset < s->faults.bad_to_bytes && w->offset + w->len > s->faults.bad_from_bytes ? fault_error(s) : 0;
}

static uint64_t fault_latency(struct sim *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	const struct sim_faults *f = &s->faults;

	if (!f->latency_max_ns)
		return 0;
	return f->latency_min_ns +
	       rng_below(&s->rng, f->latency_max_ns - f->latency_min_ns + 1);
}

/* How much of len this transfer moves. */
static uint64_t fault_short(struct sim *s, uint64_t len)
{
	if (len <= BLOCK || !chance(&s->rng, s->faults.short_ppm))
		return len;
	return BLOCK * (1 + rng_below(&s->rng, len / BLOCK - 1));
}

/* ---- Writes: begin, end, cut ---- */

static void sim_write_free(struct sim_write *w)
{
	if (!w)
		return;
	free(w->data);
	free(w->dead);
	free(w);
}

static uint8_t *iov_gather(const struct iovec *iov, unsigned iovcnt, uint64_t len)
{
	uint8_t *data = malloc(len), *to = data;

	for (unsigned i = 0; data && i < iovcnt && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		memcpy(to, iov[i].iov_base, n);
		to += n;
		len -= n;
	}
	return data;
}

static uint8_t *noise(uint64_t seed, uint64_t len)
{
	uint8_t *data = malloc(len);

	for (uint64_t i = 0; data && i < len; i += sizeof(seed)) {
		uint64_t word = rng_next(&seed);

		memcpy(data + i, &word, sizeof(word));
	}
	return data;
}

/* A flying write of data, which it takes over; data NULL is zeros. */
static int sim_begin(struct sim *s, enum io_op op, uint64_t offset, uint64_t len, uint8_t *data,
		     bool fua, struct sim_flight *flight)
{
	struct sim_write *w = calloc(1, sizeof(*w));
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (!w) {
		free(data);
		return -ENOMEM;
	}
	w->op = op;
	w->offset = offset;
	w->len = len;
	w->data = data;
	w->fua = fua || s->opts.write_through;
	held = lock_mutex(&s->lock);
	flight->write = w;
	DL_APPEND(s->flying, w);
	return 0;
}

/* The sectors of older cached writes that w covers will never reach the medium. */
static int sim_kill_older(struct sim *s, const struct sim_write *w)
{
	uint32_t sector = s->opts.sector_bytes;
	struct sim_write *old;

	DL_FOREACH(s->cached, old) {
		uint64_t from = old->offset > w->offset ? old->offset : w->offset;
		uint64_t old_end = old->offset + old->len, end = w->offset + w->len;
		uint64_t to = old_end < end ? old_end : end;

		if (from >= to)
			continue;
		if (!old->dead)
			old->dead = calloc(1, old->len / sector);
		if (!old->dead)
			return -ENOMEM;
		memset(old->dead + (from - old->offset) / sector, 1, (to - from) / sector);
	}
	return 0;
}

/* Apply the live sectors of w; those with keep(sector) when chooser is there. */
static int sim_apply(const struct sim *s, const struct sim_write *w, struct sim_image *img,
		     bool (*keep)(void *arg), void *arg)
{
	uint32_t sector = s->opts.sector_bytes;

	if (!keep && !w->dead)
		return sim_image_write(img, w->offset, w->data, w->len);
	for (uint64_t at = 0; at < w->len; at += sector) {
		bool kept = !keep || keep(arg);
		int rc = 0;

		if (kept && !(w->dead && w->dead[at / sector]))
			rc = sim_image_write(img, w->offset + at, w->data ? w->data + at : NULL,
					     sector);
		if (rc)
			return rc;
	}
	return 0;
}

static int sim_end_locked(struct sim *s, struct sim_write *w)
{
	int rc = sim_image_write(&s->current, w->offset, w->data, w->len);

	if (!rc && w->fua)
		rc = sim_kill_older(s, w);
	if (!rc && w->fua)
		rc = sim_image_write(&s->durable, w->offset, w->data, w->len);
	w->ended = ++s->ends;
	if (rc || w->fua)
		sim_write_free(w);
	else
		DL_APPEND(s->cached, w);
	return rc;
}

/* What one cut does to the writes that are not durable. */
struct sim_cut {
	uint64_t rng;
	uint32_t keep_ppm;     /* of the sectors of a torn write */
	enum { CUT_LOSE_ALL, CUT_KEEP_ALL, CUT_PREFIX, CUT_WHOLE_WRITES, CUT_SECTORS } how;
	uint64_t prefix;       /* writes */
};

static bool cut_keeps_sector(void *arg)
{
	struct sim_cut *cut = arg;

	return chance(&cut->rng, cut->keep_ppm);
}

/*
 * All kinds of bad luck, and good luck, from one seed: a test that tries many
 * meets each of them often.
 */
static void cut_plan(struct sim_cut *cut, uint64_t seed, uint64_t writes)
{
	uint64_t pick;

	cut->rng = seed;
	pick = rng_below(&cut->rng, 16);
	cut->keep_ppm = (uint32_t)rng_below(&cut->rng, PPM + 1);
	cut->prefix = rng_below(&cut->rng, writes + 1);
	if (pick < 1)
		cut->how = CUT_LOSE_ALL;
	else if (pick < 2)
		cut->how = CUT_KEEP_ALL;
	else if (pick < 6)
		cut->how = CUT_PREFIX;
	else if (pick < 11)
		cut->how = CUT_WHOLE_WRITES;
	else
		cut->how = CUT_SECTORS;
}

static int cut_apply(const struct sim *s, struct sim_cut *cut, const struct sim_write *w,
		     uint64_t index, struct sim_image *img)
{
	switch (cut->how) {
	case CUT_LOSE_ALL:
		return 0;
	case CUT_KEEP_ALL:
		return sim_apply(s, w, img, NULL, NULL);
	case CUT_PREFIX:
		if (index > cut->prefix)
			return 0;
		/* The last of the prefix is torn. */
		return sim_apply(s, w, img, index == cut->prefix ? cut_keeps_sector : NULL, cut);
	case CUT_WHOLE_WRITES:
		return chance(&cut->rng, cut->keep_ppm) ? sim_apply(s, w, img, NULL, NULL) : 0;
	case CUT_SECTORS:
		return sim_apply(s, w, img, cut_keeps_sector, cut);
	}
	return 0;
}

static size_t sim_count_unflushed(const struct sim *s)
{
	struct sim_write *w;
	size_t cached, flying;

	DL_COUNT(s->cached, w, cached);
	DL_COUNT(s->flying, w, flying);
	return cached + flying;
}

/* Onto img, a copy of durable, what survives a cut. */
static int sim_survivors(const struct sim *s, uint64_t seed, struct sim_image *img)
{
	const struct sim_write *w;
	struct sim_cut cut;
	uint64_t index = 0;
	int rc = 0;

	cut_plan(&cut, seed, sim_count_unflushed(s));
	DL_FOREACH(s->cached, w) {
		rc = cut_apply(s, &cut, w, index++, img);
		if (rc)
			return rc;
	}
	DL_FOREACH(s->flying, w) {
		rc = cut_apply(s, &cut, w, index++, img);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- The four operations, when their time has come ---- */

/* The one whose hook this thread is in. */
static _Thread_local const struct sim *tells;

static void sim_tell(struct sim *s, enum io_op op)
{
	const struct sim *outer = tells;
	sim_step_fn hook;
	uint64_t step;
	void *arg;

	pthread_mutex_lock(&s->lock);
	step = ++s->steps;
	hook = s->hook;
	arg = s->hook_arg;
	s->telling += hook != NULL;
	pthread_mutex_unlock(&s->lock);
	if (!hook)
		return;
	tells = s;
	hook(&s->dev, op, step, arg);
	tells = outer;
	pthread_mutex_lock(&s->lock);
	s->telling--;
	pthread_cond_broadcast(&s->told);
	pthread_mutex_unlock(&s->lock);
}

static void sim_flight_start(struct sim *s, struct sim_flight *f)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	f->generation = s->powered ? s->generation : UINT64_MAX;
	f->flush_mark = s->ends;
}

/* The power was or went off since it began. */
static bool sim_flight_lost(const struct sim *s, const struct sim_flight *f)
{
	return f->generation != s->generation || !s->powered;
}

static void sim_damage(struct sim *s, uint64_t offset, uint8_t *data, uint64_t len)
{
	if (chance(&s->rng, s->faults.bit_flip_ppm))
		data[rng_below(&s->rng, len)] ^= (uint8_t)(1u << rng_below(&s->rng, 8));
	if (chance(&s->rng, s->faults.misdirect_ppm)) {
		uint64_t at = BLOCK * rng_below(&s->rng, len / BLOCK);
		uint64_t from = offset + at;

		from = from >= BLOCK ? from - BLOCK : from + BLOCK;
		if (from < s->dev.geometry.size_bytes)
			sim_image_read(&s->current, from, data + at, BLOCK);
	}
}

/* Up to len bytes into buf; how many. */
static ssize_t sim_finish_read(struct sim *s, const struct sim_flight *f, uint64_t offset,
			       void *buf, uint64_t len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	int rc;

	if (sim_flight_lost(s, f))
		return -EIO;
	rc = fault_hit(s, &s->reads, s->faults.fail_read_at, s->faults.fail_read_ppm);
	if (rc)
		return rc;
	len = fault_short(s, len);
	sim_image_read(&s->current, offset, buf, len);
	sim_damage(s, offset, buf, len);
	return (ssize_t)len;
}

static ssize_t sim_finish_write_locked(struct sim *s, const struct sim_flight *f)
{
	struct sim_write *w = f->write;
	ssize_t n;
	int rc = -EIO;

	if (w->lost) { /* no longer on the list */
		sim_write_free(w);
		return rc;
	}
	DL_DELETE(s->flying, w);
	if (!sim_flight_lost(s, f))
		rc = w->op == IO_WRITE ? fault_hit(s, &s->writes, s->faults.fail_write_at,
						   s->faults.fail_write_ppm)
				       : 0;
	if (!rc && w->op == IO_WRITE)
		rc = fault_place(s, w);
	if (rc) {
		sim_write_free(w);
		return rc;
	}
	if (w->op == IO_WRITE)
		w->len = fault_short(s, w->len);
	n = (ssize_t)w->len;
	return sim_end_locked(s, w) ? -ENOMEM : n;
}

static ssize_t sim_finish_write(struct sim *s, const struct sim_flight *f)
{
	enum io_op op = f->write->op;
	ssize_t n;

	pthread_mutex_lock(&s->lock);
	n = sim_finish_write_locked(s, f);
	pthread_mutex_unlock(&s->lock);
	if (n > 0)
		sim_tell(s, op);
	return n;
}

static int sim_finish_flush_locked(struct sim *s, const struct sim_flight *f)
{
	struct sim_write *w, *tmp;
	int rc;

	if (sim_flight_lost(s, f))
		return -EIO;
	rc = fault_hit(s, &s->flushes, s->faults.fail_flush_at, s->faults.fail_flush_ppm);
	if (rc)
		return rc;
	DL_FOREACH_SAFE(s->cached, w, tmp) {
		if (w->ended > f->flush_mark)
			break;
		rc = sim_apply(s, w, &s->durable, NULL, NULL);
		if (rc)
			return rc;
		DL_DELETE(s->cached, w);
		sim_write_free(w);
	}
	return 0;
}

static int sim_finish_flush(struct sim *s, const struct sim_flight *f)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = sim_finish_flush_locked(s, f);
	pthread_mutex_unlock(&s->lock);
	if (!rc)
		sim_tell(s, IO_FLUSH);
	return rc;
}

/* ---- Synchronous ---- */

static void sim_delay(struct sim *s)
{
	uint64_t ns = fault_latency(s);
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };

	if (ns)
		nanosleep(&ts, NULL);
}

static ssize_t sim_read(struct device *dev, void *buf, size_t len, uint64_t offset)
{
	struct sim *s = to_sim(dev);
	struct sim_flight f;

	sim_flight_start(s, &f);
	sim_delay(s);
	return sim_finish_read(s, &f, offset, buf, len);
}

static int sim_begin_write(struct sim *s, const struct iovec *iov, unsigned iovcnt,
			   uint64_t offset, uint64_t len, bool fua, struct sim_flight *f)
{
	uint8_t *data;

	/* What a finish returns has to fit an int; the rest follows as after a short one. */
	if (len > 1u << 30)
		len = 1u << 30;
	data = iov_gather(iov, iovcnt, len);
	sim_flight_start(s, f);
	return data ? sim_begin(s, IO_WRITE, offset, len, data, fua, f) : -ENOMEM;
}

static int sim_begin_discard(struct sim *s, uint64_t offset, uint64_t len, struct sim_flight *f)
{
	uint8_t *data = NULL;

	sim_flight_start(s, f);
	if (s->opts.no_discard)
		return -EOPNOTSUPP;
	if (s->opts.discard_garbage) {
		data = noise(offset ^ f->flush_mark << 40, len);
		if (!data)
			return -ENOMEM;
	}
	return sim_begin(s, IO_DISCARD, offset, len, data, false, f);
}

static ssize_t sim_sync_write(struct device *dev, const void *buf, size_t len, uint64_t offset,
			      unsigned flags)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct sim *s = to_sim(dev);
	struct sim_flight f;
	int rc = sim_begin_write(s, &iov, 1, offset, len, flags & IO_FUA, &f);

	if (rc)
		return rc;
	sim_delay(s);
	return sim_finish_write(s, &f);
}

static int sim_flush(struct device *dev)
{
	struct sim *s = to_sim(dev);
	struct sim_flight f;

	sim_flight_start(s, &f);
	sim_delay(s);
	return sim_finish_flush(s, &f);
}

static int sim_discard(struct device *dev, uint64_t offset, uint64_t len)
{
	struct sim *s = to_sim(dev);
	struct sim_flight f;
	int rc = sim_begin_discard(s, offset, len, &f);
	ssize_t n;

	if (rc)
		return rc;
	sim_delay(s);
	n = sim_finish_write(s, &f);
	return n < 0 ? (int)n : 0;
}

/* ---- Asynchronous ---- */

/* Read into the request's memory, of whatever shape it is. */
static int sim_async_read(struct sim *s, struct io_request *req, const struct sim_flight *f)
{
	uint64_t at = req->transferred, len = req->total - at;
	const struct iovec *iov = req->iovcnt ? req->iov : &req->part;
	uint64_t skip = req->iovcnt ? at : 0;
	uint8_t *data = malloc(len), *from = data;
	ssize_t n;

	if (!data)
		return -ENOMEM;
	if (len > 1u << 30)
		len = 1u << 30;
	n = sim_finish_read(s, f, req->offset + at, data, len);
	for (ssize_t left = n; left > 0; iov++) {
		size_t take;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		take = iov->iov_len - skip;
		take = take < (size_t)left ? take : (size_t)left;
		memcpy((char *)iov->iov_base + skip, from, take);
		skip = 0;
		from += take;
		left -= (ssize_t)take;
	}
	free(data);
	return (int)n;
}

static void sim_async_finish(struct io_request *req)
{
	struct sim *s = to_sim(req->device);
	struct sim_flight *flight = (struct sim_flight *)(uintptr_t)req->cookie, f;
	int res = req->result;

	if (flight)
		f = *flight;
	free(flight);
	if (res) {
		device_part_done(req, res);
		return;
	}
	switch (req->op) {
	case IO_READ:
		res = sim_async_read(s, req, &f);
		break;
	case IO_WRITE:
		res = (int)sim_finish_write(s, &f);
		break;
	case IO_FLUSH:
		res = sim_finish_flush(s, &f);
		break;
	case IO_DISCARD:
		res = sim_finish_write(s, &f) < 0 ? -EIO : 0;
		break;
	}
	device_part_done(req, res);
}

static void sim_async_msg(struct reactor *r, struct reactor_msg *msg)
{
	(void)r;
	sim_async_finish((struct io_request *)((char *)msg - offsetof(struct io_request, msg)));
}

static void sim_async_timer(struct reactor *r, struct reactor_timer *t)
{
	(void)r;
	sim_async_finish((struct io_request *)((char *)t - offsetof(struct io_request, timer)));
}

static int sim_async_begin(struct sim *s, struct io_request *req, const struct device_part *part,
			   struct sim_flight *f)
{
	if (!f)
		return -ENOMEM;
	switch (req->op) {
	case IO_WRITE:
		return sim_begin_write(s, part->iov, part->iovcnt, part->offset, part->len,
				       req->flags & IO_FUA, f);
	case IO_DISCARD:
		return sim_begin_discard(s, part->offset, part->len, f);
	case IO_READ:
	case IO_FLUSH:
		break;
	}
	sim_flight_start(s, f);
	return 0;
}

static void sim_submit(struct device *dev, struct io_request *req, const struct device_part *part)
{
	struct sim *s = to_sim(dev);
	struct sim_flight *f = calloc(1, sizeof(*f));
	uint64_t latency = fault_latency(s);

	req->result = sim_async_begin(s, req, part, f);
	req->cookie = (uintptr_t)f;
	if (latency) {
		req->timer = (struct reactor_timer){ .fn = sim_async_timer };
		reactor_timer_add(req->reactor, &req->timer, reactor_now_ns(req->reactor) + latency);
	} else {
		req->msg.fn = sim_async_msg;
		reactor_defer(req->reactor, &req->msg);
	}
}

/* ---- Making and freeing ---- */

static void sim_drop_list(struct sim_write **list)
{
	struct sim_write *w, *tmp;

	DL_FOREACH_SAFE(*list, w, tmp) {
		DL_DELETE(*list, w);
		sim_write_free(w);
	}
}

static void sim_close(struct device *dev)
{
	struct sim *s = to_sim(dev);

	assert(!s->flying);
	sim_drop_list(&s->cached);
	sim_image_free(&s->current);
	sim_image_free(&s->durable);
	pthread_cond_destroy(&s->told);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct device_ops sim_ops = {
	.name = "sim",
	.kind = DEVICE_SIM,
	.close = sim_close,
	.read = sim_read,
	.write = sim_sync_write,
	.flush = sim_flush,
	.discard = sim_discard,
	.submit = sim_submit,
};

static void sim_geometry(struct sim *s, uint64_t size_bytes)
{
	s->dev.geometry = (struct device_geometry){
		.size_bytes = size_bytes - size_bytes % BLOCK,
		.logical_block_bytes = s->opts.sector_bytes,
		.max_io_bytes = 1u << 20,
		.volatile_cache = !s->opts.write_through,
		.discard = !s->opts.no_discard,
		.identity = "sim",
	};
}

int device_sim_create(uint64_t size_bytes, const struct sim_options *opts, struct device **out)
{
	struct sim *s;
	int rc;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (opts)
		s->opts = *opts;
	if (!s->opts.sector_bytes)
		s->opts.sector_bytes = 512;
	sim_geometry(s, size_bytes);
	s->powered = true;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->told, NULL);
	rc = size_bytes < BLOCK || BLOCK % s->opts.sector_bytes ? -EINVAL : 0;
	if (!rc)
		rc = device_init(&s->dev, &sim_ops, "sim");
	if (rc) {
		free(s);
		return rc;
	}
	rc = sim_image_init(&s->current, size_bytes);
	if (!rc)
		rc = sim_image_init(&s->durable, size_bytes);
	if (rc)
		device_close(&s->dev);
	else
		*out = &s->dev;
	return rc;
}

/* ---- Power, snapshots, faults ---- */

/* A test cannot go on from here. */
static void must(int rc)
{
	if (rc)
		abort();
}

void sim_power_cut(struct device *dev, uint64_t seed)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct sim_write *w, *tmp;

	must(sim_survivors(s, seed, &s->durable));
	sim_drop_list(&s->cached);
	DL_FOREACH_SAFE(s->flying, w, tmp) {
		DL_DELETE(s->flying, w);
		w->lost = true;
	}
	sim_image_free(&s->current);
	must(sim_image_clone(&s->current, &s->durable));
	s->powered = false;
	s->generation++;
}

void sim_power_on(struct device *dev)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	s->powered = true;
}

/* A device that has img, which it takes over, on its medium. */
static int sim_from_image(struct sim *s, struct sim_image *img, struct device **out)
{
	struct device *dev;
	struct sim *copy;
	int rc = device_sim_create(s->dev.geometry.size_bytes, &s->opts, &dev);

	if (rc) {
		sim_image_free(img);
		return rc;
	}
	copy = to_sim(dev);
	sim_image_free(&copy->durable);
	sim_image_free(&copy->current);
	copy->durable = *img;
	rc = sim_image_clone(&copy->current, img);
	if (rc)
		device_close(dev);
	else
		*out = dev;
	return rc;
}

int sim_snapshot_cut(struct device *dev, uint64_t seed, struct device **out)
{
	struct sim *s = to_sim(dev);
	struct sim_image img;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = sim_image_clone(&img, &s->durable);
	if (!rc)
		rc = sim_survivors(s, seed, &img);
	pthread_mutex_unlock(&s->lock);
	if (!rc)
		return sim_from_image(s, &img, out);
	sim_image_free(&img);
	return rc;
}

int sim_snapshot_current(struct device *dev, struct device **out)
{
	struct sim *s = to_sim(dev);
	struct sim_image img;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = sim_image_clone(&img, &s->current);
	pthread_mutex_unlock(&s->lock);
	return rc ? rc : sim_from_image(s, &img, out);
}

size_t sim_unflushed(struct device *dev)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	return sim_count_unflushed(s);
}

void sim_set_step_hook(struct device *dev, sim_step_fn fn, void *arg)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	s->hook = fn;
	s->hook_arg = arg;
	s->steps = 0;
	while (s->telling > (tells == s))
		pthread_cond_wait(&s->told, &s->lock);
}

void sim_set_faults(struct device *dev, const struct sim_faults *faults)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	s->faults = faults ? *faults : (struct sim_faults){ 0 };
	s->rng = s->faults.seed;
	s->reads = s->writes = s->flushes = 0;
}

void sim_flip_bit(struct device *dev, uint64_t offset_bytes, unsigned bit)
{
	struct sim *s = to_sim(dev);
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct sim_image *images[] = { &s->current, &s->durable };

	for (unsigned i = 0; i < 2; i++) {
		uint8_t byte;

		sim_image_read(images[i], offset_bytes, &byte, 1);
		byte ^= (uint8_t)(1u << bit % 8);
		must(sim_image_write(images[i], offset_bytes, &byte, 1));
	}
}
