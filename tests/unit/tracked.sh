#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What is in the repository was written by people: no file of a test or a benchmark went in by mistake, and no source outgrew a room.
cd "${NVFS_SRCDIR:-$(dirname "$0")/../..}" || exit 1
command -v git >/dev/null && git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1 || { echo "skip: not a clone of the repository"; exit 77; }
git -c safe.directory='*' ls-files -z | xargs -0 stat -c '%s %n' | awk '
	$1 > 262144 { print $2 " has " $1 " bytes: not something that a person wrote?"; status = 1 }
	END { exit status }' || exit 1
git -c safe.directory='*' ls-files -z -- '*.c' '*.h' '*.cc' '*.py' '*.sh' | xargs -0 wc -l | awk '
	$2 != "total" && $1 >= 1000 { print $2 " has " $1 " lines, and may have 999"; status = 1 }
	END { exit status }'
