/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_SYSLOG_H
#define NVFS_FS_SYSLOG_H

/* From now on log lines go to syslog(3), and the standard descriptors to /dev/null. */
void syslog_take_over(void);

#endif
