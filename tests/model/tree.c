/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvfs-tree: random operations on names, links and attributes, against a model in memory (tree_model.h).
 *
 *     nvfs-tree DIR [--ops N] [--seed S] [--nodes N] [--check-every N] [--drop-every N] [--fsync-every N]
 *               [--remount CMD --remount-every N] [--restart CMD --restart-every N] [--trace] [--keep]
 *
 * Each operation's outcome, error code included, is predicted; what it touched is compared with the model at once, and
 * everything every `check-every` operations and after each remount. --remount's command may unmount: all descriptors are
 * closed before it. --restart's command may not: unlinked files stay open across it and must keep their content.
 */
#include "config.h"

#include "model.h"
#include "tree_model.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define LEN_MAX 131072
/* ext4 keeps all xattrs of an inode in one block. */
#define XATTR_SPACE 3000

static struct {
	uint64_t ops, seed, nodes, check_every, drop_every, fsync_every, remount_every, restart_every;
	const char *remount, *restart;
	bool keep;
} opt = {
	.ops = 10000,
	.nodes = 2000,
	.check_every = 3000,
	.fsync_every = 200,
	.remount_every = 5000,
	.restart_every = 5000,
};

/* ---- picking ---- */

static struct node *some_dir(void)
{
	for (int i = 0; i < 30; i++) {
		struct node *n = tree.all[model_below(tree.count)];

		if (S_ISDIR(n->mode))
			return n;
	}
	return tree.top;
}

static struct entry *some_entry(struct node **dir)
{
	for (int i = 0; i < 30; i++) {
		*dir = some_dir();
		if ((*dir)->entry_count)
			return &(*dir)->entries[model_below((*dir)->entry_count)];
	}
	*dir = tree.top;
	return tree.top->entry_count ? &tree.top->entries[0] : NULL;
}

static struct entry *some_file(struct node **dir)
{
	for (int i = 0; i < 30; i++) {
		struct entry *e = some_entry(dir);

		if (e && S_ISREG(e->node->mode))
			return e;
	}
	return NULL;
}

/* Half of the time a name that is there. */
static int some_name(const struct node *dir)
{
	if (dir->entry_count && model_chance(2))
		return dir->entries[model_below(dir->entry_count)].name;
	return (int)model_below(TREE_NAMES);
}

static size_t some_length(void)
{
	switch (model_below(6)) {
	case 0:
		return 0;
	case 1:
		return model_below(LEN_MAX / 2);
	default:
		return model_below(6000);
	}
}

static void expect(long rc, int want, const char *what)
{
	int e = errno;

	if (rc < 0 && e == EEXIST && want == ENOTEMPTY)
		return;
	if (want ? rc < 0 && e == want : rc >= 0)
		return;
	if (rc >= 0)
		model_fail("%s succeeded, should fail: %s", what, strerror(want));
	model_fail("%s: %s, should %s%s", what, strerror(e), want ? "be: " : "succeed", want ? strerror(want) : "");
}

/* ---- making ---- */

static void set_content(struct node *n, int fd)
{
	static uint8_t buf[LEN_MAX];

	n->seed = model_random();
	n->len = some_length();
	tree_bytes(buf, n->len, n->seed);
	n->mtime_known = false;
	if (write(fd, buf, n->len) != (ssize_t)n->len)
		model_fail("write of %zu bytes: %s", n->len, strerror(errno));
}

static void add_and_check(struct node *dir, int name, struct node *n)
{
	tree_add(dir, name, n);
	tree_check_entry(dir, tree_find(dir, name));
}

static void do_create(void)
{
	struct node *dir = some_dir(), *n;
	int name = some_name(dir), fd;
	mode_t mode = 0600 | (mode_t)model_below(0200);
	bool exists = tree_find(dir, name) != NULL;

	model_op("create %s in %s", tree_show(name), tree_show(dir->name));
	fd = open(tree_path(dir, name), O_CREAT | O_EXCL | O_WRONLY, mode);
	expect(fd, exists ? EEXIST : 0, "create");
	if (fd < 0)
		return;
	n = tree_new_node(dir, S_IFREG | mode);
	set_content(n, fd);
	close(fd);
	add_and_check(dir, name, n);
}

static void do_mkdir(void)
{
	struct node *dir = some_dir();
	int name = some_name(dir);
	bool exists = tree_find(dir, name) != NULL;

	if (!exists && tree_depth(dir) + 1 >= TREE_DEPTH_MAX)
		return;
	model_op("mkdir %s in %s", tree_show(name), tree_show(dir->name));
	expect(mkdir(tree_path(dir, name), 0750), exists ? EEXIST : 0, "mkdir");
	if (!exists)
		add_and_check(dir, name, tree_new_node(dir, S_IFDIR | 0750));
}

static void do_symlink(void)
{
	char target[TREE_PATH_MAX];
	struct node *dir = some_dir(), *n;
	int name = some_name(dir);
	bool exists = tree_find(dir, name) != NULL;

	n = tree_new_node(dir, S_IFLNK | 0777);
	n->seed = model_random();
	n->len = 1 + (model_chance(4) ? model_below(1000) : model_below(80));
	tree_target(target, n->len, n->seed);
	model_op("symlink %s in %s, %zu bytes", tree_show(name), tree_show(dir->name), n->len);
	expect(symlink(target, tree_path(dir, name)), exists ? EEXIST : 0, "symlink");
	if (exists)
		tree_free_node(n);
	else
		add_and_check(dir, name, n);
}

static void do_mknod(void)
{
	static const mode_t types[] = {S_IFIFO, S_IFSOCK, S_IFREG, S_IFCHR, S_IFBLK};
	struct node *dir = some_dir(), *n;
	int name = some_name(dir);
	bool exists = tree_find(dir, name) != NULL;

	n = tree_new_node(dir, types[model_below(tree.root ? 5 : 3)] | 0640);
	n->rdev = S_ISCHR(n->mode) || S_ISBLK(n->mode) ? makedev(model_below(256), model_below(256)) : 0;
	model_op("mknod %s in %s, %o", tree_show(name), tree_show(dir->name), n->mode);
	expect(mknod(tree_path(dir, name), n->mode, n->rdev), exists ? EEXIST : 0, "mknod");
	if (exists)
		tree_free_node(n);
	else
		add_and_check(dir, name, n);
}

static void do_link(void)
{
	struct node *from, *to = some_dir();
	struct entry *e = some_entry(&from);
	int name = some_name(to), want = 0;

	if (!e)
		return;
	model_op("link %s in %s to %s in %s", tree_show(e->name), tree_show(from->name), tree_show(name), tree_show(to->name));
	if (tree_find(to, name))
		want = EEXIST;
	else if (S_ISDIR(e->node->mode))
		want = EPERM;
	expect(link(tree_path(from, e->name), tree_path(to, name)), want, "link");
	if (!want)
		add_and_check(to, name, e->node);
}

/* ---- removing ---- */

/* Opens a file that is about to lose its last name, now and then; -1 otherwise. */
static int hold(const struct node *dir, const struct entry *e)
{
	int fd;

	if (!S_ISREG(e->node->mode) || e->node->nlink != 1 || tree.orphan_count == TREE_ORPHANS || !model_chance(3))
		return -1;
	fd = open(tree_path(dir, e->name), O_RDWR);
	if (fd < 0)
		model_fail("open to hold: %s", strerror(errno));
	return fd;
}

/* The node lost a name: it goes, or lives on as an orphan by FD. */
static void drop(struct node *n, int fd)
{
	if (fd >= 0) {
		tree.orphans[tree.orphan_count++] = (struct orphan){fd, n};
		tree_check_orphan(&tree.orphans[tree.orphan_count - 1]);
	} else if (S_ISDIR(n->mode) || n->nlink == 0) {
		tree_free_node(n);
	}
}

static void do_unlink(void)
{
	struct node *dir;
	struct entry *e = some_entry(&dir);
	int name, fd;

	if (!e)
		return;
	name = e->name;
	model_op("unlink %s in %s", tree_show(name), tree_show(dir->name));
	fd = hold(dir, e);
	expect(unlink(tree_path(dir, name)), S_ISDIR(e->node->mode) ? EISDIR : 0, "unlink");
	if (S_ISDIR(e->node->mode))
		return;
	drop(tree_remove(dir, name), fd);
	expect(access(tree_path(dir, name), F_OK), ENOENT, "access of the removed");
}

static void do_rmdir(void)
{
	struct node *dir;
	struct entry *e = some_entry(&dir);
	int want = 0, name;

	for (int i = 0; e && i < 10 && !(S_ISDIR(e->node->mode) && !e->node->entry_count); i++)
		e = some_entry(&dir);
	if (!e)
		return;
	name = e->name;
	model_op("rmdir %s in %s", tree_show(name), tree_show(dir->name));
	if (!S_ISDIR(e->node->mode))
		want = ENOTDIR;
	else if (e->node->entry_count)
		want = ENOTEMPTY;
	expect(rmdir(tree_path(dir, name)), want, "rmdir");
	if (!want)
		drop(tree_remove(dir, name), -1);
}

/* Empties a whole subtree, as rm -r does. */
static void remove_below(struct node *dir)
{
	while (dir->entry_count) {
		struct entry *e = &dir->entries[dir->entry_count - 1];
		int name = e->name;

		if (S_ISDIR(e->node->mode)) {
			remove_below(e->node);
			expect(rmdir(tree_path(dir, name)), 0, "rmdir");
		} else {
			expect(unlink(tree_path(dir, name)), 0, "unlink");
		}
		drop(tree_remove(dir, name), -1);
	}
}

static void do_remove_all(void)
{
	struct node *dir = some_dir();

	if (tree_depth(dir) < 2 && tree.count < opt.nodes)
		return;
	model_op("rm -r below %s", tree_show(dir->name));
	remove_below(dir);
	tree_check_dir(dir);
}

/* ---- rename ---- */

/* In the order in which the kernel looks. */
static int rename_outcome(struct node *from, int a, struct node *to, int b, unsigned flags)
{
	struct entry *e = tree_find(from, a), *x = tree_find(to, b);
	bool exchange = flags & RENAME_EXCHANGE;

	if (exchange && flags != RENAME_EXCHANGE)
		return EINVAL;
	if (!e)
		return ENOENT;
	if (x && (flags & RENAME_NOREPLACE))
		return EEXIST;
	if (!x && exchange)
		return ENOENT;
	if (S_ISDIR(e->node->mode) && tree_is_above(e->node, to))
		return EINVAL;
	if (x && S_ISDIR(x->node->mode) && tree_is_above(x->node, from))
		return exchange ? EINVAL : ENOTEMPTY;
	if (!x || exchange || x->node == e->node)
		return 0;
	if (S_ISDIR(e->node->mode) && !S_ISDIR(x->node->mode))
		return ENOTDIR;
	if (!S_ISDIR(e->node->mode) && S_ISDIR(x->node->mode))
		return EISDIR;
	return x->node->entry_count ? ENOTEMPTY : 0;
}

static void exchange_entries(struct node *from, struct entry *e, struct node *to, struct entry *x)
{
	struct node *n = e->node;

	tree_put(from, e, x->node);
	tree_put(to, x, n);
	from->nlink = 2 + tree_subdirs(from);
	to->nlink = 2 + tree_subdirs(to);
	from->mtime_known = to->mtime_known = false;
}

static void move_entry(struct node *from, int a, struct node *to, int b, unsigned flags, int held)
{
	struct node *n, *w;
	struct stat st;

	if (tree_find(to, b))
		drop(tree_remove(to, b), held);
	n = tree_remove(from, a);
	tree_add(to, b, n);
	if (flags & RENAME_WHITEOUT) {
		w = tree_new_node(from, S_IFCHR);
		/* Below a set-group-id directory some take the group of this one, some of the target's. */
		if (!lstat(tree_path(from, a), &st))
			w->gid = st.st_gid;
		tree_add(from, a, w);
		tree_check_entry(from, tree_find(from, a));
	}
}

static bool too_deep(const struct entry *e, const struct node *to)
{
	return e && S_ISDIR(e->node->mode) && tree_depth(to) + 1 + tree_height(e->node) >= TREE_DEPTH_MAX;
}

static void do_rename(void)
{
	static const unsigned choices[] = {0, 0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT,
					   RENAME_EXCHANGE | RENAME_NOREPLACE, RENAME_NOREPLACE | RENAME_WHITEOUT};
	unsigned flags = choices[model_below(sizeof(choices) / sizeof(choices[0]))];
	struct node *from, *to = some_dir();
	struct entry *e = some_entry(&from), *x;
	int a, b, want, held = -1;

	if (!e)
		return;
	a = model_chance(20) ? (int)model_below(TREE_NAMES) : e->name;
	if (model_chance(3))
		to = from;
	b = some_name(to);
	e = tree_find(from, a);
	x = tree_find(to, b);
	if (too_deep(e, to) || ((flags & RENAME_EXCHANGE) && too_deep(x, from)))
		return;
	want = rename_outcome(from, a, to, b, flags);
	model_op("rename %s in %s to %s in %s, flags %u, expecting %s", tree_show(a), tree_show(from->name), tree_show(b),
		 tree_show(to->name), flags, want ? strerrorname_np(want) : "success");
	if (!want && x && x->node != e->node && !(flags & RENAME_EXCHANGE))
		held = hold(to, x);
	expect(renameat2(AT_FDCWD, tree_path(from, a), AT_FDCWD, tree_path(to, b), flags), want, "rename");
	if (want == ENOTEMPTY && (flags & RENAME_WHITEOUT))
		from->mtime_known = false; /* ext4 has put the whiteout there and taken it back */
	if (want || (x && x->node == e->node))
		return;
	if (flags & RENAME_EXCHANGE)
		exchange_entries(from, e, to, x);
	else
		move_entry(from, a, to, b, flags, held);
	tree_check_entry(to, tree_find(to, b));
	if (flags & RENAME_EXCHANGE)
		tree_check_entry(from, tree_find(from, a));
	else if (!(flags & RENAME_WHITEOUT))
		expect(access(tree_path(from, a), F_OK), ENOENT, "access of the old name");
}

/* ---- attributes and content ---- */

static void do_write(void)
{
	struct node *dir;
	struct entry *e = some_file(&dir);
	int fd;

	if (!e)
		return;
	model_op("rewrite %s in %s", tree_show(e->name), tree_show(dir->name));
	fd = open(tree_path(dir, e->name), O_WRONLY | O_TRUNC);
	expect(fd, 0, "open(O_TRUNC)");
	set_content(e->node, fd);
	if (model_chance(10))
		expect(fsync(fd), 0, "fsync");
	close(fd);
	tree_check_entry(dir, e);
}

static void do_chmod(void)
{
	struct node *dir;
	struct entry *e = some_entry(&dir);
	mode_t mode = (mode_t)model_below(01000) | (tree.root ? 0 : 0700);

	if (!e || S_ISLNK(e->node->mode))
		return;
	if (tree.root && model_chance(4))
		mode |= S_ISDIR(e->node->mode) ? S_ISGID | (model_chance(2) ? S_ISVTX : 0) : S_ISUID;
	model_op("chmod %s in %s to %o", tree_show(e->name), tree_show(dir->name), mode);
	expect(chmod(tree_path(dir, e->name), mode), 0, "chmod");
	e->node->mode = (e->node->mode & S_IFMT) | mode;
	tree_check_entry(dir, e);
}

static void do_chown(void)
{
	struct node *dir;
	struct entry *e = some_entry(&dir);
	uid_t uid = tree.root ? (uid_t)model_below(100000) : tree.uid;
	gid_t gid = tree.root ? (gid_t)model_below(100000) : tree.gid;
	struct node *n;

	if (!e)
		return;
	n = e->node;
	model_op("chown %s in %s to %u:%u", tree_show(e->name), tree_show(dir->name), uid, gid);
	expect(lchown(tree_path(dir, e->name), uid, gid), 0, "lchown");
	n->uid = uid;
	n->gid = gid;
	if (!S_ISDIR(n->mode))
		n->mode &= ~(mode_t)(S_ISUID | (n->mode & S_IXGRP ? S_ISGID : 0));
	tree_check_entry(dir, e);
}

static void do_utimens(void)
{
	struct timespec ts[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = (time_t)model_below(4000000000ULL), .tv_nsec = (long)model_below(1000000000)},
	};
	struct node *dir;
	struct entry *e = some_entry(&dir);

	if (!e)
		return;
	model_op("utimens %s in %s to %lld.%09ld", tree_show(e->name), tree_show(dir->name), (long long)ts[1].tv_sec,
		 ts[1].tv_nsec);
	expect(utimensat(AT_FDCWD, tree_path(dir, e->name), ts, AT_SYMLINK_NOFOLLOW), 0, "utimensat");
	e->node->mtime = ts[1];
	e->node->mtime_known = true;
	tree_check_entry(dir, e);
}

static struct xattr *find_xattr(struct node *n, int name)
{
	for (unsigned i = 0; i < n->xattr_count; i++)
		if (n->xattrs[i].name == name)
			return &n->xattrs[i];
	return NULL;
}

static size_t xattr_space(const struct node *n)
{
	size_t space = 0;

	for (unsigned i = 0; i < n->xattr_count; i++)
		space += n->xattrs[i].len + strlen(tree.xattrs[n->xattrs[i].name]) + 32;
	return space;
}

static bool may_have_xattr(const struct node *n, int name)
{
	return S_ISREG(n->mode) || S_ISDIR(n->mode) || tree.xattrs[name][0] == 't';
}

static void do_setxattr(void)
{
	static uint8_t value[XATTR_SPACE];
	int name = (int)model_below(TREE_XATTRS), flags = (int)model_below(3), want = 0;
	struct node *dir;
	struct entry *e = some_entry(&dir);
	struct xattr *x, new = {.name = name, .seed = model_random(), .len = model_below(model_chance(4) ? 1500 : 100)};

	if (!e || !may_have_xattr(e->node, name))
		return;
	x = find_xattr(e->node, name);
	if (xattr_space(e->node) + new.len + 300 > XATTR_SPACE)
		return;
	model_op("setxattr %.20s of %s in %s, %zu bytes, flags %d", tree.xattrs[name], tree_show(e->name),
		 tree_show(dir->name), new.len, flags);
	if (flags == XATTR_CREATE && x)
		want = EEXIST;
	else if (flags == XATTR_REPLACE && !x)
		want = ENODATA;
	tree_bytes(value, new.len, new.seed);
	expect(lsetxattr(tree_path(dir, e->name), tree.xattrs[name], value, new.len, flags), want, "setxattr");
	if (want)
		return;
	if (x)
		*x = new;
	else
		e->node->xattrs[e->node->xattr_count++] = new;
	tree_check_entry(dir, e);
}

static void do_removexattr(void)
{
	int name = (int)model_below(TREE_XATTRS);
	struct node *dir;
	struct entry *e = some_entry(&dir);
	struct xattr *x;

	if (!e || !may_have_xattr(e->node, name))
		return;
	if (e->node->xattr_count && model_chance(2))
		name = e->node->xattrs[model_below(e->node->xattr_count)].name;
	x = find_xattr(e->node, name);
	model_op("removexattr %.20s of %s in %s", tree.xattrs[name], tree_show(e->name), tree_show(dir->name));
	expect(lremovexattr(tree_path(dir, e->name), tree.xattrs[name]), x ? 0 : ENODATA, "removexattr");
	if (!x)
		return;
	*x = e->node->xattrs[--e->node->xattr_count];
	tree_check_entry(dir, e);
}

static void do_check_entry(void)
{
	struct node *dir;
	struct entry *e = some_entry(&dir);

	if (!e)
		return;
	model_op("look at %s in %s", tree_show(e->name), tree_show(dir->name));
	tree_check_entry(dir, e);
}

static void do_check_dir(void)
{
	struct node *dir = some_dir();

	model_op("readdir %s", tree_show(dir->name));
	tree_check_dir(dir);
}

static void do_look_for_missing(void)
{
	struct node *dir = some_dir();
	int name = (int)model_below(TREE_NAMES);
	struct stat st;

	if (tree_find(dir, name))
		return;
	model_op("look for %s in %s", tree_show(name), tree_show(dir->name));
	expect(lstat(tree_path(dir, name), &st), ENOENT, "lstat");
	expect(unlink(tree_path(dir, name)), ENOENT, "unlink");
	expect(rmdir(tree_path(dir, name)), ENOENT, "rmdir");
}

/* ---- files without a name ---- */

static void do_tmpfile(void)
{
	struct node *dir = some_dir(), *n;
	int name = some_name(dir), fd;
	bool exists = tree_find(dir, name) != NULL, link_it = model_chance(2);
	char proc[64];

	if (tree.orphan_count == TREE_ORPHANS)
		return;
	model_op("tmpfile in %s, %s %s", tree_show(dir->name), link_it ? "linked as" : "not", tree_show(name));
	fd = open(tree_path(dir, -1), O_TMPFILE | O_RDWR, 0640);
	expect(fd, 0, "open(O_TMPFILE)");
	n = tree_new_node(dir, S_IFREG | 0640);
	set_content(n, fd);
	if (!link_it) {
		tree.orphans[tree.orphan_count++] = (struct orphan){fd, n};
		return;
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	expect(linkat(AT_FDCWD, proc, AT_FDCWD, tree_path(dir, name), AT_SYMLINK_FOLLOW), exists ? EEXIST : 0, "linkat");
	close(fd);
	if (exists)
		tree_free_node(n);
	else
		add_and_check(dir, name, n);
}

static void close_orphan(unsigned i)
{
	struct orphan o = tree.orphans[i];

	tree.orphans[i] = tree.orphans[--tree.orphan_count];
	close(o.fd);
	tree_free_node(o.node);
}

static void do_orphan(void)
{
	unsigned i;

	if (!tree.orphan_count)
		return;
	i = (unsigned)model_below(tree.orphan_count);
	model_op("use orphan %u of %u", i, tree.orphan_count);
	tree_check_orphan(&tree.orphans[i]);
	if (model_chance(2)) {
		close_orphan(i);
		return;
	}
	expect(ftruncate(tree.orphans[i].fd, 0), 0, "ftruncate of an orphan");
	expect(lseek(tree.orphans[i].fd, 0, SEEK_SET), 0, "lseek");
	set_content(tree.orphans[i].node, tree.orphans[i].fd);
	tree_check_orphan(&tree.orphans[i]);
}

/* ---- the run ---- */

static const struct {
	void (*run)(void);
	unsigned weight, weight_when_full;
} operations[] = {
	{do_create, 120, 30},   {do_mkdir, 60, 20},	 {do_symlink, 40, 10},	 {do_mknod, 25, 10},   {do_link, 60, 30},
	{do_unlink, 80, 200},   {do_rmdir, 30, 60},	 {do_remove_all, 2, 10}, {do_rename, 160, 160}, {do_write, 40, 40},
	{do_chmod, 30, 30},	{do_chown, 20, 20},	 {do_utimens, 30, 30},	 {do_setxattr, 50, 50}, {do_removexattr, 30, 30},
	{do_check_entry, 40, 40}, {do_check_dir, 40, 40}, {do_look_for_missing, 20, 20}, {do_tmpfile, 15, 10}, {do_orphan, 30, 40},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static unsigned weight(size_t i)
{
	return tree.count > opt.nodes ? operations[i].weight_when_full : operations[i].weight;
}

static void any_operation(void)
{
	unsigned total = 0;
	uint64_t pick;
	size_t i;

	for (i = 0; i < OPERATIONS; i++)
		total += weight(i);
	pick = model_below(total);
	for (i = 0; pick >= weight(i); i++)
		pick -= weight(i);
	operations[i].run();
}

static void sync_something(void)
{
	struct node *dir = some_dir();
	int fd;

	model_op("fsync %s", tree_show(dir->name));
	fd = open(tree_path(dir, -1), O_RDONLY);
	expect(fd, 0, "open");
	expect(fsync(fd), 0, "fsync of a directory");
	close(fd);
}

static void remount(void)
{
	model_op("remount");
	while (tree.orphan_count)
		close_orphan(0);
	model_shell(opt.remount);
	tree_check_all();
}

static void regular_steps(uint64_t n)
{
	if (opt.fsync_every && n % opt.fsync_every == 0)
		sync_something();
	if (opt.drop_every && n % opt.drop_every == 0 && !model_drop_caches())
		model_fail("drop_caches: %s", strerror(errno));
	if (opt.restart && n % opt.restart_every == 0) {
		model_op("restart");
		model_shell(opt.restart);
		tree_check_all();
	}
	if (opt.remount && n % opt.remount_every == 0)
		remount();
	if (opt.check_every && n % opt.check_every == 0) {
		model_op("check all");
		tree_check_all();
	}
}

enum {
	OPT_OPS,
	OPT_SEED,
	OPT_NODES,
	OPT_CHECK,
	OPT_DROP,
	OPT_FSYNC,
	OPT_REMOUNT,
	OPT_REMOUNT_EVERY,
	OPT_RESTART,
	OPT_RESTART_EVERY,
	OPT_TRACE,
	OPT_KEEP,
};

static const struct option longs[] = {
	{"ops", required_argument, NULL, OPT_OPS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"nodes", required_argument, NULL, OPT_NODES},
	{"check-every", required_argument, NULL, OPT_CHECK},
	{"drop-every", required_argument, NULL, OPT_DROP},
	{"fsync-every", required_argument, NULL, OPT_FSYNC},
	{"remount", required_argument, NULL, OPT_REMOUNT},
	{"remount-every", required_argument, NULL, OPT_REMOUNT_EVERY},
	{"restart", required_argument, NULL, OPT_RESTART},
	{"restart-every", required_argument, NULL, OPT_RESTART_EVERY},
	{"trace", no_argument, NULL, OPT_TRACE},
	{"keep", no_argument, NULL, OPT_KEEP},
	{NULL, 0, NULL, 0},
};

static void set_option(int which, int index)
{
	static uint64_t *const numbers[] = {
		[OPT_OPS] = &opt.ops,
		[OPT_SEED] = &opt.seed,
		[OPT_NODES] = &opt.nodes,
		[OPT_CHECK] = &opt.check_every,
		[OPT_DROP] = &opt.drop_every,
		[OPT_FSYNC] = &opt.fsync_every,
		[OPT_REMOUNT_EVERY] = &opt.remount_every,
		[OPT_RESTART_EVERY] = &opt.restart_every,
		[OPT_KEEP] = NULL,
	};

	if (numbers[which])
		*numbers[which] = model_number(longs[index].name, optarg);
	else if (which == OPT_REMOUNT)
		opt.remount = optarg;
	else if (which == OPT_RESTART)
		opt.restart = optarg;
	else if (which == OPT_TRACE)
		model_trace(true);
	else
		opt.keep = true;
}

static int usage(void)
{
	fputs("usage: nvfs-tree DIR [--ops N] [--seed S] [--nodes N] [--check-every N] [--drop-every N] [--fsync-every N]\n"
	      "                 [--remount CMD --remount-every N] [--restart CMD --restart-every N] [--trace] [--keep]\n",
	      stderr);
	return 2;
}

static int parse(int argc, char **argv)
{
	int which, index = 0;

	opt.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	while ((which = getopt_long(argc, argv, "", longs, &index)) != -1) {
		if (which == '?')
			return usage();
		set_option(which, index);
	}
	if (argc - optind != 1 || !opt.remount_every || !opt.restart_every)
		return usage();
	snprintf(tree.dir, sizeof(tree.dir), "%s/tree.%d", argv[optind], (int)getpid());
	model_set_repeat(argc, argv, opt.seed);
	return 0;
}

static void start(void)
{
	umask(0);
	tree.uid = geteuid();
	tree.gid = getegid();
	tree.root = tree.uid == 0;
	tree_make_names();
	if (mkdir(tree.dir, 0755)) {
		fprintf(stderr, "nvfs-tree: mkdir %s: %s\n", tree.dir, strerror(errno));
		exit(2);
	}
	tree.top = tree_new_node(NULL, S_IFDIR | 0755);
	tree.all = malloc(sizeof(*tree.all));
	tree.room = 1;
	tree.all[0] = tree.top;
	tree.count = 1;
	tree.top->all_index = 0;
}

static void finish(void)
{
	tree_check_all();
	while (tree.orphan_count)
		close_orphan(0);
	if (opt.keep)
		return;
	remove_below(tree.top);
	expect(rmdir(tree.dir), 0, "rmdir of the root");
}

int main(int argc, char **argv)
{
	time_t began = time(NULL);
	int rc = parse(argc, argv);

	if (rc)
		return rc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# nvfs-tree %s: seed %llu, %llu operations\n", argv[optind], (unsigned long long)opt.seed,
	       (unsigned long long)opt.ops);
	model_seed(opt.seed);
	start();
	for (uint64_t n = 1; n <= opt.ops; n++) {
		any_operation();
		regular_steps(n);
	}
	finish();
	printf("# %llu operations without a difference in %ld s\n", (unsigned long long)opt.ops, (long)(time(NULL) - began));
	return 0;
}
