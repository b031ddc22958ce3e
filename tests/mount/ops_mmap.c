/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mapped files, shared and private. */
#include "config.h"

#include "ops.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 64
#define SIZE (PAGES * 4096)

static sigjmp_buf after_fault;

static void on_fault(int sig)
{
	siglongjmp(after_fault, sig);
}

/* The signal that reading (or writing) this byte raises, 0 for none. */
static int touch(volatile uint8_t *p, bool write)
{
	struct sigaction sa = {.sa_handler = on_fault}, old_bus, old_segv;
	int sig;

	sigaction(SIGBUS, &sa, &old_bus);
	sigaction(SIGSEGV, &sa, &old_segv);
	sig = sigsetjmp(after_fault, 1);
	if (sig == 0) {
		if (write)
			*p = 'w';
		else
			(void)*p;
	}
	sigaction(SIGBUS, &old_bus, NULL);
	sigaction(SIGSEGV, &old_segv, NULL);
	return sig;
}

static uint8_t *map_file(struct t *t, int fd, int prot, int flags)
{
	uint8_t *p = mmap(NULL, SIZE, prot, flags, fd, 0);

	if (p == MAP_FAILED) {
		ops_fail(t, __LINE__, "mmap: %s", strerror(errno));
		exit(0);
	}
	return p;
}

static void mmap_shared(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	uint8_t *b = map_file(t, fd, PROT_READ, MAP_SHARED);
	char c;

	TRUE(ops_is_pattern(a, SIZE, 1, 0));
	a[5000] = 'm';
	TRUE(b[5000] == 'm');
	RET(1, pread(fd, &c, 1, 5000));
	TRUE(c == 'm');
	RET(1, pwrite(fd, "w", 1, 9000));
	TRUE(a[9000] == 'w');
	OK(msync(a, SIZE, MS_SYNC));
	OK(munmap(a, SIZE));
	OK(close(fd));
	TRUE(b[5000] == 'm');
	OK(munmap(b, SIZE));
	ops_see_content(t, "f");
}

static void mmap_without_msync(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	for (size_t i = 0; i < SIZE; i += 4096)
		a[i] = (uint8_t)('A' + i / 4096 % 26);
	OK(munmap(a, SIZE));
	OK(fsync(fd));
	RET(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	OK(close(fd));
	ops_see_content(t, "f");
	fd = FD(open("f", O_RDONLY));
	a = map_file(t, fd, PROT_READ, MAP_SHARED);
	for (size_t i = 0; i < SIZE; i += 4096)
		if (a[i] != (uint8_t)('A' + i / 4096 % 26))
			ops_fail(t, __LINE__, "page %zu: the write is lost", i / 4096);
}

static void mmap_private(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	uint8_t *b = map_file(t, fd, PROT_READ, MAP_PRIVATE);

	memset(a, 'p', SIZE);
	TRUE(ops_is_pattern(b, SIZE, 1, 0));
	TRUE(ops_reads_pattern(fd, 0, SIZE, 1));
	OK(munmap(a, SIZE));
	TRUE(ops_reads_pattern(fd, 0, SIZE, 1));
	ops_see_content(t, "f");
}

static void mmap_private_of_read_only(struct t *t)
{
	uint8_t *a;
	int fd;

	ops_make(t, "f", SIZE, 1);
	fd = FD(open("f", O_RDONLY));
	a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	a[0] = 'x';
	TRUE(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
	TRUE(ops_reads_pattern(fd, 0, SIZE, 1));
	fd = FD(open("f", O_WRONLY));
	TRUE(mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
}

static void mmap_beyond_the_end(struct t *t)
{
	int fd = ops_file(t, "f", 5000, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	TRUE(ops_is_zero(a + 5000, 8192 - 5000));
	RET(SIGBUS, touch(a + 8192, false));
	RET(SIGBUS, touch(a + SIZE - 1, true));
	/* What is written behind the end within the last page is never seen in the file. */
	memset(a + 5000, 'x', 3192);
	OK(msync(a, 8192, MS_SYNC));
	RET(5000, ops_size("f"));
	OK(munmap(a, SIZE));
	OK(ftruncate(fd, SIZE));
	TRUE(ops_reads_zero(fd, 5000, SIZE - 5000));
}

static void mmap_after_truncate_down(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	memset(a, 'd', SIZE);
	OK(ftruncate(fd, 10000));
	TRUE(a[9999] == 'd' && ops_is_zero(a + 10000, 12288 - 10000));
	RET(SIGBUS, touch(a + 12288, false));
	OK(ftruncate(fd, SIZE));
	TRUE(ops_is_zero(a + 10000, SIZE - 10000));
	a[50000] = 'n';
	OK(msync(a, SIZE, MS_SYNC));
	OK(munmap(a, SIZE));
	TRUE(ops_reads_zero(fd, 10000, 40000));
	ops_see_content(t, "f");
}

static void mmap_after_open_trunc(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1), other;
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	TRUE(a[0] == ops_byte(1, 0));
	other = FD(open("f", O_RDWR | O_TRUNC));
	RET(SIGBUS, touch(a, false));
	RET(4096, pwrite(other, memset(malloc(4096), 'z', 4096), 4096, 0));
	TRUE(a[0] == 'z' && a[4095] == 'z');
	RET(SIGBUS, touch(a + 4096, false));
}

static void mmap_of_hole(struct t *t)
{
	int fd = FD(open("f", O_CREAT | O_RDWR, 0644));
	uint8_t *a;

	OK(ftruncate(fd, SIZE));
	a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	TRUE(ops_is_zero(a, SIZE));
	a[4096 * 7 + 5] = 'h';
	OK(msync(a, SIZE, MS_SYNC));
	OK(munmap(a, SIZE));
	TRUE(ops_reads_zero(fd, 0, 4096 * 7));
	TRUE(ops_reads_zero(fd, 4096 * 7 + 6, SIZE - 4096 * 7 - 6));
	ops_see_content(t, "f");
}

/* What was stored into a hole is data at once, for programs that copy only what is said to be data. */
static void mmap_hole_is_data(struct t *t)
{
	int fd = FD(open("f", O_RDWR | O_CREAT, 0644));
	uint8_t *a, got[3];
	struct stat st;

	OK(ftruncate(fd, SIZE));
	a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (ops_option("writeback")) { /* there all is data */
		RET(0, lseek(fd, 0, SEEK_DATA));
		return;
	}
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	memset(a + 65536, 0x6d, 5000);
	OK(fstat(fd, &st));
	TRUE(st.st_blocks > 0); /* tar -S saves nothing of a file without blocks */
	RET(65536, lseek(fd, 0, SEEK_DATA));
	RET(65536 + 5, lseek(fd, 65536 + 5, SEEK_DATA));
	RET(65536 + 8192, lseek(fd, 65536, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, 65536 + 8192, SEEK_DATA));
	a[SIZE - 1] = 1;
	RET(SIZE - 4096, lseek(fd, 65536 + 8192, SEEK_DATA));
	a[65537] = 0x6e; /* mapped as before */
	RET(3, pread(fd, got, 3, 65536));
	TRUE(got[0] == 0x6d && got[1] == 0x6e);
	ops_see_content(t, "f");
}

static void mmap_and_punch(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	memset(a + 8192, 'x', 8192);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10000, 20000))
		ops_skip(t, "no punch here");
	TRUE(a[9999] == 'x' && ops_is_zero(a + 10000, 20000) && ops_is_pattern(a + 30000, SIZE - 30000, 1, 30000));
	a[20000] = 'y';
	OK(msync(a, SIZE, MS_SYNC));
	TRUE(ops_reads_zero(fd, 10000, 10000));
	ops_see_content(t, "f");
}

static void mmap_outlives_the_name(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);

	OK(close(fd));
	OK(unlink("f"));
	TRUE(ops_is_pattern(a, SIZE, 1, 0));
	memset(a, 'u', SIZE);
	OK(msync(a, SIZE, MS_SYNC));
	OK(madvise(a, SIZE, MADV_DONTNEED));
	TRUE(a[0] == 'u' && a[SIZE - 1] == 'u');
	OK(munmap(a, SIZE));
}

static void mmap_two_processes(struct t *t)
{
	int fd = ops_file(t, "f", SIZE, 1), status;
	volatile uint8_t *a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid_t pid;

	a[0] = 0;
	pid = fork();
	if (pid == 0) {
		volatile uint8_t *b = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, open("f", O_RDWR), 0);

		for (int i = 0; i < 1000 && b[0] == 0; i++)
			ops_tick();
		b[4096] = b[0];
		_exit(0);
	}
	a[0] = 42;
	TRUE(waitpid(pid, &status, 0) == pid && status == 0);
	TRUE(a[4096] == 42);
}

static void mmap_mtime(struct t *t)
{
	struct stat before, after;
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a;

	OK(fsync(fd));
	OK(fstat(fd, &before));
	a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	ops_tick();
	a[100] = 'x';
	OK(msync(a, SIZE, MS_SYNC));
	OK(munmap(a, SIZE));
	OK(fsync(fd));
	OK(fstat(fd, &after));
	TRUE(after.st_mtim.tv_sec != before.st_mtim.tv_sec || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec);
}

static void write_from_own_mapping(struct t *t)
{
	/* The buffer of write is a mapping of the same file, not yet in memory: a filesystem that locks pages too early hangs. */
	int fd = ops_file(t, "f", SIZE, 1);
	uint8_t *a;

	OK(fsync(fd));
	RET(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	a = map_file(t, fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	RET(8192, pwrite(fd, a + 4096, 8192, 100));
	RET(8192, pread(fd, a + 65536, 8192, 100));
	TRUE(ops_is_pattern(a + 65536, 3000, 1, 4096));
	ops_see_content(t, "f");
}

const struct op_case ops_mmap[] = {
	{"mmap_shared", mmap_shared, 0},
	{"mmap_without_msync", mmap_without_msync, 0},
	{"mmap_private", mmap_private, 0},
	{"mmap_private_of_read_only", mmap_private_of_read_only, 0},
	{"mmap_beyond_the_end", mmap_beyond_the_end, 0},
	{"mmap_after_truncate_down", mmap_after_truncate_down, 0},
	{"mmap_after_open_trunc", mmap_after_open_trunc, 0},
	{"mmap_of_hole", mmap_of_hole, 0},
	{"mmap_hole_is_data", mmap_hole_is_data, 0},
	{"mmap_and_punch", mmap_and_punch, 0},
	{"mmap_outlives_the_name", mmap_outlives_the_name, 0},
	{"mmap_two_processes", mmap_two_processes, 0},
	{"mmap_mtime", mmap_mtime, 0},
	{"write_from_own_mapping", write_from_own_mapping, 0},
	{NULL, NULL, 0},
};
