#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The manual pages are well-formed, each program has one, and each option that a program's --help
# knows stands in its page.
cd "${NVFS_SRCDIR:-$(dirname "$0")/../..}" || exit 1
built=${NVFS_BUILDDIR:-.}
status=0
# What a program says of itself: nvfs for each of its commands.
help_of() {
	"$built/$1" --help 2>&1
	[ "$1" = nvfs ] || return 0
	"$built/nvfs" --help | sed -n 's/^  \([a-z]*\) .*/\1/p' | while read -r group; do
		"$built/nvfs" "$group" --help
		"$built/nvfs" "$group" --help | sed -n "s/^  nvfs $group \([a-z]*\).*/\1/p" | while read -r verb; do
			"$built/nvfs" "$group" "$verb" --help
		done
	done
}
for program in fsck.nvfs mkfs.nvfs mount.nvfs nvfs nvfsd umount.fuse.nvfs; do
	page=docs/man/$program.8
	[ -f "$page" ] || { echo "no manual page for $program"; status=1; continue; }
	[ -x "$built/$program" ] || continue
	for option in $(help_of "$program" | grep -oE -- '--[a-z][a-z-]+' | sort -u); do
		grep -qF -- "Fl -${option#--}" "$page" || { echo "$page: $option is missing"; status=1; }
	done
done
# mount.nvfs says of an unknown option that its page lists them all.
for option in $(sed -n 's/^\t{"\([a-z_]*\)", .*/\1/p; /ignored_options\[\] = {/,/^};/s/"/\n/gp' cli/mount_nvfs.c | grep -xE '[a-z_]+'); do
	grep -qwF -- "$option" docs/man/mount.nvfs.8 || { echo "mount.nvfs.8: $option is missing"; status=1; }
done
# What a page tells the reader to look up is there.
for name in $(sed -n 's/^\.Xr \([a-z.]*nvfs[a-z.]*\) \([58]\).*/\1.\2/p' docs/man/*.[58] | sort -u); do
	[ -f "docs/man/$name" ] || { echo "a page refers to $name, which is missing"; status=1; }
done
[ $status -eq 0 ] || exit 1
command -v mandoc >/dev/null || { echo "skip: mandoc is not installed"; exit 77; }
mandoc -T lint -W warning docs/man/*.[58]
