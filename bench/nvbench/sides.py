# SPDX-License-Identifier: GPL-2.0-or-later
"""
The filesystems that are compared. A side is made anew for each turn: start() leaves it mounted
and empty on .mnt, stop() leaves nothing of it, whatever went wrong between.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess

from . import host, storage


class Side:
    name = ''
    title = ''
    keeps_data = True
    slow = False        # gets less of the same work
    inodes = None       # how many a case needs, when that is more than usual
    share = 0.8         # of its space that is for .mnt
    quotas = False      # tenant() is wanted

    def __init__(self, context):
        self.context = context
        self.mnt = os.path.join(context.work, 'mnt-' + self.name)
        self.undo = contextlib.ExitStack()

    def missing(self):
        """Why it cannot be measured here, or None."""
        return None

    def start(self, store):
        os.makedirs(self.mnt, exist_ok=True)
        try:
            self._start(store)
            os.chmod(self.mnt, 0o755)
        except BaseException:
            self.stop()
            raise

    def _start(self, store):
        raise NotImplementedError

    def stop(self):
        self.undo.close()

    def settle(self):
        """Everything written so far reaches the storage now, not within the next measurement."""
        host.run(['sync', '-f', self.mnt], timeout=300)

    def resident_mib(self):
        """Resident memory of its daemon, or None."""
        return None


class Loop(Side):
    """A kernel filesystem on a loop device with direct I/O."""

    def _start(self, store):
        device = store.attach()
        self.undo.callback(storage.detach, device)
        host.run(self.mkfs(device), timeout=120)
        self.mount(device)
        self.undo.callback(host.unmount, self.mnt)

    def mount(self, device, *options):
        host.run(['mount', '-t', self.name, *options, device, self.mnt])


class Xfs(Loop):
    name = 'xfs'
    title = 'XFS on loop'

    def missing(self):
        return None if host.find('mkfs.xfs') else 'mkfs.xfs is not installed'

    def mkfs(self, device):
        return [host.find('mkfs.xfs'), '-q', '-f', '-K', device]

    def mount(self, device, *options):
        if self.quotas:
            try:
                super().mount(device, '-o', 'prjquota')
                return
            except host.Failed:
                self.quotas = False
                self.context.facts['XFS'] = 'without project quotas, which this kernel has not'
        super().mount(device, *options)

    def directory(self, name):
        return os.path.join(self.mnt, name)

    def tenant(self, name, mib, *limits, inodes=20000):
        """A directory with a project quota; rates cannot be limited."""
        del limits
        os.makedirs(self.directory(name))
        if not self.quotas:
            return self.directory(name)
        project = str(len(os.listdir(self.mnt)))
        for command in (f'project -s -p {self.directory(name)} {project}', f'limit -p bhard={mib}m ihard={inodes} {project}'):
            host.run([host.find('xfs_quota'), '-x', '-c', command, self.mnt])
        return self.directory(name)


class Ext4(Loop):
    name = 'ext4'
    title = 'ext4 on loop'

    def missing(self):
        return None if host.find('mkfs.ext4') else 'mkfs.ext4 is not installed'

    def mkfs(self, device):
        # Everything initialised now: no background thread writes during the measurement.
        return [host.find('mkfs.ext4'), '-q', '-F', '-E',
                'nodiscard,lazy_itable_init=0,lazy_journal_init=0', '-i', '4096', device]


class Nvfs(Side):
    name = 'nvfs'
    title = 'nvfs'
    options = None

    def missing(self):
        for program in ('nvfsd', 'nvfs', 'mkfs.nvfs', 'mount.nvfs', 'umount.fuse.nvfs'):
            if not os.path.exists(self.program(program)):
                return f'{program} is not in {self.context.build}'
        return None

    def program(self, name):
        return os.path.join(self.context.build, name)

    def _start(self, store):
        self.pool = f'bench{os.getpid()}'
        inodes = ['--inodes', str(self.inodes)] if self.inodes else []
        host.run([self.program('mkfs.nvfs'), '--quiet', '--force', '--name', self.pool, *inodes, store.path],
                 timeout=120)
        self._serve(store)
        size = json.loads(self.nvfs('pool', 'show', self.pool, '--json'))
        claim = int(size['free_bytes'] * self.share) >> 20
        self.create('work', '--size', f'{claim}M', *inodes)
        self.mount('work', self.mnt)

    def nvfs(self, *arguments):
        return host.run([self.program('nvfs'), *arguments])

    def ask(self, op, **fields):
        """A request on the control socket, without the time that starting a program takes."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(next(line.split()[-1] for line in host.read('/proc/net/unix').splitlines()
                           if line.endswith(f'/{self.pool}.sock')))
            s.sendall(json.dumps({'op': op, **fields}).encode() + b'\n')
            with s.makefile('rb') as replies:
                reply = json.loads(replies.readline())
        if not reply['ok']:
            raise host.Failed(f'{op}: {reply["message"]}')
        return reply

    def create(self, name, *options):
        self.nvfs('subvolume', 'create', f'{self.pool}:{name}', *options)

    def tenant(self, name, mib, *limits, inodes=20000):
        """A tenant with a mounted subvolume of the same name: its directory."""
        self.nvfs('tenant', 'create', f'{self.pool}/{name}', *limits)
        self.create(name, '--tenant', name, '--size', f'{mib}M', '--thin', '--inodes', str(inodes))
        self.mount(name)
        return self.directory(name)

    def directory(self, name):
        return os.path.join(self.context.work, 'mnt-of', name)

    def mount(self, name, directory=None):
        """Until stop()."""
        directory = directory or self.directory(name)
        os.makedirs(directory, exist_ok=True)
        options = ['-o', self.options] if self.options else []
        host.run([self.program('mount.nvfs'), *options, f'{self.pool}:{name}', directory])
        self.undo.callback(host.unmount, directory, [self.program('umount.fuse.nvfs')])

    def _serve(self, store):
        log = open(os.path.join(self.context.work, 'nvfsd.log'), 'a', encoding='utf-8')
        daemon = subprocess.Popen([self.program('nvfsd'), '-f', store.path], stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL)
        log.close()
        self.undo.callback(host.end_child, daemon)
        self.undo.callback(self._stop_pool)

        def served():
            if daemon.poll() is not None:
                raise host.Failed(f'nvfsd ended with {daemon.returncode}; see {log.name}')
            return subprocess.run([self.program('nvfs'), 'pool', 'show', self.pool], check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        host.wait_until(served, 'nvfsd serves the pool')

    def _stop_pool(self):
        with contextlib.suppress(host.Failed):
            host.run([self.program('nvfs'), 'pool', 'stop', self.pool], timeout=120)

    def settle(self):
        host.run([self.program('nvfs'), 'sync', self.pool], timeout=300)

    def pids(self):
        shown = json.loads(host.run([self.program('nvfs'), 'pool', 'show', self.pool, '--json']))
        return shown['supervisor_pid'], shown['worker_pid']

    def resident_mib(self):
        """The worker, and of the supervisor what it does not share with it."""
        total = 0
        for number, pid in enumerate(dict.fromkeys(self.pids())):
            status = dict(line.split(':', 1) for line in host.read(f'/proc/{pid}/status').splitlines())
            kib = {key: int(status[key].split()[0]) for key in ('VmRSS', 'RssShmem')}
            last = number == len(set(self.pids())) - 1
            total += kib['VmRSS'] - (0 if last else kib['RssShmem'])
        return total / 1024


class NvfsParallel(Nvfs):
    name = 'nvfs-pdio'
    title = 'nvfs -o parallel_dio'
    options = 'parallel_dio'


class Null(Side):
    """bench/nullfs: FUSE and our transport with nothing behind."""
    name = 'null'
    title = 'null FUSE server'
    keeps_data = False
    arguments = []

    def missing(self):
        program = os.path.join(self.context.build, 'bench', 'nullfs')
        return None if os.path.exists(program) else f'{program} was not built'

    def _start(self, store):
        program = os.path.join(self.context.build, 'bench', 'nullfs')
        daemon = subprocess.Popen([program, *self.arguments, self.mnt], stdin=subprocess.DEVNULL)
        self.undo.callback(host.end_child, daemon)
        self.undo.callback(host.unmount, self.mnt)
        host.wait_until(lambda: host.is_mounted(self.mnt), 'nullfs mounts')

    def settle(self):
        pass


class NullParallel(Null):
    name = 'null-pdio'
    title = 'null FUSE server, parallel_dio'
    arguments = ['-p']


class JuiceFs(Side):
    """JuiceFS: metadata in a Redis of our own, objects in a folder of ext4 on the same backing file."""
    name = 'juicefs'
    title = 'JuiceFS'
    slow = True

    def missing(self):
        if not self.context.juicefs:
            return 'juicefs is not installed (--peers installs it)'
        return None if host.find('redis-server') else 'redis-server is not installed (--peers installs it)'

    def _start(self, store):
        home = os.path.join(self.context.work, 'juicefs')
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        self.undo.callback(shutil.rmtree, home, ignore_errors=True)
        objects = Ext4(self.context)
        objects.mnt = os.path.join(self.context.work, 'mnt-juicefs-objects')
        objects.start(store)
        self.undo.callback(objects.stop)
        meta = f'redis://127.0.0.1:{self._serve_redis(home)}/1'
        environment = dict(os.environ, HOME=home)
        host.run([self.context.juicefs, 'format', '--storage', 'file', '--bucket', objects.mnt + '/',
                  '--trash-days', '0', meta, 'bench'], env=environment)
        with open(os.path.join(home, 'log'), 'a', encoding='utf-8') as log:
            daemon = subprocess.Popen(
                [self.context.juicefs, 'mount', '--no-usage-report', '--cache-dir', os.path.join(home, 'cache'),
                 '--cache-size', '1024', '--enable-xattr', '--log', os.path.join(home, 'mount.log'), meta, self.mnt],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.undo.callback(host.end_child, daemon)
        self.undo.callback(host.unmount, self.mnt)
        host.wait_until(lambda: host.is_mounted(self.mnt), 'JuiceFS mounts')

    def _serve_redis(self, home):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        daemon = subprocess.Popen(
            [host.find('redis-server'), '--port', str(port), '--bind', '127.0.0.1', '--dir', home,
             '--save', '', '--appendonly', 'no', '--daemonize', 'no'],
            stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.undo.callback(host.end_child, daemon)

        def listens():
            with socket.socket() as s:
                return s.connect_ex(('127.0.0.1', port)) == 0
        host.wait_until(listens, 'Redis')
        return port


class Ntfs3g(Side):
    name = 'ntfs-3g'
    title = 'ntfs-3g'
    slow = True

    def missing(self):
        return None if host.find('ntfs-3g') else 'ntfs-3g is not installed (--peers installs it)'

    def _start(self, store):
        device = store.attach()
        self.undo.callback(storage.detach, device)
        host.run([host.find('mkntfs'), '-Q', '-F', '-q', device], timeout=120)
        daemon = subprocess.Popen([host.find('ntfs-3g'), '-o', 'no_detach,big_writes,permissions', device, self.mnt],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.undo.callback(host.end_child, daemon)
        self.undo.callback(host.unmount, self.mnt)
        host.wait_until(lambda: host.is_mounted(self.mnt), 'ntfs-3g mounts')


ALL = {side.name: side for side in
       (Xfs, Ext4, Nvfs, NvfsParallel, Null, NullParallel, JuiceFs, Ntfs3g)}
