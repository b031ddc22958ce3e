# SPDX-License-Identifier: GPL-2.0-or-later
"""
What is measured. A case gets a freshly made, mounted side and returns {figure: value}, every value
a rate (more is better). Cases say which sides and storages are theirs, and how often they run.
"""

import json
import os
import pwd
import re
import shutil
import statistics
import sys
import time

from . import host

CORE = ('xfs', 'ext4', 'nvfs', 'null')
PEERS = ('juicefs', 'ntfs-3g')
KERNEL_AND_NVFS = ('xfs', 'ext4', 'nvfs')   # for what reads its data back: the null server keeps none


class Case:
    name = ''
    about = ''
    sides = CORE + PEERS
    storages = ('memory', 'disk')
    rounds = None       # as many as the run has
    quick = True        # part of --quick
    inodes = None       # that a side must be made with, when its own choice may not do
    share = 0.8         # of the pool, for the side's subvolume
    quotas = False      # tenants are made on the side

    def __init__(self, context):
        self.context = context

    def missing(self):
        return None

    def prepare(self):
        """Once, before the first measurement."""

    def run(self, side):
        raise NotImplementedError


# ---- fio

FIO = ['--output-format=json', '--group_reporting', '--randrepeat=0', '--norandommap', '--thread', '--name=j']


def fio_in(directory, *arguments, files='data.$jobnum', timeout=120):
    out = host.run([host.find('fio'), *FIO, f'--directory={directory}', f'--filename_format={files}', *arguments],
                   timeout=timeout)
    return json.loads(out[out.index('{'):])['jobs'][0]


def fio(side, *arguments, **options):
    return fio_in(side.mnt, *arguments, **options)


def lay_out(side, files, mib):
    """Files of random data, fully written, on the storage and not in the page cache."""
    fio(side, '--rw=write', '--bs=1m', '--direct=1', '--ioengine=psync', f'--numjobs={files}',
        f'--size={mib}m', '--end_fsync=1', '--refill_buffers')
    side.settle()


class FioCase(Case):
    def missing(self):
        return None if host.find('fio') else 'fio is not installed'


class Random(FioCase):
    name = 'random'
    about = '4 KiB random, direct, libaio; IOPS'
    file_mib = 512

    def run(self, side):
        quick = self.context.quick
        depths = (32,) if quick or side.slow else (1, 32)
        mib = 256 if quick else self.file_mib
        lay_out(side, 2, mib)
        for jobs in (1, 2):
            for depth in depths:
                for rw in ('read', 'write'):
                    job = fio(side, f'--rw=rand{rw}', '--bs=4k', '--direct=1', '--ioengine=libaio',
                              f'--iodepth={depth}', f'--numjobs={jobs}', f'--size={mib}m', '--time_based',
                              '--ramp_time=1', f'--runtime={self.context.seconds}')
                    yield f'rand{rw} 4k qd{depth} x{jobs}', job[rw]['iops']


class Sequential(FioCase):
    name = 'sequential'
    about = '1 MiB sequential; MiB/s (direct: libaio, queue depth 4; buffered: with fsync at the end, or cold)'

    def run(self, side):
        mib = 256 if self.context.quick else 1024
        size = [f'--size={mib}m', '--bs=1m']
        direct = [*size, '--direct=1', '--ioengine=libaio', '--iodepth=4', '--time_based',
                  f'--runtime={self.context.seconds}', '--ramp_time=1']
        yield 'buffered write 1m + fsync', self.timed_write(side, mib)
        # invalidate=1 (fio's default) drops the file's pages first.
        job = fio(side, '--rw=read', '--ioengine=psync', *size)
        yield 'buffered read 1m', job['read']['bw_bytes'] / 2**20
        side.settle()
        for rw in ('write', 'read'):
            job = fio(side, f'--rw={rw}', *direct)
            yield f'direct {rw} 1m', job[rw]['bw_bytes'] / 2**20

    @staticmethod
    def timed_write(side, mib):
        """Our own loop, because the time of the fsync has to count."""
        out = host.run([sys.executable, '-c', '''
import os, sys, time
path, mib = sys.argv[1], int(sys.argv[2])
piece = os.urandom(1 << 20)
start = time.monotonic()
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
for _ in range(mib):
    os.write(fd, piece)
os.fsync(fd)
print(mib / (time.monotonic() - start))
''', os.path.join(side.mnt, 'data.0'), str(mib)], timeout=120)
        return float(out)


class Synchronous(FioCase):
    name = 'sync8'
    about = '4 KiB random direct writes, 8 threads, one file, pwrite(2); IOPS'
    sides = CORE + ('nvfs-pdio', 'null-pdio')

    def run(self, side):
        lay_out(side, 1, 256)
        job = fio(side, '--rw=randwrite', '--bs=4k', '--direct=1', '--ioengine=psync', '--numjobs=8',
                  '--size=256m', '--time_based', '--ramp_time=1', f'--runtime={self.context.seconds}', files='data.0')
        yield 'sync write 4k x8 one file', job['write']['iops']


class Overwrite(FioCase):
    name = 'fdatasync'
    about = '4 KiB buffered overwrite + fdatasync each; per second'

    def run(self, side):
        lay_out(side, 1, 256)
        job = fio(side, '--rw=randwrite', '--bs=4k', '--ioengine=psync', '--fdatasync=1', '--size=256m',
                  '--time_based', '--ramp_time=1', f'--runtime={self.context.seconds}')
        yield 'overwrite 4k + fdatasync', job['write']['iops']


# ---- metaload

def metaload(context, side, directory, *arguments, timeout=300):
    """[(phase, operations, rate)] in a new directory of the side."""
    path = os.path.join(side.mnt, directory)
    os.makedirs(path, exist_ok=True)
    program = os.path.join(context.build, 'bench', 'metaload')
    options = [a for a in arguments if a.startswith('-')]
    phases = [a for a in arguments if not a.startswith('-')]
    out = host.run([program, *options, path, *phases], timeout=timeout)
    lines = [line.split() for line in out.splitlines()]
    return [(phase, int(done), float(rate)) for phase, done, _, rate in lines]


class MetaCase(Case):
    def missing(self):
        program = os.path.join(self.context.build, 'bench', 'metaload')
        return None if os.path.exists(program) else f'{program} was not built'


class Names(MetaCase):
    name = 'names'
    about = 'empty files and directories, 1 and 4 threads; operations/s'

    def run(self, side):
        quick = self.context.quick
        for threads in (1, 4):
            n = (2000 if side.slow else 8000 if quick else 20000) // (1 if threads == 1 else 2)
            done = metaload(self.context, side, f'names{threads}', f'-t{threads}', f'-n{n}',
                            f'-s{3 if quick else 6}', 'create', f'stat:{n * 5}', f'readdir:{n * 20}', 'neg',
                            f'negagain:{n * 10}', 'rename', 'mkdir', 'rmdir', 'unlink')
            for phase, _, rate in done:
                yield f'{phase} x{threads}', rate


class SmallFiles(MetaCase):
    name = 'smallfiles'
    about = 'files of 1 KiB: create and write; open, read, close; operations/s'
    quick = False

    def run(self, side):
        for threads in (1, 4):
            n = (2000 if side.slow else 20000) // threads
            done = metaload(self.context, side, f'small{threads}', f'-t{threads}', f'-n{n}', '-s6', '-b1024',
                            'create', f'openread:{n}')
            for phase, _, rate in done:
                yield f'{phase} 1 KiB x{threads}', rate


class OneFile(MetaCase):
    name = 'onefile'
    about = 'buffered 100-byte appends, cached 4 KiB reads, stat of a cached inode; operations/s'

    def run(self, side):
        for phase, _, rate in metaload(self.context, side, 'one', f'-s{self.context.seconds}', 'append:200000',
                                       'cachedread:2000000', 'statcached:2000000'):
            yield phase, rate


class Growth(MetaCase):
    """Resident memory, and the create rate as the tree grows; a rate is the median of four windows of 25,000."""
    name = 'growth'
    about = 'create rate at 100 thousand and at 2 million files; nvfsd resident idle and after them, MiB'
    sides = ('xfs', 'nvfs', 'null')
    storages = ('disk',)
    rounds = 1
    quick = False
    files = 2_000_000
    inodes = 2_200_000

    def run(self, side):
        idle = side.resident_mib()
        windows = metaload(self.context, side, 'grow', f'-n{self.files}', '-s420', 'grow', timeout=600)
        rates = {done: rate for _, done, rate in windows}
        yield 'create at 100k files', statistics.median(rates[n] for n in (75000, 100000, 125000, 150000))
        if self.files in rates:
            last = [self.files - k * 25000 for k in range(4)]
            yield 'create at 2M files', statistics.median(rates[n] for n in last)
        after = side.resident_mib()
        if idle is not None:
            yield 'resident idle', idle
        if after is not None and self.files in rates:
            yield 'resident after 2M creates', after


class Idle(Case):
    name = 'idle'
    about = 'nvfsd resident with one mount, MiB'
    sides = ('nvfs',)
    storages = ('memory',)
    rounds = 1

    def run(self, side):
        os.listdir(side.mnt)
        time.sleep(1)
        yield 'resident idle', side.resident_mib()


# ---- Programs

class Tree(Case):
    """A source tree: what this machine has of headers and Python, as a tar made once."""
    name = 'tree'
    about = 'unpack, walk, git clone, git status, rm -r of a source tree of some 10,000 files; per second'

    def missing(self):
        return next((f'{p} is not installed' for p in ('git', 'tar') if not host.find(p)), None)

    def prepare(self):
        context = self.context
        self.tar = os.path.join(context.work, 'tree.tar')
        self.repo = os.path.join(context.work, 'tree.git')
        self.env = dict(os.environ, GIT_CONFIG_GLOBAL=os.path.join(context.work, 'gitconfig'),
                        GIT_CONFIG_NOSYSTEM='1')
        with open(self.env['GIT_CONFIG_GLOBAL'], 'w', encoding='ascii') as f:
            f.write('[safe]\n\tdirectory = *\n[user]\n\tname = bench\n\temail = bench@localhost\n'
                    '[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[core]\n\tfsmonitor = false\n')
        library = os.path.dirname(os.__file__).lstrip('/')
        host.run(['tar', '-C', '/', '--sort=name', '--exclude=__pycache__', '--exclude=site-packages',
                  '--exclude=dist-packages', '--exclude=config-*', '-cf', self.tar, 'usr/include', library])
        self.files = len(host.run(['tar', '-tf', self.tar]).splitlines())
        source = os.path.join(context.work, 'tree-source')
        os.makedirs(source)
        host.run(['tar', '-C', source, '-xf', self.tar])
        for command in (['init', '-q'], ['add', '-A'], ['commit', '-q', '-m', 'the tree']):
            host.run(['git', '-C', source, *command], env=self.env, timeout=300)
        host.run(['git', 'clone', '-q', '--bare', source, self.repo], env=self.env, timeout=300)
        shutil.rmtree(source)
        mib = os.path.getsize(self.tar) >> 20
        context.facts['source tree'] = f'{self.files} files and directories, {mib} MiB'

    def timed(self, argv, timeout=240):
        start = time.monotonic()
        host.run(argv, timeout=timeout, env=self.env)
        return time.monotonic() - start

    def run(self, side):
        tree, clone = os.path.join(side.mnt, 'tree'), os.path.join(side.mnt, 'clone')
        os.mkdir(tree)
        yield 'unpack: files', self.files / self.timed(['tar', '-C', tree, '-xf', self.tar])
        side.settle()
        yield 'find + stat: files', self.files / self.timed(['find', tree, '-size', '+1G'])
        yield 'rm -r: files', self.files / self.timed(['rm', '-rf', tree])
        if not side.keeps_data:
            return
        yield 'git clone: files', self.files / self.timed(['git', 'clone', '-q', self.repo, clone])
        side.settle()
        status = ['git', '-C', clone, 'status', '--porcelain']
        self.timed(status)
        yield 'git status: runs', 1 / statistics.median(self.timed(status) for _ in range(5))


SQLITE = '''
import sqlite3, sys, time
path, mode, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
db = sqlite3.connect(path, isolation_level=None)
db.execute('PRAGMA journal_mode = ' + mode)
db.execute('PRAGMA synchronous = FULL')
db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price REAL)')
done, start = 0, time.monotonic()
while (taken := time.monotonic() - start) < seconds:
    db.execute('INSERT INTO t (name, price) VALUES (?, ?)', ('item %d' % done, done * 0.01))
    done += 1
print(done / taken)
rows, start = 300000, time.monotonic()
db.execute('BEGIN')
db.executemany('INSERT INTO t (name, price) VALUES (?, ?)', (('bulk %d' % i, i * 0.01) for i in range(rows)))
db.execute('CREATE INDEX by_name ON t (name)')
db.execute('COMMIT')
print(rows / (time.monotonic() - start))
'''


class Sqlite(Case):
    name = 'sqlite'
    about = 'SQLite, one INSERT a transaction (synchronous=FULL), and 300,000 in one with an index; rows/s'
    sides = KERNEL_AND_NVFS + PEERS

    def run(self, side):
        for mode in ('delete', 'wal'):
            out = host.run([sys.executable, '-c', SQLITE, os.path.join(side.mnt, mode + '.db'), mode,
                            str(self.context.seconds)], timeout=180)
            single, bulk = (float(line) for line in out.split())
            yield f'sqlite insert, {mode}', single
            if mode == 'delete':
                yield 'sqlite bulk insert', bulk


class Pgbench(Case):
    name = 'pgbench'
    about = 'PostgreSQL: pgbench (TPC-B like), scale 10, 4 clients; transactions/s'
    sides = KERNEL_AND_NVFS
    quick = False

    def missing(self):
        self.bin = self.find_binaries()
        if not self.bin:
            return 'postgresql is not installed'
        try:
            self.user = pwd.getpwnam('postgres')
        except KeyError:
            return 'there is no user postgres'
        return None

    @staticmethod
    def find_binaries():
        base = '/usr/lib/postgresql'
        versions = sorted(os.listdir(base), key=float) if os.path.isdir(base) else []
        return os.path.join(base, versions[-1], 'bin') if versions else None

    def sql(self, program, *arguments, timeout=180, prefix=()):
        return host.run([*prefix, os.path.join(self.bin, program), *arguments], timeout=timeout, user=self.user.pw_uid,
                        group=self.user.pw_gid, extra_groups=[], cwd='/', env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'})

    def run(self, side):
        data = os.path.join(side.mnt, 'pg')
        sockets = os.path.join(self.context.work, 'pg-socket')
        for directory in (data, sockets):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chown(directory, self.user.pw_uid, self.user.pw_gid)
        self.sql('initdb', '-D', data, '-A', 'trust', '--no-locale')
        self.sql('pg_ctl', '-D', data, '-w', '-l', os.path.join(data, 'log'), '-o',
                 f"-k {sockets} -c listen_addresses='' -c shared_buffers=128MB", 'start')
        try:
            connect = ['-h', sockets]
            self.sql('createdb', *connect, 'bench')
            self.sql('pgbench', *connect, '-q', '-i', '-s', '10', 'bench')
            out = self.sql('pgbench', *connect, '-c', '4', '-j', '2', '-T', str(self.context.seconds * 3), 'bench')
            yield 'pgbench: transactions', float(re.search(r'tps = ([\d.]+)', out).group(1))
        finally:
            self.sql('pg_ctl', '-D', data, '-w', '-m', 'immediate', 'stop')


ALL = [Random, Sequential, Synchronous, Overwrite, OneFile, Names, SmallFiles, Tree, Sqlite, Pgbench, Idle, Growth]
