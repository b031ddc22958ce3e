/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/admin.h"
#include "fs/channel.h"
#include "fs/server.h"
#include "fs/syslog.h"
#include "fs/worker.h"
#include "io/cleanup.h"
#include "io/log.h"
#include "io/priority.h"

/*
 * The worker ends in one way: stop_worker(). The main thread waits for the
 * supervisor's STOP, for the supervisor's end, or for a client's pool.stop, and then
 * ends the control socket's requests, the sessions, the pool. Signals are the supervisor's.
 */

struct worker {
	struct server server;
	struct admin admin;
	struct control *control;
	pthread_mutex_t lock;
	int waiting_client; /* lock: socket of a pool.stop, or -1 */
};

/* A client's pool.stop: the main thread hears of it like of the supervisor's word. */
static void on_deferred(void *arg, int sock)
{
	struct admin *admin = arg;
	struct worker *w = (void *)((char *)admin - offsetof(struct worker, admin));

	pthread_mutex_lock(&w->lock);
	if (w->waiting_client >= 0)
		close(w->waiting_client); /* two at a time: one answer is as good as two */
	w->waiting_client = sock;
	pthread_mutex_unlock(&w->lock);
	shutdown(WORKER_CHANNEL_FD, SHUT_RD);
}

static void tell(enum channel_type type, uint32_t number, const char *text, int fd)
{
	struct channel_msg msg = { .type = type, .number = number };

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	channel_send(WORKER_CHANNEL_FD, &msg, fd);
}

static void wait_for_stop(struct worker *w)
{
	struct channel_msg msg;
	int fd, got;

	do {
		got = channel_receive(WORKER_CHANNEL_FD, &msg, &fd);
		if (got > 0 && fd >= 0)
			close(fd);
		if (got > 0 && msg.type == CHANNEL_SYNCED)
			server_synced(&w->server, msg.number, msg.error);
	} while (got > 0 && msg.type != CHANNEL_STOP);
}

static int stop_worker(struct worker *w)
{
	int err;

	server_sync_no_more(&w->server); /* nobody reads the channel any more */
	control_stop(w->control);
	err = server_stop(&w->server);
	tell(CHANNEL_STOPPED, (uint32_t)-err, "", w->waiting_client);
	if (w->waiting_client >= 0)
		close(w->waiting_client);
	return err;
}

static int start_control(struct worker *w, const struct poolconf *conf)
{
	struct control_options options = {
		.listen_fd = WORKER_LISTEN_FD,
		.admin_group = conf->control_group,
		.handler = admin_handle,
		.known = admin_knows,
		.gone = admin_gone,
		.deferred = on_deferred,
		.arg = &w->admin,
	};
	int err;

	w->admin.server = &w->server;
	w->admin.supervisor = getppid();
	err = control_start(&options, &w->control);
	if (err)
		log_error("the control socket cannot be served: %s", strerror(-err));
	return err;
}

static void *map_area(const struct poolconf *conf)
{
	size_t len = server_area_bytes(conf);
	void *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			  WORKER_AREA_FD, 0);

	if (area != MAP_FAILED)
		return area;
	log_error("the shared memory of %zu bytes cannot be mapped: %s", len, strerror(errno));
	return NULL;
}

static void ignore_signals(void)
{
	static const int signals[] = { SIGPIPE, SIGTERM, SIGINT, SIGHUP };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_IGN);
}

int worker_run(const struct poolconf *conf, bool restart, bool to_syslog)
{
	static struct worker w = { .lock = PTHREAD_MUTEX_INITIALIZER, .waiting_client = -1 };
	void *area = map_area(conf);

	ignore_signals();
	priority_raise_session();
	/* The first one's failure is for who started nvfsd; then nobody listens there any more. */
	if (to_syslog && restart)
		syslog_take_over();
	if (!area || server_start(&w.server, conf, area, WORKER_CHANNEL_FD, restart))
		return 1;
	/* Before the first client can be answered: who saw an answer knows that there was a worker. */
	tell(CHANNEL_READY, 0, pool_name(w.server.pool), -1);
	if (start_control(&w, conf)) {
		server_stop(&w.server);
		return 1;
	}
	if (to_syslog && !restart)
		syslog_take_over();
	wait_for_stop(&w);
	return stop_worker(&w) ? 1 : 0;
}
