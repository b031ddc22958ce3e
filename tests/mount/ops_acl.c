/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX ACLs, through the xattrs that libacl uses. */
#include "config.h"

#include "ops.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#define ACCESS_ACL "system.posix_acl_access"
#define DEFAULT_ACL "system.posix_acl_default"
#define NO_ID 0xffffffffu
#define MAX_ENTRIES 8

struct acl {
	uint32_t version;
	struct posix_acl_xattr_entry e[MAX_ENTRIES];
	unsigned count; /* not part of the xattr */
};

static void add(struct acl *a, unsigned tag, unsigned perm, uint32_t id)
{
	a->version = POSIX_ACL_XATTR_VERSION;
	a->e[a->count].e_tag = (uint16_t)tag;
	a->e[a->count].e_perm = (uint16_t)perm;
	a->e[a->count++].e_id = id;
}

/* user::UO, user:U:UP, group::GO, mask::M, other::O; without the named user when U is NO_ID. */
static struct acl acl(unsigned uo, uint32_t u, unsigned up, unsigned go, unsigned m, unsigned o)
{
	struct acl a = {0};

	add(&a, ACL_USER_OBJ, uo, NO_ID);
	if (u != NO_ID)
		add(&a, ACL_USER, up, u);
	add(&a, ACL_GROUP_OBJ, go, NO_ID);
	if (u != NO_ID)
		add(&a, ACL_MASK, m, NO_ID);
	add(&a, ACL_OTHER, o, NO_ID);
	return a;
}

static int set(const char *path, const char *name, struct acl a)
{
	return setxattr(path, name, &a, sizeof(a.version) + a.count * sizeof(a.e[0]), 0);
}

static void see_acl(struct t *t, const char *path, const char *name)
{
	struct acl a = {0};
	ssize_t n = getxattr(path, name, &a, sizeof(a.version) + sizeof(a.e));

	if (n < 0) {
		ops_log(t, "%s of %s = %s", name, path, strerror(errno));
		return;
	}
	for (size_t i = 0; i < ((size_t)n - sizeof(a.version)) / sizeof(a.e[0]); i++)
		ops_log(t, "%s of %s: tag %x perm %o id %x", name, path, a.e[i].e_tag, a.e[i].e_perm, a.e[i].e_id);
}

/* Permission bits of the entry, or -1. */
static int perm_in(const char *path, const char *name, unsigned tag)
{
	struct acl a = {0};
	ssize_t n = getxattr(path, name, &a, sizeof(a.version) + sizeof(a.e));

	for (size_t i = 0; n > 0 && i < ((size_t)n - sizeof(a.version)) / sizeof(a.e[0]); i++)
		if (a.e[i].e_tag == tag)
			return a.e[i].e_perm;
	return -1;
}

static void need_acls(struct t *t)
{
	OK(mkdir("probe", 0755));
	if (set("probe", ACCESS_ACL, acl(7, OPS_USER, 7, 5, 7, 5)) && errno == EOPNOTSUPP && ops_fs(t) != OPS_FS_FUSE)
		ops_skip(t, "no POSIX ACLs here");
	OK(rmdir("probe"));
}

static void acl_grants(struct t *t)
{
	need_acls(t);
	ops_make(t, "f", 100, 1);
	OK(chmod("f", 0600));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EACCES, open("f", O_RDONLY));
	ops_become_root(t);
	OK(set("f", ACCESS_ACL, acl(6, OPS_USER, 6, 0, 6, 0)));
	/* The group bits show the mask. */
	RET(0660, ops_mode("f"));
	ops_become(t, OPS_USER, OPS_GROUP);
	close(FD(open("f", O_RDWR)));
	ops_become(t, OPS_OTHER, 0);
	ERR(EACCES, open("f", O_RDONLY));
	ops_become_root(t);
	see_acl(t, "f", ACCESS_ACL);
	OK(set("f", ACCESS_ACL, acl(6, OPS_USER, 6, 0, 4, 0)));
	ops_become(t, OPS_USER, OPS_GROUP);
	close(FD(open("f", O_RDONLY)));
	ERR(EACCES, open("f", O_WRONLY));
	ops_become_root(t);
	OK(removexattr("f", ACCESS_ACL));
	ops_see_stat(t, "f");
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EACCES, open("f", O_RDWR));
	ops_become_root(t);
}

static void acl_and_chmod(struct t *t)
{
	need_acls(t);
	ops_make(t, "f", 100, 1);
	OK(set("f", ACCESS_ACL, acl(6, OPS_USER, 6, 4, 6, 4)));
	RET(0664, ops_mode("f"));
	/* chmod of the group bits moves the mask, not the group's own entry. */
	OK(chmod("f", 0640));
	RET(4, perm_in("f", ACCESS_ACL, ACL_MASK));
	RET(4, perm_in("f", ACCESS_ACL, ACL_GROUP_OBJ));
	RET(0, perm_in("f", ACCESS_ACL, ACL_OTHER));
	OK(chmod("f", 0707));
	RET(0, perm_in("f", ACCESS_ACL, ACL_MASK));
	RET(7, perm_in("f", ACCESS_ACL, ACL_USER_OBJ));
	RET(6, perm_in("f", ACCESS_ACL, ACL_USER));
	see_acl(t, "f", ACCESS_ACL);
	ops_see_stat(t, "f");
}

static void acl_minimal_is_mode(struct t *t)
{
	need_acls(t);
	ops_make(t, "f", 100, 1);
	OK(set("f", ACCESS_ACL, acl(7, NO_ID, 0, 5, 0, 1)));
	RET(0751, ops_mode("f"));
	ERR(ENODATA, getxattr("f", ACCESS_ACL, NULL, 0));
	ops_see_stat(t, "f");
}

static void acl_default_on_files(struct t *t)
{
	need_acls(t);
	OK(mkdir("d", 0755));
	OK(set("d", DEFAULT_ACL, acl(7, OPS_USER, 6, 5, 7, 4)));
	RET(0755, ops_mode("d"));
	umask(077);
	/* The umask does not count below a default ACL; the mode of open does. */
	close(FD(open("d/f", O_CREAT | O_RDWR, 0666)));
	RET(0664, ops_mode("d/f"));
	RET(6, perm_in("d/f", ACCESS_ACL, ACL_MASK));
	RET(6, perm_in("d/f", ACCESS_ACL, ACL_USER));
	RET(5, perm_in("d/f", ACCESS_ACL, ACL_GROUP_OBJ));
	close(FD(open("d/g", O_CREAT | O_RDWR, 0600)));
	RET(0600, ops_mode("d/g"));
	OK(mkfifo("d/p", 0660));
	OK(mknod("d/n", S_IFREG | 0644, 0));
	OK(symlink("x", "d/l"));
	see_acl(t, "d/f", ACCESS_ACL);
	see_acl(t, "d/g", ACCESS_ACL);
	see_acl(t, "d/p", ACCESS_ACL);
	see_acl(t, "d/n", ACCESS_ACL);
	ops_see_stat(t, "d/f");
	ops_see_stat(t, "d/g");
	ops_see_stat(t, "d/p");
	ops_see_stat(t, "d/n");
	ops_see_stat(t, "d/l");
}

static void acl_default_on_directories(struct t *t)
{
	need_acls(t);
	OK(mkdir("d", 0755));
	OK(set("d", DEFAULT_ACL, acl(7, OPS_USER, 7, 5, 7, 0)));
	umask(0);
	OK(mkdir("d/e", 0777));
	RET(0770, ops_mode("d/e"));
	RET(7, perm_in("d/e", DEFAULT_ACL, ACL_USER));
	RET(7, perm_in("d/e", ACCESS_ACL, ACL_USER));
	OK(mkdir("d/e/g", 0700));
	see_acl(t, "d/e", ACCESS_ACL);
	see_acl(t, "d/e", DEFAULT_ACL);
	see_acl(t, "d/e/g", ACCESS_ACL);
	see_acl(t, "d/e/g", DEFAULT_ACL);
	ops_see_stat(t, "d/e");
	ops_see_stat(t, "d/e/g");
	close(FD(open("d/e/g/f", O_CREAT | O_RDWR, 0666)));
	RET(7, perm_in("d/e/g/f", ACCESS_ACL, ACL_USER));
	see_acl(t, "d/e/g/f", ACCESS_ACL);
	OK(removexattr("d/e/g", DEFAULT_ACL));
	close(FD(open("d/e/g/h", O_CREAT | O_RDWR, 0666)));
	ERR(ENODATA, getxattr("d/e/g/h", ACCESS_ACL, NULL, 0));
}

static void acl_default_minimal(struct t *t)
{
	need_acls(t);
	OK(mkdir("d", 0755));
	OK(set("d", DEFAULT_ACL, acl(7, NO_ID, 0, 5, 0, 0)));
	umask(0);
	close(FD(open("d/f", O_CREAT | O_RDWR, 0666)));
	RET(0640, ops_mode("d/f"));
	ERR(ENODATA, getxattr("d/f", ACCESS_ACL, NULL, 0));
	OK(mkdir("d/e", 0777));
	RET(0750, ops_mode("d/e"));
	see_acl(t, "d/e", DEFAULT_ACL);
}

static void acl_default_and_tmpfile(struct t *t)
{
	char path[64];
	int fd;

	need_acls(t);
	OK(mkdir("d", 0755));
	OK(set("d", DEFAULT_ACL, acl(7, OPS_USER, 6, 5, 7, 4)));
	umask(077);
	fd = FD(open("d", O_TMPFILE | O_RDWR, 0666));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "d/f", AT_SYMLINK_FOLLOW));
	RET(0664, ops_mode("d/f"));
	RET(6, perm_in("d/f", ACCESS_ACL, ACL_USER));
	see_acl(t, "d/f", ACCESS_ACL);
}

static void acl_errors(struct t *t)
{
	struct acl a = acl(6, OPS_USER, 6, 4, 6, 4);

	need_acls(t);
	ops_make(t, "f", 100, 1);
	OK(mkdir("d", 0755));
	ERR(EACCES, set("f", DEFAULT_ACL, a));
	ERR(ENODATA, getxattr("f", ACCESS_ACL, NULL, 0));
	ERR(ENODATA, getxattr("d", DEFAULT_ACL, NULL, 0));
	SEE(removexattr("d", DEFAULT_ACL));
	SEE(removexattr("f", ACCESS_ACL));
	a.version = 7;
	ERR2(EOPNOTSUPP, EINVAL, set("f", ACCESS_ACL, a));
	a = acl(6, OPS_USER, 6, 4, 6, 4);
	a.count--;
	ERR(EINVAL, set("f", ACCESS_ACL, a));
	a = acl(6, OPS_USER, 6, 4, 6, 4);
	a.e[3].e_tag = ACL_OTHER;
	ERR(EINVAL, set("f", ACCESS_ACL, a));
	a = acl(6, OPS_USER, 9, 4, 6, 4);
	ERR(EINVAL, set("f", ACCESS_ACL, a));
	RET(0644, ops_mode("f"));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EPERM, set("f", ACCESS_ACL, acl(6, OPS_USER, 6, 4, 6, 4)));
	ERR(EPERM, removexattr("f", ACCESS_ACL));
	ops_become_root(t);
}

static void acl_clears_sgid(struct t *t)
{
	need_acls(t);
	OK(chmod(".", 0777));
	ops_make(t, "f", 100, 1);
	OK(chown("f", OPS_USER, OPS_OTHER_GROUP));
	OK(chmod("f", 02755));
	ops_become(t, OPS_USER, OPS_GROUP);
	OK(set("f", ACCESS_ACL, acl(7, OPS_OTHER, 5, 5, 5, 5)));
	ops_become_root(t);
	RET(0755, ops_mode("f"));
	ops_see_stat(t, "f");
}

static void acl_in_sgid_directory(struct t *t)
{
	need_acls(t);
	OK(mkdir("d", 0777));
	OK(chown("d", 0, OPS_OTHER_GROUP));
	OK(chmod("d", 02777));
	OK(set("d", DEFAULT_ACL, acl(7, OPS_USER, 7, 7, 7, 5)));
	ops_see_stat(t, "d");
	ops_become(t, OPS_USER, OPS_GROUP);
	ops_make(t, "d/f", 10, 1);
	OK(mkdir("d/e", 0777));
	ops_become_root(t);
	ops_see_stat(t, "d/f");
	ops_see_stat(t, "d/e");
	see_acl(t, "d/f", ACCESS_ACL);
	RET(02775, ops_mode("d/e"));
}

static void acl_listed(struct t *t)
{
	char list[1024];
	ssize_t n;
	bool found = false;

	need_acls(t);
	OK(mkdir("d", 0755));
	OK(set("d", DEFAULT_ACL, acl(7, OPS_USER, 7, 5, 7, 5)));
	n = listxattr("d", list, sizeof(list));
	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1)
		found = found || !strcmp(p, DEFAULT_ACL);
	TRUE(found);
}

const struct op_case ops_acl[] = {
	{"acl_grants", acl_grants, OPS_ROOT},
	{"acl_and_chmod", acl_and_chmod, 0},
	{"acl_minimal_is_mode", acl_minimal_is_mode, 0},
	{"acl_default_on_files", acl_default_on_files, 0},
	{"acl_default_on_directories", acl_default_on_directories, 0},
	{"acl_default_minimal", acl_default_minimal, 0},
	{"acl_default_and_tmpfile", acl_default_and_tmpfile, 0},
	{"acl_errors", acl_errors, OPS_ROOT},
	{"acl_clears_sgid", acl_clears_sgid, OPS_ROOT},
	{"acl_in_sgid_directory", acl_in_sgid_directory, OPS_ROOT},
	{"acl_listed", acl_listed, 0},
	{NULL, NULL, 0},
};
