/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_TESTS_SESSION_RIG_H
#define NVFS_TESTS_SESSION_RIG_H

#include <semaphore.h>

#include "fs/ops.h"
#include "fs/session.h"
#include "tests/fake/fake_meta.h"
#include "tests/unit/unit.h"

/*
 * Sessions of one reactor, mounted by the kernel in a mount namespace of the test's own, each over a tree in memory (tests/fake).
 *
 *	rig_begin();
 *	rig_add(&m, &fake_options, &session_options);	// as many as are wanted
 *	rig_mount(&m);					// or not
 *	umount(m.mnt);
 *	rig_wait_end(&m, 0);
 *	rig_end();					// after the last of them
 *	rig_remove(&m);
 */

struct rig_mount {
	char mnt[64];
	struct ops_volume volume; /* first set what options of it a test wants */
	struct session *session;
	int fuse_fd;
	sem_t mounted, ended;
	int end_reason;
};

extern struct reactor *rig_reactor;
extern struct request_pool *rig_pool;

/* Leaves the program as skipped where nothing can be mounted. In main(). */
void rig_skip_if_impossible(void);

void rig_begin(void);
void rig_add(struct rig_mount *m, const struct fake_options *fake, const struct session_options *options);
void rig_mount(struct rig_mount *m);

/* The session ended for this reason: it is destroyed, which closes /dev/fuse. */
void rig_wait_end(struct rig_mount *m, int reason);
void rig_end(void);
void rig_remove(struct rig_mount *m);

void rig_on_reactor(void (*fn)(void *arg), void *arg);
void rig_abandon(void *session); /* for rig_on_reactor() */
void rig_stop(void *session);

/* A path on the mount; the last four are good. Any thread. */
const char *rig_at(const struct rig_mount *m, const char *name);

uint64_t rig_requests(const struct rig_mount *m);

#endif
