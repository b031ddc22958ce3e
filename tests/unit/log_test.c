/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

struct seen {
	int lines;
	enum log_level level;
	char text[4096];
};

static void remember(enum log_level level, const char *line, void *arg)
{
	struct seen *seen = arg;

	seen->lines++;
	seen->level = level;
	snprintf(seen->text, sizeof(seen->text), "%s", line);
}

START_TEST(levels_above_the_limit_are_dropped)
{
	struct seen seen = { 0 };

	log_set_sink(remember, &seen);
	log_debug("not yet");
	ck_assert_int_eq(seen.lines, 0);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("n=%d", 7);
	ck_assert_int_eq(seen.lines, 1);
	ck_assert_int_eq(seen.level, LOG_LEVEL_DEBUG);
	ck_assert_str_eq(seen.text, "n=7");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("quiet");
	ck_assert_int_eq(seen.lines, 1);
	log_error("loud");
	ck_assert_str_eq(seen.text, "loud");
}
END_TEST

START_TEST(errno_is_kept)
{
	struct seen seen = { 0 };

	log_set_sink(remember, &seen);
	errno = ENOSPC;
	log_error("%s", "x");
	ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

/* Runs log_error(text) with stderr in a pipe; what arrived is in `got`, its length returned. */
static ssize_t through_a_pipe(const char *text, char *got, size_t room)
{
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	log_error("%s", text);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	n = read(fds[0], got, room);
	close(fds[0]);
	return n;
}

START_TEST(people_get_the_name)
{
	char got[64] = "";

	log_set_ident("nvfsd");
	setenv("JOURNAL_STREAM", "1:1", 1);
	through_a_pipe("disk is full", got, sizeof(got) - 1);
	ck_assert_str_eq(got, "nvfsd: disk is full\n");
}
END_TEST

START_TEST(a_journal_gets_the_level)
{
	char name[] = "/tmp/nvfs-log-XXXXXX", got[64] = "", stream[64];
	int fd = mkstemp(name);
	struct stat st;

	ck_assert_int_ge(fd, 0);
	unlink(name);
	ck_assert_int_eq(fstat(fd, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	dup2(fd, STDERR_FILENO);
	log_error("disk is full");
	ck_assert_int_gt(pread(fd, got, sizeof(got) - 1, 0), 0);
	ck_assert_str_eq(got, "<3>disk is full\n");
	close(fd);
}
END_TEST

START_TEST(no_device_becomes_stderr)
{
	int fd;

	close(STDIN_FILENO);
	close(STDERR_FILENO);
	log_set_ident("nvfsd");
	fd = dup(STDOUT_FILENO);
	ck_assert_int_gt(fd, STDERR_FILENO);
	ck_assert_int_ge(fcntl(STDERR_FILENO, F_GETFD), 0);
}
END_TEST

START_TEST(a_long_line_is_cut_and_still_one_line)
{
	char text[5000], got[8192];
	ssize_t n;

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	n = through_a_pipe(text, got, sizeof(got));
	ck_assert_int_gt(n, 2000);
	ck_assert_int_le(n, 2048);
	ck_assert_int_eq(got[n - 1], '\n');
	ck_assert_ptr_eq(memchr(got, '\n', n), got + n - 1);
	ck_assert_int_eq(got[n - 2], 'a');
}
END_TEST

START_TEST(a_forged_line_is_not_one)
{
	char got[256];
	ssize_t n = through_a_pipe("file \x1b[2J\n<3>all is lost", got, sizeof(got) - 1);

	ck_assert_int_gt(n, 0);
	got[n] = '\0';
	ck_assert_msg(strstr(got, "file \\x1b[2J\\x0a<3>all is lost\n") != NULL, "%s", got);
}
END_TEST

int main(void)
{
	return unit_run("log", levels_above_the_limit_are_dropped, errno_is_kept,
			people_get_the_name, a_journal_gets_the_level, no_device_becomes_stderr,
			a_long_line_is_cut_and_still_one_line, a_forged_line_is_not_one,
			NULL);
}
