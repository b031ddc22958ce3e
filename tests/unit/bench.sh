#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# bench/run without a measurement: it names its cases and sides, refuses what it does not know, and makes of given samples the
# medians, ratios, verdicts, JSON and picture that it says.
cd "${NVFS_SRCDIR:-$(dirname "$0")/../..}" || exit 1
command -v python3 >/dev/null || { echo "skip: python3 is not installed"; exit 77; }
listed=$(python3 bench/run --list) || exit 1
for name in random sequential sync8 fdatasync onefile names smallfiles tree sqlite pgbench idle growth many clones moments sweep neighbours limits databases; do
	echo "$listed" | grep -q "^$name " || { echo "no case $name"; exit 1; }
	grep -q "^| $name |" docs/performance.md || { echo "docs/performance.md does not name the case $name"; exit 1; }
done
[ "$(echo "$listed" | tail -1)" = "sides: xfs ext4 nvfs nvfs-pdio null null-pdio juicefs ntfs-3g" ] || { echo "$listed"; exit 1; }
python3 bench/run -n --case nosuch 2>&1 | grep -q 'no case nosuch' || { echo "takes an unknown case"; exit 1; }
python3 -B - <<'END'
import json
import sys
import xml.dom.minidom

sys.path.insert(0, 'bench')
from nvbench import picture, report, sides

results = report.Results()
for side, values in {'xfs': [100, 300, 200], 'nvfs': [150, 170, 10], 'null': [400]}.items():
    for value in values:
        results.add('disk', 'overwrite 4k + fdatasync', side, value)
        results.add('memory', 'create x1', side, value)
results.add('disk', 'resident idle', 'nvfs', 65)
for figure, value in ('randread 4k: clone', 91), ('randread 4k: plain', 100), ('snapshot of 2M files: ms', 20), \
        ('writes + fsyncs: beside a limited writer', 95), ('writes + fsyncs, before a limited writer: alone', 100), \
        ('p99 of fsync beside a limited writer: times alone', 1.5), ('limited to 500 writes/s: off by %', 6):
    results.add('disk', figure, 'nvfs', value)
for figure, nvfs, xfs in ('writes + fsyncs: beside a storm of creates', 80, 9), \
        ('writes + fsyncs, before a storm of creates: alone', 100, 20), ('p99 of fsync beside a storm of creates: times alone', 2.5, 12):
    results.add('disk', figure, 'nvfs', nvfs)
    results.add('disk', figure, 'xfs', xfs)
order = results.sides(sides.ALL)
assert order == ['xfs', 'nvfs', 'null'], order
rows = report.table(results, order)
assert rows[0] == ['case', 'xfs', 'nvfs', 'null', 'nvfs/xfs', 'nvfs/null'], rows[0]
assert rows[1] == ['disk: overwrite 4k + fdatasync', '200', '150', '400', '0.75', '0.38'], rows[1]
said = '\n'.join(' '.join(line.split()) for line in report.required_lines(report.required_rows(results)))
for line in ('pass disk: overwrite 4k + fdatasync 0.75 of xfs >= 0.7',
             'FAR BELOW (0.62 of its number) memory: create x1 0.38 of null >= 0.6',
             'below (0.98 of its number) nvfsd resident idle 65 MiB <= 64',
             'pass disk: randread 4k: clone 0.91 of plain >= 0.9',
             'pass disk: writes + fsyncs: beside a limited writer 0.95 of alone >= 0.9',
             'pass p99 of fsync beside a limited writer: times alone 1.50 times <= 2',
             'below (0.89 of its number) disk: writes + fsyncs: beside a storm of creates 0.80 of alone (xfs 0.45) >= 0.9',
             'below (0.80 of its number) p99 of fsync beside a storm of creates: times alone 2.50 times (xfs 12.00) <= 2',
             'below (0.83 of its number) limited to 500 writes/s: off by % 6.00 % <= 5',
             'FAR BELOW (0.50 of its number) snapshot of 2M files: ms 20 ms <= 10'):
    assert line in said, said
machine = {'cpu': 'a & b', 'cores': 2, 'kernel': '6'}
kept = json.loads(json.dumps(report.as_json(results, machine, {}, order, [], {}, {})))
assert kept['figures'][0]['samples']['xfs'] == [100, 300, 200] and kept['figures'][0]['nvfs_of_xfs'] == 0.75, kept
drawn = xml.dom.minidom.parseString('\n'.join(picture.draw(results, order, {s: s for s in order}, machine)))
assert len(drawn.getElementsByTagName('title')) == 10, 'a dot for each side of each row'
END
