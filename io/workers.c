/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/cleanup.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work *head, **tail; /* lock */
	size_t backlog;            /* lock */
	bool stopping;             /* lock */
	unsigned threads;
	pthread_t thread[];
};

/* The next work, or NULL when there is none and there will be none. */
static struct work *workers_take(struct workers *pool)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);
	struct work *w;

	while (!pool->head && !pool->stopping)
		pthread_cond_wait(&pool->more, &pool->lock);
	w = pool->head;
	if (!w)
		return NULL;
	pool->head = w->next;
	if (!pool->head)
		pool->tail = &pool->head;
	pool->backlog--;
	return w;
}

static void work_done(struct reactor *r, struct reactor_msg *msg)
{
	struct work *w = (struct work *)((char *)msg - offsetof(struct work, msg));

	(void)r;
	w->done(w);
}

static void *workers_main(void *arg)
{
	struct workers *pool = arg;
	struct work *w;

	while ((w = workers_take(pool))) {
		bool tell = w->done != NULL;

		w->fn(w); /* without done, w may be gone now */
		if (tell) {
			w->msg.fn = work_done;
			reactor_post(w->reactor, &w->msg);
		}
	}
	return NULL;
}

static void workers_stop(struct workers *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
}

static int workers_start(struct workers *pool, unsigned threads, const char *name)
{
	sigset_t all, old;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (pool->threads < threads) {
		char label[16];

		rc = -pthread_create(&pool->thread[pool->threads], NULL, workers_main, pool);
		if (rc)
			break;
		snprintf(label, sizeof(label), "%.11s-%u", name, pool->threads % 1000);
		pthread_setname_np(pool->thread[pool->threads], label);
		pool->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int workers_create(unsigned threads, const char *name, struct workers **out)
{
	struct workers *pool;
	int rc;

	if (!threads)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->thread[0]));
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	pool->tail = &pool->head;
	rc = workers_start(pool, threads, name);
	if (rc)
		workers_destroy(pool);
	else
		*out = pool;
	return rc;
}

void workers_destroy(struct workers *pool)
{
	if (!pool)
		return;
	workers_stop(pool);
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void workers_submit(struct workers *pool, struct work *w)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);

	w->next = NULL;
	*pool->tail = w;
	pool->tail = &w->next;
	pool->backlog++;
	pthread_cond_signal(&pool->more);
}

size_t workers_backlog(struct workers *pool)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->lock);

	return pool->backlog;
}
