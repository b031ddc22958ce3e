/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that look at very many records: what changed between snapshots, and who holds how much. The reply comes at once; a thread of
 * its own, of low priority, does the work and leaves lines for the connection's thread, which sends them.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/admin_internal.h"
#include "fs/errname.h"
#include "fs/server.h"
#include "io/cleanup.h"
#include "io/visible.h"
#include "meta/diff.h"
#include "meta/tenant.h"
#include "meta/usage.h"

#define JOBS_MAX 4u
#define OWNERS_JOBS_MAX 2u /* of these, and one of each */
#define LINES_MAX 256u     /* that wait to be sent; then the work waits */
#define LOW_PRIORITY 10
#define WHY_MAX 1024

struct job {
	struct control_stream stream; /* first */
	struct server *server;
	const struct control_peer *peer;
	json_t *request;              /* the names lead into it */
	struct snapshot_name names[2];
	bool named;                   /* names[0] says what du is of */
	char tenant[NAME_BYTES_MAX + 1]; /* the work's: whose they are; "": nobody's */
	int (*work)(struct job *j, char *why, size_t why_len);
	uint64_t sent;                /* the work's: changes */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t room;
	json_t *lines[LINES_MAX];     /* lock: a ring */
	unsigned first, count;        /* lock */
	bool cancelled;               /* lock */
};

static _Atomic unsigned jobs;
static struct admin_places owners_jobs = { .max = OWNERS_JOBS_MAX, .max_each = 1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- Lines ---- */

/* Takes it. 0; -ECANCELED when nobody wants it any more; -ENOMEM for a line that could not be made. */
static int send_line(struct job *j, json_t *line)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&j->lock);
	const uint64_t one = 1;

	if (!line)
		return -ENOMEM;
	while (!j->cancelled && j->count == LINES_MAX)
		pthread_cond_wait(&j->room, &j->lock);
	if (j->cancelled) {
		json_decref(line);
		return -ECANCELED;
	}
	j->lines[(j->first + j->count++) % LINES_MAX] = line;
	if (j->count == 1 && write(j->stream.wake, &one, sizeof(one)) < 0)
		return -errno;
	return 0;
}

static json_t *job_next(struct control_stream *stream)
{
	struct job *j = (struct job *)stream;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&j->lock);
	json_t *line;

	if (!j->count)
		return NULL;
	line = j->lines[j->first];
	j->first = (j->first + 1) % LINES_MAX;
	j->count--;
	pthread_cond_signal(&j->room);
	return line;
}

/* Whoever stops being the owner meanwhile gets no more of it. tenant "": it is enough to own any. */
static int check_owner(struct job *j, const char *tenant)
{
	return (tenant[0] ? admin_sees(j->server, j->peer, tenant, INT64_MAX) : admin_may_ask(j->server, j->peer)) ? 0 : -EPERM;
}

static int tell_progress(void *arg, uint64_t done, uint64_t total)
{
	struct job *j = arg;

	return check_owner(j, j->tenant) ?: send_line(j, json_pack("{s:{s:I,s:I}}", "progress", "done", (json_int_t)done, "total", (json_int_t)total));
}

static void send_end(struct job *j, int error, const char *why)
{
	const char *text = why[0] ? why : error == -EPERM ? "you do not own its tenant any more" : strerror(-error);

	send_line(j, admin_end(error ? control_refuse(error, "%s", text) : json_pack("{s:b}", "ok", 1)));
}

/* ---- The thread ---- */

static void *job_main(void *arg)
{
	struct job *j = arg;
	const struct tenant_user user = { .uid = j->peer->uid, .gids = j->peer->gids, .gid_count = j->peer->gid_count };
	char why[WHY_MAX] = "";
	int r;

	pthread_setname_np(pthread_self(), "nvfs-count");
	setpriority(PRIO_PROCESS, (id_t)gettid(), LOW_PRIORITY); /* of this thread alone, on Linux */
	tenant_act_as(j->peer->admin ? NULL : &user);
	r = j->work(j, why, sizeof(why));
	tenant_act_as(NULL);
	if (r != -ECANCELED)
		send_end(j, r, why);
	return NULL;
}

static void job_free(struct job *j)
{
	json_t *line;

	while ((line = job_next(&j->stream)))
		json_decref(line);
	if (j->stream.wake >= 0)
		close(j->stream.wake);
	json_decref(j->request);
	pthread_cond_destroy(&j->room);
	pthread_mutex_destroy(&j->lock);
	admin_place_give(&owners_jobs, j->peer);
	atomic_fetch_sub(&jobs, 1);
	free(j);
}

static void job_close(struct control_stream *stream)
{
	struct job *j = (struct job *)stream;

	pthread_mutex_lock(&j->lock);
	j->cancelled = true;
	pthread_cond_signal(&j->room);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	job_free(j);
}

static bool take_place(const struct control_peer *peer)
{
	if (atomic_fetch_add(&jobs, 1) < JOBS_MAX && admin_place_take(&owners_jobs, peer))
		return true;
	atomic_fetch_sub(&jobs, 1);
	return false;
}

/* NULL: there are too many, or no memory. */
static struct job *job_new(struct admin_context *c, int (*work)(struct job *j, char *why, size_t why_len))
{
	struct job *j = take_place(c->peer) ? calloc(1, sizeof(*j)) : NULL;

	if (!j)
		return NULL;
	*j = (struct job){ .stream = { .next = job_next, .close = job_close }, .server = c->server, .peer = c->peer, .work = work };
	j->request = json_incref(c->request);
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->room, NULL);
	j->stream.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return j;
}

static json_t *job_start(struct admin_context *c, struct job *j)
{
	sigset_t all, old;
	int err = j->stream.wake < 0 ? -errno : 0;

	if (!err) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		err = -pthread_create(&j->thread, NULL, job_main, j);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	if (err) {
		job_free(j);
		return control_refuse(err, "this cannot be begun now: %s", strerror(-err));
	}
	c->peer->stream = &j->stream;
	return admin_ok(NULL);
}

static json_t *too_many(void)
{
	return control_refuse(EBUSY, "several snapshot.diff and du are under way already; try again when one of them has ended");
}

/* ---- snapshot.diff ---- */

/* A path that is no UTF-8 is readable in `key`, and exact in key_hex. */
static void set_path(json_t *object, const char *key, const char *path, size_t len)
{
	json_t *text = json_stringn(path, len);
	char hex_key[32];
	cleanup_free char *buf = NULL;
	size_t size = 0;
	FILE *f;

	if (text) {
		json_object_set_new(object, key, text);
		return;
	}
	f = open_memstream(&buf, &size);
	if (!f)
		return;
	visible_print(f, path, len);
	fputc(0, f);
	for (size_t i = 0; i < len; i++)
		fprintf(f, "%02x", (unsigned char)path[i]);
	fclose(f);
	if (!buf)
		return;
	snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
	json_object_set_new(object, key, json_string(buf));
	json_object_set_new(object, hex_key, json_string(buf + strlen(buf) + 1));
}

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character-device";
	case S_IFBLK:
		return "block-device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "file";
	}
}

static json_t *what_array(unsigned what)
{
	static const char *const names[] = { "data", "mode", "owner", "times", "xattrs", "link" };
	json_t *array = json_array();

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (what & 1u << i)
			json_array_append_new(array, json_string(names[i]));
	return array;
}

static int send_change(void *arg, const struct diff_change *change)
{
	static const char *const kinds[] = { "created", "deleted", "renamed", "modified", "attributes" };
	struct job *j = arg;
	json_t *object;

	if (check_owner(j, j->tenant))
		return -EPERM;
	object = json_pack("{s:s,s:s}", "change", kinds[change->kind], "type", type_name(change->mode));
	if (!object)
		return -ENOMEM;
	set_path(object, "path", change->path, change->path_len);
	if (change->old_path)
		set_path(object, "old_path", change->old_path, change->old_path_len);
	json_object_set_new(object, "what", what_array(change->what));
	json_object_set_new(object, "inode", json_integer((json_int_t)change->ino));
	return send_line(j, object);
}

/* What the kernel has of a mounted subvolume comes to it first; one that is not theirs is refused later. */
static int write_back(struct job *j, const struct snapshot_name *name)
{
	struct subvol_info info;
	char why[WHY_MAX];

	if (name->snapshot || subvol_info(j->server->pool, name->subvol, &info) ||
	    !server_write_back(j->server, name->subvol, why, sizeof(why)))
		return 0;
	return send_line(j, json_pack("{s:o}", "warning", admin_text(why, strlen(why))));
}

/* What is not there stays nobody's, and is refused later. */
static void note_tenant(struct job *j)
{
	struct snapshot_info snapshot;
	struct subvol_info subvol;

	if (j->peer->admin)
		return;
	if (!j->names[0].snapshot && !subvol_info(j->server->pool, j->names[0].subvol, &subvol))
		strcpy(j->tenant, subvol.tenant);
	if (j->names[0].snapshot && !snapshot_info(j->server->pool, &j->names[0], &snapshot))
		strcpy(j->tenant, snapshot.tenant_name);
}

static int work_diff(struct job *j, char *why, size_t why_len)
{
	const struct progress progress = { tell_progress, j };
	int r;

	note_tenant(j);
	r = write_back(j, &j->names[0]) ?: write_back(j, &j->names[1]);
	return r ? r : snapshot_diff(j->server->pool, &j->names[0], &j->names[1], &progress, send_change, j, why, why_len);
}

static json_t *diff_request(struct admin_context *c)
{
	struct job *j = job_new(c, work_diff);
	json_error_t error;
	const char *op;

	if (!j)
		return too_many();
	if (json_unpack_ex(j->request, &error, 0, "{s:s,s:{s:s,s?s!},s:{s:s,s?s!}!}", "op", &op, "from", "subvolume", &j->names[0].subvol,
			   "snapshot", &j->names[0].snapshot, "to", "subvolume", &j->names[1].subvol, "snapshot",
			   &j->names[1].snapshot)) {
		job_free(j);
		return admin_bad_request(&error);
	}
	return job_start(c, j);
}

/* ---- du ---- */

static int send_usage(void *arg, const struct usage *u)
{
	struct job *j = arg;
	json_t *object;

	if (check_owner(j, u->tenant))
		return -EPERM;
	object = json_pack("{s:o,s:o,s:o,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "subvolume",
				   admin_text(u->subvol, strlen(u->subvol)), "snapshot",
				   u->snapshot ? admin_text(u->snapshot, strlen(u->snapshot)) : json_null(), "tenant",
				   admin_text(u->tenant, strlen(u->tenant)), "subvolume_deleted", u->deleted, "created_ns",
				   (json_int_t)u->created_ns, "referenced_bytes", BYTES(u->referenced), "data_bytes", BYTES(u->data),
				   "promised_bytes", BYTES(u->promised), "meta_bytes", BYTES(u->meta), "stored_bytes", BYTES(u->stored),
				   "exclusive_bytes", BYTES(u->exclusive), "shared_bytes", BYTES(u->stored - u->exclusive),
				   "saved_by_compression_bytes", BYTES(u->saved_by_compression), "saved_by_sharing_bytes",
				   BYTES(u->saved_by_sharing));
	return send_line(j, object ? json_pack("{s:o}", "usage", object) : NULL);
}

static int send_total(struct job *j, const struct usage_total *t)
{
	return send_line(j, json_pack("{s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "total", "data_bytes", BYTES(t->data_blocks), "free_bytes",
				      BYTES(t->free_blocks), "held_bytes", BYTES(t->held), "leaving_bytes", BYTES(t->leaving),
				      "written_bytes", BYTES(t->data), "saved_by_compression_bytes", BYTES(t->saved_by_compression),
				      "saved_by_sharing_bytes", BYTES(t->saved_by_sharing)));
}

static int work_usage(struct job *j, char *why, size_t why_len)
{
	const struct progress progress = { tell_progress, j };
	struct usage_total total;
	int r = usage_count(j->server->pool, j->named ? &j->names[0] : NULL, &progress, send_usage, j, &total, why, why_len);

	/* What the pool has is not for owners of tenants. */
	return r || j->named || !j->peer->admin ? r : send_total(j, &total);
}

static json_t *du_request(struct admin_context *c)
{
	struct job *j = job_new(c, work_usage);
	json_error_t error;
	const char *op;

	if (!j)
		return too_many();
	if (json_unpack_ex(j->request, &error, 0, "{s:s,s?s,s?s!}", "op", &op, "subvolume", &j->names[0].subvol, "snapshot",
			   &j->names[0].snapshot)) {
		job_free(j);
		return admin_bad_request(&error);
	}
	j->named = j->names[0].subvol;
	if (!j->named && j->names[0].snapshot) {
		job_free(j);
		return control_refuse(EINVAL, "a snapshot needs its subvolume, too");
	}
	return job_start(c, j);
}

const struct admin_request admin_usage_requests[] = {
	{ "snapshot.diff", diff_request, ADMIN_OWNER },
	{ "du", du_request, ADMIN_OWNER },
	{ NULL, NULL, ADMIN_ONLY },
};
