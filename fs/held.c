/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/held.h"
#include "io/cleanup.h"

void held_init(struct held *h, struct request_pool *pool, const struct throttles *throttles)
{
	*h = (struct held){ .pool = pool, .throttles = *throttles };
}

bool held_room(const struct held *h)
{
	if (h->owes)
		return false;
	return !h->count || (h->count < HELD_MAX && h->large < HELD_LARGE_MAX && request_pool_may_hold(h->pool));
}

static void append(struct held *h, struct request *r)
{
	struct request **at = &h->first;

	while (*at)
		at = &(*at)->held_next;
	r->held_next = NULL;
	r->interrupted = false;
	*at = r;
	h->count++;
	h->large += request_is_large(r);
	request_pool_hold(h->pool, r);
	throttles_hold(&h->throttles);
}

static struct request *take_out(struct held *h, struct request **at)
{
	struct request *r = *at;

	*at = r->held_next;
	h->count--;
	h->large -= request_is_large(r);
	request_pool_unhold(h->pool, r);
	return r;
}

bool held_admit(struct held *h, struct request *r, enum throttle_kind kind, uint64_t bytes, uint64_t now_ns)
{
	if (!throttles_limit(&h->throttles, kind) || !throttles_claim(&h->throttles, kind, bytes, now_ns, &r->claim))
		return true;
	if (request_pool_may_hold(h->pool)) {
		append(h, r);
		return false;
	}
	h->owed = r->claim;
	h->owes = true;
	throttles_hold(&h->throttles);
	return true;
}

static void released(struct held *h, const struct throttle_claim *c, uint64_t now_ns)
{
	throttles_release(&h->throttles, c, now_ns);
}

struct request *held_due(struct held *h, uint64_t now_ns)
{
	if (h->owes && !throttles_wait_ns(&h->throttles, &h->owed, now_ns)) {
		h->owes = false;
		released(h, &h->owed, now_ns);
	}
	for (struct request **at = &h->first; *at; at = &(*at)->held_next) {
		if (throttles_wait_ns(&h->throttles, &(*at)->claim, now_ns))
			continue;
		released(h, &(*at)->claim, now_ns);
		return take_out(h, at);
	}
	return NULL;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t held_next_look(const struct held *h, uint64_t now_ns)
{
	uint64_t wait = HELD_LOOK_NS;

	if (!h->count && !h->owes)
		return REACTOR_NEVER_NS;
	if (h->owes)
		wait = sooner(wait, throttles_wait_ns(&h->throttles, &h->owed, now_ns));
	for (const struct request *r = h->first; r; r = r->held_next)
		wait = sooner(wait, throttles_wait_ns(&h->throttles, &r->claim, now_ns));
	return now_ns + wait;
}

void held_interrupt(struct held *h, uint64_t unique)
{
	for (struct request *r = h->first; r; r = r->held_next)
		if (r->unique == unique)
			r->interrupted = true;
}

/* Whether a line of /proc/PID/status, as in proc(5), has SIGKILL in its set of signals. */
static bool has_sigkill(const char *status, const char *field)
{
	const char *at = strstr(status, field);

	return at && strtoull(at + strlen(field), NULL, 16) & UINT64_C(1) << (SIGKILL - 1);
}

static bool is_killed(uint32_t pid)
{
	char path[64], status[8192];
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	if (n < 0)
		return false;
	status[n] = '\0';
	return has_sigkill(status, "\nSigPnd:") || has_sigkill(status, "\nShdPnd:");
}

struct request *held_killed(struct held *h)
{
	for (struct request **at = &h->first; *at; at = &(*at)->held_next) {
		if (!(*at)->interrupted || !is_killed((*at)->in->pid))
			continue;
		throttles_cancel(&h->throttles, &(*at)->claim);
		throttles_abandon(&h->throttles);
		return take_out(h, at);
	}
	return NULL;
}

void held_drop(struct held *h)
{
	while (h->first) {
		throttles_cancel(&h->throttles, &h->first->claim);
		throttles_abandon(&h->throttles);
		request_put(h->pool, take_out(h, &h->first));
	}
	if (h->owes)
		throttles_abandon(&h->throttles);
	h->owes = false;
}
