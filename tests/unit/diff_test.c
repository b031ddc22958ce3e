/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Differences of snapshots: exact lines for each kind of change, and random changes, whose difference is computed a second time from what
 * a walk over each of the two views finds.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "meta/diff.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define CHUNK CHUNK_BYTES
#define ROOT INO_ROOT
#define TEXT_MAX (1u << 20)

static struct meta_fixture fx;
static char text[TEXT_MAX];
static uint8_t data[4 * MIB];

static void setup(void)
{
	fixture_make(&fx, 512 * MIB, 128 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

/* ---- Calls ---- */

static void snap(const char *subvol, const char *name)
{
	ck_assert_msg(fx_snapshot(&fx, subvol, name) == 0, "%s", fx.why);
}

static void clone_of(const char *subvol, const char *snapshot, const char *name)
{
	ck_assert_msg(fx_clone(&fx, subvol, snapshot, name, false) == 0, "%s", fx.why);
}

static void punch(uint64_t ino, uint64_t from, size_t len)
{
	ck_assert_int_eq(fx_fallocate(&fx, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len), 0);
}

static uint64_t find(uint64_t dir, const char *name)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, dir, name, &attr), 0);
	return attr.ino;
}

static void fill(size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 4) {
		const uint32_t x = (uint32_t)random() | 1;

		memcpy(data + i, &x, 4);
	}
}

static void put(uint64_t ino, uint64_t offset, size_t bytes)
{
	fill(bytes);
	ck_assert_int_eq(fx_write(&fx, ino, offset, data, bytes, 0), (int64_t)bytes);
}

static uint64_t make_in(uint64_t dir, const char *name, size_t bytes)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, dir, name, S_IFREG | 0644, &attr), 0);
	if (bytes)
		put(attr.ino, 0, bytes);
	return attr.ino;
}

static uint64_t make(const char *name, size_t bytes)
{
	return make_in(ROOT, name, bytes);
}

static uint64_t make_dir(uint64_t dir, const char *name)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, dir, name, S_IFDIR | 0755, &attr), 0);
	return attr.ino;
}

static void chmod_ino(uint64_t ino, uint32_t mode)
{
	const struct inode_attr in = { .mode = mode };
	struct inode_attr out;

	ck_assert_int_eq(fx_setattr(&fx, ino, ATTR_MODE, &in, &out), 0);
}

static int truncate_ino(uint64_t ino, uint64_t size)
{
	const struct inode_attr in = { .size_bytes = size };
	struct inode_attr out;

	return fx_setattr(&fx, ino, ATTR_SIZE, &in, &out);
}

/* ---- Lines ---- */

static const char *what_text(unsigned what, char *buf)
{
	static const char *const names[] = { "data", "mode", "owner", "times", "xattrs", "link" };

	buf[0] = 0;
	for (unsigned i = 0; i < 6; i++)
		if (what & 1u << i)
			sprintf(buf + strlen(buf), " %s", names[i]);
	return buf;
}

static void format_line(char *line, enum diff_kind kind, unsigned what, uint32_t mode, const char *path, const char *old)
{
	char buf[64];

	sprintf(line, "%c%c %s%s%s%s\n", "+-RMA"[kind], S_ISDIR(mode) ? '/' : S_ISLNK(mode) ? '@' : ' ', path, old ? " <- " : "",
		old ? old : "", what_text(what, buf));
}

static int add_line(void *arg, const struct diff_change *c)
{
	cleanup_free char *path = strndup(c->path, c->path_len), *old = c->old_path ? strndup(c->old_path, c->old_path_len) : NULL;
	size_t *len = arg;

	ck_assert_uint_lt(*len, TEXT_MAX - 9000);
	format_line(text + *len, c->kind, c->what, c->mode, path, old);
	*len += strlen(text + *len);
	return 0;
}

/* "sv@a" or "sv" */
static struct snapshot_name split(const char *name, char *buf)
{
	char *at = strchr(strcpy(buf, name), '@');

	if (at)
		*at++ = 0;
	return (struct snapshot_name){ buf, at };
}

static int run_diff(const char *from, const char *to)
{
	char a[300], b[300];
	const struct snapshot_name x = split(from, a), y = split(to, b);
	size_t len = 0;

	fx.why[0] = text[0] = 0;
	return snapshot_diff(fx.pool, &x, &y, NULL, add_line, &len, fx.why, sizeof(fx.why));
}

static void differs(const char *from, const char *to, const char *lines)
{
	ck_assert_msg(run_diff(from, to) == 0, "%s", fx.why);
	ck_assert_str_eq(text, lines);
}

/* ---- Exact lines ---- */

START_TEST(each_kind)
{
	uint64_t dir = make_dir(ROOT, "dir"), f = make("f", 3 * BLOCK), small = make("small", 100), i;
	struct inode_attr attr;

	make("same", 5 * BLOCK);
	make("gone", BLOCK);
	make_in(dir, "child", 10);
	i = make("x", 10);
	snap("sv", "a");
	differs("sv@a", "sv", "");
	differs("sv", "sv@a", "");
	differs("sv", "sv", "");
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "gone"), 0);
	make("new", BLOCK);
	make_dir(dir, "sub");
	put(f, BLOCK, 10);
	put(small, 5, 10);
	ck_assert_int_eq(fx_setxattr(&fx, i, "user.a", "1", 1, 0), 0);
	chmod_ino(find(dir, "child"), 0600);
	differs("sv@a", "sv",
		"M/ / data times\n"
		"M/ /dir data times\n"
		"A  /dir/child mode\n"
		"+/ /dir/sub\n"
		"M  /f data times\n"
		"-  /gone\n"
		"+  /new\n"
		"M  /small data times\n"
		"A  /x xattrs\n");
	differs("sv", "sv@a",
		"M/ / data times\n"
		"M/ /dir data times\n"
		"A  /dir/child mode\n"
		"-/ /dir/sub\n"
		"M  /f data times\n"
		"+  /gone\n"
		"-  /new\n"
		"M  /small data times\n"
		"A  /x xattrs\n");
	snap("sv", "b");
	ck_assert_int_eq(fx_removexattr(&fx, i, "user.a"), 0);
	ck_assert_int_eq(fx_setattr(&fx, i, ATTR_UID, &(struct inode_attr){ .uid = 5 }, &attr), 0);
	differs("sv@b", "sv", "A  /x owner xattrs\n");
	differs("sv@b", "sv@b", "");
	chmod_ino(find(dir, "child"), 0600);
	differs("sv@b", "sv", "A  /x owner xattrs\n"); /* a new ctime is no change */
}
END_TEST

START_TEST(renames)
{
	uint64_t dir = make_dir(ROOT, "d"), sub = make_dir(dir, "sub"), other = make_dir(ROOT, "other");
	char name[32];

	for (unsigned i = 0; i < 300; i++) {
		sprintf(name, "n%u", i);
		make_in(sub, name, 0);
	}
	make_in(sub, "file", BLOCK);
	make_in(dir, "dead", 10);
	snap("sv", "a");
	ck_assert_int_eq(fx_rename(&fx, ROOT, "d", ROOT, "e", 0), 0);
	differs("sv@a", "sv", "M/ / data times\nR/ /e <- /d\n");
	ck_assert_int_eq(fx_rename(&fx, dir, "sub", other, "moved", 0), 0);
	put(find(sub, "file"), 0, 5);
	ck_assert_int_eq(fx_unlink(&fx, dir, "dead"), 0);
	make_in(dir, "dead", 3);
	differs("sv@a", "sv",
		"M/ / data times\n"
		"-  /d/dead\n"
		"R/ /e <- /d data times\n"
		"+  /e/dead\n"
		"M/ /other data times\n"
		"R/ /other/moved <- /d/sub\n"
		"M  /other/moved/file data times\n");
	ck_assert_int_eq(fx_rename(&fx, other, "moved", dir, "sub", 0), 0);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "e", ROOT, "d", 0), 0);
	differs("sv@a", "sv",
		"A/ / times\n"
		"M/ /d data times\n"
		"-  /d/dead\n"
		"+  /d/dead\n"
		"M  /d/sub/file data times\n"
		"A/ /other times\n");
}
END_TEST

START_TEST(hard_links)
{
	uint64_t d1 = make_dir(ROOT, "d1"), d2 = make_dir(ROOT, "d2"), d3 = make_dir(d2, "d3"), f = make_in(d1, "f", BLOCK);
	const uint64_t g = make_in(d1, "g", BLOCK);

	ck_assert_int_eq(fx_link(&fx, f, d2, "l2"), 0);
	ck_assert_int_eq(fx_link(&fx, f, d3, "l3"), 0);
	ck_assert_int_eq(fx_link(&fx, g, d3, "g3"), 0);
	ck_assert_int_eq(fx_unlink(&fx, d1, "g"), 0); /* its record may still say d1 */
	snap("sv", "a");
	put(f, 0, 10);
	put(g, 0, 10);
	differs("sv@a", "sv", "M  /d1/f data times\nM  /d2/d3/g3 data times\nM  /d2/d3/l3 data times\nM  /d2/l2 data times\n");
	snap("sv", "b");
	ck_assert_int_eq(fx_unlink(&fx, d2, "l2"), 0);
	differs("sv@b", "sv", "M/ /d2 data times\n-  /d2/l2 link\n");
	ck_assert_int_eq(fx_link(&fx, f, ROOT, "new"), 0);
	differs("sv@b", "sv", "M/ / data times\nM/ /d2 data times\nR  /new <- /d2/l2\n");
	ck_assert_int_eq(fx_link(&fx, f, ROOT, "newer"), 0);
	differs("sv@b", "sv", "M/ / data times\nM/ /d2 data times\nR  /new <- /d2/l2\n+  /newer link\n");
	snap("sv", "c");
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "new"), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "newer"), 0);
	ck_assert_int_eq(fx_unlink(&fx, d1, "f"), 0);
	ck_assert_int_eq(fx_unlink(&fx, d3, "l3"), 0);
	differs("sv@c", "sv",
		"M/ / data times\nM/ /d1 data times\n-  /d1/f\nM/ /d2/d3 data times\n-  /d2/d3/l3\n-  /new\n-  /newer\n");
}
END_TEST

/* What reads the same is no change of data, wherever it is stored; what was written is one. */
START_TEST(data_is_what_was_written)
{
	uint64_t f = make("f", 2 * CHUNK), sparse = make("sparse", 0), c = make("c", 0);

	ck_assert_int_eq(truncate_ino(sparse, 16 * BLOCK), 0);
	put(sparse, 8 * BLOCK, BLOCK);
	snap("sv", "a");
	ck_assert_int_eq(fx_fallocate(&fx, sparse, FALLOC_FL_KEEP_SIZE, 0, 4 * BLOCK), 0);
	ck_assert_int_eq(run_diff("sv@a", "sv"), 0);
	ck_assert_ptr_null(strstr(text, "data"));
	ck_assert_int_eq(fx_copy(&fx, f, c, 0, 0, CHUNK), CHUNK);
	differs("sv@a", "sv", "M  /c data times\nA  /sparse times\n");
	snap("sv", "b");
	punch(sparse, 8 * BLOCK, BLOCK);
	ck_assert_int_eq(truncate_ino(f, CHUNK), 0);
	ck_assert_int_eq(truncate_ino(f, 2 * CHUNK), 0);
	differs("sv@b", "sv", "M  /f data times\nM  /sparse data times\n");
	snap("sv", "c");
	ck_assert_int_eq(fx_copy(&fx, c, f, 0, 0, CHUNK), CHUNK); /* the same blocks in the same place */
	differs("sv@c", "sv", "A  /f times\n");
}
END_TEST

/* A punch that a reaper has not finished, and one that it has, read the same. */
START_TEST(cuts_count)
{
	const uint64_t f = make("f", 0);

	ck_assert_int_eq(truncate_ino(f, 2000 * (uint64_t)CHUNK), 0);
	put(f, 5 * (uint64_t)CHUNK, BLOCK);
	put(f, 1500 * (uint64_t)CHUNK, BLOCK);
	snap("sv", "a");
	punch(f, 0, 1400 * (size_t)CHUNK);
	snap("sv", "b");
	differs("sv@a", "sv@b", "M  /f data times\n");
	fixture_settle(&fx, 1000);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	differs("sv@b", "sv", "");
	differs("sv", "sv@a", "M  /f data times\n");
}
END_TEST

START_TEST(names_of_any_bytes_in_order)
{
	uint64_t a;

	snap("sv", "0");
	a = make_dir(ROOT, "a");
	make_in(a, "z", 0);
	make_in(a, "\x01\xff", 0);
	make("a.b", 0);
	make("a0", 0);
	make("a-", 0);
	make("\n", 0);
	differs("sv@0", "sv", "M/ / data times\n+  /\n\n+/ /a\n+  /a-\n+  /a.b\n+  /a/\x01\xff\n+  /a/z\n+  /a0\n");
}
END_TEST

START_TEST(families)
{
	const uint64_t f = make("f", BLOCK);

	snap("sv", "a");
	clone_of("sv", "a", "c1");
	put(f, 0, 5);
	clone_of("sv", NULL, "c2");
	put(f, 0, 5);
	fx_use(&fx, "c1");
	make("one", 10);
	fx_use(&fx, "c2");
	make("two", 10);
	differs("sv@a", "c1", "M/ / data times\n+  /one\n");
	differs("sv", "c2", "M/ / data times\nM  /f data times\n+  /two\n");
	differs("c1", "c2", "M/ / data times\nM  /f data times\n-  /one\n+  /two\n");
}
END_TEST

START_TEST(refusals)
{
	const struct subvol_options so = { .size_bytes = MIB };

	snap("sv", "a");
	ck_assert_int_eq(subvol_create(fx.pool, "else", &so, fx.why, sizeof(fx.why)), 0);
	ck_assert_int_eq(run_diff("sv@a", "else"), -EXDEV);
	ck_assert_msg(strstr(fx.why, "nothing in common") != NULL, "%s", fx.why);
	ck_assert_int_eq(run_diff("sv@b", "sv"), -ENOENT);
	ck_assert_msg(strstr(fx.why, "no snapshot sv@b") != NULL, "%s", fx.why);
	ck_assert_int_eq(run_diff("sv@a", "no"), -ENOENT);
	ck_assert_msg(strstr(fx.why, "no subvolume no") != NULL, "%s", fx.why);
}
END_TEST

struct steps {
	unsigned calls, end_at;
};

static int count_steps(void *arg, uint64_t done, uint64_t total)
{
	struct steps *s = arg;

	ck_assert_uint_le(done, total);
	return ++s->calls == s->end_at ? -ECANCELED : 0;
}

/* Whoever does not want it any more gets no line. */
START_TEST(can_be_ended)
{
	const struct snapshot_name from = { "sv", "a" }, to = { "sv", NULL };

	snap("sv", "a");
	make("f", BLOCK);
	for (unsigned i = 1; i <= 2; i++) {
		struct steps steps = { .end_at = i };
		const struct progress progress = { count_steps, &steps };
		size_t len = 0;

		text[0] = 0;
		ck_assert_int_eq(snapshot_diff(fx.pool, &from, &to, &progress, add_line, &len, fx.why, sizeof(fx.why)), -ECANCELED);
		ck_assert_uint_eq(steps.calls, i);
		ck_assert_str_eq(text, "");
	}
	differs("sv@a", "sv", "M/ / data times\n+  /f\n");
}
END_TEST

/* ---- A second computation ---- */

struct seen_file {
	uint64_t ino;
	struct inode_attr attr;
	uint32_t content, xattrs; /* checksums */
};

struct seen_name {
	uint64_t ino, dir;
	char name[64];
	char path[512];
};

struct seen_view {
	struct seen_file files[2000];
	struct seen_name names[4000];
	unsigned nfiles, nnames;
};

static struct seen_view views[2];

struct listing {
	struct seen_name v[512];
	unsigned n;
	uint64_t dir;
};

static void list_reset(void *arg)
{
	((struct listing *)arg)->n = 0;
}

static bool list_emit(void *arg, const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie,
		      const struct inode_attr *attr)
{
	struct listing *l = arg;

	(void)mode, (void)cookie, (void)attr;
	if ((len == 1 && name[0] == '.') || (len == 2 && !memcmp(name, "..", 2)))
		return true;
	ck_assert_uint_lt(l->n, 512);
	l->v[l->n] = (struct seen_name){ .ino = ino, .dir = l->dir };
	memcpy(l->v[l->n++].name, name, len);
	return true;
}

static uint32_t content_of(uint64_t ino, const struct inode_attr *attr)
{
	ck_assert_uint_le(attr->size_bytes, sizeof(data));
	ck_assert_int_eq(fx_read(&fx, ino, 0, data, sizeof(data), 0), (int64_t)attr->size_bytes);
	return crc32c(0, data, attr->size_bytes);
}

static uint32_t xattrs_of(uint64_t ino)
{
	char value[64], name[] = "user.0";
	uint32_t sum = 0;

	for (name[5] = '0'; name[5] < '4'; name[5]++) {
		const int64_t n = fx_getxattr(&fx, ino, name, value, sizeof(value));

		if (n >= 0)
			sum = crc32c(sum, value, (size_t)n) + 1u;
		sum = sum * 31 + (n >= 0);
	}
	return sum;
}

static struct seen_file *file_of(struct seen_view *v, uint64_t ino)
{
	for (unsigned i = 0; i < v->nfiles; i++)
		if (v->files[i].ino == ino)
			return &v->files[i];
	return NULL;
}

static void look_at(struct seen_view *v, uint64_t ino)
{
	struct seen_file *f = &v->files[v->nfiles];

	if (file_of(v, ino))
		return;
	ck_assert_uint_lt(v->nfiles++, 2000);
	*f = (struct seen_file){ .ino = ino };
	ck_assert_int_eq(fx_getattr(&fx, ino, &f->attr), 0);
	if (S_ISREG(f->attr.mode))
		f->content = content_of(ino, &f->attr);
	f->xattrs = xattrs_of(ino);
}

static void walk(struct seen_view *v, uint64_t dir, const char *path)
{
	struct listing *l = calloc(1, sizeof(*l));
	const struct names_emit emit = { .reset = list_reset, .emit = list_emit, .arg = l };

	l->dir = dir;
	look_at(v, dir);
	ck_assert_int_eq(fx_readdir(&fx, dir, 0, &emit), 0);
	for (unsigned i = 0; i < l->n; i++) {
		struct seen_name *n = &v->names[v->nnames++];

		ck_assert_uint_lt(v->nnames, 4000);
		*n = l->v[i];
		ck_assert_int_lt(snprintf(n->path, sizeof(n->path), "%s/%s", path, l->v[i].name), (int)sizeof(n->path));
		look_at(v, n->ino);
		if (S_ISDIR(file_of(v, n->ino)->attr.mode))
			walk(v, n->ino, n->path);
	}
	free(l);
}

static void look(const char *name, struct seen_view *v)
{
	v->nfiles = v->nnames = 0;
	fx_use(&fx, name);
	walk(v, ROOT, "");
}

static const struct seen_name *same_name(const struct seen_view *v, const struct seen_name *n)
{
	for (unsigned i = 0; i < v->nnames; i++)
		if (v->names[i].ino == n->ino && v->names[i].dir == n->dir && !strcmp(v->names[i].name, n->name))
			return &v->names[i];
	return NULL;
}

static bool entries_differ(uint64_t dir)
{
	for (unsigned v = 0; v < 2; v++)
		for (unsigned i = 0; i < views[v].nnames; i++)
			if (views[v].names[i].dir == dir && !same_name(&views[!v], &views[v].names[i]))
				return true;
	return false;
}

static unsigned what_differs(uint64_t ino)
{
	const struct seen_file *a = file_of(&views[0], ino), *b = file_of(&views[1], ino);
	unsigned what = 0;

	if (!a || !b)
		return 0;
	if (a->content != b->content || a->attr.size_bytes != b->attr.size_bytes)
		what |= S_ISREG(a->attr.mode) ? DIFF_DATA : 0;
	if (S_ISDIR(a->attr.mode) && entries_differ(ino))
		what |= DIFF_DATA;
	what |= a->attr.mode != b->attr.mode ? DIFF_MODE : 0;
	what |= a->attr.uid != b->attr.uid || a->attr.gid != b->attr.gid ? DIFF_OWNER : 0;
	what |= memcmp(&a->attr.mtime, &b->attr.mtime, sizeof(a->attr.mtime)) ? DIFF_TIMES : 0;
	what |= a->xattrs != b->xattrs ? DIFF_XATTRS : 0;
	return what;
}

struct line {
	char path[512], text[1200];
	bool deleted;
};

static struct line lines[8000];
static unsigned nlines;

static void expect(enum diff_kind kind, unsigned what, const struct seen_file *f, const char *path, const char *old)
{
	struct line *l = &lines[nlines++];

	ck_assert_uint_lt(nlines, 8000);
	strcpy(l->path, path);
	l->deleted = kind == DIFF_DELETED;
	format_line(l->text, kind, what, f->attr.mode, path, old);
}

static int by_path(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	const int order = strcmp(x->path, y->path);

	return order ? order : y->deleted - x->deleted;
}

static int by_dir(const void *a, const void *b)
{
	const struct seen_name *x = *(const struct seen_name *const *)a, *y = *(const struct seen_name *const *)b;

	return x->dir != y->dir ? (x->dir > y->dir) - (x->dir < y->dir) : strcmp(x->name, y->name);
}

/* Names of an inode that only this view has, in the order in which they are paired. */
static unsigned only_in(unsigned v, uint64_t ino, const struct seen_name **out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < views[v].nnames; i++)
		if (views[v].names[i].ino == ino && !same_name(&views[!v], &views[v].names[i]))
			out[n++] = &views[v].names[i];
	qsort(out, n, sizeof(*out), by_dir);
	return n;
}

static void expect_inode(uint64_t ino)
{
	const struct seen_file *a = file_of(&views[0], ino), *b = file_of(&views[1], ino), *f = b ? b : a;
	const struct seen_name *was[64], *is[64];
	const unsigned nwas = only_in(0, ino, was), nis = only_in(1, ino, is), what = what_differs(ino);
	const unsigned link = a && b ? DIFF_LINK : 0;

	for (unsigned i = 0; i < nwas || i < nis; i++)
		if (i < nwas && i < nis)
			expect(DIFF_RENAMED, what, f, is[i]->path, was[i]->path);
		else if (i < nis)
			expect(DIFF_CREATED, link, f, is[i]->path, NULL);
		else
			expect(DIFF_DELETED, link, f, was[i]->path, NULL);
	for (unsigned i = 0; what && i < views[1].nnames; i++)
		if (views[1].names[i].ino == ino && same_name(&views[0], &views[1].names[i]))
			expect(what & DIFF_DATA ? DIFF_MODIFIED : DIFF_ATTRIBUTES, what, f, views[1].names[i].path, NULL);
}

static void compare(const char *from, const char *to)
{
	static char expected[TEXT_MAX];
	const unsigned what = (look(from, &views[0]), look(to, &views[1]), what_differs(ROOT));
	size_t len = 0;

	nlines = 0;
	if (what)
		expect(what & DIFF_DATA ? DIFF_MODIFIED : DIFF_ATTRIBUTES, what, file_of(&views[0], ROOT), "/", NULL);
	for (unsigned i = 0; i < views[0].nfiles; i++)
		if (views[0].files[i].ino != ROOT)
			expect_inode(views[0].files[i].ino);
	for (unsigned i = 0; i < views[1].nfiles; i++)
		if (!file_of(&views[0], views[1].files[i].ino))
			expect_inode(views[1].files[i].ino);
	qsort(lines, nlines, sizeof(*lines), by_path);
	for (unsigned i = 0; i < nlines; i++) {
		const size_t n = strlen(lines[i].text);

		ck_assert_uint_lt(len + n, sizeof(expected));
		memcpy(expected + len, lines[i].text, n);
		len += n;
	}
	expected[len] = 0;
	ck_assert_msg(run_diff(from, to) == 0, "%s", fx.why);
	ck_assert_msg(!strcmp(text, expected), "from %s to %s\nis:\n%s\nshould be:\n%s", from, to, text, expected);
}

/* ---- Random changes ---- */

static struct seen_view now;

static const struct seen_name *any_name(bool dir)
{
	for (unsigned tries = 0; tries < 50 && now.nnames; tries++) {
		const struct seen_name *n = &now.names[(unsigned)random() % now.nnames];

		if (S_ISDIR(file_of(&now, n->ino)->attr.mode) == dir)
			return n;
	}
	return NULL;
}

static uint64_t any_dir(void)
{
	const struct seen_name *n = random() % 4 ? any_name(true) : NULL;

	return n ? n->ino : ROOT;
}

static void change_file(uint64_t ino, uint64_t size)
{
	const struct seen_name *other = any_name(false);

	switch (random() % 7) {
	case 0:
		put(ino, (uint64_t)random() % (size + 1), 4 * (1 + (size_t)random() % 300));
		break;
	case 1:
		put(ino, (uint64_t)random() % (size + 1) / BLOCK * BLOCK, BLOCK * (1 + (size_t)random() % 40));
		break;
	case 2:
		truncate_ino(ino, (uint64_t)random() % (size * 2 + 2) % MIB);
		break;
	case 3:
		if (size > BLOCK)
			punch(ino, (uint64_t)random() % size, BLOCK * 3);
		put(ino, 0, 4); /* zeros may have been punched */
		break;
	case 4:
		chmod_ino(ino, 0600 + (uint32_t)random() % 64);
		break;
	case 5:
		fx_setxattr(&fx, ino, random() % 2 ? "user.1" : "user.2", "value", 1 + (size_t)random() % 5, 0);
		break;
	default:
		if (other && other->ino != ino) /* what is inline is refused */
			fx_copy(&fx, other->ino, ino, 0, (uint64_t)random() % 3 * BLOCK, 30 * BLOCK);
		put(ino, 0, 4); /* what was there already counts as changed when it is written again */
	}
}

static void change_names(const struct seen_name *f, const struct seen_name *d, const char *name)
{
	switch (random() % 7) {
	case 0:
		if (f)
			fx_unlink(&fx, f->dir, f->name);
		break;
	case 1:
		if (f)
			fx_rename(&fx, f->dir, f->name, any_dir(), name, 0);
		break;
	case 2: /* may go into itself: refused */
		if (d)
			fx_rename(&fx, d->dir, d->name, any_dir(), name, 0);
		break;
	case 3:
		if (f)
			fx_link(&fx, f->ino, any_dir(), name);
		break;
	case 4:
		if (d)
			fx_rmdir(&fx, d->dir, d->name);
		break;
	case 5: {
		const struct seen_name *other = any_name(false);

		if (f && other) /* over another */
			fx_rename(&fx, f->dir, f->name, other->dir, other->name, 0);
		break;
	}
	default:
		make_dir(any_dir(), name);
	}
}

static void change_something(void)
{
	static unsigned number;
	const struct seen_name *f = any_name(false), *d = any_name(true);
	static const size_t sizes[] = { 0, 100, 2000, 3 * BLOCK, 20 * BLOCK, 300 * 1024 };
	char name[32];

	sprintf(name, "%c%u", "az"[random() % 2], number++);
	if (random() % 3 == 0)
		make_in(any_dir(), name, sizes[random() % 6]);
	else if (f && random() % 2)
		change_file(f->ino, file_of(&now, f->ino)->attr.size_bytes);
	else
		change_names(f, d, name);
}

/* Names and numbers that may be out of date after a few changes: the calls are refused then. */
static void change(const char *subvol, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		if (i % 8 == 0)
			look(subvol, &now);
		change_something();
		if (i % 8 != 7) {
			now.nfiles = now.nnames = 0;
			walk(&now, ROOT, "");
		}
	}
}

static void random_tree(unsigned seed, bool cuts)
{
	static const char *const all[] = { "sv@1", "sv@2", "sv@3", "c@4", "sv", "c" };

	srandom(seed);
	change("sv", 60);
	snap("sv", "1");
	change("sv", 40);
	snap("sv", "2");
	clone_of("sv", "1", "c");
	change("c", 40);
	change("sv", 20);
	snap("sv", "3");
	if (cuts) {
		ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
		fixture_power_cut(&fx, seed);
	}
	change("c", 10);
	snap("c", "4");
	change("c", 30);
	change("sv", 30);
	for (unsigned i = 0; i < 6; i++)
		for (unsigned j = 0; j < 6; j++)
			compare(all[i], all[j]);
}

START_TEST(random_changes)
{
	random_tree((unsigned)_i + 1, false);
}
END_TEST

START_TEST(random_changes_with_power_cuts)
{
	random_tree((unsigned)_i + 100, true);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { each_kind, renames, hard_links, data_is_what_was_written, cuts_count, names_of_any_bytes_in_order,
					      families, refusals, can_be_ended };
	Suite *suite = suite_create("diff");
	TCase *tcase = tcase_create("diff");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	tcase_add_loop_test(tcase, random_changes, 0, 3);
	tcase_add_loop_test(tcase, random_changes_with_power_cuts, 0, 1);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
