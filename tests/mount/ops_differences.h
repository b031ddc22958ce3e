/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of `differences` in ops.c: {type, case, text in the line or NULL for the whole case, why both are right}. */
{OPS_FS_EXT4, "sparse_to_the_limit", NULL, "ext4's largest file is 16 TiB"},
{OPS_FS_EXT4, "xattr_of_64k", NULL, "ext4 keeps xattrs in one block"},
{OPS_FS_XFS, "symlink_of_4095*", NULL, "XFS has symlinks of up to 1,023 bytes"},
{OPS_FS_XFS, "size_and_blocks", "st.st_blocks", "XFS allocates ahead of appending writes"},
{OPS_FS_XFS, "statfs_numbers", "a.f_bfree * a.f_frsize", "XFS allocates ahead of appending writes"},
{OPS_FS_XFS, "times_of_data", "truncate(\"d/f\", 5000)", "POSIX asks for a new mtime only when the size changes"},
{OPS_FS_TMPFS, "mmap_beyond_the_end", NULL, "the page is the file there"},
{OPS_FS_TMPFS, "zero_range", NULL, "tmpfs has no ZERO_RANGE"},
{OPS_FS_TMPFS, "times_of_data", "ZERO_RANGE", "tmpfs has no ZERO_RANGE"},
{OPS_FS_FUSE, "xattr_trusted", "xattrs of f:", "a server that allows idmapped mounts is not told who asks for the names"},
{OPS_FS_FUSE, "chown_clears_setid", "stat f:", "Linux tells no FUSE server of a chown that changes nothing"},
{OPS_FS_FUSE, "xattr_trusted", "see_names(t, \"f\")", "a server that allows idmapped mounts is not told who asks for the names"},
