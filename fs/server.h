/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_SERVER_H
#define NVFS_FS_SERVER_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>

#include "fs/ops.h"
#include "fs/poolconf.h"
#include "fs/session.h"
#include "meta/pool.h"
#include "meta/snapshot.h"
#include "meta/subvol.h"

/*
 * The worker's state: the pool, its reactors, and what is mounted. Threads: the reactors; the control socket's
 * listener and one per connection (control.c); the closer, which closes subvolumes whose sessions ended; the main thread,
 * which waits for the supervisor's word.
 *
 * A volume is a mounted subvolume:
 *
 *	opening -> serving -> ended (by the reactor) -> closed and freed (by the closer)
 *
 * `users` counts threads that use volume->ops.sv outside the reactor, and messages to the
 * reactor that name the volume; the closer waits for 0.
 */

#define SERVER_REACTORS_MAX 64
#define SERVER_BUCKETS 256u

struct server;
struct volume;

/* Has fn called with the volume's session on its reactor. Each is sent once. */
struct volume_msg {
	struct reactor_msg msg;
	struct volume *volume;
	void (*fn)(struct session *session);
};

struct volume {
	struct ops_volume ops;         /* first: the session's argument */
	struct server *server;
	struct session *session;       /* NULL while opening; then constant */
	struct request_pool *requests;
	char name[SNAPSHOT_PATH_MAX + 1]; /* of a subvolume, or VOL@SNAP */
	char tenant[SUBVOL_NAME_MAX + 1];
	char target[PATH_MAX];
	bool read_only, writeback;
	uint32_t number;
	struct volume_msg start, abandon, stop;
	bool ended;                    /* server->lock, as are the following and session */
	int reason;
	dev_t device;                  /* of the mount; 0: not told */
	unsigned users;
	struct volume *prev, *next, *bucket_next;
};

struct server {
	const struct poolconf *conf;
	int channel;                   /* to the supervisor; -1: there is none (tests) */
	struct pool *pool;
	struct device *devices[POOLCONF_DEVICES_MAX];
	unsigned device_count;
	struct reactor *reactors[SERVER_REACTORS_MAX];
	struct request_pool *requests[SERVER_REACTORS_MAX]; /* of the reactor with the same index */
	uint8_t *scratch[SERVER_REACTORS_MAX];              /* the same */
	unsigned reactor_count, started;
	struct session_ops session_ops;
	struct workers *flushers;
	struct workers *viewers;       /* they open, close and list snapshots */

	pthread_mutex_t lock;
	pthread_cond_t changed;        /* something of the following changed */
	struct volume *volumes;
	struct volume *buckets[SERVER_BUCKETS]; /* the same by name */
	_Atomic uint32_t next_read_only;
	bool stopping;                 /* no more mounts */
	bool closing;                  /* the closer ends when nothing is left */
	int close_error;               /* of a volume that was closed for that */
	pthread_t closer;
	bool has_closer;

	pthread_mutex_t sync_lock;     /* a leaf */
	pthread_cond_t synced;
	struct kernel_sync *syncs;     /* that the supervisor is at */
	uint32_t next_sync;
	bool no_more_syncs;
};

/* Bytes of the shared area for a pool with this configuration; *reactors as they will be. */
size_t server_area_bytes(const struct poolconf *conf);

/*
 * Open devices and pool and make the threads. area has server_area_bytes(). retry_busy: devices may be busy for a moment with the last
 * I/O of a worker that was killed. 0 or -errno, the reason was logged, nothing is left.
 */
int server_start(struct server *s, const struct poolconf *conf, void *area, int channel,
		 bool retry_busy);

/* End all sessions, commit, close. 0 or the errno of what could not be committed (logged). */
int server_stop(struct server *s);

/* ---- For the control socket: any thread but a reactor's; they may sleep ---- */

struct mount_request {
	const char *subvolume, *target; /* target "" or a path, for people */
	bool read_only, writeback, parallel_dio, noatime, snapdir;
	int fd;                         /* of /dev/fuse; taken by server_mount() in any case */
};

/* 0 and the session's number, or -errno and a sentence in why. */
int server_mount(struct server *s, const struct mount_request *m, uint32_t *number, char *why,
		 size_t why_len);

/* The client of a mount went away: a session that is not mounted ends. */
void server_abandon(struct server *s, uint32_t number);

/*
 * Wait for the close of subvolumes that are unmounted already, which umount(2) does not: afterwards
 * nothing is busy that its user believes to be free. NULL: all of them.
 */
void server_settle(struct server *s, const char *subvolume);

/* Whether it is unmounted everywhere and not yet closed. */
bool server_is_leaving(struct server *s, const char *subvolume);

/* Write back and commit a mounted subvolume: 0, -ENOENT when it is not mounted, or the error. NULL: all of them and the pool. */
int server_sync(struct server *s, const char *subvolume);

/*
 * Have the kernel write back what it has dirty in the page cache of a mounted subvolume: what was stored through mmap(2), and with the
 * write-back cache what was written. Everything that was there at the call has come to the subvolume afterwards, though not to the device. 0, also
 * when it is not mounted for writing, or -errno and the sentence of a warning in why: what may be missing.
 */
int server_write_back(struct server *s, const char *subvolume, char *why, size_t why_len);
int volume_write_back(struct volume *v); /* one that is held */

/* The device number of the mount with this session's number, from who mounted it: -ENOENT when there is none. */
int server_set_device(struct server *s, uint32_t number, dev_t device);

/* What the supervisor answered; and that it will not answer any more. */
void server_synced(struct server *s, uint32_t number, int error);
void server_sync_no_more(struct server *s);

/* A volume that is mounted, by its name, held until server_put_volume(); NULL: there is none. */
struct volume *server_get_volume(struct server *s, const char *name);
void server_put_volume(struct volume *v);

extern const struct view_source server_view_source;

/*
 * A snapshot is going to be deleted: its view under .snapshots, if somebody has entered it, is closed and the kernel forgets it, until
 * server_unban_view(), when it is gone or stays after all. Both sleep.
 */
struct view_barrier;
struct view_barrier *server_ban_view(struct server *s, const char *subvolume, const char *snapshot);
void server_unban_view(struct view_barrier *b); /* NULL is fine */

/* There are other snapshots of a subvolume than before: who lists .snapshots sees it at once. */
void server_views_changed(struct server *s, const char *subvolume);

/*
 * No more mounts from now on: 0, or -EBUSY when something is mounted and not force, with their names in why.
 */
int server_prepare_stop(struct server *s, bool force, char *why, size_t why_len);

/* Calls fn for the volume with this name, if it is mounted, under the server's lock. */
void server_volume(struct server *s, const char *name, void (*fn)(const struct volume *v, void *arg), void *arg);

/* Calls fn for each volume that is mounted, under the server's lock. */
void server_each_volume(struct server *s, void (*fn)(const struct volume *v, void *arg), void *arg);

#endif
