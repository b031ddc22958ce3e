/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nullfs [-w] [-p] DIRECTORY: the ceiling. A FUSE server with the transport and the operations of
 * nvfsd, one reactor, and a tree in memory below it that keeps names and
 * attributes and no data: what nvfs loses against it is its own, not FUSE's.
 *
 * -w: the kernel's write-back cache; -p: -o parallel_dio of mount.nvfs. Runs in the foreground until the directory is
 * unmounted or a signal comes.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fs/ops.h"
#include "io/log.h"
#include "tests/fake/fake_meta.h"

static struct reactor *reactor;

/* statfs of a thin subvolume asks the pool: these are not thin. */
struct pool *subvol_pool(const struct subvol *sv)
{
	(void)sv;
	return NULL;
}

void pool_stats(struct pool *pool, struct pool_stats *out)
{
	(void)pool;
	*out = (struct pool_stats){ 0 };
}

static char *directory;

static void on_signal(int sig)
{
	(void)sig;
	umount2(directory, MNT_DETACH);
}

static void on_ended(struct session *s, int reason)
{
	(void)s;
	(void)reason;
	reactor_stop(reactor);
}

/* mount(2) as mount.nvfs does it; the kernel's INIT waits in the descriptor. */
static int mount_at(const char *dir, int fd)
{
	char options[256];

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,"
		 "max_read=%u",
		 fd, REQUEST_DATA_MAX);
	if (mount("nullfs", dir, "fuse.nullfs", MS_NOSUID | MS_NODEV, options)) {
		log_error("%s cannot be mounted: %s", dir, strerror(errno));
		return -errno;
	}
	return 0;
}

static int serve(struct session_options *options)
{
	static const struct fake_options fake = { .discard = true };
	struct session_ops ops = ops_session;
	struct ops_volume volume = { 0 };
	struct request_pool *pool;
	struct session *session;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), err;

	ops.ended = on_ended;
	if (fd < 0 || reactor_create(NULL, &reactor) ||
	    request_pool_create(reactor, NULL, ops.priv_bytes, &pool)) {
		log_error("cannot start: %s", strerror(errno));
		return -EIO;
	}
	volume.sv = fake_new(reactor, &fake);
	volume.scratch = malloc(OPS_SCRATCH_BYTES);
	err = mount_at(directory, fd);
	if (!err)
		err = session_create(pool, fd, &ops, options, &volume, &session);
	if (err)
		return err;
	session_start(session);
	err = reactor_run(reactor);
	session_destroy(session);
	request_pool_destroy(pool);
	fake_free(volume.sv);
	free(volume.scratch);
	reactor_destroy(reactor);
	return err;
}

int main(int argc, char **argv)
{
	struct session_options options = { .name = "nullfs", .number = 1 };
	struct sigaction action = { .sa_handler = on_signal };
	int opt;

	while ((opt = getopt(argc, argv, "wp")) != -1) {
		if (opt == 'w')
			options.writeback = true;
		else if (opt == 'p')
			options.parallel_dio = true;
		else
			return 2;
	}
	if (optind != argc - 1) {
		fprintf(stderr, "usage: nullfs [-w] [-p] DIRECTORY\n");
		return 2;
	}
	directory = argv[optind];
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return serve(&options) ? 1 : 0;
}
