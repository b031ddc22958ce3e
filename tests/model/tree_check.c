/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "model.h"
#include "tree_model.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LEN_MAX 131072

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void check_stat(struct node *n, const struct stat *st, const char *what)
{
	if (st->st_mode != n->mode || st->st_uid != n->uid || st->st_gid != n->gid || st->st_nlink != n->nlink)
		model_fail("%s: mode %o owner %u:%u nlink %lu, should be mode %o owner %u:%u nlink %u", what, st->st_mode,
			   st->st_uid, st->st_gid, (unsigned long)st->st_nlink, n->mode, n->uid, n->gid, n->nlink);
	if (!S_ISDIR(n->mode) && (size_t)st->st_size != n->len)
		model_fail("%s: size %lld, should be %zu", what, (long long)st->st_size, n->len);
	if ((S_ISCHR(n->mode) || S_ISBLK(n->mode)) && st->st_rdev != n->rdev)
		model_fail("%s: device number %lx, should be %lx", what, (unsigned long)st->st_rdev, (unsigned long)n->rdev);
	if (n->ino_known && st->st_ino != n->ino)
		model_fail("%s: inode number %llu, was %llu", what, (unsigned long long)st->st_ino, (unsigned long long)n->ino);
	if (n->mtime_known && !same_time(st->st_mtim, n->mtime))
		model_fail("%s: mtime %lld.%09ld, should be %lld.%09ld", what, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
			   (long long)n->mtime.tv_sec, n->mtime.tv_nsec);
	n->ino = st->st_ino;
	n->mtime = st->st_mtim;
	n->ino_known = n->mtime_known = true;
}

static void check_content(const struct node *n, int fd, const char *what)
{
	static uint8_t got[LEN_MAX + 1], want[LEN_MAX];
	ssize_t len = pread(fd, got, sizeof(got), 0);

	if (len < 0)
		model_fail("%s: read: %s", what, strerror(errno));
	tree_bytes(want, n->len, n->seed);
	if ((size_t)len != n->len || memcmp(got, want, n->len))
		model_fail("%s: wrong content (%zd bytes, should be %zu)", what, len, n->len);
}

static void check_target(const struct node *n, const char *path)
{
	char got[TREE_PATH_MAX], want[TREE_PATH_MAX];
	ssize_t len = readlink(path, got, sizeof(got));

	tree_target(want, n->len, n->seed);
	if (len < 0 || (size_t)len != n->len || memcmp(got, want, n->len))
		model_fail("%s: wrong target", path);
}

static int ours(const char *name)
{
	for (int i = 0; i < TREE_XATTRS; i++)
		if (!strcmp(name, tree.xattrs[i]))
			return i;
	return -1;
}

static void check_xattrs(const struct node *n, const char *path)
{
	static char list[65536], got[65536];
	static uint8_t want[65536];
	ssize_t len = llistxattr(path, list, sizeof(list));
	unsigned found = 0;

	if (len < 0)
		model_fail("%s: listxattr: %s", path, strerror(errno));
	for (char *p = list; p < list + len; p += strlen(p) + 1)
		if (ours(p) >= 0)
			found++;
		else if (!strncmp(p, "user.", 5) || !strncmp(p, "trusted.x", 9))
			model_fail("%s: unknown xattr %.40s", path, p);
	if (found != n->xattr_count)
		model_fail("%s: %u xattrs, should be %u", path, found, n->xattr_count);
	for (unsigned i = 0; i < n->xattr_count; i++) {
		const struct xattr *x = &n->xattrs[i];
		ssize_t size = lgetxattr(path, tree.xattrs[x->name], got, sizeof(got));

		tree_bytes(want, x->len, x->seed);
		if (size < 0 || (size_t)size != x->len || memcmp(got, want, x->len))
			model_fail("%s: xattr %.40s: %zd bytes or another value, should have %zu", path, tree.xattrs[x->name],
				   size, x->len);
	}
}

void tree_check_entry(struct node *dir, const struct entry *e)
{
	const char *path = tree_path(dir, e->name);
	struct node *n = e->node;
	struct stat st;
	int fd;

	if (lstat(path, &st))
		model_fail("lstat %s in %s: %s", tree_show(e->name), tree_show(dir->name), strerror(errno));
	check_stat(n, &st, path);
	check_xattrs(n, path);
	if (S_ISLNK(n->mode))
		check_target(n, path);
	if (!S_ISREG(n->mode))
		return;
	fd = open(path, O_RDONLY);
	if (fd < 0)
		model_fail("open %s: %s", path, strerror(errno));
	check_content(n, fd, path);
	close(fd);
}

static size_t index_of(const struct node *dir, const char *name)
{
	for (size_t i = 0; i < dir->entry_count; i++)
		if (!strcmp(tree.names[dir->entries[i].name], name))
			return i;
	return SIZE_MAX;
}

static void check_dirent(const struct node *dir, const struct dirent *de, uint8_t *seen, const char *path)
{
	size_t i = index_of(dir, de->d_name);
	struct node *n;

	if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
		return;
	if (i == SIZE_MAX)
		model_fail("readdir %s: %s should not be there", path, de->d_name);
	if (seen[i]++)
		model_fail("readdir %s: %s comes twice", path, de->d_name);
	n = dir->entries[i].node;
	if (de->d_type != DT_UNKNOWN && de->d_type != IFTODT(n->mode))
		model_fail("readdir %s: %s has type %u", path, de->d_name, de->d_type);
	if (n->ino_known && de->d_ino != n->ino)
		model_fail("readdir %s: %s has inode number %llu, should be %llu", path, de->d_name,
			   (unsigned long long)de->d_ino, (unsigned long long)n->ino);
}

void tree_check_dir(struct node *dir)
{
	uint8_t *seen = calloc(1, dir->entry_count + 1);
	const char *path = tree_path(dir, -1);
	DIR *d = opendir(path);
	struct dirent *de;

	if (!d || !seen)
		model_fail("opendir %s: %s", path, strerror(errno));
	errno = 0;
	while ((de = readdir(d)) != NULL)
		check_dirent(dir, de, seen, path);
	if (errno)
		model_fail("readdir %s: %s", path, strerror(errno));
	for (size_t i = 0; i < dir->entry_count; i++)
		if (!seen[i])
			model_fail("readdir %s: %s is missing", path, tree_show(dir->entries[i].name));
	closedir(d);
	free(seen);
}

void tree_check_orphan(const struct orphan *o)
{
	struct stat st;

	if (fstat(o->fd, &st))
		model_fail("fstat of an orphan: %s", strerror(errno));
	check_stat(o->node, &st, "orphan");
	check_content(o->node, o->fd, "orphan");
}

static void check_below(struct node *dir)
{
	for (size_t i = 0; i < dir->entry_count; i++) {
		tree_check_entry(dir, &dir->entries[i]);
		if (S_ISDIR(dir->entries[i].node->mode))
			check_below(dir->entries[i].node);
	}
	tree_check_dir(dir);
}

static int by_ino(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void check_inos_differ(void)
{
	struct node **sorted = malloc(tree.count * sizeof(*sorted) + 1);

	if (!sorted)
		model_fail("no memory");
	memcpy(sorted, tree.all, tree.count * sizeof(*sorted));
	qsort(sorted, tree.count, sizeof(*sorted), by_ino);
	for (size_t i = 1; i < tree.count; i++)
		if (sorted[i]->ino == sorted[i - 1]->ino)
			model_fail("inode number %llu is there twice", (unsigned long long)sorted[i]->ino);
	free(sorted);
}

void tree_check_all(void)
{
	struct stat st;

	if (lstat(tree.dir, &st))
		model_fail("lstat %s: %s", tree.dir, strerror(errno));
	check_stat(tree.top, &st, tree.dir);
	check_below(tree.top);
	check_inos_differ();
	for (unsigned i = 0; i < tree.orphan_count; i++)
		tree_check_orphan(&tree.orphans[i]);
}
