/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/log.h"
#include "io/visible.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_LINE_BYTES 2048

static _Atomic int max_level = LOG_LEVEL_INFO;
static const char *_Atomic program = "nvfs";
static _Atomic int is_journal = -1;	/* -1 until the first line asks */
static log_sink_fn sink_fn;		/* set while only one thread runs */
static void *sink_arg;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, level, memory_order_relaxed);
}

int log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

void log_set_ident(const char *ident)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	atomic_store(&program, ident);
}

void log_set_sink(log_sink_fn sink, void *arg)
{
	sink_fn = sink;
	sink_arg = arg;
}

/* The variable is inherited by programs whose stderr is something else: it names the stream. */
static int names_stderr(const char *stream)
{
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st))
		return 0;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(own, stream) == 0;
}

static int stderr_is_journal(void)
{
	int known = atomic_load_explicit(&is_journal, memory_order_relaxed);

	if (known < 0) {
		known = names_stderr(getenv("JOURNAL_STREAM"));
		atomic_store_explicit(&is_journal, known, memory_order_relaxed);
	}
	return known;
}

/* What stands in front of the text; its length, at most `room` - 1. */
static size_t put_prefix(enum log_level level, char *buf, size_t room)
{
	int n;

	if (stderr_is_journal())
		n = snprintf(buf, room, "<%d>", (int)level);
	else
		n = snprintf(buf, room, "%s: ", atomic_load(&program));
	return (size_t)n < room ? (size_t)n : room - 1;
}

/* One write(2) a line: lines of threads and processes do not mix, and nothing is buffered. */
static void write_line(const char *line, size_t len)
{
	ssize_t n;

	do
		n = write(STDERR_FILENO, line, len);
	while (n < 0 && errno == EINTR);
}

void log_msgv(enum log_level level, const char *fmt, va_list ap)
{
	char text[LOG_LINE_BYTES], line[LOG_LINE_BYTES];
	size_t len = 0;
	int saved = errno;

	if (!log_enabled(level))
		return;
	if (!sink_fn)
		len = put_prefix(level, line, 64);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		*text = '\0';
	/* One byte is kept for the newline. */
	len += visible_copy(line + len, sizeof(line) - len - 1, text);
	if (sink_fn) {
		sink_fn(level, line, sink_arg);
	} else {
		line[len++] = '\n';
		write_line(line, len);
	}
	errno = saved;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_msgv(level, fmt, ap);
	va_end(ap);
}
