/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of `limits` in ops.c: {type, case, why that filesystem is right all the same}. */
{OPS_FS_EXT4, "sparse_to_the_limit", "ext4's largest file is 16 TiB"},
{OPS_FS_EXT4, "xattr_of_64k", "ext4 keeps xattrs in one block"},
{OPS_FS_XFS, "symlink_of_4095_exactly", "XFS has symlinks of up to 1,023 bytes"},
{OPS_FS_XFS, "size_and_blocks", "XFS allocates ahead of appending writes"},
{OPS_FS_XFS, "statfs_numbers", "XFS allocates ahead of appending writes"},
{OPS_FS_TMPFS, "mmap_beyond_the_end", "the page is the file there"},
{OPS_FS_TMPFS, "zero_range", "tmpfs has no ZERO_RANGE"},
