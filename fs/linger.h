/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_LINGER_H
#define NVFS_FS_LINGER_H

#include <sys/types.h>

/*
 * For Unix sockets whose other ends are not trusted. Anybody may pass descriptors over one (unix(7), SCM_RIGHTS). What nobody receives the
 * kernel puts, in the thread that closes the socket or reads past them; and to put the last reference to a socket that lingers (socket(7),
 * SO_LINGER) waits for as long as whoever made it liked. That wait ends with a signal, which the thread gets here after a millisecond.
 *
 * They must not be received either: close(2) of a file of a FUSE server waits for its answer, and no signal ends that.
 */

/* close(2), soon. */
void linger_close(int sock);

/* recv(2) of what is there already; passed descriptors are dropped. The number of bytes, 0 at the end, or -errno. */
ssize_t linger_receive(int sock, void *buf, size_t len);

#endif
