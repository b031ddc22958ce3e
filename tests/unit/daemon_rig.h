/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of the daemon as its clients see it: supervisor, worker, control socket and mounts, over the pool in memory of
 * tests/fake. Each test has its own pool file, daemon and mount namespace, so that nothing of a test that dies is left.
 */
#ifndef NVFS_TESTS_UNIT_DAEMON_RIG_H
#define NVFS_TESTS_UNIT_DAEMON_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/client.h"
#include "io/device.h"
#include "meta/label.h"
#include "tests/unit/unit.h"

static char dir[64], pool[32], image[96], mnt[96], sock_path[CLIENT_PATH_MAX];
static pid_t daemon_pid;
static struct client *client;
static int fuse_fd = -1;

static inline void make_image(void)
{
	struct label_plan plan = { .name = pool, .devices = 1 };
	struct label_share share;
	struct device *dev;
	struct label label;
	char why[256] = "";

	ck_assert_int_eq(device_create_file(image, 128u << 20), 0);
	ck_assert_int_eq(device_open(image, 0, &dev), 0);
	plan.size_bytes[0] = device_geometry(dev)->size_bytes;
	ck_assert_msg(!label_layout(&plan, &label, &share, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(label_write(dev, &label), 0);
	device_close(dev);
}

static inline void setup(void)
{
	static unsigned number;

	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	snprintf(dir, sizeof(dir), "/tmp/nvfs-daemon-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(pool, sizeof(pool), "test-%d-%u", (int)getpid(), number++);
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(mnt, sizeof(mnt), "%s/mnt", dir);
	ck_assert_int_eq(mkdir(mnt, 0755), 0);
	ck_assert_int_eq(client_socket_path(pool, sock_path), 0);
	make_image();
}

static inline int exit_status(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline void teardown(void)
{
	char command[128];

	client_close(client);
	umount2(mnt, MNT_DETACH);
	/* A sanitizer's complaint shows in the worker's exit status, and so in the supervisor's. */
	if (daemon_pid > 0) {
		kill(daemon_pid, SIGTERM);
		ck_assert_int_eq(exit_status(daemon_pid), 0);
	}
	unlink(sock_path);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static inline const char *daemon_path(void)
{
	static char path[4096];
	const char *build = getenv("NVFS_BUILDDIR");

	snprintf(path, sizeof(path), "%s/tests/fake/nvfsd", build ? build : ".");
	return path;
}

static inline pid_t spawn(const char *what)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(daemon_path(), "nvfsd", "-f", "-o", "reactors=2", what, NULL);
	_exit(127);
}

static inline void connect_client(void)
{
	int err = -ESRCH;

	client_close(client);
	client = NULL;
	for (int i = 0; i < 3000 && err == -ESRCH; i++) {
		err = client_connect(pool, &client);
		if (err == -ESRCH)
			poll(NULL, 0, 20);
	}
	ck_assert_int_eq(err, 0);
	client_set_timeout(client, 120);
}

static inline void start_daemon(void)
{
	daemon_pid = spawn(image);
	connect_client();
}

static inline json_t *ask(json_t *request, int fd)
{
	json_t *reply = NULL;
	int err = client_call(client, request, fd, &reply);

	ck_assert_msg(!err, "%s", client_message(client));
	return reply;
}

static inline int ask_error(json_t *request)
{
	return client_call(client, request, -1, NULL);
}

static inline void create_subvolume(const char *name)
{
	json_decref(ask(json_pack("{s:s,s:s,s:I}", "op", "subvolume.create", "name", name,
				  "size_bytes", (json_int_t)1 << 30),
			-1));
}

static inline json_t *mount_request(const char *name)
{
	return json_pack("{s:s,s:s,s:s}", "op", "mount", "subvolume", name, "target", mnt);
}

static inline void mount_reply(json_t *reply)
{
	char options[512];

	snprintf(options, sizeof(options), "fd=%d,%s", fuse_fd,
		 json_string_value(json_object_get(reply, "mount_options")));
	ck_assert_msg(!mount(json_string_value(json_object_get(reply, "source")), mnt,
			     json_string_value(json_object_get(reply, "type")),
			     MS_NOSUID | MS_NODEV, options),
		      "%s", strerror(errno));
	close(fuse_fd);
	fuse_fd = -1;
	json_decref(reply);
}

static inline void mount_subvolume(const char *name)
{
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fuse_fd, 0);
	mount_reply(ask(mount_request(name), fuse_fd));
}

static inline json_int_t pool_number(const char *key)
{
	json_t *reply = ask(json_pack("{s:s}", "op", "pool.show"), -1);
	json_int_t n = json_integer_value(json_object_get(json_object_get(reply, "pool"), key));

	json_decref(reply);
	return n;
}

static inline size_t sessions(void)
{
	json_t *reply = ask(json_pack("{s:s}", "op", "pool.show"), -1);
	size_t n = json_array_size(json_object_get(reply, "sessions"));

	json_decref(reply);
	return n;
}

static inline void wait_for_sessions(size_t n)
{
	for (int i = 0; i < 3000 && sessions() != n; i++)
		poll(NULL, 0, 20);
	ck_assert_uint_eq(sessions(), n);
}

static inline void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static inline void file_has(const char *name, const char *text)
{
	char path[256], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, text);
	fclose(f);
}

static inline int raw_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, sock_path, strlen(sock_path) + 1);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The program's main(): runs them, each with a daemon's places of its own, where this machine can. */
static inline int daemon_run(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	if (getuid())
		unit_skip("needs root");
	if (access("/dev/fuse", R_OK | W_OK))
		unit_skip("no /dev/fuse");
	if (unshare(CLONE_NEWNS))
		unit_skip("this root may not mount (no CAP_SYS_ADMIN)");
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}

#endif
