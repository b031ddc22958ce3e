#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The manual pages are well-formed, and each program that is built has one.
cd "${NVFS_SRCDIR:-$(dirname "$0")/../..}" || exit 1
command -v mandoc >/dev/null || { echo "skip: mandoc is not installed"; exit 77; }
status=0
mandoc -T lint -W warning docs/man/*.[58] || status=1
for program in fsck.nvfs mkfs.nvfs mount.nvfs nvfs nvfsd umount.fuse.nvfs; do
	[ -f "docs/man/$program.8" ] || { echo "no manual page for $program"; status=1; }
done
# What a page tells the reader to look up is there.
for name in $(sed -n 's/^\.Xr \([a-z.]*nvfs[a-z.]*\) \([58]\).*/\1.\2/p' docs/man/*.[58] | sort -u); do
	[ -f "docs/man/$name" ] || { echo "a page refers to $name, which is missing"; status=1; }
done
exit $status
