# SPDX-License-Identifier: GPL-2.0-or-later
"""One picture, an SVG: each figure relative to XFS, a dot a side, on a logarithmic axis."""

import math
from xml.sax.saxutils import escape

COLOURS = {'xfs': '#888888', 'ext4': '#bbbbbb', 'nvfs': '#c02040', 'nvfs-pdio': '#e08090', 'null': '#2060b0',
           'null-pdio': '#80a8d8', 'juicefs': '#30904a', 'ntfs-3g': '#c08a20'}
ROW, LEFT, WIDTH, TOP, RIGHT = 18, 270, 620, 70, 30
LOW, HIGH = 1 / 64, 4


def x_of(ratio):
    ratio = min(max(ratio, LOW), HIGH)
    return LEFT + WIDTH * (math.log2(ratio) - math.log2(LOW)) / (math.log2(HIGH) - math.log2(LOW))


def grid(height):
    ratio = LOW
    while ratio <= HIGH:
        x = x_of(ratio)
        label = f'{ratio:g}' if ratio >= 1 else f'1/{1 / ratio:g}'
        yield (f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 12}" '
               f'stroke="{"#444" if ratio == 1 else "#ddd"}"/>')
        yield f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle" fill="#444">{label}</text>'
        ratio *= 2


def legend(sides, titles):
    x = 16
    for side in sides:
        yield f'<circle cx="{x}" cy="38" r="5" fill="{COLOURS.get(side, "#000")}"/>'
        yield f'<text x="{x + 9}" y="42">{escape(titles[side])}</text>'
        x += 24 + 6.6 * len(titles[side])


def dots(results, sides, storage, figure, y):
    for side in sorted(sides, key=lambda s: s == 'nvfs'):
        ratio = results.ratio(storage, figure, side, 'xfs')
        if ratio:
            yield (f'<circle cx="{x_of(ratio):.1f}" cy="{y}" r="{5 if side == "nvfs" else 4}" '
                   f'fill="{COLOURS.get(side, "#000")}"><title>{escape(side)} {ratio:.2f}</title></circle>')


def draw(results, sides, titles, machine):
    rows = [(s, f) for s, f in results.order if results.median(s, f, 'xfs') and not f.endswith((': ms', ': times alone'))]
    height = TOP + ROW * len(rows) + 20
    total = LEFT + WIDTH + RIGHT
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" '
           f'font-family="sans-serif" font-size="12">')
    yield f'<rect width="{total}" height="{height}" fill="#fff"/>'
    yield (f'<text x="16" y="20" font-size="14">Relative to XFS on the same backing file (right is faster); '
           f'{escape(machine["cpu"])}, {machine["cores"]} cores, Linux {escape(machine["kernel"])}</text>')
    yield from legend(sides, titles)
    yield from grid(height)
    for i, (storage, figure) in enumerate(rows):
        y = TOP + ROW * i + 10
        if i % 2:
            yield f'<rect x="0" y="{y - ROW / 2}" width="{total}" height="{ROW}" fill="#000" opacity="0.03"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(f"{storage}: {figure}")}</text>'
        yield from dots(results, sides, storage, figure, y)
    yield '</svg>'
