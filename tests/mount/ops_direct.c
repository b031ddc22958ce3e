/* SPDX-License-Identifier: GPL-2.0-or-later */
/* O_DIRECT: alone, unaligned, and mixed with buffered and mapped access. */
#include "config.h"

#include "ops.h"

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB (1 << 20)

static int open_direct(struct t *t, const char *path, int flags)
{
	int fd = open(path, O_DIRECT | O_RDWR | flags, 0644);

	if (fd < 0 && errno == EINVAL)
		ops_skip(t, "no O_DIRECT here");
	return FD(fd);
}

static uint8_t *aligned(size_t len)
{
	void *p = NULL;

	if (posix_memalign(&p, OPS_BLOCK, len))
		abort();
	return p;
}

static void direct_aligned(struct t *t)
{
	uint8_t *buf = aligned(MIB);
	int fd = open_direct(t, "f", O_CREAT);

	ops_fill(buf, MIB, 1, 0);
	RET(MIB, pwrite(fd, buf, MIB, 0));
	RET(MIB, ops_size("f"));
	memset(buf, 0, MIB);
	RET(MIB, pread(fd, buf, MIB, 0));
	TRUE(ops_is_pattern(buf, MIB, 1, 0));
	ops_fill(buf, OPS_BLOCK, 2, 0);
	RET(OPS_BLOCK, pwrite(fd, buf, OPS_BLOCK, 5 * OPS_BLOCK));
	RET(OPS_BLOCK, pwrite(fd, buf, OPS_BLOCK, 3 * MIB));
	RET(3 * MIB + OPS_BLOCK, ops_size("f"));
	RET(OPS_BLOCK, pread(fd, buf, OPS_BLOCK, 2 * MIB));
	TRUE(ops_is_zero(buf, OPS_BLOCK));
	RET(0, pread(fd, buf, OPS_BLOCK, 4 * MIB));
	OK(close(fd));
	ops_see_content(t, "f");
}

static void direct_end_of_file(struct t *t)
{
	uint8_t *buf = aligned(3 * OPS_BLOCK);
	int fd;

	ops_make(t, "f", 5000, 1);
	fd = open_direct(t, "f", 0);
	RET(5000, pread(fd, buf, 2 * OPS_BLOCK, 0));
	TRUE(ops_is_pattern(buf, 5000, 1, 0));
	RET(904, pread(fd, buf, OPS_BLOCK, OPS_BLOCK));
	RET(0, pread(fd, buf, OPS_BLOCK, 2 * OPS_BLOCK));
	OK(ftruncate(fd, 4096));
	RET(0, pread(fd, buf, OPS_BLOCK, OPS_BLOCK));
}

/* Either refused with EINVAL, and nothing changed, or done right. */
static void unaligned_write(struct t *t, int fd, size_t mem, size_t len, off_t at)
{
	uint8_t *buf = aligned(65536), *whole = malloc(65536);
	ssize_t n;

	ops_fill(whole, 65536, 1, 0);
	ops_fill(buf + mem, len, 2, 0);
	n = pwrite(fd, buf + mem, len, at);
	if (n < 0 && errno != EINVAL)
		ops_fail(t, __LINE__, "pwrite(%zu at %lld): %s", len, (long long)at, strerror(errno));
	if (n >= 0 && n != (ssize_t)len)
		ops_fail(t, __LINE__, "pwrite(%zu at %lld) wrote %zd", len, (long long)at, n);
	if (n > 0)
		memcpy(whole + at, buf + mem, len);
	if (pread(fd, buf, 65536, 0) != 65536 || memcmp(buf, whole, 65536))
		ops_fail(t, __LINE__, "wrong content after pwrite(%zu at %lld) = %zd", len, (long long)at, n);
	free(buf);
	free(whole);
}

static void direct_unaligned(struct t *t)
{
	uint8_t *buf = aligned(65536);
	int fd;

	static const struct {
		size_t mem, len;
		off_t at;
	} tries[] = {{0, 512, 512}, {0, 512, 4096}, {512, 4096, 0}, {1, 4096, 0}, {0, 100, 0}, {0, 4096, 100},
		     {3, 5000, 7000}, {0, 1024, 3584}, {0, 8192, 4096 + 512}, {0, 1, 65535}};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		ops_make(t, "f", 65536, 1);
		fd = open_direct(t, "f", 0);
		unaligned_write(t, fd, tries[i].mem, tries[i].len, tries[i].at);
		ssize_t n = pread(fd, buf + tries[i].mem, tries[i].len, 40000);

		TRUE(n == -1 ? errno == EINVAL : ops_is_pattern(buf + tries[i].mem, tries[i].len, 1, 40000));
		close(fd);
	}
}

static void direct_and_buffered(struct t *t)
{
	uint8_t *buf = aligned(MIB);
	int d, b = ops_file(t, "f", MIB, 1);

	d = open_direct(t, "f", 0);
	/* Direct reads see buffered writes that were not synchronised. */
	RET(MIB, pread(d, buf, MIB, 0));
	TRUE(ops_is_pattern(buf, MIB, 1, 0));
	ops_fill(buf, 8192, 2, 0);
	RET(8192, pwrite(d, buf, 8192, 65536));
	TRUE(ops_reads_pattern(b, 0, 65536, 1));
	RET(8192, pread(b, buf, 8192, 65536));
	TRUE(ops_is_pattern(buf, 8192, 2, 0));
	RET(3, pwrite(b, "abc", 3, 65537));
	RET(4096, pread(d, buf, 4096, 65536));
	TRUE(!memcmp(buf + 1, "abc", 3) && ops_is_pattern(buf + 4, 4092, 2, 4));
	OK(close(d));
	OK(close(b));
	ops_see_content(t, "f");
}

static void direct_and_mapped(struct t *t)
{
	uint8_t *buf = aligned(65536), *map;
	int d, b = ops_file(t, "f", 65536, 1);

	d = open_direct(t, "f", 0);
	map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0);
	TRUE(map != MAP_FAILED && ops_is_pattern(map, 65536, 1, 0));
	memset(map + 8192, 'm', 4096);
	OK(msync(map, 65536, MS_SYNC));
	RET(65536, pread(d, buf, 65536, 0));
	TRUE(buf[8192] == 'm' && buf[8192 + 4095] == 'm' && ops_is_pattern(buf, 8192, 1, 0));
	memset(buf, 'd', 4096);
	RET(4096, pwrite(d, buf, 4096, 16384));
	TRUE(map[16384] == 'd' && map[16384 + 4095] == 'd');
}

static void direct_append(struct t *t)
{
	uint8_t *buf = aligned(OPS_BLOCK);
	int fd = open_direct(t, "f", O_CREAT | O_APPEND);

	for (unsigned i = 0; i < 20; i++) {
		memset(buf, (int)('a' + i), OPS_BLOCK);
		RET(OPS_BLOCK, write(fd, buf, OPS_BLOCK));
	}
	RET(20 * OPS_BLOCK, ops_size("f"));
	OK(close(fd));
	ops_see_content(t, "f");
}

static void direct_sync(struct t *t)
{
	uint8_t *buf = aligned(OPS_BLOCK);
	int fd = open_direct(t, "f", O_CREAT | O_DSYNC);

	for (unsigned i = 0; i < 10; i++) {
		memset(buf, (int)('a' + i), OPS_BLOCK);
		RET(OPS_BLOCK, pwrite(fd, buf, OPS_BLOCK, (off_t)i * 3 * OPS_BLOCK));
	}
	OK(close(fd));
	ops_see_content(t, "f");
}

static void direct_into_hole_and_truncate(struct t *t)
{
	uint8_t *buf = aligned(OPS_BLOCK);
	int fd = open_direct(t, "f", O_CREAT);

	OK(ftruncate(fd, 10 * OPS_BLOCK));
	memset(buf, 'x', OPS_BLOCK);
	RET(OPS_BLOCK, pwrite(fd, buf, OPS_BLOCK, 4 * OPS_BLOCK));
	OK(ftruncate(fd, 4 * OPS_BLOCK + 100));
	OK(ftruncate(fd, 10 * OPS_BLOCK));
	RET(OPS_BLOCK, pread(fd, buf, OPS_BLOCK, 4 * OPS_BLOCK));
	TRUE(buf[99] == 'x' && ops_is_zero(buf + 100, OPS_BLOCK - 100));
	OK(close(fd));
	ops_see_content(t, "f");
}

static void direct_processes(struct t *t)
{
	enum { PROCS = 4, BLOCKS = 64 };
	uint8_t *buf = aligned(OPS_BLOCK);
	bool good = true;
	int fd, status;

	close(open_direct(t, "f", O_CREAT));
	for (int p = 0; p < PROCS; p++) {
		if (fork())
			continue;
		fd = open("f", O_RDWR | O_DIRECT);
		for (int i = p; i < BLOCKS; i += PROCS) {
			ops_fill(buf, OPS_BLOCK, 9, (uint64_t)i * OPS_BLOCK);
			if (pwrite(fd, buf, OPS_BLOCK, (off_t)i * OPS_BLOCK) != OPS_BLOCK)
				_exit(1);
		}
		_exit(0);
	}
	for (int p = 0; p < PROCS; p++)
		good = wait(&status) > 0 && status == 0 && good;
	TRUE(good);
	fd = open_direct(t, "f", 0);
	TRUE(ops_reads_pattern(FD(open("f", O_RDONLY)), 0, BLOCKS * OPS_BLOCK, 9));
}

static void direct_asynchronous(struct t *t)
{
	enum { DEPTH = 32 };
	struct io_event events[DEPTH];
	struct iocb cbs[DEPTH], *list[DEPTH];
	uint8_t *buf = aligned(DEPTH * OPS_BLOCK);
	aio_context_t ctx = 0;
	int fd = open_direct(t, "f", O_CREAT);
	bool good = true;

	ops_fill(buf, DEPTH * OPS_BLOCK, 4, 0);
	memset(cbs, 0, sizeof(cbs));
	for (unsigned i = 0; i < DEPTH; i++) {
		cbs[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		cbs[i].aio_fildes = (uint32_t)fd;
		cbs[i].aio_buf = (uintptr_t)(buf + i * OPS_BLOCK);
		cbs[i].aio_nbytes = OPS_BLOCK;
		cbs[i].aio_offset = (int64_t)i * OPS_BLOCK;
		list[i] = &cbs[i];
	}
	OK(syscall(SYS_io_setup, DEPTH, &ctx));
	RET(DEPTH, syscall(SYS_io_submit, ctx, DEPTH, list));
	RET(DEPTH, syscall(SYS_io_getevents, ctx, DEPTH, DEPTH, events, NULL));
	for (unsigned i = 0; i < DEPTH; i++)
		good = good && events[i].res == OPS_BLOCK;
	TRUE(good);
	OK(syscall(SYS_io_destroy, ctx));
	OK(close(fd));
	RET(DEPTH * OPS_BLOCK, ops_size("f"));
	TRUE(ops_reads_pattern(FD(open("f", O_RDONLY)), 0, DEPTH * OPS_BLOCK, 4));
}

const struct op_case ops_direct[] = {
	{"direct_aligned", direct_aligned, 0},
	{"direct_end_of_file", direct_end_of_file, 0},
	{"direct_unaligned", direct_unaligned, 0},
	{"direct_and_buffered", direct_and_buffered, 0},
	{"direct_and_mapped", direct_and_mapped, 0},
	{"direct_append", direct_append, 0},
	{"direct_sync", direct_sync, 0},
	{"direct_into_hole_and_truncate", direct_into_hole_and_truncate, 0},
	{"direct_processes", direct_processes, 0},
	{"direct_asynchronous", direct_asynchronous, 0},
	{NULL, NULL, 0},
};
