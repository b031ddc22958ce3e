/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "meta/pool.h"
#include "tests/unit/session_rig.h"

struct reactor *rig_reactor;
struct request_pool *rig_pool;
static struct session_ops ops;

struct pool *subvol_pool(const struct subvol *sv)
{
	(void)sv;
	return NULL;
}

void pool_stats(struct pool *p, struct pool_stats *out)
{
	(void)p;
	*out = (struct pool_stats){ 0 };
}

/* ---- On the reactor ---- */

struct task {
	struct reactor_msg msg;
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void run_task(struct reactor *r, struct reactor_msg *msg)
{
	struct task *t = (void *)((char *)msg - offsetof(struct task, msg));

	(void)r;
	t->fn(t->arg);
	sem_post(&t->done);
}

void rig_on_reactor(void (*fn)(void *arg), void *arg)
{
	struct task t = { .msg.fn = run_task, .fn = fn, .arg = arg };

	sem_init(&t.done, 0, 0);
	reactor_post(rig_reactor, &t.msg);
	while (sem_wait(&t.done))
		;
	sem_destroy(&t.done);
}

static void start(void *arg)
{
	session_start(arg);
}

void rig_stop(void *arg)
{
	session_stop(arg);
}

void rig_abandon(void *arg)
{
	session_abandon(arg);
}

static struct rig_mount *mount_of(struct session *s)
{
	return (void *)((char *)session_arg(s) - offsetof(struct rig_mount, volume));
}

static void on_mounted(struct session *s)
{
	sem_post(&mount_of(s)->mounted);
}

static void on_ended(struct session *s, int reason)
{
	struct rig_mount *m = mount_of(s);

	m->end_reason = reason;
	sem_post(&m->ended);
}

static bool waited(sem_t *sem)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 120;
	return sem_timedwait(sem, &limit) == 0;
}

/* ---- Setup ---- */

void rig_skip_if_impossible(void)
{
	if (getuid())
		unit_skip("needs root");
	if (access("/dev/fuse", R_OK | W_OK))
		unit_skip("no /dev/fuse");
	if (unshare(CLONE_NEWNS))
		unit_skip("this root may not mount (no CAP_SYS_ADMIN)");
}

void rig_begin(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ops = ops_session;
	ops.mounted = on_mounted;
	ops.ended = on_ended;
	ck_assert_int_eq(reactor_create(NULL, &rig_reactor), 0);
	ck_assert_int_eq(request_pool_create(rig_reactor, NULL, ops.priv_bytes, &rig_pool), 0);
	ck_assert_int_eq(reactor_start_thread(rig_reactor, "reactor"), 0);
}

void rig_add(struct rig_mount *m, const struct fake_options *fake, const struct session_options *options)
{
	snprintf(m->mnt, sizeof(m->mnt), "/tmp/nvfs-session-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(m->mnt));
	sem_init(&m->mounted, 0, 0);
	sem_init(&m->ended, 0, 0);
	m->volume.sv = fake_new(rig_reactor, fake);
	m->volume.scratch = malloc(OPS_SCRATCH_BYTES);
	m->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(m->fuse_fd, 0);
	ck_assert_int_eq(session_create(rig_pool, m->fuse_fd, &ops, options, &m->volume, &m->session), 0);
	rig_on_reactor(start, m->session);
}

void rig_mount(struct rig_mount *m)
{
	char options[256];

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,"
		 "max_read=%u",
		 m->fuse_fd, REQUEST_DATA_MAX);
	ck_assert_int_eq(mount("fake", m->mnt, "fuse.nvfstest", 0, options), 0);
	ck_assert(waited(&m->mounted));
}

void rig_wait_end(struct rig_mount *m, int reason)
{
	ck_assert(waited(&m->ended));
	ck_assert_int_eq(m->end_reason, reason);
	session_destroy(m->session);
}

void rig_end(void)
{
	reactor_stop(rig_reactor);
	ck_assert_int_eq(reactor_join(rig_reactor), 0);
	ck_assert_uint_eq(request_pool_used(rig_pool), 0);
	request_pool_destroy(rig_pool);
	reactor_destroy(rig_reactor);
}

void rig_remove(struct rig_mount *m)
{
	fake_free(m->volume.sv);
	free(m->volume.scratch);
	umount2(m->mnt, MNT_DETACH);
	ck_assert_int_eq(rmdir(m->mnt), 0);
}

/* ---- For tests ---- */

const char *rig_at(const struct rig_mount *m, const char *name)
{
	static _Thread_local char path[4][512];
	static _Thread_local unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", m->mnt, name);
	return p;
}

uint64_t rig_requests(const struct rig_mount *m)
{
	struct session_stats stats;

	session_stats(m->session, &stats);
	return stats.requests;
}
