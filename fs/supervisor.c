/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "fs/channel.h"
#include "fs/control.h"
#include "fs/client.h"
#include "fs/errname.h"
#include "fs/supervisor.h"
#include "fs/syncer.h"
#include "fs/syslog.h"
#include "io/cleanup.h"
#include "io/log.h"

/*
 * The supervisor never touches a device or the pool's data. It holds the control socket, the
 * memory that workers share, and a copy of every /dev/fuse descriptor, so that a
 * connection does not end with the worker that serves it.
 *
 *	starting --READY--> serving --STOP sent, or STOPPED came--> stopping --worker gone--> exit
 *	    ^                  |
 *	    |                  worker gone
 *	    +------------------+       after three deaths in a row: keep a copy of the area, exit
 *
 * A worker's death ends the mounts: what was answered from memory and not committed, up to the commit
 * period, is lost with it as in a power cut, and going on silently would
 * break what was promised to the programs that wrote it. They get ENOTCONN until the mount is renewed.
 */

#define DEATHS_MAX 3
#define HEALTHY_S 60 /* who served this long starts with a clean record */

struct kept {
	uint32_t number;
	int fd;
	char name[520];
	struct kept *next;
};

/* A process that syncs a mount. */
struct syncing {
	pid_t pid;
	uint32_t number; /* 0: the worker that asked is gone */
	struct syncing *next;
};

struct supervisor {
	const struct supervisor_options *options;
	const char *pool;
	char socket_path[CLIENT_PATH_MAX];
	int listen_fd, area_fd, signal_fd, channel;
	pid_t worker;
	bool ready, stopping, stopped;
	int stop_error;
	int ready_fd;            /* of options, until it was written */
	int client;              /* socket of the pool.stop to be answered at the very end, or -1 */
	unsigned deaths;
	time_t ready_at;
	struct kept *kept;
	struct syncing *syncing;
};

static void notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* mkdir -p. */
static int make_dirs(const char *dir, mode_t mode)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, mode) && errno != EEXIST ? -errno : 0;
}

/* ---- The control socket ---- */

static bool somebody_answers(const struct sockaddr_un *addr)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && !connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
}

static int bind_socket(const char *path, int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t mask;
	int err;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (somebody_answers(&addr))
		return -EADDRINUSE;
	unlink(path);
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 64) ? -errno : 0;
	umask(mask);
	return err;
}

/* Two that start at once must not take the socket from each other: one at a time, by a lock of the directory. */
static int open_socket(struct supervisor *s)
{
	cleanup_fd int dir = -1;
	gid_t group = s->options->conf->control_group;
	int err = make_dirs(NVFS_RUN_DIR, 0755);

	if (err)
		return err;
	dir = open(NVFS_RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX))
		return -errno;
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0)
		return -errno;
	err = bind_socket(s->socket_path, s->listen_fd);
	if (err)
		return err;
	/* Everybody may connect, since a tenant's owner may be anybody; who asks is looked at when the connection is taken. */
	if (chown(s->socket_path, 0, group) || chmod(s->socket_path, 0666))
		return -errno;
	return 0;
}

static int claim_pool(struct supervisor *s)
{
	int err = client_socket_path(s->pool, s->socket_path);

	if (!err)
		err = open_socket(s);
	if (err == -EADDRINUSE)
		log_error("pool %s is served already: %s answers; nvfs pool stop %s ends that", s->pool, s->socket_path,
			  s->pool);
	else if (err)
		log_error("the control socket %s cannot be made: %s", s->socket_path,
			  strerror(-err));
	return err;
}

/* ---- The area ---- */

static int make_area(struct supervisor *s)
{
	s->area_fd = memfd_create("nvfs", MFD_CLOEXEC);
	if (s->area_fd >= 0 && !ftruncate(s->area_fd, (off_t)s->options->area_bytes))
		return 0;
	log_error("no shared memory of %zu bytes: %s", s->options->area_bytes, strerror(errno));
	return -errno;
}

static int copy_range(int from, int to, off_t start, off_t end)
{
	char buf[65536];

	while (start < end) {
		size_t len = end - start < (off_t)sizeof(buf) ? (size_t)(end - start) : sizeof(buf);
		ssize_t n = pread(from, buf, len, start);

		if (n <= 0 || pwrite(to, buf, (size_t)n, start) != n)
			return n < 0 ? -errno : -EIO;
		start += n;
	}
	return 0;
}

/* Only what was ever written: the area is mostly empty. */
static int copy_area(int from, int to)
{
	off_t data = 0, hole;
	int err = 0;

	while (!err && (data = lseek(from, data, SEEK_DATA)) >= 0) {
		hole = lseek(from, data, SEEK_HOLE);
		err = copy_range(from, to, data, hole);
		data = hole;
	}
	return err;
}

/* One is kept: a unit that is started again and again must not fill the disk. */
static void forget_older_areas(const struct supervisor *s)
{
	char pattern[PATH_MAX];
	size_t prefix;
	glob_t found;

	prefix = (size_t)snprintf(pattern, sizeof(pattern), "%s/%s-", NVFS_STATE_DIR, s->pool);
	snprintf(pattern + prefix, sizeof(pattern) - prefix, "[0-9]*.area");
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *when = found.gl_pathv[i] + prefix;

		/* Not that of a pool whose name goes on with a number. */
		if (!strcmp(when + strspn(when, "0123456789"), ".area"))
			unlink(found.gl_pathv[i]);
	}
	globfree(&found);
}

static void keep_area(struct supervisor *s)
{
	char path[PATH_MAX];
	cleanup_fd int fd = -1;
	int err;

	make_dirs(NVFS_STATE_DIR, 0700);
	forget_older_areas(s);
	snprintf(path, sizeof(path), "%s/%s-%lld.area", NVFS_STATE_DIR, s->pool,
		 (long long)time(NULL));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : copy_area(s->area_fd, fd);
	if (err)
		log_error("pool %s: the shared memory cannot be kept in %s: %s", s->pool, path,
			  strerror(-err));
	else
		log_error("pool %s: the shared memory of the workers is kept in %s", s->pool, path);
}

/* ---- The worker ---- */

/* In the child: its descriptors in their places, everything else closed. */
static void become_worker(struct supervisor *s, int channel, bool restart)
{
	char *args[64 + POOLCONF_DEVICES_MAX];
	char restart_arg[] = "--restart";
	/* Out of the way first: the targets may be among the sources. */
	int high[3] = { fcntl(channel, F_DUPFD, 10), fcntl(s->area_fd, F_DUPFD, 10),
			fcntl(s->listen_fd, F_DUPFD, 10) };
	sigset_t none;
	unsigned n = 0;

	if (dup2(high[0], WORKER_CHANNEL_FD) < 0 || dup2(high[1], WORKER_AREA_FD) < 0 ||
	    dup2(high[2], WORKER_LISTEN_FD) < 0)
		_exit(126);
	close_range(WORKER_LISTEN_FD + 1, ~0u, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid(); /* its priority is its own, and a terminal's signals are for the supervisor alone */
	for (unsigned i = 0; i < s->options->worker_argc; i++) {
		if (restart && i == s->options->restart_at)
			args[n++] = restart_arg;
		args[n++] = s->options->worker_args[i];
	}
	args[n] = NULL;
	execv("/proc/self/exe", args);
	_exit(127);
}

static int start_worker(struct supervisor *s, bool restart)
{
	int fds[2], err = channel_pair(fds);

	if (err)
		return err;
	s->worker = fork();
	if (s->worker == 0)
		become_worker(s, fds[1], restart);
	close(fds[1]);
	if (s->worker < 0) {
		err = -errno;
		close(fds[0]);
		return err;
	}
	s->channel = fds[0];
	s->ready = false;
	return 0;
}

/* ---- What the worker says ---- */

static void keep(struct supervisor *s, const struct channel_msg *msg, int fd)
{
	struct kept *k = calloc(1, sizeof(*k));

	if (!k || fd < 0) {
		free(k);
		if (fd >= 0)
			close(fd);
		return;
	}
	k->number = msg->number;
	k->fd = fd;
	snprintf(k->name, sizeof(k->name), "%s", msg->text);
	LL_PREPEND(s->kept, k);
}

static void drop(struct supervisor *s, uint32_t number)
{
	struct kept *k, *next;

	LL_FOREACH_SAFE(s->kept, k, next) {
		if (k->number != number)
			continue;
		LL_DELETE(s->kept, k);
		close(k->fd);
		free(k);
	}
}

/* The pool is served: whoever waits for that can go on. */
static void on_ready(struct supervisor *s)
{
	s->ready = true;
	s->ready_at = now();
	if (s->ready_fd >= 0) {
		syslog_take_over();
		if (write(s->ready_fd, "", 1) != 1)
			log_warn("pool %s: who started nvfsd did not wait for it", s->pool);
		close(s->ready_fd);
		s->ready_fd = -1;
	}
	log_info("pool %s is served", s->pool);
	notify("READY=1");
}

/* ---- Syncing for the worker ---- */

static void tell_synced(struct supervisor *s, uint32_t number, int error)
{
	const struct channel_msg msg = { .type = CHANNEL_SYNCED, .number = number, .error = error };

	if (number && s->channel >= 0)
		channel_send(s->channel, &msg, -1);
}

static void start_sync(struct supervisor *s, const struct channel_msg *msg)
{
	struct syncing *sync = calloc(1, sizeof(*sync));

	if (!sync) {
		tell_synced(s, msg->number, -ENOMEM);
		return;
	}
	sync->number = msg->number;
	sync->pid = syncer_start((dev_t)msg->device);
	if (sync->pid < 0) {
		tell_synced(s, msg->number, (int)sync->pid);
		free(sync);
		return;
	}
	LL_PREPEND(s->syncing, sync);
}

static void reap_syncing(struct supervisor *s)
{
	struct syncing *sync, *next;
	int status;

	LL_FOREACH_SAFE(s->syncing, sync, next) {
		if (waitpid(sync->pid, &status, WNOHANG) != sync->pid)
			continue;
		LL_DELETE(s->syncing, sync);
		tell_synced(s, sync->number, syncer_result(status));
		free(sync);
	}
}

/* The worker that asked is gone; the processes end when the mounts are cut off. */
static void forget_syncing(struct supervisor *s)
{
	struct syncing *sync;

	LL_FOREACH(s->syncing, sync)
		sync->number = 0;
}

/* False at the end of the channel. */
static bool hear_worker(struct supervisor *s)
{
	struct channel_msg msg;
	int fd, got = channel_receive(s->channel, &msg, &fd);

	if (got <= 0)
		return false;
	switch (msg.type) {
	case CHANNEL_READY:
		on_ready(s);
		break;
	case CHANNEL_MOUNT:
		keep(s, &msg, take_fd(&fd));
		break;
	case CHANNEL_UNMOUNT:
		drop(s, msg.number);
		break;
	case CHANNEL_SYNC:
		start_sync(s, &msg);
		break;
	case CHANNEL_STOPPED:
		s->stopped = true;
		s->stop_error = (int)msg.number;
		s->client = take_fd(&fd);
		break;
	}
	if (fd >= 0)
		close(fd);
	return true;
}

static void ask_to_stop(struct supervisor *s)
{
	struct channel_msg msg = { .type = CHANNEL_STOP };

	s->stopping = true;
	notify("STOPPING=1");
	channel_send(s->channel, &msg, -1); /* an end of the channel comes as an event of its own */
}

/* ---- Death ---- */

static void cut_mounts(struct supervisor *s)
{
	struct kept *k, *next;

	LL_FOREACH_SAFE(s->kept, k, next) {
		log_error("pool %s: the mount of subvolume %s was cut off (ENOTCONN): what was not "
			  "committed is lost; unmount and mount it again",
			  s->pool, k->name);
		LL_DELETE(s->kept, k);
		close(k->fd);
		free(k);
	}
}

static int reap(struct supervisor *s)
{
	int status = 0;

	while (waitpid(s->worker, &status, 0) < 0 && errno == EINTR)
		;
	close(s->channel);
	s->channel = -1;
	return status;
}

/* The worker is gone although nobody asked it to: 0 when another one runs. */
static int recover(struct supervisor *s, int status)
{
	if (WIFSIGNALED(status))
		log_error("pool %s: the worker was killed by signal %d (%s)", s->pool,
			  WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		log_error("pool %s: the worker ended with status %d", s->pool, WEXITSTATUS(status));
	forget_syncing(s);
	cut_mounts(s);
	if (s->ready && now() - s->ready_at >= HEALTHY_S)
		s->deaths = 0;
	if (++s->deaths >= DEATHS_MAX) {
		log_error("pool %s: %u workers died one after another: given up", s->pool,
			  s->deaths);
		keep_area(s);
		return -EIO;
	}
	close(s->area_fd);
	if (make_area(s))
		return -ENOMEM;
	log_warn("pool %s: another worker is started", s->pool);
	return start_worker(s, true);
}

/* ---- The loop ---- */

static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap_syncing(s);
	if (info.ssi_signo == SIGCHLD || s->stopping)
		return;
	log_info("pool %s: %s from process %u: committing and stopping", s->pool,
		 info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM", info.ssi_pid);
	ask_to_stop(s);
}

/* Until there is no worker and there shall be none. */
static int supervise(struct supervisor *s)
{
	bool first = true;

	for (;;) {
		struct pollfd p[2] = { { .fd = s->channel, .events = POLLIN },
				       { .fd = s->signal_fd, .events = POLLIN } };
		int status;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			on_signal(s);
		if (!p[0].revents || hear_worker(s)) {
			first = first && !s->ready;
			continue;
		}
		status = reap(s);
		if (s->stopped || s->stopping)
			return status ? 1 : 0;
		/* It said why it cannot serve the pool; another one could not either. */
		if (first)
			return 1;
		if (recover(s, status))
			return 1;
	}
}

static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* ignored, as some parents leave it, there is nobody to wait for */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* The answer to a pool.stop: nothing of the pool is left. */
static void answer_client(struct supervisor *s)
{
	char line[512];
	int len;

	if (s->client < 0)
		return;
	if (s->stop_error)
		len = snprintf(line, sizeof(line),
			       "{\"ok\":false,\"error\":\"%s\",\"errno\":%d,\"message\":\"the last "
			       "commit failed: %s; the log has more\",\"version\":%d}\n",
			       errname(s->stop_error), s->stop_error, strerror(s->stop_error), CONTROL_VERSION);
	else
		len = snprintf(line, sizeof(line), "{\"ok\":true,\"version\":%d}\n", CONTROL_VERSION);
	if (send(s->client, line, (size_t)len, MSG_NOSIGNAL) != len)
		log_warn("pool %s: the client that stopped it did not wait for the answer", s->pool);
	close(s->client);
}

int supervisor_run(const struct supervisor_options *options)
{
	struct supervisor s = { .options = options, .pool = options->conf->pool, .listen_fd = -1,
				.area_fd = -1, .channel = -1, .client = -1,
				.ready_fd = options->ready_fd };
	int status = 1;

	s.signal_fd = block_signals();
	if (s.signal_fd < 0 || claim_pool(&s))
		return 1;
	if (!make_area(&s) && !start_worker(&s, false))
		status = supervise(&s);
	notify("STOPPING=1");
	unlink(s.socket_path);
	close(s.listen_fd);
	cut_mounts(&s);
	close(s.area_fd);
	answer_client(&s);
	return status;
}
