/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/pool.h"
#include "meta/tenant.h"

/* Tenants for nvfsd without a pool: names, settings and owners; nothing is charged or refused for a limit. */

#define TENANTS_MAX 16

static struct tenant_info tenants[TENANTS_MAX] = { { .id = NVFS_TENANT_DEFAULT, .name = "default" } };
static unsigned count = 1;
static uint32_t next_id = NVFS_TENANT_DEFAULT + 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local const struct tenant_user *acts_for;

void tenant_act_as(const struct tenant_user *user)
{
	acts_for = user;
}

static bool owns(const struct tenant_info *t, const struct tenant_user *user)
{
	for (unsigned i = 0; i < t->set.uid_count; i++)
		if (t->set.uids[i] == user->uid)
			return true;
	for (unsigned i = 0; i < t->set.gid_count; i++)
		for (size_t j = 0; j < user->gid_count; j++)
			if (t->set.gids[i] == user->gids[j])
				return true;
	return false;
}

static struct tenant_info *find(const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(tenants[i].name, name) && (!acts_for || owns(&tenants[i], acts_for)))
			return &tenants[i];
	return NULL;
}

bool tenant_is_seen(struct pool *pool, uint32_t id)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);

	(void)pool;
	for (unsigned i = 0; i < count; i++)
		if (tenants[i].id == id)
			return !acts_for || owns(&tenants[i], acts_for);
	return !acts_for;
}

bool tenant_owns_any(struct pool *pool, const struct tenant_user *user)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);

	(void)pool;
	for (unsigned i = 0; i < count; i++)
		if (owns(&tenants[i], user))
			return true;
	return false;
}

bool tenant_is_owned(struct pool *pool, const char *name, int64_t at_ns, const struct tenant_user *user)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);

	(void)pool;
	(void)at_ns;
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(tenants[i].name, name))
			return owns(&tenants[i], user);
	return false;
}

int tenant_create(struct pool *pool, const char *name, const struct tenant_settings *set, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);

	(void)pool;
	if (find(name) || count == TENANTS_MAX) {
		snprintf(why, why_len, "there is a tenant %s already", name);
		return -EEXIST;
	}
	tenants[count] = (struct tenant_info){ .id = next_id++, .set = *set };
	snprintf(tenants[count++].name, sizeof(tenants[0].name), "%s", name);
	return 0;
}

int tenant_set(struct pool *pool, const char *name, const struct tenant_settings *set, unsigned fields, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);
	struct tenant_info *t = find(name);

	(void)pool;
	(void)why;
	(void)why_len;
	if (!t)
		return -ENOENT;
	if (fields & TENANT_USED)
		t->set.limits.used_blocks = set->limits.used_blocks;
	if (fields & TENANT_UIDS) {
		t->set.uid_count = set->uid_count;
		memcpy(t->set.uids, set->uids, sizeof(t->set.uids));
	}
	if (fields & TENANT_GIDS) {
		t->set.gid_count = set->gid_count;
		memcpy(t->set.gids, set->gids, sizeof(t->set.gids));
	}
	return 0;
}

int tenant_delete(struct pool *pool, const char *name, bool dry_run, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);
	struct tenant_info *t = find(name);

	(void)pool;
	(void)why;
	(void)why_len;
	if (!t)
		return -ENOENT;
	if (!dry_run)
		*t = tenants[--count];
	return 0;
}

int tenant_info(struct pool *pool, const char *name, struct tenant_info *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);
	const struct tenant_info *t = find(name);

	(void)pool;
	if (!t)
		return -ENOENT;
	*out = *t;
	return 0;
}

int tenant_each(struct pool *pool, int (*fn)(const struct tenant_info *info, void *arg), void *arg)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&lock);
	int r = 0;

	(void)pool;
	for (unsigned i = 0; i < count && !r; i++)
		if (!acts_for || owns(&tenants[i], acts_for))
			r = fn(&tenants[i], arg);
	return r;
}
