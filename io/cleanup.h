/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resources that end with their scope, by the compiler's cleanup attribute:
 *
 *	cleanup_fd int fd = open(...);
 *	cleanup_free char *name = strdup(...);
 *	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
 *
 * Every one must be initialised where it is declared. take_fd() and take_ptr() hand a resource
 * on to somebody who outlives the scope.
 */
#ifndef NVFS_IO_CLEANUP_H
#define NVFS_IO_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

/* Keeps errno, so that the reason of an early return survives it. */
static inline void cleanup_fd_fn(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_file_fn(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_dir_fn(DIR **d)
{
	if (*d)
		closedir(*d);
}

static inline void cleanup_unlock_fn(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

static inline void cleanup_rwlock_fn(pthread_rwlock_t **l)
{
	if (*l)
		pthread_rwlock_unlock(*l);
}

#define cleanup_free cleanup(cleanup_free_fn)
#define cleanup_fd cleanup(cleanup_fd_fn)
#define cleanup_file cleanup(cleanup_file_fn)
#define cleanup_dir cleanup(cleanup_dir_fn)
#define cleanup_unlock cleanup(cleanup_unlock_fn) __attribute__((unused))
#define cleanup_rwunlock cleanup(cleanup_rwlock_fn) __attribute__((unused))

static inline pthread_mutex_t *lock_mutex(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

static inline pthread_rwlock_t *lock_read(pthread_rwlock_t *l)
{
	pthread_rwlock_rdlock(l);
	return l;
}

static inline pthread_rwlock_t *lock_write(pthread_rwlock_t *l)
{
	pthread_rwlock_wrlock(l);
	return l;
}

/* Returns *fd and leaves -1 there: the caller's to close now. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Returns the pointer variable's value and leaves NULL there. */
#define take_ptr(p)                          \
	({                                   \
		__typeof__(p) taken_ = (p);  \
		(p) = NULL;                  \
		taken_;                      \
	})

#endif
