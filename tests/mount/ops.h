/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MOUNT_OPS_H
#define TESTS_MOUNT_OPS_H
/*
 * Operations on a mounted filesystem, seen from outside.
 *
 * A case is a function that does system calls in an empty directory (its current one) through the macros below. Each
 * macro does two things with a call: it *logs* it, source text and result, and it *checks* the result against an absolute
 * expectation. `nvfs-ops DIR` looks at the checks; `nvfs-ops --compare A B` runs the case in both and looks at the logs
 * only: they must be the same line by line, whatever the expectation says. So a case must never log what may differ
 * between two correct filesystems: inode numbers, times, block counts, the size of a directory.
 *
 * Every case runs in a process of its own, so it may change umask, directory, user, limits and signal handlers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define OPS_ROOT 1u    /* needs CAP_SYS_ADMIN and friends: skipped for others */
#define OPS_COMPARE 2u /* has no expectation of its own: only runs with --compare */

/* Ordinary users that cases switch to; they need no entry in passwd. */
#define OPS_USER 61001u
#define OPS_GROUP 61001u
#define OPS_OTHER 61002u
#define OPS_OTHER_GROUP 61002u

#define OPS_BLOCK 4096

/* statfs(2)'s f_type of filesystems whose habits a case must know. */
#define OPS_FS_EXT4 0xEF53L
#define OPS_FS_XFS 0x58465342L
#define OPS_FS_TMPFS 0x01021994L
#define OPS_FS_FUSE 0x65735546L

struct t; /* one run of one case */

struct op_case {
	const char *name;
	void (*run)(struct t *t);
	unsigned flags;
};

/* Each file of cases has one table, ended by a null name. */
extern const struct op_case ops_names[], ops_links[], ops_rename[], ops_dir[], ops_attr[], ops_perm[], ops_data[],
	ops_direct[], ops_mmap[], ops_space[], ops_copy[], ops_xattr[], ops_acl[], ops_lock[], ops_handle[], ops_idmap[], ops_matrix[];

/* What the case may ask about its surroundings. */
long ops_fs(const struct t *t);
bool ops_is_root(const struct t *t);
uid_t ops_uid(const struct t *t);
gid_t ops_gid(const struct t *t);
/* Whether it was mounted with this option, which `nvfs-ops --mounted-with` named. */
bool ops_option(const char *name);

/* Ends the case as skipped. */
void ops_skip(struct t *t, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Adds a line to the log. */
void ops_log(struct t *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Notes that the case failed; the first reason is the one shown. The case goes on. */
void ops_fail(struct t *t, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The workers of the macros; each returns the call's result, or the negative errno. */
long ops_ok(struct t *t, int line, const char *what, long rc);
long ops_ret(struct t *t, int line, const char *what, long rc, long want);
long ops_err(struct t *t, int line, const char *what, long rc, int want, int or_want);
long ops_see(struct t *t, const char *what, long rc);
int ops_fd(struct t *t, int line, const char *what, long rc);
bool ops_true(struct t *t, int line, const char *what, bool yes);

/* clang-format off */
#define CALL_(expr) (errno = 0, (long)(expr))
#define OK(expr) ops_ok(t, __LINE__, #expr, CALL_(expr))                        /* must not fail */
#define RET(want, expr) ops_ret(t, __LINE__, #expr, CALL_(expr), (long)(want))  /* must return exactly this */
#define ERR(eno, expr) ops_err(t, __LINE__, #expr, CALL_(expr), eno, eno)       /* must fail so */
#define ERR2(eno, or_eno, expr) ops_err(t, __LINE__, #expr, CALL_(expr), eno, or_eno)
#define SEE(expr) ops_see(t, #expr, CALL_(expr))                                /* logged for --compare, never checked */
#define FD(expr) ops_fd(t, __LINE__, #expr, CALL_(expr))                        /* a descriptor, else the case ends here */
#define TRUE(cond) ops_true(t, __LINE__, #cond, (cond))
/* clang-format on */

/* Logs type, mode, nlink, owner, size (not a directory's) and device number of PATH, not following a symlink. */
void ops_see_stat(struct t *t, const char *path);
/* Logs size and a hash of PATH's content. */
void ops_see_content(struct t *t, const char *path);

/* Files with known bytes. The pattern's byte at an offset depends on seed and offset only. */
uint8_t ops_byte(uint64_t seed, uint64_t offset);
/* From here on it is the same for 32 bytes in a row, so that LZ4 makes something of it. */
void ops_set_compressible(void);
void ops_fill(void *buf, size_t len, uint64_t seed, uint64_t offset);
bool ops_is_pattern(const void *buf, size_t len, uint64_t seed, uint64_t offset);
bool ops_is_zero(const void *buf, size_t len);
/* Makes PATH with LEN bytes of the pattern. Returns an open O_RDWR descriptor; ends the case on failure. */
int ops_file(struct t *t, const char *path, size_t len, uint64_t seed);
/* As ops_file, closed. */
void ops_make(struct t *t, const char *path, size_t len, uint64_t seed);
/* True if [offset, offset + len) of FD reads as the pattern, or as zeros. */
bool ops_reads_pattern(int fd, off_t offset, size_t len, uint64_t seed);
bool ops_reads_zero(int fd, off_t offset, size_t len);

/* Size, nlink and permission bits of PATH (not following), or the negative errno. */
long long ops_size(const char *path);
long ops_nlink(const char *path);
long ops_mode(const char *path);
bool ops_same_inode(const char *a, const char *b);
bool ops_exists(const char *path);

/* Sleeps for longer than the granularity of file times. */
void ops_tick(void);

/* Effective user, group and (empty) supplementary groups; back to root. Only for OPS_ROOT cases. */
void ops_become(struct t *t, uid_t uid, gid_t gid);
void ops_become_root(struct t *t);

#endif
