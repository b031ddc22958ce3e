# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL of three tenants: what two of them lose while the third does all that it can."""

import concurrent.futures
import contextlib
import os
import re
import statistics
import sys

from . import cases, host, tenants

# What shares out the processors is the machine's business: the third one's own programs come last there.
LAST = ('nice', '-n', '19')


class Databases(tenants.TenantCase, cases.Pgbench):
    name = 'databases'
    about = 'pgbench of two tenants, alone and beside a third with a storm of creates, a writer and pgbench; transactions/s'
    sides = ('xfs', 'nvfs')
    quotas = True
    inodes = 600000
    turns = 4
    limits = ('--write-bps', '16M', '--write-iops', '2000')     # of the third, where there are any

    def missing(self):
        return cases.Pgbench.missing(self)

    def run(self, side):
        with contextlib.ExitStack() as cleanup:
            ends = [self.serve(side, name, cleanup) for name in ('one', 'two')]
            wild = side.tenant('wild', 512, *self.limits, inodes=400000)
            theirs = self.serve(side, 'wild', cleanup, LAST)
            alone, beside = [], []
            for turn in range(self.turns):
                side.settle()
                alone.append(self.both(ends))
                with contextlib.ExitStack() as others:
                    wild_ones = [others.enter_context(tenants.running(*LAST, *argv))
                                 for argv in self.wild_ones(wild, theirs, turn)]
                    beside.append(self.both(ends))
                    for process in wild_ones:
                        if process.poll() is not None:
                            raise host.Failed(f'{" ".join(process.args[3:5])} ended: {process.stderr.read().strip()}')
        for what, rates in ('alone', alone), ('beside a wild one', beside):
            for rate in rates:
                yield f'pgbench of two: {what}', rate
        yield 'pgbench of two beside a wild one: part of alone', statistics.median(beside) / statistics.median(alone)

    def serve(self, side, name, cleanup, prefix=()):
        """A database on a tenant's directory, until the end; how clients reach it."""
        top = side.directory(name) if name == 'wild' else side.tenant(name, 512)
        data, sockets = os.path.join(top, 'pg'), os.path.join(self.context.work, f'pg-{name}')
        for directory in (data, sockets):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chown(directory, self.user.pw_uid, self.user.pw_gid)
        os.chmod(top, 0o755)
        self.sql('initdb', '-D', data, '-A', 'trust', '--no-locale', '--wal-segsize=4')
        self.sql('pg_ctl', '-D', data, '-w', '-l', os.path.join(sockets, 'log'), '-o',
                 f"-k {sockets} -c listen_addresses='' -c shared_buffers=32MB -c max_wal_size=96MB", 'start', prefix=prefix)
        cleanup.callback(self.sql, 'pg_ctl', '-D', data, '-w', '-m', 'immediate', 'stop')
        self.sql('createdb', '-h', sockets, 'bench')
        self.sql('pgbench', '-h', sockets, '-q', '-i', '-s', '5', 'bench')
        return sockets

    def both(self, ends):
        """Transactions per second of both together, each by two clients."""
        def one(sockets):
            out = self.sql('pgbench', '-h', sockets, '-n', '-c', '2', '-T', str(self.context.seconds * 2), 'bench')
            return float(re.search(r'tps = ([\d.]+)', out).group(1))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return sum(pool.map(one, ends))

    def wild_ones(self, directory, sockets, turn):
        metaload = os.path.join(self.context.build, 'bench', 'metaload')
        storm = os.path.join(directory, f'storm-{turn}')
        os.makedirs(storm)
        return (
            ('sh', '-c', 'while "$@"; do :; done', 'sh', metaload, '-t2', '-n50000', '-s600', storm, 'create', 'unlink'),
            (sys.executable, '-c', tenants.FLOOD, os.path.join(directory, 'flood')),
            ('runuser', '-u', self.user.pw_name, '--', os.path.join(self.bin, 'pgbench'), '-h', sockets, '-n', '-c', '4', '-T', '600',
             'bench'),
        )


ALL = [Databases]
