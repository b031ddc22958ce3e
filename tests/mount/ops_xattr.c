/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes of every namespace. */
#include "config.h"

#include "ops.h"

#include <linux/capability.h>
#include <linux/limits.h>
#include <sys/xattr.h>

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Logs the sorted names of PATH's user and trusted attributes. */
static int see_names(struct t *t, const char *path)
{
	char list[65536], *names[1024], all[65536] = "";
	ssize_t n = listxattr(path, list, sizeof(list));
	int count = 0;

	for (char *p = list; n > 0 && p < list + n && count < 1024; p += strlen(p) + 1)
		if (!strncmp(p, "user.", 5) || !strncmp(p, "trusted.", 8))
			names[count++] = p;
	qsort(names, (size_t)count, sizeof(names[0]), name_cmp);
	for (int i = 0; i < count; i++) {
		strncat(all, " ", sizeof(all) - strlen(all) - 1);
		strncat(all, names[i], sizeof(all) - strlen(all) - 1);
	}
	ops_log(t, "xattrs of %s:%s", path, all);
	return n < 0 ? -1 : count;
}

static void xattr_user(struct t *t)
{
	char buf[64] = "";

	ops_make(t, "f", 10, 1);
	OK(setxattr("f", "user.one", "value", 5, 0));
	RET(5, getxattr("f", "user.one", buf, sizeof(buf)));
	TRUE(!memcmp(buf, "value", 5));
	RET(5, getxattr("f", "user.one", NULL, 0));
	OK(setxattr("f", "user.one", "longer value", 12, 0));
	RET(12, getxattr("f", "user.one", buf, sizeof(buf)));
	TRUE(!memcmp(buf, "longer value", 12));
	OK(setxattr("f", "user.empty", "", 0, 0));
	RET(0, getxattr("f", "user.empty", buf, sizeof(buf)));
	OK(setxattr("f", "user.\xff\x01 bytes", "\0\1\2", 3, 0));
	RET(3, see_names(t, "f"));
	OK(removexattr("f", "user.one"));
	ERR(ENODATA, getxattr("f", "user.one", buf, sizeof(buf)));
	RET(2, see_names(t, "f"));
	OK(rename("f", "g"));
	RET(2, see_names(t, "g"));
}

static void xattr_errors(struct t *t)
{
	char buf[300], name[300];

	ops_make(t, "f", 10, 1);
	OK(setxattr("f", "user.one", "value", 5, 0));
	ERR(ENODATA, getxattr("f", "user.none", buf, sizeof(buf)));
	ERR(ENODATA, removexattr("f", "user.none"));
	ERR(ERANGE, getxattr("f", "user.one", buf, 4));
	ERR(ERANGE, listxattr("f", buf, 5));
	RET(9, listxattr("f", NULL, 0) > 9 ? 9 : listxattr("f", NULL, 0));
	ERR(EEXIST, setxattr("f", "user.one", "x", 1, XATTR_CREATE));
	ERR(ENODATA, setxattr("f", "user.none", "x", 1, XATTR_REPLACE));
	OK(setxattr("f", "user.new", "x", 1, XATTR_CREATE));
	OK(setxattr("f", "user.one", "y", 1, XATTR_REPLACE));
	ERR(EINVAL, setxattr("f", "user.one", "y", 1, 8));
	ERR2(EINVAL, EOPNOTSUPP, setxattr("f", "user.", "y", 1, 0));
	ERR(EOPNOTSUPP, setxattr("f", "nonsense", "y", 1, 0));
	ERR(EOPNOTSUPP, setxattr("f", "nonsense.name", "y", 1, 0));
	ERR(EOPNOTSUPP, getxattr("f", "nonsense.name", buf, 10));
	ERR(ERANGE, setxattr("f", "", "y", 1, 0));
	ERR(ENOENT, setxattr("nothing", "user.one", "y", 1, 0));
	ERR(ENOENT, getxattr("nothing", "user.one", buf, 10));
	memset(name, 'n', sizeof(name));
	memcpy(name, "user.", 5);
	name[256] = 0;
	ERR(ERANGE, setxattr("f", name, "y", 1, 0));
	name[255] = 0;
	OK(setxattr("f", name, "long", 4, 0));
	RET(4, getxattr("f", name, buf, sizeof(buf)));
	OK(removexattr("f", name));
	ERR(E2BIG, setxattr("f", "user.big", malloc(XATTR_SIZE_MAX + 1), XATTR_SIZE_MAX + 1, 0));
}

static void xattr_sizes(struct t *t)
{
	static const size_t sizes[] = {1, 100, 255, 256, 1000, 2000, 3000, 3500};
	char name[32];
	uint8_t value[4096], got[4096];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		ops_make(t, name, 10, 1);
		ops_fill(value, sizes[i], i, 0);
		OK(setxattr(name, "user.value", value, sizes[i], 0));
		TRUE(getxattr(name, "user.value", got, sizeof(got)) == (ssize_t)sizes[i] && !memcmp(got, value, sizes[i]));
	}
}

static void xattr_of_64k(struct t *t)
{
	uint8_t *value = malloc(XATTR_SIZE_MAX), *got = malloc(XATTR_SIZE_MAX);

	ops_make(t, "f", 10, 1);
	ops_fill(value, XATTR_SIZE_MAX, 5, 0);
	OK(setxattr("f", "user.big", value, XATTR_SIZE_MAX, 0));
	RET(XATTR_SIZE_MAX, getxattr("f", "user.big", NULL, 0));
	RET(XATTR_SIZE_MAX, getxattr("f", "user.big", got, XATTR_SIZE_MAX));
	TRUE(!memcmp(value, got, XATTR_SIZE_MAX));
	ERR(ERANGE, getxattr("f", "user.big", got, XATTR_SIZE_MAX - 1));
	OK(setxattr("f", "user.big", value, 10, XATTR_REPLACE));
	RET(10, getxattr("f", "user.big", got, XATTR_SIZE_MAX));
}

static void xattr_many(struct t *t)
{
	char name[32];
	int i;

	ops_make(t, "f", 10, 1);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "user.n%03d", i);
		if (setxattr("f", name, name, strlen(name), 0))
			break;
	}
	RET(100, i);
	RET(100, see_names(t, "f"));
	for (i = 0; i < 100; i += 2) {
		snprintf(name, sizeof(name), "user.n%03d", i);
		removexattr("f", name);
	}
	RET(50, see_names(t, "f"));
}

static void xattr_of_directory_and_others(struct t *t)
{
	char buf[16];

	OK(mkdir("d", 0755));
	OK(setxattr("d", "user.one", "value", 5, 0));
	RET(5, getxattr("d", "user.one", buf, sizeof(buf)));
	OK(symlink("d", "l"));
	RET(5, getxattr("l", "user.one", buf, sizeof(buf)));
	ERR(EPERM, lsetxattr("l", "user.two", "x", 1, 0));
	ERR2(ENODATA, EPERM, lgetxattr("l", "user.two", buf, sizeof(buf)));
	OK(mkfifo("p", 0600));
	ERR(EPERM, setxattr("p", "user.two", "x", 1, 0));
	OK(mknod("s", S_IFSOCK | 0600, 0));
	ERR(EPERM, setxattr("s", "user.two", "x", 1, 0));
	OK(rmdir("d"));
}

static void xattr_by_descriptor(struct t *t)
{
	char buf[16];
	int fd = ops_file(t, "f", 10, 1), ro = FD(open("f", O_RDONLY));

	OK(fsetxattr(fd, "user.one", "value", 5, 0));
	RET(5, fgetxattr(ro, "user.one", buf, sizeof(buf)));
	OK(unlink("f"));
	OK(fsetxattr(fd, "user.two", "x", 1, 0));
	RET(1, fgetxattr(fd, "user.two", buf, sizeof(buf)));
	OK(fremovexattr(fd, "user.one"));
	ERR(ENODATA, fgetxattr(ro, "user.one", buf, sizeof(buf)));
}

static void xattr_trusted(struct t *t)
{
	char buf[64];

	ops_make(t, "f", 10, 1);
	OK(chmod("f", 0666));
	OK(setxattr("f", "trusted.overlay.opaque", "y", 1, 0));
	OK(symlink("f", "l"));
	OK(lsetxattr("l", "trusted.on.link", "z", 1, 0));
	RET(1, lgetxattr("l", "trusted.on.link", buf, sizeof(buf)));
	OK(mknod("c", S_IFCHR | 0600, 0));
	OK(setxattr("c", "trusted.dev", "z", 1, 0));
	RET(1, see_names(t, "f"));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(ENODATA, getxattr("f", "trusted.overlay.opaque", buf, sizeof(buf)));
	ERR(EPERM, setxattr("f", "trusted.new", "y", 1, 0));
	ERR(EPERM, removexattr("f", "trusted.overlay.opaque"));
	SEE(see_names(t, "f"));
	ops_become_root(t);
}

static void xattr_security(struct t *t)
{
	/* cap_net_bind_service=ep, as setcap writes it. */
	struct vfs_cap_data cap = {
		.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data = {{.permitted = 1u << CAP_NET_BIND_SERVICE}},
	};
	char buf[64];
	int fd;

	ops_make(t, "f", 10, 1);
	OK(chmod("f", 0777));
	OK(setxattr("f", "security.capability", &cap, sizeof(cap), 0));
	RET(sizeof(cap), getxattr("f", "security.capability", buf, sizeof(buf)));
	TRUE(!memcmp(buf, &cap, sizeof(cap)));
	/* Gone with the first write, whoever writes. */
	fd = FD(open("f", O_RDWR));
	RET(1, pwrite(fd, "x", 1, 0));
	ERR(ENODATA, getxattr("f", "security.capability", buf, sizeof(buf)));
	OK(setxattr("f", "security.capability", &cap, sizeof(cap), 0));
	OK(chown("f", 1, 1));
	ERR(ENODATA, getxattr("f", "security.capability", buf, sizeof(buf)));
	OK(setxattr("f", "security.own", "text", 4, 0));
	RET(4, getxattr("f", "security.own", buf, sizeof(buf)));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, setxattr("f", "security.own", "x", 1, 0));
	RET(4, getxattr("f", "security.own", buf, sizeof(buf)));
	ops_become_root(t);
}

static void xattr_permissions(struct t *t)
{
	char buf[16];

	ops_make(t, "r", 10, 1);
	ops_make(t, "n", 10, 1);
	OK(setxattr("r", "user.one", "value", 5, 0));
	OK(setxattr("n", "user.one", "value", 5, 0));
	OK(chmod("n", 0600));
	OK(mkdir("sticky", 0777));
	OK(chmod("sticky", 01777));
	ops_become(t, OPS_USER, OPS_GROUP);
	RET(5, getxattr("r", "user.one", buf, sizeof(buf)));
	ERR(EACCES, setxattr("r", "user.one", "x", 1, 0));
	ERR(EACCES, removexattr("r", "user.one"));
	ERR(EACCES, getxattr("n", "user.one", buf, sizeof(buf)));
	OK(listxattr("n", NULL, 0));
	ERR(EPERM, setxattr("sticky", "user.one", "x", 1, 0));
	ops_become_root(t);
}

static void xattr_changes_ctime_only(struct t *t)
{
	struct stat a, b;

	ops_make(t, "f", 10, 1);
	OK(stat("f", &a));
	ops_tick();
	OK(setxattr("f", "user.one", "x", 1, 0));
	OK(stat("f", &b));
	TRUE(a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec);
	TRUE(a.st_ctim.tv_sec != b.st_ctim.tv_sec || a.st_ctim.tv_nsec != b.st_ctim.tv_nsec);
	ops_tick();
	OK(removexattr("f", "user.one"));
	OK(stat("f", &a));
	TRUE(a.st_ctim.tv_sec != b.st_ctim.tv_sec || a.st_ctim.tv_nsec != b.st_ctim.tv_nsec);
}

const struct op_case ops_xattr[] = {
	{"xattr_user", xattr_user, 0},
	{"xattr_errors", xattr_errors, 0},
	{"xattr_sizes", xattr_sizes, 0},
	{"xattr_of_64k", xattr_of_64k, 0},
	{"xattr_many", xattr_many, 0},
	{"xattr_of_directory_and_others", xattr_of_directory_and_others, 0},
	{"xattr_by_descriptor", xattr_by_descriptor, 0},
	{"xattr_trusted", xattr_trusted, OPS_ROOT},
	{"xattr_security", xattr_security, OPS_ROOT},
	{"xattr_permissions", xattr_permissions, OPS_ROOT},
	{"xattr_changes_ctime_only", xattr_changes_ctime_only, 0},
	{NULL, NULL, 0},
};
