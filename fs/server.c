/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "fs/channel.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "io/crc.h"
#include "io/device.h"
#include "io/log.h"
#include "meta/event.h"

/*
 * At least four, however few processors there are: subvolumes of one reactor wait for each other's pieces of work, the kernel
 * shares a processor between two reactors more finely.
 */
#define REACTORS_DEFAULT_MIN 4
#define REACTORS_DEFAULT_MAX 8
#define BUSY_WAIT_S 60 /* for the last I/O of a killed predecessor */

static unsigned reactors_wanted(const struct poolconf *conf)
{
	cpu_set_t set;
	unsigned cpus;

	if (conf->reactors)
		return conf->reactors < SERVER_REACTORS_MAX ? conf->reactors : SERVER_REACTORS_MAX;
	cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
	if (cpus < REACTORS_DEFAULT_MIN)
		return REACTORS_DEFAULT_MIN;
	return cpus < REACTORS_DEFAULT_MAX ? cpus : REACTORS_DEFAULT_MAX;
}

static struct pool_options pool_options_of(const struct poolconf *conf)
{
	return (struct pool_options){
		.reactors = reactors_wanted(conf),
		.dirty_bytes = conf->dirty_bytes,
		.cache_bytes = conf->cache_bytes,
		.map_cache_bytes = conf->map_cache_bytes,
		.inode_cache = conf->inode_cache,
		.commit_ms = conf->commit_ms,
	};
}

static size_t pool_area_bytes(const struct poolconf *conf)
{
	struct pool_options options = pool_options_of(conf);

	return (pool_area_size(&options) + 4095) / 4096 * 4096;
}

size_t server_area_bytes(const struct poolconf *conf)
{
	return reactors_wanted(conf) * request_pool_bytes() + pool_area_bytes(conf);
}

/* ---- Start ---- */

static int open_device(const char *path, bool retry_busy, struct device **out)
{
	static const struct timespec pause = { .tv_nsec = 50000000 };
	int err = device_open(path, DEVICE_EXCLUSIVE, out);

	for (int i = 0; err == -EBUSY && retry_busy && i < BUSY_WAIT_S * 20; i++) {
		nanosleep(&pause, NULL);
		err = device_open(path, DEVICE_EXCLUSIVE, out);
	}
	if (err == -EBUSY)
		log_error("%s is in use: mounted, or served by another nvfsd", path);
	else if (err)
		log_error("%s cannot be opened: %s", path, strerror(-err));
	return err;
}

static int open_devices(struct server *s, bool retry_busy)
{
	for (unsigned i = 0; i < s->conf->device_count; i++) {
		int err = open_device(s->conf->devices[i], retry_busy, &s->devices[i]);

		if (err)
			return err;
		s->device_count++;
	}
	return 0;
}

static int make_reactors(struct server *s, uint8_t *area)
{
	unsigned count = reactors_wanted(s->conf);

	for (unsigned i = 0; i < count; i++) {
		int err = reactor_create(NULL, &s->reactors[i]);

		if (err) {
			log_error("no reactor: %s%s", strerror(-err),
				  err == -EPERM ? " (is io_uring disabled by sysctl?)" : "");
			return err;
		}
		s->reactor_count++;
		err = request_pool_create(s->reactors[i], area + i * request_pool_bytes(),
					  ops_session.priv_bytes, &s->requests[i]);
		if (err)
			return err;
		s->scratch[i] = malloc(OPS_SCRATCH_BYTES);
		if (!s->scratch[i])
			return -ENOMEM;
	}
	return 0;
}

static int start_reactors(struct server *s)
{
	for (unsigned i = 0; i < s->reactor_count; i++) {
		char name[16];
		int err;

		snprintf(name, sizeof(name), "reactor-%u", i & 0xff);
		err = reactor_start_thread(s->reactors[i], name);
		if (err)
			return err;
		s->started++;
	}
	return 0;
}

static int open_pool(struct server *s, uint8_t *area)
{
	struct pool_options options = pool_options_of(s->conf);

	options.reactors = s->reactor_count;
	options.reactor = s->reactors;
	options.area.base = area + s->reactor_count * request_pool_bytes();
	options.area.len_bytes = pool_area_bytes(s->conf);
	return pool_open(s->devices, s->device_count, &options, &s->pool);
}

/* ---- Stop ---- */

struct detach {
	struct reactor_msg msg;
	struct server *server;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void detach_devices(struct reactor *r, struct reactor_msg *msg)
{
	struct detach *d = (void *)((char *)msg - offsetof(struct detach, msg));
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&d->lock);

	for (unsigned i = 0; i < d->server->device_count; i++)
		device_detach(r, d->server->devices[i]);
	d->done = true;
	pthread_cond_signal(&d->cond);
}

/* A ring keeps references to the devices: they go before these are closed and unlocked. */
static void detach_reactor(struct server *s, struct reactor *r)
{
	struct detach d = { .msg.fn = detach_devices, .server = s };

	pthread_mutex_init(&d.lock, NULL);
	pthread_cond_init(&d.cond, NULL);
	reactor_post(r, &d.msg);
	pthread_mutex_lock(&d.lock);
	while (!d.done)
		pthread_cond_wait(&d.cond, &d.lock);
	pthread_mutex_unlock(&d.lock);
	pthread_cond_destroy(&d.cond);
	pthread_mutex_destroy(&d.lock);
}

static void free_all(struct server *s)
{
	for (unsigned i = 0; i < s->started; i++) {
		detach_reactor(s, s->reactors[i]);
		reactor_stop(s->reactors[i]);
	}
	workers_destroy(s->flushers);
	workers_destroy(s->viewers);
	for (unsigned i = 0; i < s->reactor_count; i++) {
		if (i < s->started)
			reactor_join(s->reactors[i]);
		request_pool_destroy(s->requests[i]);
		free(s->scratch[i]);
		reactor_destroy(s->reactors[i]);
	}
	for (unsigned i = 0; i < s->device_count; i++)
		device_close(s->devices[i]);
	pthread_cond_destroy(&s->synced);
	pthread_mutex_destroy(&s->sync_lock);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

static void *closer_main(void *arg);
static void on_late(struct session *session);
static void on_mounted(struct session *session);
static void on_ended(struct session *session, int reason);

int server_start(struct server *s, const struct poolconf *conf, void *area, int channel,
		 bool retry_busy)
{
	int err;

	memset(s, 0, sizeof(*s));
	s->conf = conf;
	s->channel = channel;
	s->session_ops = ops_session;
	s->session_ops.late = on_late;
	s->session_ops.mounted = on_mounted;
	s->session_ops.ended = on_ended;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	pthread_mutex_init(&s->sync_lock, NULL);
	pthread_cond_init(&s->synced, NULL);
	err = open_devices(s, retry_busy);
	if (!err)
		err = make_reactors(s, area);
	if (!err)
		err = start_reactors(s);
	if (!err)
		err = open_pool(s, area);
	if (!err)
		err = workers_create(1, "flush", &s->flushers);
	if (!err)
		err = workers_create(1, "views", &s->viewers);
	if (!err) {
		err = -pthread_create(&s->closer, NULL, closer_main, s);
		s->has_closer = !err;
	}
	if (err) {
		if (s->pool)
			pool_close(s->pool);
		free_all(s);
	}
	return err;
}

/* ---- Volumes: the end ---- */

/* Sessions that change nothing have no results; their numbers only tell them apart. */
#define READ_ONLY_NUMBERS UINT32_C(0x80000000)

static void tell(struct server *s, enum channel_type type, uint32_t number, const char *text, int fd)
{
	struct channel_msg msg = { .type = type, .number = number };

	if (s->channel < 0)
		return;
	snprintf(msg.text, sizeof(msg.text), "%s", text);
	channel_send(s->channel, &msg, fd);
}

/* ---- Volumes by name; server->lock ---- */

static struct volume **bucket_of(struct server *s, const char *name)
{
	return &s->buckets[crc32c(0, name, strlen(name)) % SERVER_BUCKETS];
}

/* At most one has a name. */
static struct volume *find_volume(struct server *s, const char *name)
{
	struct volume *v = *bucket_of(s, name);

	while (v && strcmp(v->name, name))
		v = v->bucket_next;
	return v;
}

static void link_volume(struct volume *v)
{
	struct volume **bucket = bucket_of(v->server, v->name);

	DL_APPEND(v->server->volumes, v);
	v->bucket_next = *bucket;
	*bucket = v;
}

static void unlink_volume(struct volume *v)
{
	struct volume **at = bucket_of(v->server, v->name);

	DL_DELETE(v->server->volumes, v);
	while (*at != v)
		at = &(*at)->bucket_next;
	*at = v->bucket_next;
}

/* A volume that nobody uses and whose session is over, taken out of the list; server->lock. */
static struct volume *take_ended(struct server *s)
{
	struct volume *v;

	DL_FOREACH(s->volumes, v) {
		if (v->ended && v->users == 0)
			return v;
	}
	return NULL;
}

static void tell_mount(struct volume *v, enum event_kind kind, const char *what, const char *where)
{
	const struct event_about about = { .kind = kind, .severity = EVENT_INFO, .subvolume = v->name, .tenant = v->tenant };

	event_add(pool_events(v->server->pool), &about, "%s%s%s", what, where[0] ? " on " : "", where);
}

/* What people call it. */
static const char *kind(const char *name)
{
	return strchr(name, '@') ? "snapshot" : "subvolume";
}

static void close_volume(struct volume *v)
{
	struct server *s = v->server;
	int err;

	views_end(&v->ops);
	err = subvol_close(v->ops.sv);

	if (err)
		log_error("%s: %s %s: the last write-back failed: %s", pool_name(s->pool),
			  kind(v->name), v->name, strerror(-err));
	session_destroy(v->session);
	if (!v->read_only && pool_session_end(s->pool, v->number))
		log_debug("%s: the results of session %u could not be deleted and stay", pool_name(s->pool), v->number);
	tell(s, CHANNEL_UNMOUNT, v->number, v->name, -1);
	if (v->reason == -ECANCELED)
		log_warn("%s: %s %s: the mount was given up", pool_name(s->pool), kind(v->name), v->name);
	else
		log_info("%s: %s %s is %s", pool_name(s->pool), kind(v->name), v->name,
			 v->reason ? "closed" : "unmounted");
	tell_mount(v, EVENT_SUBVOLUME_UNMOUNTED,
		   v->reason == -ECANCELED ? "the mount was given up" : v->reason ? "closed" : "unmounted", "");
	pthread_mutex_lock(&s->lock);
	if (err && s->closing)
		s->close_error = err;
	unlink_volume(v);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	free(v);
}

static void *closer_main(void *arg)
{
	struct server *s = arg;
	struct volume *v;

	pthread_setname_np(pthread_self(), "closer");
	pthread_mutex_lock(&s->lock);
	while (!s->closing || s->volumes) {
		v = take_ended(s);
		if (!v) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		/* It stays in the list, so that its name is taken until it is closed. */
		v->users = UINT_MAX;
		pthread_mutex_unlock(&s->lock);
		close_volume(v);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* On the reactor: the session's last word. */
static void on_ended(struct session *session, int reason)
{
	struct volume *v = session_arg(session);
	struct server *s = v->server;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	v->ended = true;
	v->reason = reason;
	pthread_cond_broadcast(&s->changed);
}

/* Each of them: what an event costs then is looked at first. */
static void on_late(struct session *session)
{
	struct volume *v = session_arg(session);
	const struct event_about about = { .kind = EVENT_THROTTLED, .severity = EVENT_INFO, .subvolume = v->name, .tenant = v->tenant,
					   .limited = true, .limit_key = v->number };

	event_add(pool_events(v->server->pool), &about, "requests wait for its limit of IOPS or bandwidth, or its tenant's");
}

static void on_mounted(struct session *session)
{
	struct volume *v = session_arg(session);

	tell_mount(v, EVENT_SUBVOLUME_MOUNTED, v->read_only ? "mounted read-only" : "mounted", v->target);
	log_info("%s: %s %s is mounted%s%s", pool_name(v->server->pool), kind(v->name), v->name,
		 v->target[0] ? " on " : "", v->target);
}

/* ---- Messages to a volume's session ---- */

static void deliver(struct reactor *r, struct reactor_msg *msg)
{
	struct volume_msg *m = (void *)((char *)msg - offsetof(struct volume_msg, msg));
	struct volume *v = m->volume;
	cleanup_unlock pthread_mutex_t *held = NULL;

	(void)r;
	/* Without the lock: it may end the session, which takes it. */
	m->fn(v->session);
	held = lock_mutex(&v->server->lock);
	v->users--;
	pthread_cond_broadcast(&v->server->changed);
}

/* Have fn(session) called on the reactor, once; server->lock. */
static void post(struct volume *v, struct volume_msg *m, void (*fn)(struct session *session))
{
	if (m->fn)
		return;
	m->msg.fn = deliver;
	m->volume = v;
	m->fn = fn;
	v->users++;
	reactor_post(request_pool_reactor(v->requests), &m->msg);
}

/* ---- Unmounted, and not yet closed ---- */

static bool is_leaving(const struct volume *v)
{
	return v->ended || (v->session && session_gone(v->session));
}

/* name NULL: any of them. */
static bool any_leaving(struct server *s, const char *name)
{
	const struct volume *v = name ? find_volume(s, name) : NULL;

	if (name)
		return v && is_leaving(v);
	DL_FOREACH(s->volumes, v) {
		if (is_leaving(v))
			return true;
	}
	return false;
}

void server_settle(struct server *s, const char *subvolume)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	while (any_leaving(s, subvolume))
		pthread_cond_wait(&s->changed, &s->lock);
}

bool server_is_leaving(struct server *s, const char *subvolume)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	return any_leaving(s, subvolume);
}

/* ---- Mount ---- */

/* Enter a volume that is not open yet: from now on its name is taken. */
static int enter(struct server *s, const struct mount_request *m, struct volume **out, char *why,
		 size_t why_len)
{
	struct volume *v = calloc(1, sizeof(*v)), *other;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	other = find_volume(s, m->subvolume);
	if (!v || s->stopping || other) {
		free(v);
		if (s->stopping)
			snprintf(why, why_len, "the pool is being stopped");
		else if (other)
			snprintf(why, why_len,
				 "%s %s is mounted already%s%s: use mount --bind for a second place", kind(m->subvolume),
				 m->subvolume, other->target[0] ? " on " : "", other->target);
		else
			snprintf(why, why_len, "no memory");
		return s->stopping ? -ESHUTDOWN : other ? -EBUSY : -ENOMEM;
	}
	v->server = s;
	snprintf(v->name, sizeof(v->name), "%s", m->subvolume);
	snprintf(v->target, sizeof(v->target), "%s", m->target);
	v->read_only = m->read_only || pool_read_only(s->pool) || strchr(m->subvolume, '@');
	v->writeback = m->writeback;
	if (m->snapdir && !strchr(m->subvolume, '@')) {
		v->ops.views.source = &server_view_source;
		v->ops.views.workers = s->viewers;
		clock_gettime(CLOCK_REALTIME, &v->ops.views.since);
	}
	v->ops.relatime = !v->read_only && !m->noatime;
	v->users = 1; /* ours */
	link_volume(v);
	*out = v;
	return 0;
}

static void leave(struct volume *v)
{
	struct server *s = v->server;

	pthread_mutex_lock(&s->lock);
	unlink_volume(v);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	free(v);
}

static int open_subvolume(struct volume *v, char *why, size_t why_len)
{
	struct server *s = v->server;
	int err = subvol_open(s->pool, v->name, v->read_only, &v->ops.sv);

	if (err) {
		if (err == -ENOENT)
			snprintf(why, why_len, "pool %s has no %s %s; nvfs %s list %s shows them", pool_name(s->pool), kind(v->name),
				 v->name, kind(v->name), pool_name(s->pool));
		else
			snprintf(why, why_len, "%s %s cannot be opened: %s", kind(v->name), v->name,
				 strerror(-err));
		return err;
	}
	/* A number that no session ever had: it names the results of its requests in RocksDB. */
	err = v->read_only ? 0 : pool_session_new(s->pool, &v->number);
	if (err) {
		snprintf(why, why_len, "subvolume %s: no number for a session: %s", v->name, strerror(-err));
		subvol_close(v->ops.sv);
		return err;
	}
	if (v->read_only)
		v->number = READ_ONLY_NUMBERS + atomic_fetch_add(&s->next_read_only, 1);
	snprintf(v->tenant, sizeof(v->tenant), "%s", subvol_tenant(v->ops.sv));
	for (unsigned i = 0; i < s->reactor_count; i++) {
		if (s->reactors[i] == subvol_reactor(v->ops.sv)) {
			v->requests = s->requests[i];
			v->ops.scratch = s->scratch[i];
		}
	}
	return 0;
}

static int make_session(struct volume *v, const struct mount_request *m, struct session **session,
			char *why, size_t why_len)
{
	struct session_options options = {
		.name = v->name,
		.number = v->number,
		.writeback = m->writeback,
		.parallel_dio = m->parallel_dio,
		.party = subvol_party(v->ops.sv),
	};
	int err;

	subvol_throttles(v->ops.sv, &options.throttles);
	v->ops.flushers = v->server->flushers;
	err = session_create(v->requests, m->fd, &v->server->session_ops, &options, v, session);
	if (err)
		snprintf(why, why_len, "subvolume %s: no FUSE session: %s", v->name, strerror(-err));
	return err;
}

static int serve(struct volume *v, const struct mount_request *m, uint32_t *number, char *why,
		 size_t why_len)
{
	struct server *s = v->server;
	struct session *session;
	int err = open_subvolume(v, why, why_len);

	if (err)
		return err;
	*number = v->number;
	err = make_session(v, m, &session, why, why_len);
	if (err) {
		subvol_close(v->ops.sv);
		return err;
	}
	/* The supervisor has it before the kernel's first request can be answered. */
	tell(s, CHANNEL_MOUNT, v->number, v->name, m->fd);
	pthread_mutex_lock(&s->lock);
	v->session = session;
	post(v, &v->start, session_start);
	if (s->closing) /* server_stop() came in between and did not see the session */
		post(v, &v->stop, session_stop);
	v->users--;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int server_mount(struct server *s, const struct mount_request *m, uint32_t *number, char *why,
		 size_t why_len)
{
	struct volume *v;
	int err;

	server_settle(s, m->subvolume);
	err = enter(s, m, &v, why, why_len);
	if (err) {
		close(m->fd);
		return err;
	}
	err = serve(v, m, number, why, why_len);
	if (err) {
		close(m->fd);
		leave(v);
	}
	return err;
}

void server_abandon(struct server *s, uint32_t number)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct volume *v;

	DL_FOREACH(s->volumes, v) {
		if (v->number == number && v->session && !v->ended)
			post(v, &v->abandon, session_abandon);
	}
}

/* ---- Sync ---- */

/* An op for a thread that may sleep. */
struct waiting_op {
	struct op op; /* first */
	struct reactor_msg msg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int result;
};

static void sync_run(struct op *op)
{
	struct waiting_op *w = (struct waiting_op *)op;
	int err = data_sync_all(op);

	if (err == META_WAIT)
		return;
	op_finish(op);
	pthread_mutex_lock(&w->lock);
	w->result = err;
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void sync_start(struct reactor *r, struct reactor_msg *msg)
{
	struct waiting_op *w = (void *)((char *)msg - offsetof(struct waiting_op, msg));

	(void)r;
	w->op.run(&w->op);
}

static int sync_subvol(struct subvol *sv)
{
	struct waiting_op w = { .msg.fn = sync_start };

	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.cond, NULL);
	op_init(&w.op, sv, sync_run);
	reactor_post(subvol_reactor(sv), &w.msg);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return w.result;
}

void server_put_volume(struct volume *v)
{
	struct server *s = v->server;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);

	v->users--;
	pthread_cond_broadcast(&s->changed);
}

/* The volume in use with the least number above `after`, held; NULL: none. */
static struct volume *get_volume(struct server *s, const char *name, uint32_t after)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct volume *v, *next = NULL;

	DL_FOREACH(s->volumes, v) {
		if (v->session && !v->ended && v->number > after &&
		    (!name || !strcmp(v->name, name)) && (!next || v->number < next->number))
			next = v;
	}
	if (next)
		next->users++;
	return next;
}

struct volume *server_get_volume(struct server *s, const char *name)
{
	return get_volume(s, name, 0);
}

int server_set_device(struct server *s, uint32_t number, dev_t device)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct volume *v;

	DL_FOREACH(s->volumes, v) {
		if (v->number == number && v->session && !v->ended) {
			v->device = device;
			return 0;
		}
	}
	return -ENOENT;
}

int server_sync(struct server *s, const char *subvolume)
{
	struct volume *v;
	uint32_t after = 0;
	int result = subvolume ? -ENOENT : 0, err;

	server_settle(s, subvolume); /* one that ends is durable when it is gone */
	while ((v = get_volume(s, subvolume, after))) {
		after = v->number;
		/* Whoever wants to be sure calls msync(2). */
		err = volume_write_back(v);
		if (err)
			log_debug("%s: %s: the kernel's page cache: %s", pool_name(s->pool), v->name, strerror(-err));
		err = sync_subvol(v->ops.sv);
		server_put_volume(v);
		if (err || result == -ENOENT)
			result = err;
	}
	if (result == 0)
		result = pool_commit_wait(s->pool);
	return result;
}

/* ---- Stop ---- */

int server_prepare_stop(struct server *s, bool force, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	struct volume *v;
	size_t n;

	server_settle(s, NULL);
	held = lock_mutex(&s->lock);
	if (s->stopping) {
		snprintf(why, why_len, "the pool is being stopped already");
		return -EALREADY;
	}
	if (s->volumes && !force) {
		n = (size_t)snprintf(why, why_len, "still mounted:");
		DL_FOREACH(s->volumes, v) {
			if (n < why_len)
				n += (size_t)snprintf(why + n, why_len - n, " %s%s%s%s", v->name,
						      v->target[0] ? " (on " : "", v->target,
						      v->target[0] ? ")" : "");
		}
		if (n < why_len)
			snprintf(why + n, why_len - n, "; unmount first, in the namespaces of containers too");
		return -EBUSY;
	}
	s->stopping = true;
	return 0;
}

static void end_sessions(struct server *s)
{
	struct volume *v;

	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	s->closing = true;
	DL_FOREACH(s->volumes, v) {
		if (v->session && !v->ended)
			post(v, &v->stop, session_stop);
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->closer, NULL);
}

int server_stop(struct server *s)
{
	int err;

	end_sessions(s);
	err = pool_close(s->pool);
	if (err)
		log_error("the pool could not be closed cleanly: %s", strerror(-err));
	free_all(s);
	return err ? err : s->close_error;
}

void server_volume(struct server *s, const char *name, void (*fn)(const struct volume *v, void *arg), void *arg)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	const struct volume *v = find_volume(s, name);

	if (v && v->session && !v->ended)
		fn(v, arg);
}

void server_each_volume(struct server *s, void (*fn)(const struct volume *v, void *arg), void *arg)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->lock);
	struct volume *v;

	DL_FOREACH(s->volumes, v) {
		if (v->session && !v->ended)
			fn(v, arg);
	}
}
