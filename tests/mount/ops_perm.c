/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may do what: permission bits, sticky and set-group-id directories, seen as ordinary users. */
#include "config.h"

#include "ops.h"

#include <sys/sysmacros.h>

static void access_bits(struct t *t)
{
	OK(chmod(".", 0755));
	ops_make(t, "f", 100, 1);
	OK(chown("f", OPS_USER, OPS_GROUP));
	OK(chmod("f", 0640));
	ops_become(t, OPS_USER, OPS_OTHER_GROUP);
	close(FD(open("f", O_RDWR)));
	ERR(EACCES, open("new", O_CREAT | O_RDWR, 0644));
	ERR(EACCES, mkdir("new", 0755));
	ERR(EACCES, symlink("x", "new"));
	ERR(EACCES, link("f", "new"));
	ERR(EACCES, rename("f", "g"));
	ERR(EACCES, unlink("f"));
	ERR(EACCES, eaccess("f", X_OK));
	ops_become(t, OPS_OTHER, OPS_GROUP);
	close(FD(open("f", O_RDONLY)));
	ERR(EACCES, open("f", O_WRONLY));
	ERR(EACCES, truncate("f", 0));
	ops_become(t, OPS_OTHER, OPS_OTHER_GROUP);
	ERR(EACCES, open("f", O_RDONLY));
	ERR(EACCES, open("f", O_WRONLY | O_TRUNC));
	ERR(EPERM, chmod("f", 0777));
	OK(eaccess("f", F_OK));
	ops_become_root(t);
	RET(100, ops_size("f"));
}

static void owner_is_bound_by_his_bits(struct t *t)
{
	OK(chmod(".", 0777));
	ops_become(t, OPS_USER, OPS_GROUP);
	ops_make(t, "f", 100, 1);
	OK(chmod("f", 0066));
	ERR(EACCES, open("f", O_RDONLY));
	ERR(EACCES, open("f", O_WRONLY));
	OK(chmod("f", 0600));
	close(FD(open("f", O_RDWR)));
	ops_become_root(t);
	OK(chmod("f", 0));
	close(FD(open("f", O_RDWR)));
}

static void search_and_read_of_directories(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 100, 1);
	OK(chmod("d", 0711));
	ops_become(t, OPS_USER, OPS_GROUP);
	ERR(EACCES, open("d", O_RDONLY | O_DIRECTORY));
	close(FD(open("d/f", O_RDONLY)));
	ops_become_root(t);
	OK(chmod("d", 0744));
	ops_become(t, OPS_USER, OPS_GROUP);
	close(FD(open("d", O_RDONLY | O_DIRECTORY)));
	ERR(EACCES, open("d/f", O_RDONLY));
	ERR(EACCES, open("d/nothing", O_RDONLY));
	ERR(EACCES, chdir("d"));
	ops_become_root(t);
	OK(chmod("d", 0));
	OK(chdir("d"));
}

static void permission_change_is_seen_at_once(struct t *t)
{
	OK(mkdir("d", 0777));
	OK(chmod("d", 0777));
	ops_make(t, "d/f", 100, 1);
	for (int i = 0; i < 20; i++) {
		OK(chmod("d/f", 0600));
		ops_become(t, OPS_USER, OPS_GROUP);
		ERR(EACCES, open("d/f", O_RDONLY));
		ops_become_root(t);
		OK(chmod("d/f", 0644));
		ops_become(t, OPS_USER, OPS_GROUP);
		close(FD(open("d/f", O_RDONLY)));
		ops_become_root(t);
	}
}

static void open_descriptor_outlives_permission(struct t *t)
{
	int fd;

	OK(chmod(".", 0777));
	ops_become(t, OPS_USER, OPS_GROUP);
	fd = ops_file(t, "f", 5000, 1);
	OK(chmod("f", 0));
	RET(4, pwrite(fd, "more", 4, 5000));
	TRUE(ops_reads_pattern(fd, 0, 5000, 1));
	OK(ftruncate(fd, 100));
	OK(fsync(fd));
	ops_become_root(t);
}

static void sticky_directory(struct t *t)
{
	OK(mkdir("d", 0777));
	OK(chmod("d", 01777));
	OK(mkdir("d/sub", 0777));
	ops_become(t, OPS_USER, OPS_GROUP);
	ops_make(t, "d/mine", 10, 1);
	OK(chmod("d/mine", 0666));
	OK(mkdir("d/mydir", 0777));
	ops_become(t, OPS_OTHER, OPS_OTHER_GROUP);
	ops_make(t, "d/other", 10, 1);
	ERR(EPERM, unlink("d/mine"));
	ERR(EPERM, rmdir("d/mydir"));
	ERR(EPERM, rename("d/mine", "d/x"));
	ERR(EPERM, rename("d/other", "d/mine"));
	ERR(EPERM, renameat2(AT_FDCWD, "d/other", AT_FDCWD, "d/mine", RENAME_EXCHANGE));
	ERR(EPERM, rmdir("d/sub"));
	OK(rename("d/other", "d/other2"));
	OK(unlink("d/other2"));
	ops_become(t, OPS_USER, OPS_GROUP);
	OK(unlink("d/mine"));
	OK(rmdir("d/mydir"));
	ops_become_root(t);
	/* The directory's owner may. */
	OK(chown("d", OPS_USER, OPS_GROUP));
	ops_become(t, OPS_USER, OPS_GROUP);
	OK(rmdir("d/sub"));
	ops_become_root(t);
}

static void sgid_directory_inherits(struct t *t)
{
	struct stat st;

	OK(mkdir("d", 0777));
	OK(chown("d", 0, OPS_OTHER_GROUP));
	OK(chmod("d", 02777));
	ops_become(t, OPS_USER, OPS_GROUP);
	ops_make(t, "d/f", 10, 1);
	OK(mkdir("d/sub", 0755));
	OK(mkfifo("d/p", 0644));
	OK(symlink("x", "d/l"));
	ops_make(t, "d/sub/f", 10, 1);
	ops_become_root(t);
	OK(lstat("d/f", &st));
	TRUE(st.st_gid == OPS_OTHER_GROUP && !(st.st_mode & 02000));
	OK(lstat("d/sub", &st));
	TRUE(st.st_gid == OPS_OTHER_GROUP && (st.st_mode & 02000));
	OK(lstat("d/l", &st));
	TRUE(st.st_gid == OPS_OTHER_GROUP);
	ops_see_stat(t, "d/f");
	ops_see_stat(t, "d/p");
	ops_see_stat(t, "d/l");
	ops_see_stat(t, "d/sub");
	ops_see_stat(t, "d/sub/f");
}

static void sgid_of_new_files_in_sgid_directory(struct t *t)
{
	OK(mkdir("d", 0777));
	OK(chown("d", 0, OPS_OTHER_GROUP));
	OK(chmod("d", 02777));
	umask(0);
	/* Neither member of the directory's group nor privileged: the bit is taken off an executable file. */
	ops_become(t, OPS_USER, OPS_GROUP);
	close(FD(open("d/x", O_CREAT | O_RDWR, 02775)));
	close(FD(open("d/y", O_CREAT | O_RDWR, 02765)));
	ops_become(t, OPS_USER, OPS_OTHER_GROUP);
	close(FD(open("d/z", O_CREAT | O_RDWR, 02775)));
	ops_become_root(t);
	RET(0775, ops_mode("d/x"));
	RET(02775, ops_mode("d/z"));
	ops_see_stat(t, "d/y");
}

static void set_id_files_made_by_user(struct t *t)
{
	OK(chmod(".", 0777));
	umask(0);
	ops_become(t, OPS_USER, OPS_GROUP);
	close(FD(open("f", O_CREAT | O_RDWR, 06755)));
	OK(mkdir("d", 07755));
	OK(mknod("n", S_IFREG | 04755, 0));
	ops_become_root(t);
	ops_see_stat(t, "f");
	ops_see_stat(t, "d");
	ops_see_stat(t, "n");
	RET(06755, ops_mode("f"));
}

static void owner_of_new_entries(struct t *t)
{
	struct stat st;

	OK(chmod(".", 0777));
	ops_become(t, OPS_USER, OPS_OTHER_GROUP);
	ops_make(t, "f", 10, 1);
	OK(mkdir("d", 0755));
	OK(symlink("x", "l"));
	OK(mkfifo("p", 0600));
	close(FD(open(".", O_TMPFILE | O_RDWR, 0600)));
	ops_become_root(t);
	ops_see_stat(t, "f");
	ops_see_stat(t, "d");
	ops_see_stat(t, "l");
	ops_see_stat(t, "p");
	OK(lstat("l", &st));
	TRUE(st.st_uid == OPS_USER && st.st_gid == OPS_OTHER_GROUP);
}

static void protected_parent(struct t *t)
{
	OK(mkdir("d", 0755));
	ops_make(t, "d/f", 10, 1);
	OK(chmod("d/f", 0666));
	ops_become(t, OPS_USER, OPS_GROUP);
	/* The file's bits allow to write it, the directory's don't allow to remove it. */
	OK(truncate("d/f", 3));
	ERR(EACCES, unlink("d/f"));
	ERR(EACCES, rename("d/f", "d/g"));
	ops_become_root(t);
}

static void device_nodes_do_not_open(struct t *t)
{
	/* A mount of nvfs is nodev unless asked otherwise; one that allows devices opens null. */
	long rc;

	OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	rc = open("null", O_RDWR) < 0 ? -errno : 0;
	TRUE(rc >= 0 || rc == -EACCES);
}

static void execute(struct t *t)
{
	int fd = FD(open("run", O_CREAT | O_WRONLY, 0755));

	RET(17, write(fd, "#!/bin/sh\nexit 0\n", 17));
	OK(close(fd));
	RET(0, system("./run"));
	OK(chmod("run", 0644));
	TRUE(system("./run 2>/dev/null") != 0);
	ERR(EACCES, access("run", X_OK));
}

static void execute_binary(struct t *t)
{
	FILE *p;
	int fd;

	RET(0, system("cp /bin/true ./true"));
	RET(0, system("./true"));
	/* A running program cannot be written: start one that waits for its input. */
	RET(0, system("cp /bin/cat ./cat"));
	p = popen("exec ./cat >/dev/null", "w");
	TRUE(p != NULL);
	for (int i = 0; i < 100; i++) {
		fd = open("cat", O_WRONLY);
		if (fd < 0)
			break;
		close(fd);
		ops_tick();
	}
	ERR(ETXTBSY, open("cat", O_WRONLY));
	if (p)
		pclose(p);
	close(FD(open("cat", O_WRONLY)));
}

const struct op_case ops_perm[] = {
	{"access_bits", access_bits, OPS_ROOT},
	{"owner_is_bound_by_his_bits", owner_is_bound_by_his_bits, OPS_ROOT},
	{"search_and_read_of_directories", search_and_read_of_directories, OPS_ROOT},
	{"permission_change_is_seen_at_once", permission_change_is_seen_at_once, OPS_ROOT},
	{"open_descriptor_outlives_permission", open_descriptor_outlives_permission, OPS_ROOT},
	{"sticky_directory", sticky_directory, OPS_ROOT},
	{"sgid_directory_inherits", sgid_directory_inherits, OPS_ROOT},
	{"sgid_of_new_files_in_sgid_directory", sgid_of_new_files_in_sgid_directory, OPS_ROOT},
	{"set_id_files_made_by_user", set_id_files_made_by_user, OPS_ROOT},
	{"owner_of_new_entries", owner_of_new_entries, OPS_ROOT},
	{"protected_parent", protected_parent, OPS_ROOT},
	{"device_nodes_do_not_open", device_nodes_do_not_open, OPS_ROOT},
	{"execute", execute, 0},
	{"execute_binary", execute_binary, 0},
	{NULL, NULL, 0},
};
