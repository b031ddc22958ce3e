/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of names without asking RocksDB: the last places that were found free, and entries that are there.
 * Reactor thread only, but for making and freeing.
 */
#ifndef NVFS_META_KNOWN_H
#define NVFS_META_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode;
struct known;       /* of a subvolume */
struct known_names; /* 4 MiB at most: of all subvolumes of a reactor */
struct subvol;

struct names_entry {
	uint64_t cookie; /* of the name; when it is not there, of the place that it would get */
	uint64_t ino;
	uint32_t mode;   /* type bits only */
	uint8_t probe;   /* how far that is from the name's own cookie */
};

int known_names_create(struct known_names **out); /* 0 or -ENOMEM */
void known_names_destroy(struct known_names *names); /* NULL is fine */

/* names outlives it. 0 or -ENOMEM. On the reactor's thread. */
int known_create(struct known_names *names, struct known **out);
void known_destroy(struct known *known); /* any thread; NULL is fine */

/* The name's entry, or that its place is free, when that is known. cookie is the name's own. */
bool known_there(const struct subvol *sv, const struct inode *dir, uint64_t cookie, const char *name, size_t len,
		 struct names_entry *out);
bool known_free(const struct subvol *sv, const struct inode *dir, uint64_t cookie, struct names_entry *out);

/* The entry is there, as read or as a change that was written left it; or its place is free. */
void known_note(struct subvol *sv, const struct inode *dir, const struct names_entry *entry, const char *name, size_t len);
void known_note_free(struct subvol *sv, const struct inode *dir, const struct names_entry *place);

/* An entry is put there or removed: what was noted of that place is wrong from now on. */
void known_changed(struct subvol *sv, uint64_t dir, uint64_t cookie);

#endif
