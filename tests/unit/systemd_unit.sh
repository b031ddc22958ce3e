#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# systemd accepts the unit, and the unit keeps the order of a shutdown.
command -v systemd-analyze >/dev/null || { echo "skip: systemd-analyze is not installed"; exit 77; }
built=${NVFS_BUILDDIR:-.}/packaging/nvfsd@.service
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# verify wants the program to exist, and it is not installed yet.
printf '#!/bin/sh\n' >"$dir/nvfsd"
chmod +x "$dir/nvfsd"
grep '^ExecStart=.*/nvfsd -f %i$' "$built" || { echo "no ExecStart of nvfsd"; exit 1; }
sed "s|^ExecStart=[^ ]*|ExecStart=$dir/nvfsd|" "$built" >"$dir/nvfsd@.service"
cp "$dir/nvfsd@.service" "$dir/nvfsd@tank.service"
out=$(systemd-analyze --man=no verify "$dir/nvfsd@tank.service" 2>&1)
status=$?
# Only what it says of this unit: others of the machine are not ours to judge.
said=$(printf '%s\n' "$out" | grep nvfs)
if [ $status -ne 0 ] || [ -n "$said" ]; then
	printf '%s\n' "$out"
	# Without /run/systemd and its units systemd-analyze itself fails.
	[ -z "$said" ] && { echo "skip: systemd-analyze verify does not work here"; exit 77; }
	exit 1
fi
for before in local-fs-pre.target remote-fs-pre.target kubelet.service shutdown.target; do
	grep '^Before=' "$built" | grep -qw "$before" || { echo "not before $before"; exit 1; }
done
grep -qx 'DefaultDependencies=no' "$built" && grep -qx 'Conflicts=shutdown.target' "$built"
