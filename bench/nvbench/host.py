# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes with time limits, what must be undone at the end, and what this machine is."""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time


class Failed(Exception):
    """A command failed or took too long; the text says which and how."""


def run(argv, timeout=60, check=True, **options):
    """Run a command in a process group of its own; its stdout. Raises Failed."""
    argv = [str(a) for a in argv]
    options.setdefault('stdin', subprocess.DEVNULL)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               errors='replace', start_new_session=True, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end_group(process)
        raise Failed(f'{argv[0]}: stopped after {timeout} s') from None
    except BaseException:
        end_group(process)
        raise
    if check and process.returncode:
        last = (err.strip() or out.strip() or 'no message').splitlines()[-1]
        raise Failed(f'{os.path.basename(argv[0])}: {last} (status {process.returncode})')
    return out


def end_group(process):
    """Kill a child and what it started; one that hangs in the kernel is left to the unmount."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5)


def end_child(process, patience=30):
    """SIGTERM, and SIGKILL to one that does not listen."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f'{what}: not within {seconds} s')
        time.sleep(0.02)


def read(path, default=''):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            return f.read()
    except OSError:
        return default


def find(*names):
    """The first of these programs that there is, sbin included."""
    path = os.environ.get('PATH', '') + ':/usr/local/sbin:/usr/sbin:/sbin'
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


# ---- Mounts

def is_mounted(directory):
    name = os.path.realpath(directory).replace(' ', '\\040')
    return any(line.split()[4] == name for line in read('/proc/self/mountinfo').splitlines())


def fuse_connection(directory):
    name = os.path.realpath(directory)
    for line in read('/proc/self/mountinfo').splitlines():
        fields = line.split()
        if fields[4] == name:
            return '/sys/fs/fuse/connections/' + fields[2].split(':')[1]
    return None


def unmount(directory, command=('umount',), patience=120):
    """Unmount, by force when its server does not answer."""
    if not is_mounted(directory):
        return
    try:
        run([*command, directory], timeout=patience)
        return
    except Failed as failure:
        problem = failure
    connection = fuse_connection(directory)
    if connection and os.path.exists(connection + '/abort'):
        with contextlib.suppress(OSError), open(connection + '/abort', 'w', encoding='ascii') as f:
            f.write('1')
    with contextlib.suppress(Failed):
        run(['umount', '-l', directory], timeout=30)
    print(f'bench: {directory} was unmounted by force: {problem}', flush=True)


# ---- This machine

def cpu_model():
    for line in read('/proc/cpuinfo').splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.machine()


def memory_gib():
    kib = int(read('/proc/meminfo').split()[1])
    return round(kib / 2**20, 1)


def os_name():
    for line in read('/etc/os-release').splitlines():
        if line.startswith('PRETTY_NAME='):
            return line.split('=', 1)[1].strip('"')
    return 'Linux'


def describe_directory(directory):
    """The filesystem and the disk below a directory: '/dev/vda (ext4)'."""
    out = run(['findmnt', '-n', '-o', 'SOURCE,FSTYPE', '-T', directory], check=False).split()
    return f'{out[0]} ({out[1]})' if len(out) == 2 else directory


def describe(top, disk_dir):
    commit = run(['git', '-c', 'safe.directory=*', '-C', top, 'rev-parse', '--short', 'HEAD'],
                 check=False).strip()
    fio = find('fio')
    return {
        'cpu': cpu_model(),
        'cores': os.cpu_count(),
        'memory_gib': memory_gib(),
        'kernel': platform.release(),
        'system': os_name(),
        'virtual': run([find('systemd-detect-virt') or 'true'], check=False).strip() or 'unknown',
        'disk': describe_directory(disk_dir),
        'fio': run([fio, '--version']).strip() if fio else None,
        'commit': commit or None,
        'started': time.strftime('%Y-%m-%d %H:%M:%S %z'),
    }
