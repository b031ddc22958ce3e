# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured of many subvolumes, snapshots and clones: of nvfs alone, its figures beside each other or a limit."""

import json
import os
import statistics
import time

from . import cases, host


def milliseconds(function, *arguments, **fields):
    start = time.monotonic()
    function(*arguments, **fields)
    return (time.monotonic() - start) * 1000


class SubvolumeCase(cases.Case):
    sides = ('nvfs',)
    quick = False
    share = 0.05        # the subvolume that each side has is not the one that is measured


class Many(SubvolumeCase):
    name = 'many'
    about = '1,000 subvolumes, 200 mounted: create + mount, list, ms; memory of each, KiB; CPU of idle ones, ms/s'
    storages = ('memory',)
    subvolumes = 1000
    mounted = 200
    files = 500

    def prepare(self):
        """Files of 0 to 16 KiB, as a tar."""
        source = os.path.join(self.context.work, 'many-source')
        self.tar = os.path.join(self.context.work, 'many.tar')
        os.makedirs(source)
        for i in range(self.files):
            with open(os.path.join(source, f'file-{i}'), 'wb') as f:
                f.write(os.urandom(i % 17 * 1024))
        host.run(['tar', '-C', source, '-cf', self.tar, '.'])

    def run(self, side):
        # What RocksDB and the buffers of requests need at first use is not theirs.
        self.use(side.mnt)
        side.settle()
        for i in range(self.mounted, self.subvolumes):
            side.create(f'v{i}', '--size', '2M', '--thin')
        before = side.resident_mib()
        taken = [milliseconds(self.create_and_mount, side, f'v{i}') for i in range(self.mounted)]
        yield 'create + mount: median ms', statistics.median(taken)
        yield 'create + mount: slowest ms', max(taken)
        time.sleep(10)  # what was just made is committed by then
        yield 'each mounted, idle: KiB', (side.resident_mib() - before) * 1024 / self.mounted
        yield 'all mounted, idle: CPU ms/s', self.cpu_ms(side, 10)
        yield 'list of 1,000: ms', statistics.median(
            milliseconds(side.nvfs, 'subvolume', 'list', side.pool) for _ in range(5))
        # Dirty data is the pool's, with a cap of its own: it does not gather here.
        for i in range(self.mounted):
            self.use(side.directory(f'v{i}'))
            side.settle()
        yield 'each mounted, used: KiB', (side.resident_mib() - before) * 1024 / self.mounted

    @staticmethod
    def create_and_mount(side, name):
        side.create(name, '--size', '8M', '--thin')
        side.mount(name)

    def use(self, directory):
        host.run(['tar', '-C', directory, '-xf', self.tar])
        host.run(['ls', '-l', directory])

    @staticmethod
    def cpu_ms(side, seconds):
        def ticks():
            pids = dict.fromkeys(side.pids())
            fields = [host.read(f'/proc/{pid}/stat').rsplit(')', 1)[1].split() for pid in pids]
            return sum(int(f[11]) + int(f[12]) for f in fields)
        start = ticks()
        time.sleep(seconds)
        return (ticks() - start) * 1000 / os.sysconf('SC_CLK_TCK') / seconds


class Clones(SubvolumeCase, cases.FioCase):
    name = 'clones'
    about = '4 KiB random, direct, queue depth 32, on a clone, its origin and a plain subvolume, each overwritten once; IOPS'
    turns = 3

    def run(self, side):
        mib = 128 if self.context.quick else 256
        for name in ('origin', 'plain'):
            side.create(name, '--size', f'{mib * 2}M', '--thin')
            side.mount(name)
            self.overwrite(side.directory(name), mib)
        side.settle()
        side.nvfs('snapshot', 'create', f'{side.pool}:origin@base')
        side.nvfs('clone', f'{side.pool}:origin@base', f'{side.pool}:clone')
        side.mount('clone')
        for name in ('clone', 'origin', 'plain'):
            self.overwrite(side.directory(name), mib)
        side.settle()
        for _ in range(self.turns):
            for name in ('plain', 'origin', 'clone'):
                for rw in ('read', 'write'):
                    yield f'rand{rw} 4k: {name}', self.random(side.directory(name), rw, mib)

    @staticmethod
    def overwrite(directory, mib):
        cases.fio_in(directory, '--rw=write', '--bs=1m', '--direct=1', '--ioengine=psync', f'--size={mib}m',
                     '--end_fsync=1', '--refill_buffers')

    def random(self, directory, rw, mib):
        job = cases.fio_in(directory, f'--rw=rand{rw}', '--bs=4k', '--direct=1', '--ioengine=libaio', '--iodepth=32',
                           f'--size={mib}m', '--time_based', '--ramp_time=1', f'--runtime={self.context.seconds}')
        return job[rw]['iops']


class MillionsCase(SubvolumeCase, cases.MetaCase):
    """`files` are made by bench/metaload in a subvolume of their own; --files says how many."""
    storages = ('disk',)
    rounds = 1
    files = 0

    def __init__(self, context):
        super().__init__(context)
        self.files = context.files or self.files
        self.inodes = self.files + self.files // 5 + 100000

    def fill(self, side, name):
        side.create(name, '--size', '2G', '--thin', '--inodes', str(self.files + 1000))
        side.mount(name)
        host.run([os.path.join(self.context.build, 'bench', 'metaload'), f'-n{self.files}', '-s900',
                  side.directory(name), 'grow'], timeout=1000)
        side.settle()


class Moments(MillionsCase):
    name = 'moments'
    about = 'snapshot and clone of 2 million files, and of none, mounted, without dirty data; ms'
    files = 2_000_000
    times = 15

    def run(self, side):
        side.nvfs('pool', 'set', side.pool, '--overcommit', '2000')  # of clones, each as large as its origin
        self.fill(side, 'full')
        side.create('empty', '--size', '16M', '--thin')
        side.mount('empty')
        side.settle()
        many = f'of {self.files / 1e6:g}M files'
        for name, what in (('empty', 'of no files'), ('full', many)):
            yield f'snapshot {what}: ms', statistics.median(
                milliseconds(side.ask, 'snapshot.create', snapshots=[{'subvolume': name, 'snapshot': f's{i}'}])
                for i in range(self.times))
            yield f'clone {what}: ms', statistics.median(
                milliseconds(side.ask, 'clone.create', subvolume=name, snapshot=f's{i}', name=f'{name}-{i}')
                for i in range(self.times))


class Sweep(MillionsCase, cases.FioCase):
    name = 'sweep'
    about = '4 KiB random, direct, queue depth 32, alone and while a snapshot of 1 million files is deleted; IOPS'
    files = 1_000_000
    patience = 900      # s, for the sweep

    def missing(self):
        return cases.MetaCase.missing(self) or cases.FioCase.missing(self)

    def run(self, side):
        self.fill(side, 'full')
        side.nvfs('snapshot', 'create', f'{side.pool}:full@gone')
        side.create('busy', '--size', '512M', '--thin')
        side.mount('busy')
        Clones.overwrite(side.directory('busy'), 256)
        side.settle()
        alone = [self.mixed(side) for _ in range(self.context.seconds)]
        side.nvfs('--yes', 'snapshot', 'delete', f'{side.pool}:full@gone')
        beside = []
        began = time.monotonic()
        while self.sweeps(side):
            iops = self.mixed(side)
            if self.sweeps(side) or not beside:
                beside.append(iops)
            if time.monotonic() - began > self.patience:
                raise host.Failed(f'the snapshot is not swept after {self.patience} s')
        if not beside:
            raise host.Failed('the sweep ended before anything was measured: more --files')
        yield 'random 4k: alone', statistics.median(alone)
        yield 'random 4k: beside a sweep', statistics.median(beside)
        yield 'sweep: s', time.monotonic() - began

    @staticmethod
    def sweeps(side):
        return json.loads(side.nvfs('pool', 'show', side.pool, '--json'))['sweeps']

    @staticmethod
    def mixed(side):
        job = cases.fio_in(side.directory('busy'), '--rw=randrw', '--bs=4k', '--direct=1', '--ioengine=libaio',
                           '--iodepth=32', '--size=256m', '--time_based', '--runtime=1')
        return job['read']['iops'] + job['write']['iops']


ALL = [Many, Clones, Moments, Sweep]
