/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "meta/data.h"
#include "meta/moment.h"
#include "meta/op_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define STEPS 512u             /* between looks at the clock */
#define WORK_NS 20000000u      /* then a pause of a quarter of it */
#define TELL_NS 100000000u
#define SCAN_STEPS 200000u     /* of an iterator, until it is made anew */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- Taking it ---- */

static int sync_on_reactor(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

static int freeze_on_reactor(struct op *op, void *arg)
{
	uint64_t next_ino;

	(void)arg;
	return subvol_freeze(op, &next_ino);
}

static int thaw_on_reactor(struct op *op, void *arg)
{
	(void)arg;
	subvol_thaw(op->sv);
	return 0;
}

static int cannot_write_back(const struct subvol *sv, int error, const struct refusal *ref)
{
	return admin_refuse(ref, error, "subvolume %s cannot be written back: %s; see nvfsd's log", subvol_name(sv), strerror(-error));
}

/* What cannot be written back was logged, and is not there. */
static void write_back_all(struct pool *pool)
{
	for (struct subvol *sv = pool->open_head; sv; sv = sv->open_next)
		if (!sv->read_only && tenant_is_seen(pool, sv->rec.tenant))
			subvol_call(sv, sync_on_reactor, NULL);
}

/* Most of what is dirty goes before anybody has to wait. */
static int freeze(struct subvol *sv, bool *frozen, const struct refusal *ref)
{
	int r = subvol_call(sv, sync_on_reactor, NULL);

	if (!r) {
		*frozen = true; /* the gate is closed, whatever the answer is */
		r = subvol_call(sv, freeze_on_reactor, NULL);
	}
	return r ? cannot_write_back(sv, r, ref) : 0;
}

static int take_frozen(struct moment *m, const char *const *subvols, unsigned count, const struct refusal *ref)
{
	struct found f = { .open = NULL };
	bool frozen = false;
	int r = count ? admin_find(m->pool, subvols[0], &f, ref) : 0;

	if (!r && f.open && !f.open->read_only)
		r = freeze(f.open, &frozen, ref);
	if (!r && count > 1)
		r = take_frozen(m, subvols + 1, count - 1, ref);
	else if (!r)
		m->at = db_snapshot_new(m->pool->db);
	if (frozen)
		subvol_call(f.open, thaw_on_reactor, NULL);
	return r;
}

int moment_take(struct pool *pool, const char *const *subvols, unsigned count, bool all, struct moment *out, const struct refusal *ref)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	int r;

	*out = (struct moment){ .pool = pool, .work_began_ns = now_ns() };
	if (all)
		write_back_all(pool);
	r = take_frozen(out, subvols, count, ref);
	if (r)
		return r;
	r = out->at ? nodes_load_at(pool->db, out->at, &out->nodes) : -ENOMEM;
	return r ? admin_failed(ref, r) : 0;
}

void moment_release(struct moment *m)
{
	nodes_free(&m->nodes);
	if (m->at)
		db_snapshot_free(m->pool->db, m->at);
	m->at = NULL;
}

/* ---- Finding ---- */

struct search {
	struct moment *m;
	const struct snapshot_name *name;
	struct node_entry *found;
};

static bool is_it(const struct node_entry *n, uint32_t subvol, const char *snapshot)
{
	return n->rec.subvol == subvol && n->rec.state == NODE_SNAPSHOT && !strcmp(n->name, snapshot);
}

/* Names are looked at in the records of subvolumes, those that were deleted and have snapshots included. */
static int search_subvol(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct search *s = arg;
	struct subvol_rec rec;

	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.name_len != strlen(s->name->subvol) || memcmp(rec.name, s->name->subvol, rec.name_len))
		return 0;
	if (!s->name->snapshot) {
		if (!(rec.flags & SUBVOL_DELETING))
			s->found = nodes_find(&s->m->nodes, rec.tree, rec.node);
		return s->found ? 1 : 0;
	}
	for (size_t i = 0; i < s->m->nodes.count && !s->found; i++)
		if (is_it(&s->m->nodes.v[i], key->id, s->name->snapshot))
			s->found = &s->m->nodes.v[i];
	return s->found ? 1 : 0;
}

int moment_find(struct moment *m, const struct snapshot_name *name, struct node_entry **out, const struct refusal *ref)
{
	struct search s = { .m = m, .name = name };
	int r = sysrec_each_at(m->pool->db, m->at, REC_SUBVOL, search_subvol, &s);

	*out = s.found;
	if (r < 0)
		return admin_failed(ref, r);
	if (s.found && tenant_is_seen(m->pool, s.found->rec.tenant))
		return 0;
	if (name->snapshot)
		return admin_refuse(ref, -ENOENT, "there is no snapshot %s@%s; nvfs snapshot list %s shows them", name->subvol,
				    name->snapshot, m->pool->label.name);
	return admin_refuse(ref, -ENOENT, "there is no subvolume %s; nvfs subvolume list %s shows them", name->subvol,
			    m->pool->label.name);
}

int moment_lineage(struct moment *m, const struct node_entry *node, uint32_t **out, unsigned *count)
{
	const struct node_entry *n = node;
	uint32_t *ids;

	*count = 0;
	for (; n; n = nodes_find(&m->nodes, node->tree, n->rec.parent)) {
		if (n->rec.parent >= n->id)
			return -EBADMSG;
		++*count;
	}
	ids = malloc(*count * sizeof(*ids));
	*out = ids;
	if (!ids)
		return -ENOMEM;
	for (n = node; n; n = nodes_find(&m->nodes, node->tree, n->rec.parent))
		*ids++ = n->id;
	return 0;
}

/* ---- Looking at much ---- */

int moment_begin(struct moment *m, uint64_t done, uint64_t total)
{
	m->done = done < total ? done : total;
	m->total = total;
	m->told_ns = now_ns();
	return m->progress.fn ? m->progress.fn(m->progress.arg, m->done, m->total) : 0;
}

int moment_step(struct moment *m, uint64_t done, uint64_t total)
{
	const struct timespec pause = { .tv_nsec = WORK_NS / 4 };
	uint64_t now;

	if (total) {
		m->done = done < total ? done : total;
		m->total = total;
	}
	if (++m->steps % STEPS)
		return 0;
	now = now_ns();
	if (now - m->work_began_ns < WORK_NS)
		return 0;
	nanosleep(&pause, NULL);
	m->work_began_ns = now_ns();
	if (!m->progress.fn || m->work_began_ns - m->told_ns < TELL_NS)
		return 0;
	m->told_ns = m->work_began_ns;
	return m->progress.fn(m->progress.arg, m->done, m->total);
}

static int stand(struct moment_scan *s)
{
	if (!db_iter_valid(s->iter))
		return db_iter_error(s->iter);
	s->key = db_iter_key(s->iter, &s->key_len);
	s->value = db_iter_value(s->iter, &s->value_len);
	if (s->key_len < 5 || s->key_len > KEY_MAX)
		return -EBADMSG;
	return 1;
}

static int open_iter(struct moment_scan *s)
{
	uint8_t end[sizeof(s->prefix)];
	size_t n = s->prefix_len;

	memcpy(end, s->prefix, n);
	while (n && ++end[n - 1] == 0)
		n--;
	db_iter_free(s->iter);
	s->iter = db_iter_new_at(s->m->pool->db, s->m->at, s->cf, s->prefix, s->prefix_len, n ? end : NULL, n, DB_PASSING);
	s->steps = 0;
	return s->iter ? 0 : -ENOMEM;
}

int moment_scan_first(struct moment_scan *s)
{
	int r = open_iter(s);

	if (r)
		return r;
	db_iter_first(s->iter);
	return stand(s);
}

int moment_scan_next(struct moment_scan *s)
{
	uint8_t at[KEY_MAX];
	const size_t len = s->key_len;

	if (++s->steps < SCAN_STEPS) {
		db_iter_next(s->iter);
		return stand(s);
	}
	memcpy(at, s->key, len);
	if (open_iter(s))
		return -ENOMEM;
	db_iter_seek(s->iter, at, len);
	if (db_iter_valid(s->iter))
		db_iter_next(s->iter); /* a moment's key stays where it is */
	return stand(s);
}

int moment_scan_seek(struct moment_scan *s, const void *key, size_t len)
{
	if (!s->iter || s->steps >= SCAN_STEPS) {
		int r = open_iter(s);

		if (r)
			return r;
	}
	s->steps++;
	db_iter_seek(s->iter, key, len);
	return stand(s);
}

void moment_scan_end(struct moment_scan *s)
{
	db_iter_free(s->iter);
	s->iter = NULL;
}
