# SPDX-License-Identifier: GPL-2.0-or-later
"""The one backing file that every side gets in turn, and loop devices on it."""

import contextlib
import os

from . import host

PIECE = 1 << 20


class Storage:
    """A fully written file of `size` bytes: kind is 'memory' (a tmpfs of its own) or 'disk'."""

    def __init__(self, kind, directory, size, cleanup):
        self.kind = kind
        self.size = size
        directory = os.path.join(directory, kind)
        os.makedirs(directory, exist_ok=True)
        if kind == 'memory':
            host.run(['mount', '-t', 'tmpfs', '-o', f'size={size + (64 << 20)}', 'nvfs-bench', directory])
            cleanup.callback(host.unmount, directory)
        self.path = os.path.join(directory, 'backing')
        self._make()
        cleanup.callback(self._remove)

    def _make(self):
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.size)
        finally:
            os.close(fd)
        self.fill_holes()

    def _remove(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def fill_holes(self):
        """
        Write what is a hole or was never written. A side's discard, or a fresh fallocate, would
        else make the next one pay for the host's allocation.
        """
        junk = os.urandom(PIECE)
        fd = os.open(self.path, os.O_RDWR)
        try:
            at = 0
            while at < self.size:
                try:
                    hole = os.lseek(fd, at, os.SEEK_HOLE)
                except OSError:
                    break
                if hole >= self.size:
                    break
                try:
                    end = os.lseek(fd, hole, os.SEEK_DATA)
                except OSError:
                    end = self.size
                for pos in range(hole, end, PIECE):
                    os.pwrite(fd, junk[:min(PIECE, end - pos)], pos)
                at = end
            os.fsync(fd)
            # Written back and dropped: direct I/O must not find pages of it.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def attach(self):
        """A loop device with direct I/O on the file; detach() it."""
        device = host.run(['losetup', '--find', '--show', '--direct-io=on', self.path]).strip()
        name = os.path.basename(device)
        if host.read(f'/sys/block/{name}/loop/dio').strip() != '1':
            detach(device)
            raise host.Failed(f'{device} has no direct I/O on {self.path}')
        return device


def detach(device):
    """Returns when the kernel has let go of the file: it waits for whoever still looks at the device."""
    backing = f'/sys/block/{os.path.basename(device)}/loop/backing_file'
    with contextlib.suppress(host.Failed):
        host.run(['losetup', '-d', device])
        host.wait_until(lambda: not os.path.exists(backing), f'{device} is released')
