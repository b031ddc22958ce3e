/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROOT INO_ROOT

static struct meta_fixture fx;

static void setup(void)
{
	fixture_make(&fx, 256 * MIB, 64 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

static void reopen(void)
{
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
}

/* ---- reading directories ---- */

struct listed {
	unsigned count, most; /* most: entries in one buffer */
	unsigned in_buffer;
	uint64_t last;
	char names[4096][16];
	bool attrs;
};

static void list_reset(void *arg)
{
	((struct listed *)arg)->in_buffer = 0;
}

static bool list_emit(void *arg, const char *name, size_t name_len, uint64_t ino, uint32_t mode, uint64_t cookie,
		      const struct inode_attr *attr)
{
	struct listed *l = arg;

	if (l->in_buffer == l->most)
		return false;
	ck_assert_uint_gt(cookie, l->in_buffer ? l->last : 0);
	if (attr) {
		ck_assert_uint_eq(attr->ino, ino);
		ck_assert_uint_eq(attr->mode & S_IFMT, mode & S_IFMT);
	}
	ck_assert(!l->attrs || attr || name[0] == '.');
	memcpy(l->names[l->count + l->in_buffer], name, name_len);
	l->names[l->count + l->in_buffer][name_len] = 0;
	l->in_buffer++;
	l->last = cookie;
	return true;
}

static void list(uint64_t dir, struct listed *l, unsigned most, bool attrs)
{
	const struct names_emit emit = { .reset = list_reset, .emit = list_emit, .arg = l, .attrs = attrs };
	uint64_t after = 0;

	memset(l, 0, sizeof(*l));
	l->most = most;
	l->attrs = attrs;
	do {
		l->in_buffer = 0;
		ck_assert_int_eq(fx_readdir(&fx, dir, after, &emit), 0);
		l->count += l->in_buffer;
		after = l->last;
	} while (l->in_buffer);
}

static bool has(const struct listed *l, const char *name)
{
	for (unsigned i = 0; i < l->count; i++)
		if (!strcmp(l->names[i], name))
			return true;
	return false;
}

static struct listed listed;

START_TEST(create_and_find)
{
	struct inode_attr made, found;
	struct subvol_stats st;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0640, &made), 0);
	ck_assert_uint_eq(made.mode, S_IFREG | 0640);
	ck_assert_uint_eq(made.nlink, 1);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a", &found), 0);
	ck_assert_uint_eq(found.ino, made.ino);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "b", NULL), -ENOENT);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0600, NULL), -EEXIST);
	ck_assert_int_eq(fx_create(&fx, made.ino, "x", S_IFREG, NULL), -ENOTDIR);
	ck_assert_int_eq(fx_lookup(&fx, 12345, "x", NULL), -ENOENT);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_inodes, 2);
	ck_assert_uint_eq(st.used_blocks, 1); /* the root's entries */
	reopen();
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a", &found), 0);
	ck_assert_uint_eq(found.ino, made.ino);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_inodes, 2);
	ck_assert_uint_eq(st.used_blocks, 1);
}
END_TEST

START_TEST(names_are_checked)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[256] = 0;
	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG, NULL), -ENAMETOOLONG);
	name[255] = 0;
	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG, NULL), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, NULL), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "", S_IFREG, NULL), -EINVAL);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a/b", S_IFREG, NULL), -EINVAL);
	ck_assert_int_eq(fx_create(&fx, ROOT, "..", S_IFDIR, NULL), -EINVAL);
	ck_assert_int_eq(fx_create(&fx, ROOT, "odd", 0, NULL), -EINVAL);
}
END_TEST

START_TEST(directories)
{
	struct inode_attr dir, sub, attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR | 0755, &dir), 0);
	ck_assert_uint_eq(dir.nlink, 2);
	ck_assert_int_eq(fx_create(&fx, dir.ino, "s", S_IFDIR | 0755, &sub), 0);
	ck_assert_int_eq(fx_getattr(&fx, dir.ino, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 3);
	ck_assert_int_eq(fx_rmdir(&fx, ROOT, "d"), -ENOTEMPTY);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "d"), -EISDIR);
	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG, NULL), 0);
	ck_assert_int_eq(fx_rmdir(&fx, ROOT, "f"), -ENOTDIR);
	ck_assert_int_eq(fx_rmdir(&fx, ROOT, "none"), -ENOENT);
	ck_assert_int_eq(fx_rmdir(&fx, dir.ino, "s"), 0);
	ck_assert_int_eq(fx_getattr(&fx, dir.ino, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 2);
	ck_assert_int_eq(fx_rmdir(&fx, ROOT, "d"), 0);
	ck_assert_int_eq(fx_getattr(&fx, dir.ino, &attr), -ENOENT);
	ck_assert_int_eq(fx_getattr(&fx, ROOT, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 2);
}
END_TEST

START_TEST(removed_directory_takes_no_names)
{
	struct inode_attr dir;

	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR | 0755, &dir), 0);
	lookup_add(fx.sv, dir.ino, 1);
	ck_assert_int_eq(fx_rmdir(&fx, ROOT, "d"), 0);
	ck_assert_int_eq(fx_create(&fx, dir.ino, "x", S_IFREG, NULL), -ENOENT);
	lookup_forget(fx.sv, dir.ino, 1);
}
END_TEST

START_TEST(listing)
{
	struct inode_attr dir;
	char name[16];

	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR | 0755, &dir), 0);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(fx_create(&fx, dir.ino, name, i % 3 ? S_IFREG : S_IFLNK, NULL), 0);
	}
	for (unsigned round = 0; round < 2; round++) {
		list(dir.ino, &listed, round ? 37 : 4000, round);
		ck_assert_uint_eq(listed.count, 1002);
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(name, sizeof(name), "n%u", i);
			ck_assert_msg(has(&listed, name), "%s is missing", name);
		}
		reopen();
	}
}
END_TEST

START_TEST(symlinks)
{
	char target[4097], back[4096];
	struct names_new what = { .mode = S_IFLNK, .target = target };
	struct inode_attr attr;

	memset(target, 't', sizeof(target));
	target[4096] = 0;
	ck_assert_int_eq(fx_create_as(&fx, ROOT, "l", &what, NULL), -ENAMETOOLONG);
	target[4095] = 0;
	ck_assert_int_eq(fx_create_as(&fx, ROOT, "l", &what, &attr), 0);
	ck_assert_uint_eq(attr.size_bytes, 4095);
	ck_assert_uint_eq(attr.blocks512, 8);
	reopen();
	ck_assert_int_eq(fx_readlink(&fx, attr.ino, back), 0);
	ck_assert_str_eq(back, target);
	target[0] = 0;
	ck_assert_int_eq(fx_create_as(&fx, ROOT, "m", &what, NULL), -ENOENT);
}
END_TEST

START_TEST(hard_links)
{
	struct inode_attr f, attr;
	struct subvol_stats st;

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG | 0600, &f), 0);
	ck_assert_int_eq(fx_link(&fx, f.ino, ROOT, "g"), 0);
	ck_assert_int_eq(fx_link(&fx, f.ino, ROOT, "g"), -EEXIST);
	ck_assert_int_eq(fx_link(&fx, ROOT, ROOT, "h"), -EPERM);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 2);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "g", &attr), 0);
	ck_assert_uint_eq(attr.nlink, 1);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "g"), 0);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), -ENOENT);
	fixture_settle(&fx, 1000);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_inodes, 1);
	ck_assert_uint_eq(st.used_blocks, 0);
}
END_TEST

START_TEST(orphans_wait_for_the_kernel)
{
	struct inode_attr f, attr;
	struct subvol_stats st;
	char data[5000] = "x", back[5000];

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG | 0600, &f), 0);
	lookup_add(fx.sv, f.ino, 2);
	ck_assert_int_eq(fx_write(&fx, f.ino, 0, data, sizeof(data), 0), sizeof(data));
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 0);
	ck_assert_int_eq(fx_read(&fx, f.ino, 0, back, sizeof(back), 0), sizeof(back));
	lookup_forget(fx.sv, f.ino, 1);
	fixture_settle(&fx, 200);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	lookup_forget(fx.sv, f.ino, 1);
	fixture_settle(&fx, 1000);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), -ENOENT);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_inodes, 1);
	ck_assert_uint_eq(st.used_blocks, 0);
}
END_TEST

START_TEST(tmpfile_gets_a_name)
{
	struct inode_attr f, attr;
	char back[8] = "";

	ck_assert_int_eq(fx_tmpfile(&fx, ROOT, S_IFREG | 0600, &f), 0);
	lookup_add(fx.sv, f.ino, 1);
	ck_assert_uint_eq(f.nlink, 0);
	ck_assert_int_eq(fx_write(&fx, f.ino, 0, "hello", 5, 0), 5);
	ck_assert_int_eq(fx_link(&fx, f.ino, ROOT, "f"), 0);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	fixture_power_cut(&fx, 7);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "f", &attr), 0);
	ck_assert_uint_eq(attr.size_bytes, 5);
	ck_assert_int_eq(fx_read(&fx, attr.ino, 0, back, 5, 0), 5);
	ck_assert_str_eq(back, "hello");
}
END_TEST

START_TEST(renames)
{
	struct inode_attr a, b, d, e, attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &a), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "b", S_IFREG, &b), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR, &d), 0);
	ck_assert_int_eq(fx_create(&fx, d.ino, "e", S_IFDIR, &e), 0);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "a", ROOT, "b", 0), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a", NULL), -ENOENT);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "b", &attr), 0);
	ck_assert_uint_eq(attr.ino, a.ino);
	ck_assert_int_eq(fx_getattr(&fx, b.ino, &attr), -ENOENT);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "d", e.ino, "x", 0), -EINVAL);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "b", ROOT, "d", 0), -EISDIR);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "d", ROOT, "b", 0), -ENOTDIR);
	ck_assert_int_eq(fx_rename(&fx, d.ino, "e", ROOT, "e", 0), 0);
	ck_assert_int_eq(fx_getattr(&fx, d.ino, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 2);
	ck_assert_int_eq(fx_getattr(&fx, ROOT, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 4);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "e", ROOT, "d", 0), 0);
	ck_assert_int_eq(fx_getattr(&fx, ROOT, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 3);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "d", ROOT, "b", RENAME_EXCHANGE), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "b", &attr), 0);
	ck_assert_uint_eq(attr.ino, e.ino);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "d", &attr), 0);
	ck_assert_uint_eq(attr.ino, a.ino);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "d", ROOT, "w", RENAME_WHITEOUT), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "d", &attr), 0);
	ck_assert(S_ISCHR(attr.mode) && attr.rdev == 0);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "none", ROOT, "x", 0), -ENOENT);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "w", ROOT, "none", RENAME_EXCHANGE), -ENOENT);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "w", ROOT, "d", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	reopen();
	ck_assert_int_eq(fx_getattr(&fx, ROOT, &attr), 0);
	ck_assert_uint_eq(attr.nlink, 3);
}
END_TEST

START_TEST(attributes)
{
	struct inode_attr f, in = { .mode = 0604, .uid = 5, .gid = 6, .mtime = { 100, 7 }, .atime = { 200, 8 } }, attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG | 06755, &f), 0);
	ck_assert_int_eq(fx_setattr(&fx, f.ino, ATTR_UID | ATTR_GID, &in, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0755);
	ck_assert_uint_eq(attr.uid, 5);
	ck_assert_uint_eq(attr.gid, 6);
	ck_assert_int_eq(fx_setattr(&fx, f.ino, ATTR_MODE | ATTR_MTIME | ATTR_ATIME, &in, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0604);
	ck_assert_int_eq(attr.mtime.tv_sec, 100);
	in.size_bytes = 100000;
	ck_assert_int_eq(fx_setattr(&fx, f.ino, ATTR_SIZE, &in, &attr), 0);
	ck_assert_uint_eq(attr.size_bytes, 100000);
	ck_assert_int_eq(fx_setattr(&fx, f.ino, ATTR_MTIME, &in, &attr), 0);
	ck_assert_int_eq(fx_setattr(&fx, ROOT, ATTR_SIZE, &in, &attr), -EISDIR);
	reopen();
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.size_bytes, 100000);
	ck_assert_int_eq(attr.mtime.tv_sec, 100);
	ck_assert_int_eq(attr.mtime.tv_nsec, 7);
	ck_assert_int_eq(attr.atime.tv_sec, 200);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0604);
}
END_TEST

START_TEST(set_gid_directories)
{
	struct inode_attr d, attr;

	fx.gid = 7;
	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR | 02775, &d), 0);
	fx.gid = 8;
	ck_assert_int_eq(fx_create(&fx, d.ino, "f", S_IFREG | 0644, &attr), 0);
	ck_assert_uint_eq(attr.gid, 7);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0644);
	ck_assert_int_eq(fx_create(&fx, d.ino, "s", S_IFDIR | 0755, &attr), 0);
	ck_assert_uint_eq(attr.gid, 7);
	ck_assert_uint_eq(attr.mode, S_IFDIR | 02755);
}
END_TEST

START_TEST(xattrs)
{
	char buf[70000], big[65537];
	struct inode_attr f, attr;
	struct subvol_stats st;

	memset(big, 'v', sizeof(big));
	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG, &f), 0);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.a", buf, 100), -ENODATA);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.a", "one", 3, XATTR_REPLACE), -ENODATA);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.a", "one", 3, XATTR_CREATE), 0);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.a", "one", 3, XATTR_CREATE), -EEXIST);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.bb", NULL, 0, 0), 0);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.a", buf, 0), 3);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.a", buf, 2), -ERANGE);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.a", buf, 3), 3);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.bb", buf, 3), 0);
	ck_assert_int_eq(fx_listxattr(&fx, f.ino, buf, sizeof(buf)), 15);
	ck_assert_mem_eq(buf, "user.a\0user.bb", 15);
	ck_assert_int_eq(fx_listxattr(&fx, f.ino, NULL, 0), 15);
	ck_assert_int_eq(fx_listxattr(&fx, f.ino, buf, 14), -ERANGE);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.c", big, 65537, 0), -E2BIG);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, "user.c", big, 65536, 0), 0);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.blocks512, 17 * 8);
	reopen();
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, "user.c", buf, sizeof(buf)), 65536);
	ck_assert_int_eq(fx_removexattr(&fx, f.ino, "user.c"), 0);
	ck_assert_int_eq(fx_removexattr(&fx, f.ino, "user.c"), -ENODATA);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	fixture_settle(&fx, 1000);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_blocks, 0);
	ck_assert_uint_eq(st.used_inodes, 1);
}
END_TEST

/* ---- ACLs ---- */

static const uint8_t acl_named[] = { /* u::rwx,u:1000:rwx,g::r-x,m::rwx,o::--x */
	2, 0, 0, 0,  1, 0, 7, 0, 255, 255, 255, 255,  2, 0, 7, 0, 0xe8, 3, 0, 0,  4, 0, 5, 0, 255, 255, 255, 255,
	16, 0, 7, 0, 255, 255, 255, 255,  32, 0, 1, 0, 255, 255, 255, 255,
};
static const uint8_t acl_plain[] = { /* u::rw-,g::r--,o::--- */
	2, 0, 0, 0,  1, 0, 6, 0, 255, 255, 255, 255,  4, 0, 4, 0, 255, 255, 255, 255,  32, 0, 0, 0, 255, 255, 255, 255,
};

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

START_TEST(acl_and_mode)
{
	struct inode_attr f, in = { .mode = 0640 }, attr;
	uint8_t buf[100];

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG | 0600, &f), 0);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, ACCESS, "bad", 3, 0), -EINVAL);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, DEFAULT, acl_named, sizeof(acl_named), 0), -EACCES);
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, ACCESS, acl_named, sizeof(acl_named), 0), 0);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0771);
	ck_assert_int_eq(fx_setattr(&fx, f.ino, ATTR_MODE, &in, &attr), 0);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, ACCESS, buf, sizeof(buf)), sizeof(acl_named));
	ck_assert_uint_eq(buf[6], 6);  /* owner */
	ck_assert_uint_eq(buf[22], 5); /* owning group stays */
	ck_assert_uint_eq(buf[30], 4); /* mask */
	ck_assert_uint_eq(buf[38], 0); /* other */
	ck_assert_int_eq(fx_setxattr(&fx, f.ino, ACCESS, acl_plain, sizeof(acl_plain), 0), 0);
	ck_assert_int_eq(fx_getxattr(&fx, f.ino, ACCESS, buf, sizeof(buf)), -ENODATA);
	ck_assert_int_eq(fx_getattr(&fx, f.ino, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0640);
}
END_TEST

START_TEST(acl_inheritance)
{
	const struct names_new file = { .mode = S_IFREG | 0666, .umask = 022 }, dir = { .mode = S_IFDIR | 0777, .umask = 022 };
	struct inode_attr d, attr;
	uint8_t buf[100];

	ck_assert_int_eq(fx_create_as(&fx, ROOT, "plain", &file, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0644);
	ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFDIR | 0755, &d), 0);
	ck_assert_int_eq(fx_setxattr(&fx, d.ino, DEFAULT, acl_named, sizeof(acl_named), 0), 0);
	ck_assert_int_eq(fx_create_as(&fx, d.ino, "f", &file, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0660);
	ck_assert_int_eq(fx_getxattr(&fx, attr.ino, ACCESS, buf, sizeof(buf)), sizeof(acl_named));
	ck_assert_int_eq(fx_getxattr(&fx, attr.ino, DEFAULT, buf, sizeof(buf)), -ENODATA);
	ck_assert_int_eq(fx_create_as(&fx, d.ino, "s", &dir, &attr), 0);
	ck_assert_uint_eq(attr.mode, S_IFDIR | 0771);
	ck_assert_int_eq(fx_getxattr(&fx, attr.ino, DEFAULT, buf, sizeof(buf)), sizeof(acl_named));
	ck_assert_mem_eq(buf, acl_named, sizeof(acl_named));
}
END_TEST

START_TEST(results_are_kept_for_replays)
{
	struct inode_attr attr;

	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &attr), 0);
	ck_assert_int_eq(pool_session_end(fx.pool, fx.session), 0);
	fx.session = 0;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names");
	TCase *tcase = tcase_create("names");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, create_and_find);
	tcase_add_test(tcase, names_are_checked);
	tcase_add_test(tcase, directories);
	tcase_add_test(tcase, removed_directory_takes_no_names);
	tcase_add_test(tcase, listing);
	tcase_add_test(tcase, symlinks);
	tcase_add_test(tcase, hard_links);
	tcase_add_test(tcase, orphans_wait_for_the_kernel);
	tcase_add_test(tcase, tmpfile_gets_a_name);
	tcase_add_test(tcase, renames);
	tcase_add_test(tcase, attributes);
	tcase_add_test(tcase, set_gid_directories);
	tcase_add_test(tcase, xattrs);
	tcase_add_test(tcase, acl_and_mode);
	tcase_add_test(tcase, acl_inheritance);
	tcase_add_test(tcase, results_are_kept_for_replays);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
