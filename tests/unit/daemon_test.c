/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon as its clients see it. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <grp.h>
#include <dirent.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/priority.h"
#include "tests/unit/daemon_rig.h"

/* ---- Serving ---- */

START_TEST(serves_one_pool_once)
{
	json_t *reply, *object;
	pid_t second;

	start_daemon();
	reply = ask(json_pack("{s:s}", "op", "pool.show"), -1);
	object = json_object_get(reply, "pool");
	ck_assert_str_eq(json_string_value(json_object_get(object, "name")), pool);
	ck_assert_int_eq(json_integer_value(json_object_get(object, "supervisor_pid")), daemon_pid);
	ck_assert_uint_eq(json_array_size(json_object_get(object, "devices")), 1);
	json_decref(reply);

	second = spawn(image);
	ck_assert_int_eq(exit_status(second), 1);
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

/* "nice N" of a process's session; 0 without. */
static int nice_of_session(pid_t pid)
{
	char path[64], line[64] = "";
	const char *nice;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/autogroup", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	nice = strstr(line, "nice ");
	return nice ? atoi(nice + strlen("nice ")) : 0;
}

START_TEST(worker_goes_before_its_clients)
{
	pid_t worker;

	start_daemon();
	worker = (pid_t)pool_number("worker_pid");
	ck_assert_int_eq(getsid(worker), worker);
	ck_assert_int_ne(getsid(daemon_pid), worker);
	if (!access("/proc/self/autogroup", W_OK) && !getpriority(PRIO_PROCESS, 0) && !geteuid())
		ck_assert_int_eq(nice_of_session(worker), PRIORITY_NICE);
}
END_TEST

START_TEST(stops_when_asked)
{
	start_daemon();
	json_decref(ask(json_pack("{s:s}", "op", "pool.stop"), -1));
	/* Nothing is left when the answer is there: the next one can start. */
	ck_assert_int_ne(access(sock_path, F_OK), 0);
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	start_daemon();
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

START_TEST(stops_on_sigterm)
{
	start_daemon();
	create_subvolume("a");
	mount_subvolume("a");
	write_file("f", "x");
	ck_assert_int_eq(kill(daemon_pid, SIGTERM), 0);
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	daemon_pid = 0;
	ck_assert_int_ne(access(sock_path, F_OK), 0);
	ck_assert_int_ne(access(mnt, F_OK), 0);
	ck_assert_int_eq(errno, ENOTCONN);
}
END_TEST

START_TEST(refuses_what_is_no_pool)
{
	char path[160];
	int fd;

	ck_assert_int_eq(exit_status(spawn("/nonexistent/disk")), 1);
	ck_assert_int_eq(exit_status(spawn("no-such-pool")), 1);
	ck_assert_int_eq(exit_status(spawn(dir)), 1);
	snprintf(path, sizeof(path), "%s/zeros", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	close(fd);
	ck_assert_int_eq(exit_status(spawn(path)), 1);
	ck_assert_int_eq(truncate(image, 8 << 20), 0);
	ck_assert_int_eq(exit_status(spawn(image)), 1);
}
END_TEST

/* ---- Subvolumes ---- */

START_TEST(administers_subvolumes)
{
	json_t *reply, *sv;

	start_daemon();
	create_subvolume("web");
	create_subvolume("db");
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s,s:i}", "op", "subvolume.create", "name",
					     "web", "size_bytes", 4096)),
			 -EEXIST);
	reply = ask(json_pack("{s:s}", "op", "subvolume.list"), -1);
	ck_assert_uint_eq(json_array_size(json_object_get(reply, "subvolumes")), 2);
	json_decref(reply);
	reply = ask(json_pack("{s:s,s:s,s:I}", "op", "subvolume.resize", "name", "web", "size_bytes",
			      (json_int_t)2 << 30),
		    -1);
	sv = json_object_get(reply, "subvolume");
	ck_assert_int_eq(json_integer_value(json_object_get(sv, "size_bytes")), (json_int_t)2 << 30);
	ck_assert(json_is_false(json_object_get(sv, "mounted")));
	json_decref(reply);
	json_decref(ask(json_pack("{s:s,s:s}", "op", "subvolume.delete", "name", "web"), -1));
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "web")),
			 -ENOENT);
}
END_TEST

/* ---- Mounts ---- */

START_TEST(mounts_and_unmounts)
{
	json_t *reply, *sv;

	start_daemon();
	create_subvolume("a");
	mount_subvolume("a");
	write_file("f", "hello");
	file_has("f", "hello");
	reply = ask(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "a"), -1);
	sv = json_object_get(reply, "subvolume");
	ck_assert(json_is_true(json_object_get(sv, "mounted")));
	ck_assert_str_eq(json_string_value(json_object_get(sv, "target")), mnt);
	json_decref(reply);
	ck_assert_int_eq(ask_error(json_pack("{s:s}", "op", "pool.stop")), -EBUSY);
	ck_assert_ptr_nonnull(strstr(client_message(client), mnt));
	json_decref(ask(json_pack("{s:s,s:s}", "op", "unmount.prepare", "subvolume", "a"), -1));
	json_decref(ask(json_pack("{s:s}", "op", "sync"), -1));
	ck_assert_int_eq(umount(mnt), 0);
	wait_for_sessions(0);
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "unmount.prepare", "subvolume", "a")),
			 -ENOENT);
	mount_subvolume("a");
	file_has("f", "hello");
	ck_assert_int_eq(umount(mnt), 0);
}
END_TEST

/* umount(2) returns before the daemon knows: nobody has to wait and try again. */
START_TEST(is_free_after_umount)
{
	start_daemon();
	create_subvolume("a");
	for (int i = 0; i < 20; i++) {
		mount_subvolume("a");
		write_file("f", "x");
		ck_assert_int_eq(umount(mnt), 0);
	}
	json_decref(ask(json_pack("{s:s,s:s}", "op", "subvolume.delete", "name", "a"), -1));
	create_subvolume("a");
	mount_subvolume("a");
	ck_assert_int_eq(umount(mnt), 0);
	json_decref(ask(json_pack("{s:s}", "op", "pool.stop"), -1));
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	daemon_pid = 0;
}
END_TEST

START_TEST(mounts_once)
{
	start_daemon();
	create_subvolume("a");
	mount_subvolume("a");
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(client_call(client, mount_request("a"), fuse_fd, NULL), -EBUSY);
	ck_assert_int_eq(client_call(client, mount_request("b"), fuse_fd, NULL), -ENOENT);
	close(fuse_fd);
	ck_assert_int_eq(umount(mnt), 0);
}
END_TEST

START_TEST(takes_back_a_mount_that_never_came)
{
	start_daemon();
	create_subvolume("a");
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	json_decref(ask(mount_request("a"), fuse_fd));
	ck_assert_uint_eq(sessions(), 1);
	connect_client(); /* ends the first connection */
	wait_for_sessions(0);
	close(fuse_fd);
	mount_subvolume("a");
	connect_client(); /* this one is mounted: it stays */
	write_file("f", "x");
	ck_assert_uint_eq(sessions(), 1);
	ck_assert_int_eq(umount(mnt), 0);
}
END_TEST

/* Until the filesystem fails. */
static void write_for_ever(const char *name)
{
	char path[256];

	for (unsigned i = 0;; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s-%u", mnt, name, i % 50);
		f = fopen(path, "w");
		if (!f || fputs("some data", f) < 0 || fclose(f))
			_exit(errno == ENOTCONN || errno == ECONNABORTED || errno == EIO ? 0 : 1);
	}
}

START_TEST(stops_under_load_when_forced)
{
	pid_t writers[4];

	start_daemon();
	create_subvolume("a");
	mount_subvolume("a");
	for (int i = 0; i < 4; i++) {
		writers[i] = fork();
		if (writers[i] == 0)
			write_for_ever((const char *[]){ "a", "b", "c", "d" }[i]);
	}
	poll(NULL, 0, 300);
	ck_assert_int_eq(ask_error(json_pack("{s:s}", "op", "pool.stop")), -EBUSY);
	json_decref(ask(json_pack("{s:s,s:b}", "op", "pool.stop", "force", 1), -1));
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(exit_status(writers[i]), 0);
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	daemon_pid = 0;
}
END_TEST

/* ---- A worker's death ---- */

START_TEST(replaces_a_dead_worker)
{
	json_int_t worker;

	start_daemon();
	create_subvolume("a");
	mount_subvolume("a");
	worker = pool_number("worker_pid");
	ck_assert_int_eq(kill((pid_t)worker, SIGKILL), 0);
	for (int i = 0; i < 3000 && !access(mnt, F_OK); i++)
		poll(NULL, 0, 20);
	ck_assert_int_ne(access(mnt, F_OK), 0);
	ck_assert_int_eq(errno, ENOTCONN);
	ck_assert_int_eq(umount(mnt), 0);
	connect_client();
	ck_assert_int_ne(pool_number("worker_pid"), worker);
	ck_assert_int_eq(pool_number("supervisor_pid"), daemon_pid);
	create_subvolume("a");
	mount_subvolume("a");
	write_file("f", "x");
	ck_assert_int_eq(umount(mnt), 0);
}
END_TEST

START_TEST(gives_up_after_three_deaths)
{
	char crash[160], command[512];
	json_int_t worker;
	int fd;

	snprintf(crash, sizeof(crash), "%s/crash", dir);
	setenv("NVFS_FAKE_CRASH_FILE", crash, 1);
	/* One of an earlier time, which goes, and one of a pool that is called nearly so. */
	snprintf(command, sizeof(command), "mkdir -p %s && cd %s && touch %s-1.area %s-2-1.area", NVFS_STATE_DIR,
		 NVFS_STATE_DIR, pool, pool);
	ck_assert_int_eq(system(command), 0);
	start_daemon();
	worker = pool_number("worker_pid");
	fd = open(crash, O_CREAT | O_RDWR, 0600);
	close(fd);
	ck_assert_int_eq(kill((pid_t)worker, SIGKILL), 0);
	ck_assert_int_eq(exit_status(daemon_pid), 1);
	daemon_pid = 0;
	ck_assert_int_ne(access(sock_path, F_OK), 0);
	snprintf(command, sizeof(command), "cd %s && ls %s-2-1.area && rm %s-2-1.area && test $(ls %s-*.area | wc -l) = 1"
		 " && test ! -e %s-1.area && rm %s-*.area", NVFS_STATE_DIR, pool, pool, pool, pool, pool);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

/* ---- Clients that behave badly ---- */

/* Send bytes, expect a reply with this error, and whether the connection is closed after it. */
static void expect_raw(const char *bytes, size_t len, const char *error, bool closed)
{
	struct timeval limit = { .tv_sec = 120 };
	char line[2048];
	int fd = raw_connect();
	size_t at = 0;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (len)
		ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
	while (at < sizeof(line) - 1 && (at == 0 || line[at - 1] != '\n')) {
		n = recv(fd, line + at, sizeof(line) - 1 - at, 0);
		ck_assert_int_gt(n, 0);
		at += (size_t)n;
	}
	line[at] = '\0';
	ck_assert_msg(strstr(line, error) != NULL, "%s", line);
	if (closed) {
		n = recv(fd, line, sizeof(line), 0);
		ck_assert_msg(n == 0 || (n < 0 && errno == ECONNRESET), "%zd", n);
	}
	close(fd);
}

START_TEST(refuses_malformed_requests)
{
	static const struct {
		const char *line, *error;
		bool closed;
	} bad[] = {
		{ "\n", "EINVAL", true },
		{ "hello\n", "EINVAL", true },
		{ "[1,2]\n", "EINVAL", true },
		{ "{\"op\":\n", "EINVAL", false },
		{ "{\"op\":\"pool.show\",\"op\":\"pool.stop\"}\n", "EINVAL", false },
		{ "{}\n", "EINVAL", false },
		{ "{\"op\":7}\n", "EINVAL", false },
		{ "{\"op\":\"pool.explode\"}\n", "EOPNOTSUPP", false },
		{ "{\"op\":\"\\u001b[2J\"}\n", "no request \\\\x1b[2J", false },
		{ "{\"op\":\"mounted\",\"device_major\":4294967297,\"device_minor\":1}\n", "out of range", false },
		{ "{\"op\":\"pool.show\",\"extra\":1}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.create\"}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.create\",\"name\":\"a\",\"size_bytes\":-1}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.create\",\"name\":\"a\",\"size_bytes\":\"1G\"}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.create\",\"name\":\"a\",\"size_bytes\":4096,\"mode\":65536}\n",
		  "EINVAL", false },
		{ "{\"op\":\"subvolume.create\",\"name\":\"a\",\"size_bytes\":4096,"
		  "\"compression\":\"zip\"}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.resize\",\"name\":\"a\"}\n", "EINVAL", false },
		{ "{\"op\":\"mount\",\"subvolume\":\"a\"}\n", "EBADF", false },
		{ "{\"op\":\"pool.stop\",\"force\":1}\n", "EINVAL", false },
		{ "{\"op\":\"pool.stop\",\"force\":1}\n", "\"version\":1", false },
		{ "{\"op\":\"pool.show\",\"version\":2}\n", "EPROTONOSUPPORT", false },
		{ "{\"op\":\"pool.show\",\"version\":\"1\"}\n", "EPROTONOSUPPORT", false },
		{ "{\"op\":\"pool.set\"}\n", "EINVAL", false },
		{ "{\"op\":\"pool.set\",\"overcommit_percent\":-1}\n", "EINVAL", false },
		{ "{\"op\":\"subvolume.delete\",\"name\":\"a\",\"dry_run\":\"yes\"}\n", "EINVAL", false },
		{ "{\"op\":\"events\",\"since\":-1}\n", "EINVAL", false },
		{ "{\"op\":\"events\",\"since\":\"now\"}\n", "EINVAL", false },
	};

	start_daemon();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_raw(bad[i].line, strlen(bad[i].line), bad[i].error, bad[i].closed);
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

/* With {"version": 1} or without. */
START_TEST(says_its_version)
{
	json_t *reply;

	start_daemon();
	reply = ask(json_pack("{s:s,s:i}", "op", "pool.show", "version", 1), -1);
	ck_assert_int_eq(json_integer_value(json_object_get(reply, "version")), 1);
	json_decref(reply);
	reply = ask(json_pack("{s:s}", "op", "pool.stop"), -1);
	ck_assert_int_eq(json_integer_value(json_object_get(reply, "version")), 1);
	json_decref(reply);
	ck_assert_int_eq(exit_status(daemon_pid), 0);
	daemon_pid = 0;
}
END_TEST

START_TEST(says_what_would_go)
{
	json_t *reply, *would;

	start_daemon();
	create_subvolume("a");
	reply = ask(json_pack("{s:s,s:s,s:b}", "op", "subvolume.delete", "name", "a", "dry_run", 1), -1);
	would = json_array_get(json_object_get(reply, "would_delete"), 0);
	ck_assert(json_is_true(json_object_get(reply, "dry_run")));
	ck_assert_str_eq(json_string_value(json_object_get(would, "kind")), "subvolume");
	ck_assert_str_eq(json_string_value(json_object_get(would, "name")), "a");
	json_decref(reply);
	json_decref(ask(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "a"), -1));
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s,s:b}", "op", "subvolume.delete", "name", "none", "dry_run", 1)), -ENOENT);
	/* What the deletion itself would refuse. */
	mount_subvolume("a");
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s,s:b}", "op", "subvolume.delete", "name", "a", "dry_run", 1)), -EBUSY);
}
END_TEST

/* What was said in whole lines is done, whether anybody waits for the answers or not. */
START_TEST(does_what_the_gone_have_said)
{
	static const char said[] = "{\"op\":\"subvolume.create\",\"name\":\"a\",\"size_bytes\":4096}\n{\"op\":\"subvolume.create\","
				   "\"name\":\"b\",\"size_bytes\":4096}\n{\"op\":\"subvolume.create\",\"name\":\"c\"";
	int fd;

	start_daemon();
	fd = raw_connect();
	ck_assert_int_eq(send(fd, said, sizeof(said) - 1, MSG_NOSIGNAL), sizeof(said) - 1);
	close(fd);
	for (int i = 0; i < 3000 && ask_error(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "b")); i++)
		poll(NULL, 0, 20);
	json_decref(ask(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "a"), -1));
	json_decref(ask(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "b"), -1));
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "c")), -ENOENT);
}
END_TEST

/* Nested deeper than any parser would go, in a line that is not too long. */
START_TEST(odd_requests_are_no_harm)
{
	static const char nul[] = "{\"op\":\"pool.show\"}\0\n", not_utf8[] = "{\"op\":\"pool.show\",\"\xff\":1}\n";
	static const char number[] = "{\"op\":\"events\",\"since\":1e999}\n", large[] = "{\"op\":\"events\",\"since\":99999999999999999999}\n";
	static const char half[] = "{\"op\":\"subvolume.create\",\"name\":\"half\",\"size_bytes\":1048576}";
	char *deep = malloc(65000);

	start_daemon();
	expect_raw(nul, sizeof(nul) - 1, "EINVAL", false);
	expect_raw(not_utf8, sizeof(not_utf8) - 1, "EINVAL", false);
	expect_raw(number, sizeof(number) - 1, "EINVAL", false);
	expect_raw(large, sizeof(large) - 1, "EINVAL", false);
	memset(deep, '[', 65000);
	memcpy(deep, "{\"op\":", 6);
	deep[64999] = '\n';
	expect_raw(deep, 65000, "EINVAL", false);
	free(deep);
	/* Who goes in the middle of a line asked for nothing, and who asks and does not wait is no trouble. */
	for (int i = 0; i < 20; i++) {
		int fd = raw_connect();

		ck_assert_int_eq(send(fd, half, sizeof(half) - 1, MSG_NOSIGNAL), sizeof(half) - 1);
		close(fd);
		fd = raw_connect();
		ck_assert_int_eq(send(fd, number, sizeof(number) - 1, MSG_NOSIGNAL), sizeof(number) - 1);
		close(fd);
	}
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "subvolume.show", "name", "half")), -ENOENT);
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

START_TEST(limits_lines)
{
	size_t len = 70000;
	char *line = malloc(len);

	start_daemon();
	memset(line, ' ', len);
	expect_raw(line, 65536, "EMSGSIZE", true);
	free(line);
	expect_raw("{\"op\":", 6, "ETIMEDOUT", true);
}
END_TEST

START_TEST(limits_connections)
{
	int fds[70];

	start_daemon();
	pool_number("worker_pid");
	/* They are taken in the order in which they come. */
	for (int i = 0; i < 63; i++)
		fds[i] = raw_connect();
	expect_raw("", 0, "EBUSY", true);
	for (int i = 0; i < 63; i++)
		close(fds[i]);
	/* Each of them is noticed by a thread of its own, some time later. */
	for (int i = 0; i < 3000; i++) {
		connect_client();
		if (ask_error(json_pack("{s:s}", "op", "pool.show")) != -EBUSY)
			break;
		poll(NULL, 0, 20);
	}
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

/* Runs fn as an ordinary user, with these groups, in a process of its own; what it returns is the exit status. */
static int as_user(uid_t uid, gid_t gid, const gid_t *groups, size_t count, int (*fn)(void))
{
	const pid_t pid = fork();

	if (pid)
		return exit_status(pid);
	client_close(client);
	client = NULL;
	/* From within: the build's folder may be closed to others. */
	if (chdir(NVFS_RUN_DIR) || setgroups(count, groups) || setgid(gid) || setuid(uid))
		_exit(100);
	snprintf(sock_path, sizeof(sock_path), "%s.sock", pool);
	_exit(fn());
}

static void make_tenant(const char *name, uid_t owner, gid_t group)
{
	json_decref(ask(json_pack("{s:s,s:s,s:[i],s:[i]}", "op", "tenant.create", "name", name, "owner_uids", (int)owner,
				  "owner_gids", (int)group), -1));
}

static void create_for(const char *name, const char *tenant)
{
	json_decref(ask(json_pack("{s:s,s:s,s:s,s:i}", "op", "subvolume.create", "name", name, "tenant", tenant, "size_bytes", 1 << 20),
			-1));
}

/* Someone to whom nothing belongs: one line, whatever is asked, and no place is taken by any number of them. */
static int stranger(void)
{
	int fds[100];

	for (int i = 0; i < 100; i++)
		fds[i] = raw_connect();
	for (int i = 0; i < 100; i++) {
		char line[2048] = "";
		struct timeval limit = { .tv_sec = 120 };

		setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (recv(fds[i], line, sizeof(line) - 1, 0) <= 0 || !strstr(line, "\"EPERM\""))
			return 1;
		if (strstr(line, "red"))
			return 2;
	}
	return client_connect_path(sock_path, &client) ||
	       client_call(client, json_pack("{s:s}", "op", "subvolume.list"), -1, NULL) != -EPERM ? 3 : 0;
}

START_TEST(strangers_get_a_refusal)
{
	const gid_t groups[] = { 3000, 3001 };

	start_daemon();
	make_tenant("red", 1000, 2000);
	ck_assert_int_eq(as_user(1001, 1000, groups, 2, stranger), 0);
	ck_assert_int_gt(pool_number("worker_pid"), 0);
}
END_TEST

static int asked(json_t *request)
{
	return client_call(client, request, -1, NULL);
}

static json_t *named(const char *op, const char *name)
{
	return json_pack("{s:s,s:s}", "op", op, "name", name);
}

/* The owner of red, not of blue. */
static int owner(void)
{
	json_t *reply = NULL, *list;
	size_t i;

	if (client_connect_path(sock_path, &client) || client_call(client, json_pack("{s:s}", "op", "subvolume.list"), -1, &reply))
		return 1;
	list = json_object_get(reply, "subvolumes");
	if (json_array_size(list) != 1 || strcmp(json_string_value(json_object_get(json_array_get(list, 0), "name")), "r") ||
	    strcmp(json_string_value(json_object_get(json_array_get(list, 0), "tenant")), "red"))
		return 2;
	json_decref(reply);
	if (client_call(client, json_pack("{s:s}", "op", "tenant.list"), -1, &reply) ||
	    json_array_size(json_object_get(reply, "tenants")) != 1)
		return 3;
	json_decref(reply);
	if (asked(named("subvolume.show", "r")) || asked(named("tenant.show", "red")))
		return 4;
	if (asked(named("subvolume.show", "b")) != -ENOENT || asked(named("subvolume.delete", "b")) != -ENOENT ||
	    asked(json_pack("{s:s,s:s,s:i}", "op", "subvolume.resize", "name", "b", "size_bytes", 4096)) != -ENOENT ||
	    asked(named("tenant.show", "blue")) != -ENOENT)
		return 5;
	if (asked(json_pack("{s:s,s:s,s:s,s:i}", "op", "subvolume.create", "name", "r2", "tenant", "red", "size_bytes", 4096)) ||
	    asked(json_pack("{s:s,s:s,s:i}", "op", "subvolume.resize", "name", "r2", "size_bytes", 8192)) ||
	    asked(named("subvolume.delete", "r2")))
		return 6;
	if (asked(json_pack("{s:s}", "op", "pool.stop")) != -EPERM || asked(json_pack("{s:s}", "op", "pool.show")) != -EPERM ||
	    asked(json_pack("{s:s}", "op", "sync")) != -EPERM || asked(mount_request("r")) != -EPERM ||
	    asked(named("tenant.create", "green")) != -EPERM || asked(named("tenant.delete", "red")) != -EPERM ||
	    asked(json_pack("{s:s,s:s,s:{s:i}}", "op", "tenant.set", "name", "red", "limits", "used_bytes", 0)) != -EPERM)
		return 7;
	if (client_call(client, json_pack("{s:s}", "op", "top"), -1, &reply) ||
	    json_integer_value(json_object_get(reply, "dirty_cap_bytes")) || json_integer_value(json_object_get(reply, "commits")))
		return 11;
	json_decref(reply);
	if (asked(json_pack("{s:s}", "op", "sweeps")))
		return 12;
	if (client_call(client, json_pack("{s:s}", "op", "events"), -1, &reply))
		return 8;
	json_array_foreach(json_object_get(reply, "events"), i, list)
		if (strcmp(json_string_value(json_object_get(list, "tenant")), "red"))
			return 9;
	return json_array_size(json_object_get(reply, "events")) < 3 ? 10 : 0;
}

START_TEST(owners_have_what_is_theirs)
{
	const gid_t groups[] = { 3000, 2000, 3001 };
	gid_t many[300];

	start_daemon();
	make_tenant("red", 1000, 2000);
	make_tenant("blue", 1001, 2001);
	create_subvolume("d");
	create_for("r", "red");
	create_for("b", "blue");
	ck_assert_int_eq(as_user(1000, 1000, NULL, 0, owner), 0);
	ck_assert_int_eq(as_user(1002, 2000, NULL, 0, owner), 0);
	ck_assert_int_eq(as_user(1002, 1002, groups, 3, owner), 0);
	for (unsigned i = 0; i < 300; i++)
		many[i] = i ? 5000 + i : 2000;
	ck_assert_int_eq(as_user(1002, 1002, many, 300, owner), 0);
	/* Root's group is not root. */
	ck_assert_int_eq(as_user(1002, 0, NULL, 0, stranger), 0);
}
END_TEST

/* What it may hold, and one more. */
static int holds_eight(void)
{
	char line[2048] = "";
	int fds[9];

	for (int i = 0; i < 9; i++)
		fds[i] = raw_connect();
	if (recv(fds[8], line, sizeof(line) - 1, 0) <= 0 || !strstr(line, "\"EBUSY\""))
		return 1;
	for (int i = 0; i < 8; i++)
		if (recv(fds[i], line, 1, MSG_DONTWAIT) >= 0)
			return 2;
	/* One that is slow, or talks nonsense, ends only itself. */
	return send(fds[0], "{\"op\":", 6, MSG_NOSIGNAL) == 6 && send(fds[1], "\n", 1, MSG_NOSIGNAL) == 1 ? 0 : 3;
}

static void hold_and_wait(int said, uid_t uid)
{
	char byte = 0;

	if (chdir(NVFS_RUN_DIR) || setgroups(0, NULL) || setgid(uid) || setuid(uid))
		_exit(100);
	snprintf(sock_path, sizeof(sock_path), "%s.sock", pool);
	if (holds_eight())
		_exit(101);
	_exit(send(said, &byte, 1, 0) == 1 && recv(said, &byte, 1, 0) == 0 ? 0 : 102);
}

/* Owners of tenants can take neither each other's places nor those of administrators. */
START_TEST(keeps_connections_for_others)
{
	int fds[5][2];
	pid_t pids[5];
	char byte;

	start_daemon();
	make_tenant("red", 1000, 2000);
	make_tenant("blue", 1001, 2000);
	make_tenant("green", 1002, 2000);
	make_tenant("white", 1003, 2000);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[i]), 0);
		pids[i] = fork();
		if (pids[i] == 0) {
			for (int j = 0; j <= i; j++)
				close(fds[j][1]);
			hold_and_wait(fds[i][0], 1000 + (uid_t)i);
		}
		close(fds[i][0]);
		ck_assert_int_eq(recv(fds[i][1], &byte, 1, 0), 1);
	}
	for (int i = 0; i < 20; i++)
		raw_connect();
	connect_client();
	ck_assert_int_gt(pool_number("worker_pid"), 0);
	for (int i = 0; i < 4; i++) {
		close(fds[i][1]);
		ck_assert_int_eq(exit_status(pids[i]), 0);
	}
}
END_TEST

START_TEST(takes_no_descriptor_that_is_mounted)
{
	int other;

	start_daemon();
	create_subvolume("a");
	create_subvolume("b");
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	other = dup(fuse_fd);
	mount_reply(ask(mount_request("a"), fuse_fd));
	write_file("f", "x");
	ck_assert_int_eq(client_call(client, mount_request("b"), other, NULL), -EBUSY);
	file_has("f", "x");
	close(other);
	ck_assert_int_eq(umount(mnt), 0);
}
END_TEST

START_TEST(takes_only_descriptors_of_fuse)
{
	int null, listing;

	start_daemon();
	create_subvolume("a");
	null = open("/dev/null", O_RDWR);
	ck_assert_int_eq(client_call(client, mount_request("a"), null, NULL), -EBADF);
	listing = open("/", O_RDONLY);
	/* With a request that wants none it is closed and ignored. */
	json_decref(ask(json_pack("{s:s}", "op", "pool.show"), listing));
	close(null);
	close(listing);
}
END_TEST

START_TEST(administers_tenants)
{
	static const char *const bad[] = {
		"{'op':'tenant.create'}", "{'op':'tenant.create','name':'t','limit':{}}", "{'op':'tenant.create','name':'t','limits':[]}",
		"{'op':'tenant.create','name':'t','limits':{'used_bytes':-1}}", "{'op':'tenant.create','name':'t','limits':{'used_bytes':'1G'}}",
		"{'op':'tenant.create','name':'t','limits':{'bytes':1}}", "{'op':'tenant.create','name':'t','limits':{'grace_s':0}}",
		"{'op':'tenant.create','name':'t','defaults':{'thin':1}}", "{'op':'tenant.create','name':'t','defaults':{'compression':'zip'}}",
		"{'op':'tenant.create','name':'t','owner_uids':1000}", "{'op':'tenant.create','name':'t','owner_uids':[-1]}",
		"{'op':'tenant.create','name':'t','owner_uids':[4294967295]}", "{'op':'tenant.create','name':'t','owner_gids':['wheel']}",
		("{'op':'tenant.create','name':'t','owner_gids':[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,"
		 "27,28,29,30,31,32]}"),
		"{'op':'tenant.set','name':'default'}", "{'op':'tenant.list','name':'t'}", "{'op':'tenant.delete'}",
	};
	json_t *reply, *limits;

	start_daemon();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char line[512];

		snprintf(line, sizeof(line), "%s\n", bad[i]);
		for (char *c = line; *c; c++)
			*c = *c == '\'' ? '"' : *c;
		expect_raw(line, strlen(line), "EINVAL", false);
	}
	json_decref(ask(json_pack("{s:s,s:s,s:{s:i,s:i},s:{s:i,s:b}}", "op", "tenant.create", "name", "t", "limits", "used_bytes", 8193,
				  "read_iops", 77, "defaults", "size_bytes", 8193, "thin", 1), -1));
	json_decref(ask(json_pack("{s:s,s:s,s:{s:i}}", "op", "tenant.set", "name", "t", "limits", "used_bytes", 4095), -1));
	reply = ask(json_pack("{s:s,s:s}", "op", "tenant.show", "name", "t"), -1);
	limits = json_object_get(json_object_get(reply, "tenant"), "limits");
	ck_assert_int_eq(json_integer_value(json_object_get(limits, "used_bytes")), 4096);
	ck_assert_int_eq(json_integer_value(json_object_get(limits, "read_iops")), 77);
	limits = json_object_get(json_object_get(reply, "tenant"), "defaults");
	ck_assert_int_eq(json_integer_value(json_object_get(limits, "size_bytes")), 3 * 4096);
	json_decref(reply);
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "tenant.create", "name", "t")), -EEXIST);
	json_decref(ask(json_pack("{s:s,s:s}", "op", "tenant.delete", "name", "t"), -1));
	ck_assert_int_eq(ask_error(json_pack("{s:s,s:s}", "op", "tenant.delete", "name", "t")), -ENOENT);
}
END_TEST

/* Add the numbers of the threads that serve connections, or wait for one, to those that were seen. */
static unsigned serving_threads(int *seen, unsigned n, unsigned most)
{
	char path[64], name[32];
	struct dirent *e;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pool_number("worker_pid"));
	tasks = opendir(path);
	ck_assert_ptr_nonnull(tasks);
	while ((e = readdir(tasks))) {
		const int tid = atoi(e->d_name);
		unsigned i = 0;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/comm", tid);
		f = tid ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && !strcmp(name, "control-client\n")) {
			while (i < n && seen[i] != tid)
				i++;
			ck_assert_uint_lt(i, most);
			seen[i] = tid;
			n = i == n ? n + 1 : n;
		}
		fclose(f);
	}
	closedir(tasks);
	return n;
}

/* A new one for each would fill RocksDB's memtables badly (fs/control.c). One whose end is not yet seen keeps its thread. */
START_TEST(threads_serve_one_connection_after_the_other)
{
	int seen[8];
	unsigned n = 0;

	start_daemon();
	for (int i = 0; i < 50; i++) {
		connect_client();
		n = serving_threads(seen, n, 8);
	}
	ck_assert_uint_gt(n, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		serves_one_pool_once, worker_goes_before_its_clients, stops_when_asked, stops_on_sigterm, refuses_what_is_no_pool,
		administers_subvolumes, mounts_and_unmounts, is_free_after_umount, mounts_once,
		takes_back_a_mount_that_never_came, stops_under_load_when_forced,
		replaces_a_dead_worker, gives_up_after_three_deaths, refuses_malformed_requests, odd_requests_are_no_harm,
		does_what_the_gone_have_said,
		says_its_version, says_what_would_go, limits_lines, limits_connections,
		strangers_get_a_refusal, owners_have_what_is_theirs, keeps_connections_for_others,
		takes_no_descriptor_that_is_mounted, takes_only_descriptors_of_fuse,
		administers_tenants, threads_serve_one_connection_after_the_other,
	};

	return daemon_run("daemon", tests, sizeof(tests) / sizeof(tests[0]));
}
