/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fs/linger.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define PATIENCE_NS 1000000

/* Signals for this thread, again and again: one that comes before the wait ends nothing. */
struct impatience {
	timer_t timer;
	bool armed;
	sigset_t mask; /* as it was */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_signal(int signo)
{
	(void)signo;
}

static void install(void)
{
	const struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGRTMIN, &action, NULL);
}

static void begin(struct impatience *i)
{
	const struct itimerspec soon = { .it_interval.tv_nsec = PATIENCE_NS, .it_value.tv_nsec = PATIENCE_NS };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
	sigset_t signals;

	pthread_once(&once, install);
	event.sigev_notify_thread_id = gettid();
	sigemptyset(&signals);
	sigaddset(&signals, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &signals, &i->mask);
	i->armed = !timer_create(CLOCK_MONOTONIC, &event, &i->timer);
	if (i->armed)
		timer_settime(i->timer, 0, &soon, NULL);
}

static void end(struct impatience *i)
{
	if (i->armed)
		timer_delete(i->timer);
	pthread_sigmask(SIG_SETMASK, &i->mask, NULL);
}

void linger_close(int sock)
{
	struct impatience i;

	begin(&i);
	close(sock);
	end(&i);
}

ssize_t linger_receive(int sock, void *buf, size_t len)
{
	struct impatience i;
	ssize_t n;

	begin(&i);
	do {
		n = recv(sock, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	end(&i);
	return n;
}
