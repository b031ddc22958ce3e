/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions beyond their limits, through real kernel mounts. The limit is one byte a second and the first write a MiB: whatever comes after
 * that waits until the test takes the limit away.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/held.h"
#include "tests/unit/session_rig.h"

#define WRITERS 40u
#define MIB (1u << 20)

static struct rig_mount limited, other;
static struct throttle throttle;

static void begin(void)
{
	const struct session_options free_options = { .name = "other", .number = 1 };
	struct session_options options = { .name = "limited", .number = 2, .throttles.level[1] = &throttle };

	throttle_init(&throttle);
	rig_begin();
	rig_add(&limited, &(struct fake_options){ 0 }, &options);
	rig_mount(&limited);
	rig_add(&other, &(struct fake_options){ .wait_every = 3 }, &free_options);
	rig_mount(&other);
}

static void end_other(void)
{
	ck_assert_int_eq(umount(other.mnt), 0);
	rig_wait_end(&other, 0);
}

static void end_all(void)
{
	rig_end();
	rig_remove(&limited);
	rig_remove(&other);
}

static void unmount(void)
{
	ck_assert_int_eq(umount(limited.mnt), 0);
	rig_wait_end(&limited, 0);
	end_other();
	end_all();
}

static uint64_t waiting(void)
{
	struct throttle_stats s;

	throttle_stats(&throttle, &s);
	return s.waiting;
}

static void wait_for_waiting(uint64_t n)
{
	for (int i = 0; i < 3000 && waiting() != n; i++)
		poll(NULL, 0, 10);
	ck_assert_uint_eq(waiting(), n);
}

static void used(void *arg)
{
	*(unsigned *)arg = request_pool_used(rig_pool);
}

static unsigned buffers_in_use(void)
{
	unsigned n;

	rig_on_reactor(used, &n);
	return n;
}

/* ---- Writers ---- */

struct writer {
	pthread_t thread;
	const struct rig_mount *mount;
	unsigned number;
	size_t len;
	int fd;
	ssize_t result;
	int error;
};

static struct writer writers[WRITERS];

static void *write_once(void *arg)
{
	struct writer *w = arg;
	void *data = aligned_alloc(4096, w->len);

	memset(data, 'w', w->len);
	w->result = pwrite(w->fd, data, w->len, 0);
	w->error = w->result < 0 ? errno : 0;
	free(data);
	return NULL;
}

static void writer_open(struct writer *w, const struct rig_mount *mount, unsigned number, size_t len)
{
	char name[16];

	snprintf(name, sizeof(name), "w%u", number);
	*w = (struct writer){ .mount = mount, .number = number, .len = len };
	w->fd = open(rig_at(mount, name), O_RDWR | O_CREAT | O_DIRECT, 0644);
	ck_assert_int_ge(w->fd, 0);
}

/* From now on every byte that is written waits. */
static void into_debt(void)
{
	struct writer w;

	writer_open(&w, &limited, 999, MIB);
	throttle_set(&throttle, &(struct rates){ .write_bytes_per_s = 1 });
	write_once(&w);
	ck_assert_int_eq(w.result, MIB);
	close(w.fd);
}

static void lift(void)
{
	throttle_set(&throttle, &(struct rates){ 0 });
}

static void writers_start(unsigned n, size_t len)
{
	for (unsigned i = 0; i < n; i++)
		writer_open(&writers[i], &limited, i, len);
	into_debt();
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, write_once, &writers[i]), 0);
}

/* All have written; or all got one of these errors. */
static void writers_end(unsigned n, bool well)
{
	for (unsigned i = 0; i < n; i++) {
		struct writer *w = &writers[i];

		pthread_join(w->thread, NULL);
		close(w->fd);
		if (well)
			ck_assert_int_eq(w->result, (ssize_t)w->len);
		else
			ck_assert_msg(w->error == ECONNABORTED || w->error == ENOTCONN || w->error == EIO, "writer %u: %s", i,
				      strerror(w->error));
	}
}

/* What the other one does goes through the same reactor and its buffers. */
static void other_goes_on(void)
{
	for (unsigned i = 0; i < 50; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%u", i);
		ck_assert_int_eq(mkdir(rig_at(&other, name), 0755), 0);
		ck_assert_int_eq(rmdir(rig_at(&other, name)), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		struct writer w;

		writer_open(&w, &other, i, MIB);
		write_once(&w);
		ck_assert_int_eq(w.result, MIB);
		close(w.fd);
	}
}

/* ---- Tests ---- */

START_TEST(holds_a_few_and_no_more)
{
	begin();
	writers_start(WRITERS, 4096);
	wait_for_waiting(HELD_MAX);
	other_goes_on();
	ck_assert_uint_eq(waiting(), HELD_MAX);
	ck_assert_uint_eq(buffers_in_use(), HELD_MAX);
	lift();
	writers_end(WRITERS, true);
	ck_assert_uint_eq(waiting(), 0);
	unmount();
}
END_TEST

START_TEST(holds_fewer_large_ones)
{
	begin();
	writers_start(WRITERS, MIB);
	wait_for_waiting(HELD_LARGE_MAX);
	other_goes_on();
	ck_assert_uint_eq(waiting(), HELD_LARGE_MAX);
	ck_assert_uint_eq(buffers_in_use(), HELD_LARGE_MAX);
	lift();
	writers_end(WRITERS, true);
	unmount();
}
END_TEST

/* Up to the bound, what is not limited gets past what waits. */
START_TEST(the_rest_goes_past)
{
	struct statfs st;
	char byte;
	int fd;

	begin();
	fd = open(rig_at(&limited, "f"), O_RDWR | O_CREAT, 0644);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	writers_start(HELD_MAX - 1, 4096);
	wait_for_waiting(HELD_MAX - 1);
	ck_assert_int_eq(fsync(fd), 0);
	ck_assert_int_eq(syncfs(fd), 0);
	ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
	ck_assert_int_eq(mkdir(rig_at(&limited, "d"), 0755), 0); /* moves no bytes */
	ck_assert_int_eq(statfs(limited.mnt, &st), 0);
	ck_assert_uint_eq(waiting(), HELD_MAX - 1);
	close(fd);
	lift();
	writers_end(HELD_MAX - 1, true);
	unmount();
}
END_TEST

/* Names count as operations: the burst of the lowest rate is one of them. */
START_TEST(names_are_operations)
{
	struct throttle_stats before, after;

	begin();
	throttle_stats(&throttle, &before);
	throttle_set(&throttle, &(struct rates){ .write_iops = 20 });
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(mkdir(rig_at(&limited, name), 0755), 0);
	}
	throttle_stats(&throttle, &after);
	ck_assert_uint_eq(before.delayed_ops, 0);
	ck_assert_uint_gt(after.delayed_ops, 0);
	ck_assert_uint_gt(after.delayed_ns, 0);
	ck_assert_uint_eq(after.waiting, 0);
	unmount();
}
END_TEST

static void abort_connection(unsigned n)
{
	begin();
	writers_start(n, 4096);
	wait_for_waiting(n < HELD_MAX ? n : HELD_MAX);
	umount2(limited.mnt, MNT_FORCE);
	rig_wait_end(&limited, 0);
	writers_end(n, false);
	ck_assert_uint_eq(waiting(), 0);
	end_other();
	end_all();
}

START_TEST(ends_with_the_mount_while_it_reads_on)
{
	abort_connection(3);
}
END_TEST

START_TEST(ends_with_the_mount_while_it_reads_nothing)
{
	abort_connection(WRITERS);
}
END_TEST

START_TEST(stops_while_it_waits)
{
	begin();
	writers_start(WRITERS, 4096);
	wait_for_waiting(HELD_MAX);
	rig_on_reactor(rig_stop, limited.session);
	rig_wait_end(&limited, -ESHUTDOWN);
	ck_assert_uint_eq(waiting(), 0);
	writers_end(WRITERS, false);
	end_other();
	end_all();
}
END_TEST

static void on_signal(int number)
{
	(void)number;
}

static pid_t writing_child(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	pid_t pid;

	writer_open(&writers[0], &limited, 0, 4096);
	/* Of direct writes, which it sends in the background, the kernel interrupts none. */
	ck_assert_int_eq(fcntl(writers[0].fd, F_SETFL, 0), 0);
	pid = fork();
	if (pid == 0) {
		/* The connection ends with the test, whatever becomes of it: neither it nor the reactor's ring is held here. */
		writers[0].fd = dup2(writers[0].fd, 3);
		close_range(4, ~0u, 0);
		sigaction(SIGUSR1, &action, NULL);
		write_once(&writers[0]);
		_exit(writers[0].result == 4096 ? 0 : 1);
	}
	ck_assert_int_gt(pid, 0);
	close(writers[0].fd);
	return pid;
}

static void wait_for_request(uint64_t before)
{
	for (int i = 0; i < 3000 && rig_requests(&limited) <= before; i++)
		poll(NULL, 0, 10);
	ck_assert_uint_gt(rig_requests(&limited), before);
}

/* A signal that has a handler changes nothing; one that kills ends the wait, whether it is the first or not. */
START_TEST(a_killed_process_does_not_wait)
{
	uint64_t before;
	int status;
	pid_t pid;

	begin();
	into_debt();
	for (int first = 0; first < 2; first++) {
		pid = writing_child();
		wait_for_waiting(1);
		before = rig_requests(&limited);
		if (!first) {
			kill(pid, SIGUSR1);
			wait_for_request(before); /* the kernel's INTERRUPT */
			ck_assert_uint_eq(waiting(), 1);
		}
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		wait_for_waiting(0);
	}
	unmount();
}
END_TEST

START_TEST(a_signal_does_not_end_a_write)
{
	uint64_t before;
	int status;
	pid_t pid;

	begin();
	into_debt();
	pid = writing_child();
	wait_for_waiting(1);
	before = rig_requests(&limited);
	kill(pid, SIGUSR1);
	wait_for_request(before);
	lift();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	unmount();
}
END_TEST

/* FORGETs are no requests that wait: the kernel drops what it knows, however long the line is. */
START_TEST(forgets_come_through)
{
	char name[32];

	begin();
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(open(rig_at(&limited, name), O_CREAT | O_RDWR, 0644));
	}
	writers_start(4, 4096);
	wait_for_waiting(4);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert_int_eq(unlink(rig_at(&limited, name)), 0);
	}
	for (int i = 0; i < 3000 && fake_lookups(limited.volume.sv) > 5; i++)
		poll(NULL, 0, 10);
	ck_assert_uint_eq(fake_lookups(limited.volume.sv), 5); /* the writers' files and the one of the debt */
	ck_assert_uint_eq(waiting(), 4);
	lift();
	writers_end(4, true);
	unmount();
}
END_TEST

int main(void)
{
	rig_skip_if_impossible();
	return unit_run("session_limits", holds_a_few_and_no_more, holds_fewer_large_ones, the_rest_goes_past, names_are_operations,
			ends_with_the_mount_while_it_reads_on, ends_with_the_mount_while_it_reads_nothing, stops_while_it_waits,
			a_killed_process_does_not_wait, a_signal_does_not_end_a_write, forgets_come_through, NULL);
}
