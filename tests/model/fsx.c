/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvfs-fsx: random operations on the data of a few files, against a copy in memory.
 *
 *     nvfs-fsx DIR [--ops N] [--seed S] [--size BYTES] [--files N] [--base OFFSET] [--max-len BYTES]
 *              [--remount CMD --remount-every N] [--drop-every N] [--fsync-every N] [--no-direct] [--no-mmap]
 *              [--skip OP]... [--trace] [--keep]
 *
 * Every file is a window of SIZE bytes from BASE on (BASE large tests large offsets; what lies before it is a hole). Each
 * is open three ways at once (buffered, O_DIRECT, appending) and mapped, and every operation picks a way. What is read
 * must be what the model holds. Which operations come depends on the seed and the options alone, never on what the
 * filesystem answered, so a failure repeats.
 *
 * Each byte written names the operation that wrote it (see stamp()), so a mismatch tells what should be there.
 */
#include "config.h"

#include "model.h"

#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define MAX_FILES 16
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

struct file {
	char path[512];
	int fd, direct, append;
	uint8_t *map;
	uint8_t *model; /* of the window; zero behind its size */
	uint64_t size;	/* of the window: the file's size less base, 0 while the file is shorter */
};

static struct {
	const char *dir;
	uint64_t ops, seed, size, base, max_len;
	unsigned files;
	uint64_t remount_every, drop_every, fsync_every;
	const char *remount;
	bool direct, mapped, keep, fuse;
	unsigned long skipped; /* bits by number of the operation */
} opt = {
	.ops = 10000,
	.size = 1 << 20,
	.max_len = 128 << 10,
	.files = 3,
	.fsync_every = 150,
	.direct = true,
	.mapped = true,
};

static struct file files[MAX_FILES];
static uint8_t *buffer; /* max_len + 2 blocks, aligned */

/* ---- helpers ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Fills with this operation's bytes; never zero. */
static void stamp(uint8_t *p, uint64_t len)
{
	uint64_t op = model_ops();

	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)(((op * 167 + (i >> 9) * 13 + (i & 511) * 3) % 255) + 1);
}

static const char *file_name(const struct file *f)
{
	return strrchr(f->path, '/') + 1;
}

static void check_bytes(const struct file *f, const uint8_t *got, uint64_t at, uint64_t len, const char *how)
{
	uint64_t i = 0, end;

	if (!memcmp(got, f->model + at, len))
		return;
	while (got[i] == f->model[at + i])
		i++;
	for (end = len; got[end - 1] == f->model[at + end - 1]; end--)
		;
	model_fail("%s by %s: bytes %#llx to %#llx of %#llx differ, the first is %02x and should be %02x", file_name(f), how,
		   (unsigned long long)(at + i), (unsigned long long)(at + end), (unsigned long long)f->size, got[i],
		   f->model[at + i]);
}

static void check_size(const struct file *f)
{
	uint64_t want = f->size ? opt.base + f->size : 0;
	struct stat st;

	if (fstat(f->fd, &st))
		model_fail("fstat %s: %s", file_name(f), strerror(errno));
	if ((uint64_t)st.st_size != want)
		model_fail("%s: size %#llx, should be %#llx", file_name(f), (unsigned long long)st.st_size,
			   (unsigned long long)want);
}

static void must(bool done, const struct file *f, const char *what)
{
	if (!done)
		model_fail("%s %s: %s", what, file_name(f), strerror(errno));
}

static void grow(struct file *f, uint64_t end)
{
	if (f->size < end)
		f->size = end;
}

/* A length that is often small, often a block or so, sometimes long. */
static uint64_t some_length(void)
{
	switch (model_below(4)) {
	case 0:
		return 1 + model_below(64);
	case 1:
		return 1 + model_below(2 * BLOCK);
	case 2:
		return BLOCK * (1 + model_below(4));
	default:
		return 1 + model_below(opt.max_len);
	}
}

/* A range within [0, limit), limit > 0; half of them start at a block's edge or next to the end. */
static void some_range(uint64_t limit, uint64_t *at, uint64_t *len)
{
	*at = model_below(limit);
	if (model_chance(3))
		*at &= ~(uint64_t)(BLOCK - 1);
	else if (model_chance(6) && limit > 10)
		*at = limit - 1 - model_below(10);
	*len = min_u64(min_u64(some_length(), opt.max_len), limit - *at);
}

static void aligned_range(uint64_t limit, uint64_t *at, uint64_t *len)
{
	some_range(limit, at, len);
	*at &= ~(uint64_t)(BLOCK - 1);
	*len = (*len + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
}

/* ---- opening and closing ---- */

static void open_file(struct file *f, int flags)
{
	f->fd = open(f->path, O_RDWR | flags, 0644);
	must(f->fd >= 0, f, "open");
	f->append = open(f->path, O_RDWR | O_APPEND);
	must(f->append >= 0, f, "open to append");
	if (opt.direct) {
		f->direct = open(f->path, O_RDWR | O_DIRECT);
		must(f->direct >= 0, f, "open direct");
	}
	if (opt.mapped) {
		f->map = mmap(NULL, opt.size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)opt.base);
		must(f->map != MAP_FAILED, f, "mmap");
	}
}

static void close_file(struct file *f)
{
	if (f->map)
		munmap(f->map, opt.size);
	f->map = NULL;
	must(!close(f->fd) && !close(f->append) && (!opt.direct || !close(f->direct)), f, "close");
}

/* ---- operations ---- */

static void do_read(struct file *f)
{
	uint64_t at, len;
	ssize_t n;

	some_range(opt.size, &at, &len);
	model_op("read %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	n = pread(f->fd, buffer, len, (off_t)(opt.base + at));
	must(n >= 0, f, "pread");
	if ((uint64_t)n != (at < f->size ? min_u64(len, f->size - at) : 0))
		model_fail("pread %s: %zd bytes of %#llx, size %#llx", file_name(f), n, (unsigned long long)len,
			   (unsigned long long)f->size);
	check_bytes(f, buffer, at, (uint64_t)n, "pread");
}

static void do_read_direct(struct file *f)
{
	uint64_t at, len;
	ssize_t n;

	aligned_range(opt.size, &at, &len);
	model_op("read-direct %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	n = pread(f->direct, buffer, len, (off_t)(opt.base + at));
	must(n >= 0, f, "direct pread");
	if ((uint64_t)n != (at < f->size ? min_u64(len, f->size - at) : 0))
		model_fail("direct pread %s: %zd bytes of %#llx, size %#llx", file_name(f), n, (unsigned long long)len,
			   (unsigned long long)f->size);
	check_bytes(f, buffer, at, (uint64_t)n, "direct pread");
}

static void do_read_mapped(struct file *f)
{
	uint64_t at, len, edge;

	if (!f->size) {
		model_op("read-mapped %s: empty", file_name(f));
		return;
	}
	some_range(f->size, &at, &len);
	model_op("read-mapped %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	memcpy(buffer, f->map + at, len);
	check_bytes(f, buffer, at, len, "mapping");
	edge = (f->size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	if (at + len == f->size && edge > f->size && edge <= opt.size)
		check_bytes(f, f->map + f->size, f->size, edge - f->size, "mapping behind the end");
}

static void written(struct file *f, uint64_t at, uint64_t len)
{
	memcpy(f->model + at, buffer, len);
	grow(f, at + len);
}

static void write_with(struct file *f, int fd, uint64_t at, uint64_t len, int flags, const char *how)
{
	struct iovec iov = {buffer, len};
	ssize_t n = pwritev2(fd, &iov, 1, (off_t)(opt.base + at), flags);

	must(n >= 0, f, how);
	if ((uint64_t)n != len)
		model_fail("%s %s: %zd bytes of %#llx", how, file_name(f), n, (unsigned long long)len);
	written(f, at, len);
}

static void do_write(struct file *f)
{
	uint64_t at, len;

	/* Mostly where the file is, sometimes far behind its end. */
	some_range(f->size && !model_chance(4) ? min_u64(f->size + BLOCK, opt.size) : opt.size, &at, &len);
	model_op("write %s %#llx+%#llx (size %#llx)", file_name(f), (unsigned long long)at, (unsigned long long)len,
		 (unsigned long long)f->size);
	stamp(buffer, len);
	write_with(f, f->fd, at, len, 0, "pwrite");
}

static void do_write_sync(struct file *f)
{
	uint64_t at, len;
	int flags = model_chance(2) ? RWF_SYNC : RWF_DSYNC;

	some_range(opt.size, &at, &len);
	len = min_u64(len, 2 * BLOCK);
	model_op("write-%s %s %#llx+%#llx", flags == RWF_SYNC ? "sync" : "dsync", file_name(f), (unsigned long long)at,
		 (unsigned long long)len);
	stamp(buffer, len);
	write_with(f, f->fd, at, len, flags, "synchronous pwrite");
}

static void do_write_direct(struct file *f)
{
	uint64_t at, len;

	aligned_range(opt.size, &at, &len);
	model_op("write-direct %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	stamp(buffer, len);
	write_with(f, f->direct, at, len, model_chance(20) ? RWF_DSYNC : 0, "direct pwrite");
}

static void do_write_mapped(struct file *f)
{
	uint64_t at, len;

	if (!f->size) {
		model_op("write-mapped %s: empty", file_name(f));
		return;
	}
	some_range(f->size, &at, &len);
	model_op("write-mapped %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	stamp(buffer, len);
	memcpy(f->map + at, buffer, len);
	written(f, at, len);
	if (model_chance(8))
		must(!msync(f->map, opt.size, model_chance(2) ? MS_SYNC : MS_ASYNC), f, "msync");
}

static void do_append(struct file *f)
{
	uint64_t at = f->size, len = min_u64(some_length(), opt.max_len);

	len = min_u64(len, opt.size - at);
	model_op("append %s %#llx+%#llx", file_name(f), (unsigned long long)at, (unsigned long long)len);
	if (!len || (!f->size && opt.base))
		return;
	stamp(buffer, len);
	must(write(f->append, buffer, len) == (ssize_t)len, f, "append");
	written(f, at, len);
}

static void do_truncate(struct file *f)
{
	uint64_t to = model_below(opt.size + 1);

	if (model_chance(3))
		to &= ~(uint64_t)(BLOCK - 1);
	else if (model_chance(4))
		to = min_u64(f->size + model_below(2000), opt.size);
	else if (model_chance(3))
		to = f->size - min_u64(f->size, model_below(2000));
	model_op("truncate %s %#llx to %#llx", file_name(f), (unsigned long long)f->size, (unsigned long long)to);
	must(!ftruncate(f->fd, to ? (off_t)(opt.base + to) : 0), f, "ftruncate");
	if (to < f->size)
		memset(f->model + to, 0, f->size - to);
	f->size = to;
}

static void do_open_trunc(struct file *f)
{
	int fd;

	model_op("open-trunc %s (size %#llx)", file_name(f), (unsigned long long)f->size);
	fd = open(f->path, O_WRONLY | O_TRUNC);
	must(fd >= 0, f, "open(O_TRUNC)");
	close(fd);
	memset(f->model, 0, f->size);
	f->size = 0;
}

static void allocate(struct file *f, int mode, const char *name)
{
	uint64_t at, len;

	some_range(opt.size, &at, &len);
	if (model_chance(4))
		len = min_u64(len * 4, opt.size - at);
	model_op("%s %s %#llx+%#llx%s (size %#llx)", name, file_name(f), (unsigned long long)at, (unsigned long long)len,
		 mode & FALLOC_FL_KEEP_SIZE ? " keep" : "", (unsigned long long)f->size);
	must(!fallocate(f->fd, mode, (off_t)(opt.base + at), (off_t)len), f, name);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(f->model + at, 0, len);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(f, at + len);
}

static void do_punch(struct file *f)
{
	allocate(f, PUNCH, "punch");
}

static void do_zero(struct file *f)
{
	allocate(f, FALLOC_FL_ZERO_RANGE | (model_chance(2) ? FALLOC_FL_KEEP_SIZE : 0), "zero-range");
}

static void do_fallocate(struct file *f)
{
	allocate(f, model_chance(2) ? FALLOC_FL_KEEP_SIZE : 0, "fallocate");
}

static void do_copy(struct file *from)
{
	struct file *to = &files[model_below(opt.files)];
	uint64_t at, len, target, left;
	off_t in, out;

	if (!from->size) {
		model_op("copy %s: empty", file_name(from));
		return;
	}
	some_range(from->size, &at, &len);
	target = model_below(opt.size - len + 1);
	if (model_chance(2) && (target & ~(uint64_t)(BLOCK - 1)) + (at & (BLOCK - 1)) + len <= opt.size)
		target = (target & ~(uint64_t)(BLOCK - 1)) + (at & (BLOCK - 1));
	if (to == from && target < at + len && at < target + len) {
		model_op("copy %s onto itself: overlaps", file_name(from));
		return;
	}
	model_op("copy %s %#llx+%#llx to %s %#llx (size %#llx)", file_name(from), (unsigned long long)at,
		 (unsigned long long)len, file_name(to), (unsigned long long)target, (unsigned long long)to->size);
	in = (off_t)(opt.base + at);
	out = (off_t)(opt.base + target);
	for (left = len; left;) {
		ssize_t n = copy_file_range(from->fd, &in, to->fd, &out, left, 0);

		must(n > 0, from, n ? "copy_file_range" : "copy_file_range came to an early end:");
		left -= (uint64_t)n;
	}
	memmove(to->model + target, from->model + at, len);
	grow(to, target + len);
	check_size(to);
}

static bool model_is_zero(const struct file *f, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		if (f->model[i])
			return false;
	return true;
}

/* No data may lie in what SEEK_DATA and SEEK_HOLE say is a hole, and both must get on. */
static void do_seek(struct file *f)
{
	uint64_t end = opt.base + f->size, at = f->size ? opt.base + model_below(f->size) : 0;
	off_t data, hole;

	/* Linux asks a FUSE server about holes without sending it what is dirty in mappings first. */
	if (opt.fuse && f->map)
		must(!msync(f->map, opt.size, MS_SYNC), f, "msync");
	model_op("seek %s from %#llx (size %#llx)", file_name(f), (unsigned long long)at, (unsigned long long)f->size);
	while (f->size && at < end) {
		data = lseek(f->fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			model_fail("SEEK_DATA %s at %#llx: %s", file_name(f), (unsigned long long)at, strerror(errno));
		if (data >= 0 && ((uint64_t)data < at || (uint64_t)data >= end))
			model_fail("SEEK_DATA %s at %#llx gives %#llx", file_name(f), (unsigned long long)at,
				   (unsigned long long)data);
		if (!model_is_zero(f, at - opt.base, (data < 0 ? end : (uint64_t)data) - opt.base))
			model_fail("%s: data in the hole from %#llx to %#llx", file_name(f), (unsigned long long)at,
				   data < 0 ? (unsigned long long)end : (unsigned long long)data);
		if (data < 0)
			break;
		hole = lseek(f->fd, data, SEEK_HOLE);
		if (hole <= data || (uint64_t)hole > end)
			model_fail("SEEK_HOLE %s at %#llx gives %#llx", file_name(f), (unsigned long long)data,
				   (unsigned long long)hole);
		at = (uint64_t)hole;
	}
}

static void do_fsync(struct file *f)
{
	bool data = model_chance(2);

	model_op("%s %s", data ? "fdatasync" : "fsync", file_name(f));
	must(!(data ? fdatasync(f->fd) : fsync(f->fd)), f, "fsync");
}

static void do_reopen(struct file *f)
{
	model_op("reopen %s", file_name(f));
	close_file(f);
	open_file(f, 0);
	check_size(f);
}

/* A new file with one piece of content takes the name. */
static void do_replace(struct file *f)
{
	uint64_t len = min_u64(some_length(), opt.size);
	char path[sizeof(f->path) + 8];
	int fd;

	model_op("replace %s by %#llx bytes", file_name(f), (unsigned long long)len);
	snprintf(path, sizeof(path), "%s.new", f->path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0644);
	must(fd >= 0, f, "create");
	stamp(buffer, len);
	must(pwrite(fd, buffer, len, (off_t)opt.base) == (ssize_t)len, f, "pwrite of the new");
	close_file(f);
	must(!close(fd), f, "close");
	must(!rename(path, f->path), f, "rename");
	memset(f->model, 0, opt.size);
	f->size = 0;
	written(f, 0, len);
	open_file(f, 0);
	check_size(f);
}

static void do_exchange(struct file *f)
{
	struct file *g = &files[model_below(opt.files)];
	uint8_t *model = f->model;
	uint64_t size = f->size;

	model_op("exchange %s and %s", file_name(f), file_name(g));
	if (f == g)
		return;
	close_file(f);
	close_file(g);
	must(!renameat2(AT_FDCWD, f->path, AT_FDCWD, g->path, RENAME_EXCHANGE), f, "exchange");
	f->model = g->model;
	f->size = g->size;
	g->model = model;
	g->size = size;
	open_file(f, 0);
	open_file(g, 0);
}

/* All operations go on with the open, unlinked file for a while; then a new empty one takes its place. */
static void do_unlink(struct file *f)
{
	uint64_t at, len;

	model_op("unlink %s and use it (size %#llx)", file_name(f), (unsigned long long)f->size);
	must(!unlink(f->path), f, "unlink");
	if (f->size) {
		some_range(f->size, &at, &len);
		stamp(buffer, len);
		write_with(f, f->fd, at, len, 0, "pwrite to the unlinked");
		must(pread(f->fd, buffer, len, (off_t)(opt.base + at)) == (ssize_t)len, f, "pread of the unlinked");
		check_bytes(f, buffer, at, len, "pread of the unlinked");
	}
	close_file(f);
	open_file(f, O_CREAT | O_EXCL);
	memset(f->model, 0, opt.size);
	f->size = 0;
	check_size(f);
}

/* An unlinked name's file gets a name again by O_TMPFILE. */
static void do_tmpfile(struct file *f)
{
	uint64_t len = min_u64(some_length(), opt.size);
	char proc[64];
	int fd;

	model_op("tmpfile for %s with %#llx bytes", file_name(f), (unsigned long long)len);
	fd = open(opt.dir, O_TMPFILE | O_RDWR, 0644);
	must(fd >= 0, f, "open(O_TMPFILE)");
	stamp(buffer, len);
	must(pwrite(fd, buffer, len, (off_t)opt.base) == (ssize_t)len, f, "pwrite to the nameless");
	close_file(f);
	must(!unlink(f->path), f, "unlink");
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	must(!linkat(AT_FDCWD, proc, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW), f, "linkat");
	must(!close(fd), f, "close");
	memset(f->model, 0, opt.size);
	f->size = 0;
	written(f, 0, len);
	open_file(f, 0);
	check_size(f);
}

static void verify(struct file *f)
{
	for (uint64_t at = 0; at < f->size; at += opt.max_len) {
		uint64_t len = min_u64(opt.max_len, f->size - at);

		must(pread(f->fd, buffer, len, (off_t)(opt.base + at)) == (ssize_t)len, f, "pread");
		check_bytes(f, buffer, at, len, "whole read");
	}
	check_size(f);
}

static void do_verify(struct file *f)
{
	model_op("verify %s", file_name(f));
	verify(f);
}

static const struct {
	const char *name;
	void (*run)(struct file *f);
	unsigned weight;
} operations[] = {
	{"read", do_read, 90},
	{"read-direct", do_read_direct, 50},
	{"read-mapped", do_read_mapped, 60},
	{"write", do_write, 130},
	{"write-sync", do_write_sync, 2},
	{"write-direct", do_write_direct, 60},
	{"write-mapped", do_write_mapped, 70},
	{"append", do_append, 60},
	{"truncate", do_truncate, 50},
	{"open-trunc", do_open_trunc, 4},
	{"punch", do_punch, 50},
	{"zero-range", do_zero, 40},
	{"fallocate", do_fallocate, 40},
	{"copy", do_copy, 70},
	{"seek", do_seek, 30},
	{"reopen", do_reopen, 15},
	{"replace", do_replace, 6},
	{"exchange", do_exchange, 4},
	{"unlink", do_unlink, 3},
	{"tmpfile", do_tmpfile, 3},
	{"verify", do_verify, 20},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static bool possible(size_t i)
{
	if (opt.skipped & (1ul << i))
		return false;
	if (!opt.direct && strstr(operations[i].name, "direct"))
		return false;
	return opt.mapped || !strstr(operations[i].name, "mapped");
}

static void any_operation(void)
{
	struct file *f = &files[model_below(opt.files)];
	unsigned total = 0;
	uint64_t pick;
	size_t i;

	for (i = 0; i < OPERATIONS; i++)
		total += possible(i) ? operations[i].weight : 0;
	pick = model_below(total);
	for (i = 0; !possible(i) || pick >= operations[i].weight; i++)
		pick -= possible(i) ? operations[i].weight : 0;
	operations[i].run(f);
	if (model_chance(4))
		check_size(f);
}

static void remount_all(void)
{
	model_op("remount");
	for (unsigned i = 0; i < opt.files; i++)
		close_file(&files[i]);
	model_shell(opt.remount);
	for (unsigned i = 0; i < opt.files; i++) {
		open_file(&files[i], 0);
		verify(&files[i]);
	}
}

static void regular_steps(uint64_t n)
{
	if (opt.fsync_every && n % opt.fsync_every == 0)
		do_fsync(&files[model_below(opt.files)]);
	if (opt.drop_every && n % opt.drop_every == 0) {
		model_op("drop caches");
		if (!model_drop_caches())
			model_fail("drop_caches: %s", strerror(errno));
	}
	if (opt.remount && opt.remount_every && n % opt.remount_every == 0)
		remount_all();
}

/* ---- start and end ---- */

static void skip_operation(const char *name)
{
	for (size_t i = 0; i < OPERATIONS; i++)
		if (!strcmp(operations[i].name, name)) {
			opt.skipped |= 1ul << i;
			return;
		}
	fprintf(stderr, "--skip %s: no such operation\n", name);
	exit(2);
}

enum {
	OPT_OPS,
	OPT_SEED,
	OPT_SIZE,
	OPT_FILES,
	OPT_BASE,
	OPT_LEN,
	OPT_REMOUNT,
	OPT_REMOUNT_EVERY,
	OPT_DROP,
	OPT_FSYNC,
	OPT_NO_DIRECT,
	OPT_NO_MMAP,
	OPT_SKIP,
	OPT_TRACE,
	OPT_KEEP,
};

static const struct option longs[] = {
	{"ops", required_argument, NULL, OPT_OPS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"size", required_argument, NULL, OPT_SIZE},
	{"files", required_argument, NULL, OPT_FILES},
	{"base", required_argument, NULL, OPT_BASE},
	{"max-len", required_argument, NULL, OPT_LEN},
	{"remount", required_argument, NULL, OPT_REMOUNT},
	{"remount-every", required_argument, NULL, OPT_REMOUNT_EVERY},
	{"drop-every", required_argument, NULL, OPT_DROP},
	{"fsync-every", required_argument, NULL, OPT_FSYNC},
	{"no-direct", no_argument, NULL, OPT_NO_DIRECT},
	{"no-mmap", no_argument, NULL, OPT_NO_MMAP},
	{"skip", required_argument, NULL, OPT_SKIP},
	{"trace", no_argument, NULL, OPT_TRACE},
	{"keep", no_argument, NULL, OPT_KEEP},
	{NULL, 0, NULL, 0},
};

static uint64_t *number_of(int which)
{
	switch (which) {
	case OPT_OPS:
		return &opt.ops;
	case OPT_SEED:
		return &opt.seed;
	case OPT_SIZE:
		return &opt.size;
	case OPT_BASE:
		return &opt.base;
	case OPT_LEN:
		return &opt.max_len;
	case OPT_REMOUNT_EVERY:
		return &opt.remount_every;
	case OPT_DROP:
		return &opt.drop_every;
	case OPT_FSYNC:
		return &opt.fsync_every;
	default:
		return NULL;
	}
}

static void set_option(int which, int index)
{
	if (number_of(which))
		*number_of(which) = model_number(longs[index].name, optarg);
	else if (which == OPT_FILES)
		opt.files = (unsigned)model_number("files", optarg);
	else if (which == OPT_REMOUNT)
		opt.remount = optarg;
	else if (which == OPT_NO_DIRECT)
		opt.direct = false;
	else if (which == OPT_NO_MMAP)
		opt.mapped = false;
	else if (which == OPT_SKIP)
		skip_operation(optarg);
	else if (which == OPT_TRACE)
		model_trace(true);
	else if (which == OPT_KEEP)
		opt.keep = true;
}

static int usage(void)
{
	fputs("usage: nvfs-fsx DIR [--ops N] [--seed S] [--size BYTES] [--files N] [--base OFFSET] [--max-len BYTES]\n"
	      "                [--remount CMD --remount-every N] [--drop-every N] [--fsync-every N]\n"
	      "                [--no-direct] [--no-mmap] [--skip OP]... [--trace] [--keep]\n",
	      stderr);
	return 2;
}

static int parse(int argc, char **argv)
{
	struct statfs sfs;
	int which, index = 0;

	opt.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	while ((which = getopt_long(argc, argv, "", longs, &index)) != -1) {
		if (which == '?')
			return usage();
		set_option(which, index);
	}
	if (argc - optind != 1 || opt.files < 1 || opt.files > MAX_FILES || opt.size < 4 * BLOCK || opt.size % BLOCK ||
	    opt.base % BLOCK || opt.max_len < BLOCK || opt.max_len > opt.size)
		return usage();
	opt.dir = argv[optind];
	opt.fuse = !statfs(opt.dir, &sfs) && sfs.f_type == FUSE_SUPER_MAGIC;
	if (!opt.remount_every)
		opt.remount_every = 5000;
	model_set_repeat(argc, argv, opt.seed);
	return 0;
}

static void start(void)
{
	buffer = aligned_alloc(BLOCK, opt.max_len + 2 * BLOCK);
	if (!buffer)
		model_fail("no memory");
	for (unsigned i = 0; i < opt.files; i++) {
		struct file *f = &files[i];

		snprintf(f->path, sizeof(f->path), "%s/fsx.%u", opt.dir, i);
		/* One page more than the window: a direct write may be rounded up, and the mapping is read behind the end. */
		f->model = calloc(1, opt.size + 2 * BLOCK);
		if (!f->model)
			model_fail("no memory");
		unlink(f->path);
		open_file(f, O_CREAT | O_EXCL);
	}
}

static void finish(void)
{
	for (unsigned i = 0; i < opt.files; i++) {
		verify(&files[i]);
		close_file(&files[i]);
		if (!opt.keep)
			must(!unlink(files[i].path), &files[i], "unlink");
	}
}

int main(int argc, char **argv)
{
	time_t began = time(NULL);
	int rc = parse(argc, argv);

	if (rc)
		return rc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# nvfs-fsx %s: seed %llu, %llu operations on %u files of %#llx bytes at %#llx\n", opt.dir,
	       (unsigned long long)opt.seed, (unsigned long long)opt.ops, opt.files, (unsigned long long)opt.size,
	       (unsigned long long)opt.base);
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
