# SPDX-License-Identifier: GPL-2.0-or-later
"""What one tenant costs another, and whether a limit is what it says: alone and beside others in one run."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

from . import cases, host, subvolumes

# Buffered writes with an fsync after each MiB, as a database's checkpoint does: MiB/s, and how long the fsyncs took.
WRITER = '''
import json, os, sys, time
path, seconds, size = sys.argv[1], float(sys.argv[2]), 64 << 20
piece, syncs, done = os.urandom(65536), [], 0
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
start = time.monotonic()
while (taken := time.monotonic() - start) < seconds:
    for _ in range(16):
        os.pwrite(fd, piece, done % size)
        done += len(piece)
    before = time.monotonic()
    os.fsync(fd)
    syncs.append(time.monotonic() - before)
print(json.dumps({'rate': done / taken / 2**20, 'syncs': syncs}))
'''

# Buffered writes as fast as they are taken, for ever.
FLOOD = '''
import os, sys
piece = os.urandom(1 << 20)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
while True:
    for i in range(64):
        os.pwrite(fd, piece, i << 20)
'''


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


class TenantCase(subvolumes.SubvolumeCase):
    rounds = 1
    turns = 3           # alone, beside, alone, beside, ...

    @staticmethod
    def make(side, tenant, mib, *limits, inodes=20000):
        return side.tenant(tenant, mib, *limits, inodes=inodes)


@contextlib.contextmanager
def running(*argv):
    """A program that works beside what is measured."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        time.sleep(1)   # it is past its burst and in its stride
        if process.poll() is not None:
            raise host.Failed(f'{argv[0]}: {process.stderr.read().strip() or process.returncode}')
        yield process
    finally:
        host.end_group(process)


class Neighbours(TenantCase, cases.MetaCase):
    name = 'neighbours'
    inodes = 600000
    about = "buffered writes and fsyncs, alone and beside another tenant's limited writer or storm of creates; MiB/s, p99 ms"
    sides = ('xfs', 'nvfs')     # XFS has no tenants: what the same programs in two directories cost each other on this machine

    def writer(self, directory):
        out = json.loads(host.run([sys.executable, '-c', WRITER, os.path.join(directory, 'data'), str(self.context.seconds)],
                                  timeout=120))
        return out['rate'], percentile(out['syncs'], 0.5) * 1000, percentile(out['syncs'], 0.99) * 1000

    def run(self, side):
        mine, others = (self.tenants if side.name == 'nvfs' else self.directories)(side)
        # What having less of the processors costs, with nobody else on the filesystem.
        others['busy processors'] = lambda n: running('sh', '-c', f'for i in $(seq {os.cpu_count()}); do while :; do :; done & done; wait')
        self.writer(mine)
        for what, other in others.items():
            alone, beside = [], []
            for turn in range(self.turns):
                alone.append(self.writer(mine))
                with other(turn):
                    beside.append(self.writer(mine))
                side.settle()
            yield from self.figures(what, alone, beside)

    def tenants(self, side):
        mine = self.make(side, 'quiet', 128)
        limited = self.make(side, 'limited', 128, '--write-bps', '1M')
        storm = self.make(side, 'storm', 128, inodes=400000)
        slow_storm = self.make(side, 'slow-storm', 128, '--write-iops', '2000', inodes=100000)
        return mine, {
            'a limited writer': lambda n: running(sys.executable, '-c', FLOOD, os.path.join(limited, 'flood')),
            'a limited storm of creates': lambda n: self.storm(slow_storm, n, 40000, 'create'),
            'a storm of creates': lambda n: self.storm(storm, n, 100000, 'create', 'unlink', 'create', 'unlink'),
        }

    def directories(self, side):
        mine, storm = (self.fresh(side.mnt, name) for name in ('quiet', 'storm'))
        return mine, {'a storm of creates': lambda n: self.storm(storm, n, 200000, 'create', 'unlink', 'create', 'unlink')}

    def storm(self, directory, number, count, *phases):
        return running(os.path.join(self.context.build, 'bench', 'metaload'), '-t2', f'-n{count}', '-s600', self.fresh(directory, number),
                       *phases)

    @staticmethod
    def fresh(directory, name):
        path = os.path.join(directory, str(name))
        os.makedirs(path, exist_ok=True)
        return path

    @staticmethod
    def figures(what, alone, beside):
        for rate, _, _ in alone:
            yield f'writes + fsyncs, before {what}: alone', rate
        for rate, _, _ in beside:
            yield f'writes + fsyncs: beside {what}', rate
        for number, name in (1, 'p50'), (2, 'p99'):
            times = [statistics.median(turn[number] for turn in turns) for turns in (alone, beside)]
            yield f'{name} of fsync, before {what}: ms', times[0]
            yield f'{name} of fsync beside {what}: ms', times[1]
            yield f'{name} of fsync beside {what}: times alone', times[1] / times[0]


class Limits(TenantCase, cases.FioCase):
    name = 'limits'
    about = '4 KiB and 1 MiB direct writes and reads of a limited tenant over 10 s, and what it costs another; % off, IOPS'
    limited = (
        # what, options of the limit, fio's, the value in fio's answer, what it should be
        ('500 writes/s', ('--write-iops', '500'), ('--rw=randwrite', '--bs=4k', '--iodepth=8'), ('write', 'iops'), 500),
        ('500 reads/s', ('--read-iops', '500'), ('--rw=randread', '--bs=4k', '--iodepth=8'), ('read', 'iops'), 500),
        ('20 MiB/s in MiB', ('--write-bps', '20M'), ('--rw=write', '--bs=1m', '--iodepth=4'), ('write', 'bw_bytes'), 20 << 20),
        ('2 MiB/s in 4 KiB', ('--write-bps', '2M'), ('--rw=randwrite', '--bs=4k', '--iodepth=1'), ('write', 'bw_bytes'), 2 << 20),
    )

    def run(self, side):
        mine = self.make(side, 'quiet', 128)
        theirs = self.make(side, 'limited', 128)
        for directory in (mine, theirs):
            subvolumes.Clones.overwrite(directory, 64)
        side.settle()
        for what, limit, options, keys, wanted in self.limited:
            side.nvfs('tenant', 'set', f'{side.pool}/limited', *limit)
            job = self.fio(theirs, 10, *options)
            side.nvfs('tenant', 'set', f'{side.pool}/limited', limit[0], 'none')
            got = job[keys[0]][keys[1]]
            yield f'limited to {what}: is', got / wanted
            yield f'limited to {what}: off by %', abs(got / wanted - 1) * 100
        side.nvfs('tenant', 'set', f'{side.pool}/limited', '--write-iops', '500')
        other = [host.find('fio'), *cases.FIO, f'--directory={theirs}', '--filename_format=data.$jobnum', '--rw=randwrite', '--bs=4k',
                 '--iodepth=8', '--direct=1', '--ioengine=libaio', '--size=64m', '--time_based', '--runtime=600']
        for _ in range(self.turns):
            yield 'randwrite 4k: alone', self.mine(mine)
            with running(*other):
                yield 'randwrite 4k: beside a limited tenant', self.mine(mine)

    def mine(self, directory):
        return self.fio(directory, self.context.seconds, '--rw=randwrite', '--bs=4k', '--iodepth=8')['write']['iops']

    @staticmethod
    def fio(directory, seconds, *options):
        return cases.fio_in(directory, '--direct=1', '--ioengine=libaio', '--size=64m', '--time_based', f'--runtime={seconds}', *options)


ALL = [Neighbours, Limits]
