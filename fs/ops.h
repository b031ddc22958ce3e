/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_OPS_H
#define NVFS_FS_OPS_H

#include <fuse_lowlevel.h>

#include "fs/session.h"
#include "fs/views.h"
#include "io/workers.h"
#include "meta/data.h"
#include "meta/inode.h"
#include "meta/names.h"
#include "meta/op.h"
#include "meta/subvol.h"

/*
 * The FUSE operations on an open subvolume. Each is decoded into a call, whose run() calls
 * one function of meta/ and answers, or returns when that says META_WAIT and is
 * run again later (meta/op.h). What a call points to lies in the request, which stays until the answer.
 *
 * One connection per subvolume and we are the only writer, so what the kernel
 * caches stays true: it drops names and attributes itself when an operation of its own changes them.
 */

/* What the handlers need of a mount: the session's argument is (or starts with) this. */
struct ops_volume {
	struct subvol *sv;
	bool relatime;        /* reads that reach us move an access time that is a day old or older than the last change */
	uint64_t touched_ino; /* the last file whose access time was looked at, and when (s, monotonic) */
	time_t touched_at;
	uint8_t *scratch; /* OPS_SCRATCH_BYTES, of the reactor: replies that are built in one run */
	struct workers *flushers; /* of session_write_back() and nothing else: they wait for requests; NULL: none */
	unsigned flushing;        /* requests that wait for them */
	struct views views;
};

#define OPS_SCRATCH_BYTES (128u << 10)

extern const struct session_ops ops_session; /* without mounted and ended: copy and set them */

/* ---- Between the files of the operations ---- */

struct call {
	struct op op; /* first: run() gets it */
	struct request *request;
	struct ops_volume *volume;
	struct ops_view *view;    /* NULL: the live tree */
	struct subvol *sv;        /* of either */
	uint64_t ino;             /* without the view's number */
	const char *name;
	size_t name_len;
	uint64_t offset, ino2, offset2;
	size_t len;
	unsigned flags;
	struct work work; /* of lseek and views */
	bool flushed;
	union {
		struct names_new create;
		struct {
			const char *name;
			size_t len;
		} to;
		struct {
			unsigned set;
			struct inode_attr attr;
		} setattr;
		const void *data;
		struct {
			int err;
			uint16_t number;
			struct ops_view *view;
			struct subvol *sv;
		} view;
		struct {
			int err;
			unsigned count;
			struct view_entry *entries;
		} list;
	} u;
};

/* Take the request that is being dispatched (req NULL: it comes from early) and make it a call that is not yet run. */
struct call *call_new(fuse_req_t req, void (*run)(struct op *op), uint64_t ino);
struct call *call_early(struct session *s, void (*run)(struct op *op));

/* Make the call's op ready for its first or, after op_finish(), its next function. */
void call_again(struct call *c, void (*run)(struct op *op));

static inline void call_run(struct call *c)
{
	c->op.run(&c->op);
}

static inline struct call *call_of(struct op *op)
{
	return (struct call *)op;
}

/* Answers. The call is gone afterwards. err is 0 or -errno, never META_WAIT. */
void call_done(struct call *c, int err);
int call_reply(struct call *c, const void *buf, size_t len);
void call_reply_attr(struct call *c, int err, const struct inode_attr *attr);
/* A new dentry: counts a lookup. Reply extra bytes after it. */
void call_reply_entry(struct call *c, int err, const struct inode_attr *attr, const void *extra,
		      size_t extra_len);

/* The same without a count: of what is no inode of a subvolume. */
void ops_reply_uncounted_entry(struct call *c, const struct inode_attr *attr);

/* The number that the kernel knows an inode of the call's tree by. */
static inline uint64_t call_node(const struct call *c, uint64_t ino)
{
	return c->view ? (uint64_t)c->view->number << VIEW_SHIFT | ino : ino;
}

/* The kernel is told of it so many times more, or, with a reply that it did not take, not. */
void call_add_lookups(struct call *c, uint64_t ino, uint64_t n);
void call_drop_lookups(struct call *c, uint64_t ino, uint64_t n);

struct fuse_entry_out;
void ops_fill_entry(const struct call *c, struct fuse_entry_out *out, const struct inode_attr *attr);

/* What .snapshots has, from the call's offset on. */
void ops_reply_views(struct call *c, const struct view_entry *entries, unsigned count);

#define OPS_VALID_SECONDS (365u * 86400)
/* Of a view: nothing in it changes, but when its snapshot is deleted, who is still in it shall hear of that. */
#define OPS_VIEW_VALID_SECONDS 1u
/* The number of blocks (of 512 bytes) that the kernel is told. */
uint64_t ops_attr_blocks(const struct session *s, const struct inode_attr *attr);
/* How long the kernel may go without asking for these attributes again. */
uint64_t ops_attr_valid(const struct call *c, const struct inode_attr *attr);
uint64_t ops_entry_valid(const struct call *c);

/* libfuse's operations, by file. */
void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_readlink(fuse_req_t req, fuse_ino_t ino);
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
		const char *to_name, unsigned flags);
void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_statfs(fuse_req_t req, fuse_ino_t ino);
void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		   struct fuse_file_info *fi);
void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void ops_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			 struct fuse_file_info *fi_out, size_t len, int flags);

/* What comes before libfuse's dispatcher: true when it was handled. Reads and writes do because it allocates for each. */
bool ops_read(struct session *s, struct request *r);
bool ops_write(struct session *s, struct request *r);
bool ops_setattr(struct session *s, struct request *r);
bool ops_setxattr(struct session *s, struct request *r);
bool ops_statx(struct session *s, struct request *r);
bool ops_tmpfile(struct session *s, struct request *r);
bool ops_syncfs(struct session *s, struct request *r);
bool ops_open_parallel(struct session *s, struct request *r);

#endif
