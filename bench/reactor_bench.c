/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * What the reactor and the device layer cost by themselves: random 4 KiB (or
 * other) I/O on one reactor, as fast as it goes.
 *
 *	reactor_bench [-w] [-q DEPTH] [-b BYTES] [-t SECONDS] [-s SPIN_US] [-n] FILE|DEVICE
 *
 * -w writes (the content is lost), -n does not register buffers. One line:
 * IOPS, user and system CPU time per I/O, system calls per I/O, mean latency.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/buffers.h"
#include "io/device.h"

#define NS_PER_S 1000000000ull

struct bench {
	struct reactor *r;
	struct device *dev;
	uint64_t blocks, rng, deadline_ns, done, latency_ns;
	size_t block_bytes;
	unsigned depth, running;
	bool writes, no_register;
	int error;
};

struct slot {
	struct io_request req;
	struct bench *b;
	uint64_t started_ns;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void slot_start(struct slot *s)
{
	struct bench *b = s->b;

	s->req.offset = next_random(&b->rng) % b->blocks * b->block_bytes;
	s->started_ns = reactor_now_ns(b->r);
	device_submit(b->r, &s->req);
}

static void slot_done(struct io_request *req, int res)
{
	struct slot *s = (struct slot *)req;
	struct bench *b = s->b;
	uint64_t now = reactor_now_ns(b->r);

	if (res && !b->error)
		b->error = res;
	b->done++;
	b->latency_ns += now - s->started_ns;
	if (!b->error && now < b->deadline_ns)
		slot_start(s);
	else if (!--b->running)
		reactor_stop(b->r);
}

static double timeval_us(struct timeval t)
{
	return (double)t.tv_sec * 1e6 + (double)t.tv_usec;
}

static void report(const struct bench *b, uint64_t wall_ns)
{
	struct reactor_stats st;
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	reactor_stats(b->r, &st);
	printf("%s %zu B depth %u: %.0f IOPS, CPU %.2f + %.2f us/IO, %.3f enters/IO, mean %.1f us, "
	       "%.0f%% fixed buffers, %" PRIu64 " sleeps, %" PRIu64 " spin hits\n",
	       b->writes ? "write" : "read", b->block_bytes, b->depth,
	       (double)b->done * NS_PER_S / (double)wall_ns, timeval_us(u.ru_utime) / (double)b->done,
	       timeval_us(u.ru_stime) / (double)b->done,
	       (double)st.submit_calls / (double)b->done,
	       (double)b->latency_ns / 1000 / (double)b->done,
	       100.0 * (double)st.fixed_ios / (double)b->done, st.sleeps, st.spin_hits);
}

static int run(struct bench *b, double seconds)
{
	struct slot *slots = calloc(b->depth, sizeof(*slots));
	size_t region = (b->depth * b->block_bytes + BUFFER_MAX_BYTES - 1) &
			~(size_t)(BUFFER_MAX_BYTES - 1);
	uint64_t start;
	struct buffers *pool;
	int rc;

	rc = slots ? buffers_create(b->no_register ? NULL : b->r, NULL, region, &pool) : -ENOMEM;
	if (rc)
		return rc;
	b->running = b->depth;
	start = monotonic_now_ns();
	b->deadline_ns = start + (uint64_t)(seconds * NS_PER_S);
	for (unsigned i = 0; i < b->depth; i++) {
		slots[i].b = b;
		slots[i].req = (struct io_request){
			.device = b->dev, .op = b->writes ? IO_WRITE : IO_READ,
			.buf = buffers_get(pool, b->block_bytes), .len = b->block_bytes,
			.done = slot_done,
		};
		memset(slots[i].req.buf, (int)i, b->block_bytes);
		slot_start(&slots[i]);
	}
	rc = reactor_run(b->r);
	if (!rc)
		rc = b->error;
	if (!rc)
		report(b, monotonic_now_ns() - start);
	for (unsigned i = 0; i < b->depth; i++)
		buffers_put(pool, slots[i].req.buf, b->block_bytes);
	reactor_destroy(b->r);
	buffers_destroy(pool);
	free(slots);
	return rc;
}

static int usage(void)
{
	fprintf(stderr, "usage: reactor_bench [-w] [-q DEPTH] [-b BYTES] [-t SECONDS] "
			"[-s SPIN_US] [-n] FILE|DEVICE\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct bench b = { .depth = 32, .block_bytes = 4096, .rng = 88172645463325252 };
	struct reactor_options opts = { .spin_max_us = 100 };
	double seconds = 5;
	int opt, rc;

	while ((opt = getopt(argc, argv, "wnq:b:t:s:")) >= 0) {
		switch (opt) {
		case 'w': b.writes = true; break;
		case 'n': b.no_register = true; break;
		case 'q': b.depth = (unsigned)atoi(optarg); break;
		case 'b': b.block_bytes = (size_t)atol(optarg); break;
		case 't': seconds = atof(optarg); break;
		case 's': opts.spin_max_us = (unsigned)atoi(optarg); break;
		default: return usage();
		}
	}
	if (optind != argc - 1 || !b.depth || !b.block_bytes || b.block_bytes % DEVICE_ALIGN_BYTES)
		return usage();
	rc = device_open(argv[optind], b.writes ? DEVICE_EXCLUSIVE : DEVICE_READONLY, &b.dev);
	if (!rc)
		rc = reactor_create(&opts, &b.r);
	if (!rc) {
		b.blocks = device_geometry(b.dev)->size_bytes / b.block_bytes;
		rc = b.blocks ? run(&b, seconds) : -ENOSPC;
	}
	device_close(b.dev);
	if (rc)
		fprintf(stderr, "reactor_bench: %s: %s\n", argv[optind], strerror(-rc));
	return rc ? 1 : 0;
}
