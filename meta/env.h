/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RocksDB's way to metafs: an Env named "nvfs-env" that any options string can ask for. One Env
 * serves all pools of the process; the first part of a path says which.
 */
#ifndef NVFS_META_ENV_H
#define NVFS_META_ENV_H

#ifdef __cplusplus
extern "C" {
#endif

#define NVFS_ENV_URI "nvfs-env"
#define NVFS_ENV_PATH_MAX 32

struct metafs;

/*
 * Make mf reachable and register the Env. path (NVFS_ENV_PATH_MAX bytes) becomes the name to open
 * the database by. 0 or -ENOMEM. Any thread.
 */
int env_attach(struct metafs *mf, char *path);

/* After the database is closed. */
void env_detach(const char *path);

/*
 * Compare every block of a table, index and filter included, with its checksum. path: of env_attach(), name: as RocksDB lists it, with
 * a slash. 0; -EBADMSG; -ENOENT: no such file, or it is gone; -EIO; -ENOMEM. Any thread.
 */
int env_verify_table(const char *path, const char *name);

#ifdef __cplusplus
}
#endif

#endif
