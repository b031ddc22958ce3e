# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians, ratios, what the project requires of them, and the table."""

import statistics

# (figures, storages, compared with, at least).
REQUIRED = [
    (['randread 4k qd32 x1', 'randread 4k qd32 x2', 'randwrite 4k qd32 x1', 'randwrite 4k qd32 x2'], ['memory'], 'xfs', 0.8),
    (['randread 4k qd32 x1', 'randread 4k qd32 x2', 'randwrite 4k qd32 x1', 'randwrite 4k qd32 x2'], ['disk'], 'xfs', 0.7),
    (['direct read 1m', 'direct write 1m', 'buffered read 1m', 'buffered write 1m + fsync'], ['disk'], 'xfs', 0.8),
    (['overwrite 4k + fdatasync'], ['disk'], 'xfs', 0.7),
    (['append'], ['memory', 'disk'], 'null', 0.5),
    (['cachedread', 'statcached'], ['memory', 'disk'], 'xfs', 0.95),
    ([f'{op} x{n}' for op in ('create', 'unlink', 'rename', 'mkdir') for n in (1, 4)], ['memory', 'disk'], 'null', 0.6),
]
GROWTH = ('create at 2M files', 'create at 100k files', 0.8)
MEMORY = [('resident idle', 64), ('resident after 2M creates', 512)]
# Of nvfs alone: (figure, at most, unit), and (figure, compared with this one, at least).
AT_MOST = [
    ('create + mount: median ms', 50, 'ms'),
    ('create + mount: slowest ms', 50, 'ms'),
    ('each mounted, idle: KiB', 2048, 'KiB'),
    ('each mounted, used: KiB', 2048, 'KiB'),
    *((f'p99 of fsync beside {what}: times alone', 2, 'times') for what in ('a limited writer', 'a limited storm of creates', 'a storm of creates')),
    *((f'limited to {what}: off by %', 5, '%')
      for what in ('500 writes/s', '500 reads/s', '20 MiB/s in MiB', '2 MiB/s in 4 KiB')),
    *((f'{what} of {files} files: ms', 10, 'ms') for what in ('snapshot', 'clone') for files in ('no', '2M')),
]
BESIDE = [
    *((f'rand{rw} 4k: {name}', f'rand{rw} 4k: plain', 0.9) for rw in ('read', 'write') for name in ('origin', 'clone')),
    *((f'writes + fsyncs: beside {what}', f'writes + fsyncs, before {what}: alone', 0.9)
      for what in ('a limited writer', 'a limited storm of creates', 'a storm of creates')),
    ('randwrite 4k: beside a limited tenant', 'randwrite 4k: alone', 0.9),
    ('random 4k: beside a sweep', 'random 4k: alone', 0.8),
    ('pgbench of two: beside a wild one', 'pgbench of two: alone', 0.9),
]
# A row below this part of its number is far off, not only below.
FLOOR = 0.75


class Results:
    def __init__(self):
        self.samples = {}   # (storage, figure, side) -> [value]
        self.order = []     # (storage, figure)

    def add(self, storage, figure, side, value):
        if (storage, figure) not in self.order:
            self.order.append((storage, figure))
        self.samples.setdefault((storage, figure, side), []).append(value)

    def median(self, storage, figure, side):
        values = self.samples.get((storage, figure, side))
        return statistics.median(values) if values else None

    def ratio(self, storage, figure, side, other):
        a, b = self.median(storage, figure, side), self.median(storage, figure, other)
        return a / b if a is not None and b else None

    def sides(self, order):
        there = {side for _, _, side in self.samples}
        return [side for side in order if side in there]


def verdict(value, needed, at_most=False):
    if value is None:
        return 'not measured'
    part = needed / value if at_most else value / needed
    if part >= 1:
        return 'pass'
    return f'below ({part:.2f} of its number)' if part >= FLOOR else f'FAR BELOW ({part:.2f} of its number)'


def required_rows(results):
    """[{row, value, needed, verdict}] for everything that is required and could be measured here."""
    rows = []
    for figures, storages, other, needed in REQUIRED:
        for storage in storages:
            for figure in figures:
                value = results.ratio(storage, figure, 'nvfs', other)
                rows.append({'row': f'{storage}: {figure}', 'value': value, 'unit': f'of {other}',
                             'needed': f'>= {needed}', 'verdict': verdict(value, needed)})
    late, early, needed = GROWTH
    value = None
    for storage in ('disk', 'memory'):
        a, b = results.median(storage, late, 'nvfs'), results.median(storage, early, 'nvfs')
        value = value or (a / b if a and b else None)
    rows.append({'row': late, 'value': value, 'unit': 'of its rate at 100k', 'needed': f'>= {needed}',
                 'verdict': verdict(value, needed)})
    for figure, most in MEMORY:
        value = worst(results, figure)
        rows.append({'row': f'nvfsd {figure}', 'value': value, 'unit': 'MiB', 'needed': f'<= {most}',
                     'verdict': verdict(value, most, at_most=True)})
    return rows + rows_of_subvolumes(results)


def worst(results, figure, of='nvfs'):
    values = [v for (_, f, side), vs in results.samples.items() if f == figure and side == of for v in vs]
    return max(values) if values else None


def beside_xfs(value):
    """XFS has no number to reach: it shows what the machine allows."""
    return '' if value is None else f' (xfs {ratio_text(value)})'


def part_of(results, storage, figure, other, side):
    a, b = results.median(storage, figure, side), results.median(storage, other, side)
    return a / b if a and b else None


def rows_of_subvolumes(results):
    rows = []
    for figure, most, unit in AT_MOST:
        value = worst(results, figure)
        rows.append({'row': figure, 'value': value, 'unit': unit + beside_xfs(worst(results, figure, 'xfs')), 'needed': f'<= {most}',
                     'verdict': verdict(value, most, at_most=True)})
    for figure, other, needed in BESIDE:
        storages = dict.fromkeys(s for s, f in results.order if f == figure) or {None: None}
        for storage in storages:
            value = part_of(results, storage, figure, other, 'nvfs')
            rows.append({'row': f'{storage}: {figure}' if storage else figure, 'value': value,
                         'unit': 'of ' + other.rsplit(' ', 1)[1] + beside_xfs(part_of(results, storage, figure, other, 'xfs')),
                         'needed': f'>= {needed}',
                         'verdict': verdict(value, needed)})
    return rows


def number(value):
    if value is None:
        return '-'
    if value >= 100000:
        return f'{value / 1000:.0f}K'
    if value >= 1000:
        return f'{value / 1000:.1f}K'
    return f'{value:.0f}' if value >= 20 else f'{value:.2f}'


def ratio_text(value):
    return '-' if value is None else f'{value:.2f}'


def table(results, sides):
    """Rows of text cells, the first is the heading."""
    extra = [s for s in ('nvfs-pdio',) if s in sides]
    rows = [['case', *sides, 'nvfs/xfs', 'nvfs/null', *[f'{s}/xfs' for s in extra]]]
    for storage, figure in results.order:
        cells = [number(results.median(storage, figure, side)) for side in sides]
        ratios = [ratio_text(results.ratio(storage, figure, 'nvfs', other)) for other in ('xfs', 'null')]
        ratios += [ratio_text(results.ratio(storage, figure, s, 'xfs')) for s in extra]
        rows.append([f'{storage}: {figure}', *cells, *ratios])
    return rows


def aligned(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first = row[0].ljust(widths[0])
        yield '  '.join([first, *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]).rstrip()


def required_lines(rows):
    """A line for each that was measured, and how many were not."""
    missing = sum(r['value'] is None for r in rows)
    rows = [r for r in rows if r['value'] is not None]
    cells = [[r['verdict'], r['row'], ratio_text(r['value']) if r['unit'].startswith('of ') else number(r['value']),
              r['unit'], r['needed']] for r in rows]
    widths = [max(len(c[i]) for c in cells) for i in range(5)] if cells else []
    for c in cells:
        yield '  '.join(cell.ljust(w) for cell, w in zip(c, widths)).rstrip()
    if missing:
        yield f'{missing} required rows were not measured in this run'


def markdown(rows):
    yield '| ' + ' | '.join(rows[0]) + ' |'
    yield '|---|' + '---:|' * (len(rows[0]) - 1)
    for row in rows[1:]:
        yield '| ' + ' | '.join(row) + ' |'


def as_json(results, machine, arguments, sides, failures, skipped, facts):
    figures = []
    for storage, figure in results.order:
        figures.append({
            'storage': storage, 'figure': figure,
            'samples': {s: results.samples[storage, figure, s] for s in sides if (storage, figure, s) in results.samples},
            'median': {s: results.median(storage, figure, s) for s in sides if (storage, figure, s) in results.samples},
            'nvfs_of_xfs': results.ratio(storage, figure, 'nvfs', 'xfs'),
            'nvfs_of_null': results.ratio(storage, figure, 'nvfs', 'null'),
        })
    return {'machine': machine, 'arguments': arguments, 'facts': facts, 'figures': figures,
            'required': required_rows(results), 'failures': failures, 'skipped': skipped}
