/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line per event, to stderr: "nvfsd: text" for people, and with the level, "<3>text" (sd-daemon(3)), where
 * stderr is the journal's (JOURNAL_STREAM in systemd.exec(5)).
 *
 * All functions may be called from any thread, and none changes errno. They must not be called
 * from a signal handler.
 */
#ifndef NVFS_IO_LOG_H
#define NVFS_IO_LOG_H

#include <stdarg.h>

/* The numbers of syslog(3). */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARN = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

#define log_error(...) log_msg(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                        \
	do {                                                  \
		if (log_enabled(LOG_LEVEL_DEBUG))             \
			log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

/* The text is one line without its newline; longer than 2 KiB, it is cut. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_msgv(enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* Levels above this one are dropped; LOG_LEVEL_INFO from the start. */
void log_set_level(enum log_level level);
int log_enabled(enum log_level level);

/*
 * The program's name in front of a line for people; the string must stay valid. A program's first call: it also
 * sees that descriptors 0 to 2 are open, so that no device gets the number of stderr.
 */
void log_set_ident(const char *ident);

/*
 * Sends every line that passes the level to `sink` and no longer to stderr; NULL goes back.
 * Tests use it to see what was said. Not to be changed while other threads log.
 */
typedef void (*log_sink_fn)(enum log_level level, const char *line, void *arg);
void log_set_sink(log_sink_fn sink, void *arg);

#endif
