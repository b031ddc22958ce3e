/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/syslog.h"
#include "io/log.h"

static void to_syslog(enum log_level level, const char *line, void *arg)
{
	(void)arg;
	syslog((int)level, "%s", line); /* the levels are syslog's own numbers */
}

void syslog_take_over(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	openlog("nvfsd", LOG_PID, LOG_DAEMON);
	log_set_sink(to_syslog, NULL);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}
