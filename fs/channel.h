/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_CHANNEL_H
#define NVFS_FS_CHANNEL_H

#include <stdint.h>
#include <sys/types.h>

/*
 * What supervisor and worker tell each other, over a SOCK_SEQPACKET pair. The end
 * of it tells either that the other is gone.
 */

enum channel_type {
	/* To the supervisor. */
	CHANNEL_READY = 1,    /* the pool is served; text: its name */
	CHANNEL_MOUNT = 2,    /* keep this /dev/fuse descriptor; number: the session's; text: subvolume */
	CHANNEL_UNMOUNT = 3,  /* number: close that descriptor */
	CHANNEL_STOPPED = 4,  /* number: the last commit's errno; with a descriptor: the client to answer at the very end */
	CHANNEL_SYNC = 6,     /* syncfs(2) of the mount with this device; number: to be given back */
	/* To the worker. */
	CHANNEL_STOP = 5,     /* commit everything, close the pool, exit */
	CHANNEL_SYNCED = 7,   /* number: of the CHANNEL_SYNC; error: 0 or -errno */
};

struct channel_msg {
	uint32_t type;
	uint32_t number;
	int32_t error;
	uint64_t device;
	char text[520]; /* VOL@SNAP fits */
};

/* The descriptors with which the supervisor starts a worker. */
enum { WORKER_CHANNEL_FD = 3, WORKER_AREA_FD = 4, WORKER_LISTEN_FD = 5 };

int channel_pair(int fds[2]);

/* fd is -1 or a descriptor to go with it. 0 or -errno; -EPIPE when nobody is there. Any thread. */
int channel_send(int channel, const struct channel_msg *msg, int fd);

/* Sleeps for one message: 1, 0 at the end, -errno. *fd is -1 or the caller's descriptor. */
int channel_receive(int channel, struct channel_msg *msg, int *fd);

/*
 * The same for a stream: bytes sent or received, up to len, or -errno. The descriptor goes with the first byte; at most one comes
 * into *fd (others are closed).
 */
ssize_t channel_send_bytes(int sock, const void *buf, size_t len, int fd);
ssize_t channel_receive_bytes(int sock, void *buf, size_t len, int *fd);

#endif
