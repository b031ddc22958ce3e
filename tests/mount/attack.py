#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# attack.py SOCKET WORK TEST: what a control socket may have to bear (docs/control-protocol.md); socket.sh runs it, as root.
# The pool has what socket.sh made: subvolumes `mine` and `yours` of tenants `red` and `blue`, which OWNER and OTHER own, both mounted
# below WORK, and a snapshot mine@s.
#
# Whoever waits for an answer here waits for BOUND seconds, and then somebody was kept from it.
import array
import errno
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

SOCKET, WORK = sys.argv[1], sys.argv[2]
OWNER, OTHER, STRANGER = 61020, 61021, 61029
MORE_OWNERS = (61022, 61023, 61024)
BOUND = 60
LINE_MAX = 64 << 10


class Wrong(Exception):
    pass


def check(what, *said):
    if not what:
        raise Wrong(' '.join(str(s) for s in said))


# ---- Conversations

class Talk:
    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(BOUND)
        self.rest = b''
        end = time.monotonic() + BOUND
        while True:
            try:
                self.sock.connect(SOCKET)
                return
            except BlockingIOError: # its queue is full for a moment
                check(time.monotonic() < end, 'no connection within', BOUND, 's')
                time.sleep(0.01)

    def close(self):
        self.sock.close()

    # False when the daemon has ended the connection.
    def send(self, data):
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    # The next line; None at the end.
    def line(self):
        while b'\n' not in self.rest:
            try:
                got = self.sock.recv(1 << 16)
            except ConnectionResetError:
                got = b''
            except socket.timeout:
                raise Wrong('no answer within', BOUND, 's') from None
            if not got:
                check(not self.rest, 'the end within a line:', self.rest)
                return None
            self.rest += got
        line, self.rest = self.rest.split(b'\n', 1)
        return line

    def reply(self):
        line = self.line()
        return None if line is None else json.loads(line.decode('utf-8'))

    def ask(self, request):
        self.send(json.dumps(request).encode() + b'\n')
        return self.reply()

    def must(self, request):
        reply = self.ask(request)
        check(reply and reply['ok'], request, reply)
        return reply

    # What follows a du or a diff, to its end.
    def rest_of_job(self):
        while True:
            line = self.reply()
            check(line is not None, 'the connection ended before the job did')
            if line.get('end'):
                return line


# One clear line with a stable code.
def check_refusal(reply, said, codes):
    check(reply is not None, 'no line for', said)
    check(reply.get('ok') is False, said, 'was answered with', reply)
    check(reply.get('version') == 1, 'no version:', reply)
    check(getattr(errno, reply['error'], None) == reply['errno'], 'another code:', reply)
    check(reply['error'] in codes, said, 'got', reply, 'and not', codes)
    message = reply['message']
    check(0 < len(message) < 1200 and not any(c < ' ' or '\x7f' <= c < '\xa0' for c in message), 'not a sentence:', reply)


def as_user(uid, fn, *args):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            fn(*args)
            status = 0
        except Wrong as wrong:
            print(f'{fn.__name__}, user {uid}: {wrong}', flush=True)
        except BaseException as e:
            print(f'{fn.__name__}, user {uid}: {e!r}', flush=True)
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid


def ended_well(pids):
    bad = 0
    for pid in pids:
        bad |= os.waitpid(pid, 0)[1] != 0
    return not bad


def run_as(uid, fn, *args):
    check(ended_well([as_user(uid, fn, *args)]), fn.__name__, 'failed for user', uid)


# Until a place is free again: what is closed is noticed by a thread of its own.
def until_served(request):
    end = time.monotonic() + BOUND
    while True:
        t = Talk()
        reply = t.ask(request)
        if reply and reply['ok']:
            return t
        check(reply and reply['error'] == 'EBUSY', request, reply)
        check(time.monotonic() < end, 'still', reply)
        t.close()
        time.sleep(0.02)


# ---- Every key of every request, of every wrong type

NAME, SIZE, BOOL, NUMBER, LIMIT = 'name', 'size', 'bool', 'number', 'limit'
SNAP = {'subvolume': NAME, 'snapshot': NAME}
RATES = {k: LIMIT for k in ('read_iops', 'write_iops', 'read_bps', 'write_bps')}
TENANT = {'name': NAME, 'limits': {'used_bytes': LIMIT, 'provisioned_bytes': LIMIT, 'inodes': LIMIT, 'subvolumes': LIMIT,
                                   'snapshots': LIMIT, 'soft_bytes': LIMIT, 'grace_s': SIZE, **RATES},
          'defaults': {'size_bytes': LIMIT, 'inodes': LIMIT, 'thin': 'bool?', 'compression': 'kind?'},
          'owner_uids': 'ids', 'owner_gids': 'ids'}
# op: (owners may, keys that must be there, keys that may). Nothing of these names is there, and so nothing happens.
REQUESTS = {
    'pool.show': (False, {}, {}),
    'pool.set': (False, {'overcommit_percent': SIZE}, {}),
    'pool.stop': (False, {}, {'force': BOOL}),
    'sweeps': (True, {}, {}),
    'subvolume.create': (True, {'name': NAME}, {'tenant': NAME, 'size_bytes': SIZE, 'inodes': SIZE, 'thin': BOOL, 'compression': 'kind',
                                                'uid': NUMBER, 'gid': NUMBER, 'mode': NUMBER}),
    'subvolume.list': (True, {}, {}),
    'subvolume.show': (True, {'name': NAME}, {}),
    'subvolume.resize': (True, {'name': NAME}, {'size_bytes': SIZE, 'inodes': SIZE}),
    'subvolume.set': (False, {'name': NAME}, RATES),
    'subvolume.delete': (True, {'name': NAME}, {'dry_run': BOOL}),
    'snapshot.create': (True, {'snapshots': 'snaps'}, {}),
    'snapshot.list': (True, {}, {'subvolume': NAME}),
    'snapshot.show': (True, SNAP, {}),
    'snapshot.delete': (True, SNAP, {'dry_run': BOOL}),
    'snapshot.rollback': (True, SNAP, {'dry_run': BOOL}),
    'snapshot.diff': (True, {'from': 'view', 'to': 'view'}, {}),
    'clone.create': (True, {'subvolume': NAME, 'name': NAME}, {'snapshot': NAME, 'size_bytes': SIZE, 'inodes': SIZE, 'thin': BOOL,
                                                               'reserved': BOOL}),
    'tenant.create': (False, TENANT, {}),
    'tenant.list': (True, {}, {}),
    'tenant.show': (True, {'name': NAME}, {}),
    'tenant.set': (False, TENANT, {}),
    'tenant.delete': (False, {'name': NAME}, {'dry_run': BOOL}),
    'mount': (False, {'subvolume': NAME}, {'target': NAME, **{k: BOOL for k in ('read_only', 'writeback', 'parallel_dio', 'noatime',
                                                                                'snapdir')}}),
    'mounted': (False, {'device_major': NUMBER, 'device_minor': NUMBER}, {}),
    'unmount.prepare': (False, {'subvolume': NAME}, {}),
    'sync': (False, {}, {'subvolume': NAME}),
    'du': (True, {}, {'subvolume': NAME, 'snapshot': NAME}),
    'top': (True, {}, {}),
    'events': (True, {}, {'since': SIZE, 'opening': SIZE, 'follow': BOOL}),
}

# As they are in a line: a program's JSON has no such things.
NUMBERS = ('0', '1', '-1', str(2**31), str(2**32), str(2**63 - 1), str(-2**63))
NO_NUMBERS = ('1.5', '0.0', '-0.0', '1e3', '1e999', str(2**63), str(-2**63 - 1), '9' * 400, '0x10', '01', '+1', 'NaN', 'Infinity', '1_000')
OTHERS = ('null', '[]', '{}', '[[]]', '[null]', '{"a":1}', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\xff"', '')
BOOLS = ('true', 'false')
STRINGS = ('""', '"x"', '"1"', '"true"')

# What is wrong for a type, of what is there.
WRONG = {
    NAME: NUMBERS + NO_NUMBERS + OTHERS + BOOLS,
    BOOL: NUMBERS + NO_NUMBERS + OTHERS + STRINGS,
    SIZE: NO_NUMBERS + OTHERS + STRINGS + BOOLS + ('-1', str(-2**63)),
    LIMIT: NO_NUMBERS + OTHERS + STRINGS + BOOLS + ('-1', str(-2**63)),
    NUMBER: NO_NUMBERS + OTHERS + STRINGS + BOOLS + ('-1', str(2**32), str(2**63 - 1), str(-2**63), str(2**32 + 1), str(-2**32)),
    'kind': NUMBERS + NO_NUMBERS + OTHERS + BOOLS + STRINGS,
    'bool?': NUMBERS + NO_NUMBERS + tuple(v for v in OTHERS if v != 'null') + STRINGS,
    'kind?': NUMBERS + NO_NUMBERS + tuple(v for v in OTHERS if v != 'null') + BOOLS + STRINGS,
    'ids': NUMBERS + NO_NUMBERS + BOOLS + STRINGS + tuple(v for v in OTHERS if v != '[]') +
           ('[-1]', '[4294967295]', '[1.5]', '["root"]', '[1,[2]]', '[' + ','.join('7' * 33) + ']'),
    'snaps': NUMBERS + NO_NUMBERS + BOOLS + STRINGS + OTHERS +
             ('[{}]', '[1]', '["a"]', '[{"subvolume":"none"}]', '[{"subvolume":"none","snapshot":1}]',
              '[{"subvolume":"none","snapshot":"s","x":1}]', '{"subvolume":"none","snapshot":"s"}'),
    'view': NUMBERS + NO_NUMBERS + BOOLS + STRINGS + OTHERS + ('{"subvolume":1}', '{"snapshot":"s"}', '{"subvolume":"none","x":1}',
                                                               '{"subvolume":"none","snapshot":null}'),
}
GOOD = {NAME: '"none"', BOOL: 'true', SIZE: '1048576', LIMIT: '0', NUMBER: '0', 'kind': '"off"', 'bool?': 'null', 'kind?': 'null',
        'ids': '[]', 'snaps': '[{"subvolume":"none","snapshot":"s"}]', 'view': '{"subvolume":"none"}'}


def good(kind):
    if isinstance(kind, dict):
        return '{' + ','.join(f'"{k}":{good(v)}' for k, v in kind.items()) + '}'
    return GOOD[kind]


def text(op, fields):
    return '{' + ','.join([f'"op":"{op}"'] + [f'"{k}":{v}' for k, v in fields.items()]) + '}'


# A request for each wrong thing that could be said in it.
def wrong_requests(op, needed, optional):
    base = {k: good(v) for k, v in needed.items()}
    for key, kind in {**needed, **optional}.items():
        if isinstance(kind, dict):
            for inner, inner_kind in kind.items():
                for value in WRONG[inner_kind]:
                    yield text(op, {**base, key: f'{{"{inner}":{value}}}'})
            for value in NUMBERS + NO_NUMBERS + BOOLS + STRINGS + ('null', '[]', '{"nothing":1}', '{"used_bytes":1,"used_bytes":1}'):
                yield text(op, {**base, key: value})
        else:
            for value in WRONG[kind]:
                yield text(op, {**base, key: value})
        yield text(op, {**base, key: good(kind)})[:-1] + f',"{key}":{good(kind)}}}'
    for key in needed:
        if needed is not TENANT or key == 'name':
            yield text(op, {k: v for k, v in base.items() if k != key})
    for key in ('extra', 'Op', '', 'op ', 'name\\u0000', 'é', 'x' * 3000):
        yield text(op, {**base, key: '1'})
    yield text(op, base)[:-1]
    yield text(op, base) + '}'
    yield text(op, base) + text(op, base)
    yield text(op, base)[:-1] + ',}'
    yield text(op, base).replace(':', '=', 1)
    yield text(op, base).replace('"op"', 'op', 1)
    for version in ('0', '2', '-1', '1.0', '"1"', 'null', '[1]'):
        yield text(op, {**base, 'version': version})


ODD_LINES = [b'{"op":' + v.encode('latin-1') + b'}' for v in NUMBERS + NO_NUMBERS + BOOLS + OTHERS]
ODD_LINES += [b'{}', b'{"op":""}', b'{"op":"none"}', b'{"op":"pool"}', b'{"op":"pool.show\\u0000"}', b'{"op":"POOL.SHOW"}', b'{"op":"\\ud800"}',
              b'{"op":"' + b'\xc3\xa9' * 20000 + b'"}', b'{"op":"pool.show"}\0', b'{"op":"pool.show\0"}', b'{\0}', b'{"op":"pool.show\xff"}',
              b'{"op":"\xc0\xaf"}', b'{"op":"\xed\xa0\x80"}', b'{"op":"\x1b[2J"}', b'{"op":"a\tb"}', b'{"op":"\\u001b[2J\\n"}',
              b'{"op":' + b'[' * 60000, b'{"op":' + b'{"op":' * 10000, b'{"a":' * 1500 + b'1' + b'}' * 1500,
              b'{' + b','.join(b'"k%d":1' % i for i in range(5000)) + b'}', b'{"op":"pool.show","op":"pool.show"}', b'{"op":"%s%n%s%n"}']
# After these the connection is closed.
CLOSING_LINES = [b'', b' ', b'\t', b'\r', b'hello', b'[1,2]', b'[' * 60000, b'"op"', b'null', b'7', b'\0', b'\xff\xfe',
                 b'GET / HTTP/1.1\r', b'}', b'-', b'x' * 65000]

# What a refusal of something wrong is called; EPERM is the answer to who may not ask that at all.
CODES = ('EINVAL', 'EPROTONOSUPPORT', 'EOPNOTSUPP')


def wrong_requests_are_refused(uid):
    said = 0
    t = Talk()
    for op, (owners_may, needed, optional) in REQUESTS.items():
        codes = CODES if uid == 0 or owners_may else CODES + ('EPERM',)
        for line in wrong_requests(op, needed, optional):
            check(t.send(line.encode('latin-1') + b'\n'), 'closed before', line)
            check_refusal(t.reply(), line, codes)
            said += 1
    for line in ODD_LINES:
        check(t.send(line + b'\n'), 'closed before', line[:100])
        check_refusal(t.reply(), line[:100], CODES)
        said += 1
    t.must({'op': 'subvolume.list'})
    t.close()
    for line in CLOSING_LINES:
        t = Talk()
        t.send(line + b'\n{"op":"subvolume.list"}\n')
        check_refusal(t.reply(), line[:100], ('EINVAL',))
        check(t.line() is None, 'more after', line[:100])
        t.close()
        said += 1
    print(said, 'wrong requests of user', uid)


# Whatever is said, one line and the end.
def stranger_hears_one_line():
    for line in (b'{"op":"pool.show"}\n', b'{"op":"subvolume.list"}\n', b'', b'\xff\n', b'{' * 70000):
        t = Talk()
        t.send(line)
        reply = t.reply()
        check_refusal(reply, line[:50], ('EPERM',))
        check(not any(name in reply['message'] for name in ('red', 'blue', 'mine', 'yours')), reply)
        check(t.line() is None, 'more than one line')
        t.close()


# Numbers that are numbers and too large or small: refused, by whichever check comes first, and nothing is done.
def numbers_out_of_range(uid):
    t = Talk()
    cases = [('subvolume.create', {'name': 'huge', 'size_bytes': n}) for n in (0, 2**60, 2**63 - 1)]
    cases += [('subvolume.create', {'name': 'huge', 'size_bytes': 4096, 'inodes': n}) for n in (2**32, 2**63 - 1)]
    cases += [('subvolume.create', {'name': 'huge', 'size_bytes': 4096, k: n}) for k in ('uid', 'gid') for n in (2**32 - 1, 2**32, 2**63 - 1)]
    cases += [('subvolume.create', {'name': 'huge', 'size_bytes': 4096, 'mode': n}) for n in (0o10000, 2**31, 2**32, 2**63 - 1)]
    cases += [('subvolume.resize', {'name': 'mine', 'size_bytes': n}) for n in (0, 1, 2**60, 2**63 - 1)]
    cases += [('subvolume.resize', {'name': 'mine', 'inodes': n}) for n in (0, 1, 2**32, 2**63 - 1)]
    cases += [('clone.create', {'subvolume': 'mine', 'name': 'huge', 'size_bytes': n}) for n in (1, 2**60, 2**63 - 1)]
    cases += [('clone.create', {'subvolume': 'mine', 'name': 'huge', 'inodes': n}) for n in (1, 2**63 - 1)]
    if uid == 0:
        cases += [('pool.set', {'overcommit_percent': n}) for n in (0, 99, 10001, 2**32, 2**32 + 100, 2**63 - 1)]
        cases += [('subvolume.set', {'name': 'mine', 'read_iops': n}) for n in (2**51, 2**63 - 1)]
        cases += [('tenant.set', {'name': 'red', 'limits': {'read_iops': n}}) for n in (2**51, 2**63 - 1)]
        cases += [('tenant.set', {'name': 'red', 'limits': {'grace_s': n}}) for n in (0, 2**32, 2**63 - 1)]
        cases += [('tenant.set', {'name': 'red', 'defaults': {'inodes': n}}) for n in (2**63 - 1,)]
        cases += [('mounted', {'device_major': 1, 'device_minor': 1})]
    for op, fields in cases:
        request = {'op': op, **fields}
        check_refusal(t.ask(request), request, ('EINVAL', 'ENOSPC', 'EDQUOT', 'EBUSY'))
    t.close()


ANY_CODE = [c for c in dir(errno) if c[0] == 'E' and c not in ('EIO', 'EFAULT', 'ENOMEM', 'EBADMSG')]


# Requests that are nearly right, from a seed.
def mutated_requests(uid, seed, count):
    rng = random.Random(seed * 1000 + uid)
    ops = [op for op in REQUESTS if op not in ('pool.stop', 'events', 'du', 'snapshot.diff')]
    t = Talk()
    for _ in range(count):
        op = rng.choice(ops)
        _, needed, optional = REQUESTS[op]
        fields = {k: good(v) for k, v in {**needed, **optional}.items() if k in needed or rng.random() < 0.3}
        line = bytearray(text(op, fields).encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(line))
            kind = rng.randrange(5)
            if kind == 0:
                line[at] = rng.randrange(256)
            elif kind == 1:
                line[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
            elif kind == 2:
                del line[at:at + rng.randint(1, 9)]
            elif kind == 3:
                line[at:at] = line[rng.randrange(len(line)):][:rng.randint(1, 40)]
            else:
                line[at:at] = rng.choice([b'\0', b'\\u0000', b'\xff', b'[' * 3000, b'{"a":', b'-', b'1e999', b'"', b'\\'])
            if not line:
                line = bytearray(b'{')
        line = bytes(line).replace(b'\n', b' ')
        if b'pool.stop' in line:
            continue
        t.send(line + b'\n')
        reply = t.reply()
        check(reply is not None and 'ok' in reply, 'seed', seed, 'no answer to', line)
        if not reply['ok']:
            check_refusal(reply, line, ANY_CODE)
        if line.lstrip(b' \t')[:1] != b'{': # it is closed, or may be: another one
            t.close()
            t = until_served({'op': 'subvolume.list'})
    t.close()


# ---- Those who keep others waiting

def endless_line():
    for size in (LINE_MAX, 1 << 20, 16 << 20):
        t = Talk()
        piece = b'{"op":"' + b'x' * ((1 << 16) - 7)
        while size > 0 and t.send(piece[:size]):
            size -= len(piece)
        check_refusal(t.reply(), 'an endless line', ('EMSGSIZE',))
        check(t.line() is None, 'more after a line that is too long')
        t.close()
    t = Talk()
    line = b'{"op":"subvolume.list"' + b' ' * (LINE_MAX - 24) + b'}\n'
    check(len(line) == LINE_MAX, len(line))
    t.send(line)
    check(t.reply()['ok'], 'the longest line is refused')
    t.close()


def slow_sender():
    t = Talk()
    t.sock.settimeout(1)
    for byte in b'{"op":"subvolume.list","extra":1,"more":':
        t.send(bytes([byte]))
        try:
            t.rest += t.sock.recv(1 << 16)
            break
        except socket.timeout:
            continue
    t.sock.settimeout(BOUND)
    check_refusal(t.reply(), 'a slow line', ('ETIMEDOUT',))
    check(t.line() is None, 'more after a slow line')
    t.close()


def half_a_request_and_silence():
    t = Talk()
    t.send(b'{"op":"subvolume.list"}\n{"op":"subvol')
    check(t.reply()['ok'], 'the whole one is not answered')
    check_refusal(t.reply(), 'half a line', ('ETIMEDOUT',))
    check(t.line() is None, 'more after half a line')
    t.close()


def half_a_request_and_gone():
    line = json.dumps({'op': 'subvolume.create', 'name': 'half', 'size_bytes': 4096}).encode()
    for n in range(len(line)):
        t = Talk()
        t.send(line[:n])
        t.close()
    until_served({'op': 'subvolume.list'}).close()


# Everything at once and nothing read; the answers fill all buffers.
def never_reads():
    t = Talk()
    t.sock.settimeout(3)
    try:
        while True:
            t.sock.sendall(b'{"op":"subvolume.list"}\n{"op":"events"}\n{"op":"none"}\n' * 200)
    except (socket.timeout, BrokenPipeError, ConnectionResetError):
        pass
    time.sleep(1)
    t.close()


def never_reads_what_follows():
    for request in (b'{"op":"events","follow":true}\n', b'{"op":"du"}\n',
                    b'{"op":"snapshot.diff","from":{"subvolume":"mine","snapshot":"s"},"to":{"subvolume":"mine"}}\n'):
        t = Talk()
        t.send(request)
        time.sleep(1)
        t.close()


# Takes a line now and then, so that it is never cut off.
def reads_slowly():
    t = Talk()
    t.send(b'{"op":"snapshot.diff","from":{"subvolume":"mine","snapshot":"s"},"to":{"subvolume":"mine"}}\n')
    for _ in range(6):
        t.sock.recv(64)
        time.sleep(0.5)
    t.close()


def killed_at(seconds, requests):
    pid = os.fork()
    if pid == 0:
        try:
            t = Talk()
            for request in requests:
                t.send(json.dumps(request).encode() + b'\n')
            while t.line() is not None:
                pass
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# In the middle of each long operation, at some moment.
def killed_in_the_middle(uid, seed):
    rng = random.Random(seed + uid)
    name = f'mortal{uid}'
    mine = {'subvolume': 'mine', 'snapshot': f's{uid}'}
    for i in range(8):
        pause = rng.random() * 0.03
        killed_at(pause, [{'op': 'snapshot.create', 'snapshots': [mine]}, {'op': 'snapshot.delete', **mine}])
        killed_at(pause, [{'op': 'subvolume.create', 'name': name, 'size_bytes': 1 << 20}, {'op': 'subvolume.delete', 'name': name}])
        killed_at(pause, [{'op': 'clone.create', 'subvolume': 'mine', 'snapshot': 's', 'name': name, 'thin': True},
                          {'op': 'subvolume.delete', 'name': name}])
        killed_at(pause, [{'op': 'du'}])
        killed_at(pause, [{'op': 'snapshot.diff', 'from': {'subvolume': 'mine', 'snapshot': 's'}, 'to': {'subvolume': 'mine'}}])
        killed_at(pause, [{'op': 'events', 'follow': True}])
    # They left their places, and nothing half done: what is there can be taken away.
    t = until_served({'op': 'du', 'subvolume': 'mine'})
    check(t.rest_of_job()['ok'], 'du failed')
    t.close()
    t = until_served({'op': 'subvolume.list'})
    for request in ({'op': 'subvolume.delete', 'name': name}, {'op': 'snapshot.delete', **mine}):
        reply = t.ask(request)
        check(reply['ok'] or reply['error'] == 'ENOENT', request, reply)
    t.close()


def send_descriptors(t, fds, data=b' '):
    try:
        t.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


# A socket whose close waits until what was sent is taken, which never happens.
def lingering_socket():
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(1)
    s = socket.socket()
    s.connect(listener.getsockname())
    peer, _ = listener.accept()
    s.setblocking(False)
    try:
        while True:
            s.send(b'x' * 65536)
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 20 * BOUND))
    return s, peer, listener


# One that is not the last lets go at once, and the last may be ours: a signal ends its wait.
def let_go(s):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    os.close(s.detach())
    signal.setitimer(signal.ITIMER_REAL, 0)


def descriptors_that_linger():
    held = []
    for how in range(5):
        s, peer, listener = lingering_socket()
        t = Talk()
        if how == 0:
            send_descriptors(t, [s.fileno()], b'{"op":')
        elif how == 1:
            send_descriptors(t, [s.fileno()], b'{"op":"subvolume.list"}\n')
        elif how == 2:
            send_descriptors(t, [s.fileno()], b'{"op":')
            send_descriptors(t, [t.sock.fileno()], b'"none"')
        elif how == 3:
            send_descriptors(t, [s.fileno()] * 200, b'nonsense\n')
        else: # while it is at work, so that nothing is read
            t.send(b'{"op":"subvolume.list"}\n' * 300)
            send_descriptors(t, [s.fileno()])
        let_go(s)
        t.close()
        held += [peer, listener]
        # Who comes next is served.
        until_served({'op': 'subvolume.list'}).close()
    time.sleep(1)
    until_served({'op': 'subvolume.list'}).close()


# Refused ones are closed by the thread that everybody's connections go through. It is kept busy while these are sent.
def strangers_descriptors_that_linger():
    held = []
    for _ in range(3):
        talks = [Talk() for _ in range(40)]
        for t in reversed(talks):
            s, peer, listener = lingering_socket()
            send_descriptors(t, [s.fileno()])
            let_go(s)
            held += [peer, listener]
        for t in talks:
            t.close()
        check_refusal(Talk().reply(), 'a stranger', ('EPERM',))
    return held


def many_descriptors():
    r, w = os.pipe()
    t = Talk()
    t.sock.settimeout(3)
    for _ in range(100):
        if not send_descriptors(t, [r, w, t.sock.fileno()] * 80):
            break
    t.send(b'{"op":"subvolume.list"}\n')
    reply = t.reply()
    check(reply and reply['ok'], reply)
    t.close()


# ---- Places

def hold(uid, ready, go):
    talks = [Talk() for _ in range(8)]
    more = Talk()
    check_refusal(more.reply(), 'a ninth', ('EBUSY',))
    check(more.line() is None, 'more than one line')
    for t in talks:
        t.must({'op': 'subvolume.list'})
    os.write(ready, b'x')
    os.read(go, 1)
    for t in talks:
        t.must({'op': 'subvolume.list'})


def places_of_owners():
    ready, go = os.pipe(), os.pipe()
    users = (OWNER,) + MORE_OWNERS
    pids = [as_user(uid, hold, uid, ready[1], go[0]) for uid in users]
    for _ in users:
        check(select.select([ready[0]], [], [], BOUND)[0] and os.read(ready[0], 1) == b'x', 'one of them failed')
    run_as(OTHER, lambda: check_refusal(Talk().reply(), 'no place', ('EBUSY',)))
    Talk().must({'op': 'pool.show'})
    os.write(go[1], b'x' * len(users))
    check(ended_well(pids), 'one of them failed')
    run_as(OTHER, lambda: until_served({'op': 'subvolume.list'}).close())


# Those for what takes long, too: half of what owners have is one user's.
def follows_four_times():
    follow = {'op': 'events', 'follow': True}
    talks = [Talk() for _ in range(5)]
    for t in talks[:4]:
        t.must(follow)
    check_refusal(talks[4].ask(follow), 'a fifth', ('EBUSY',))
    talks[4].must({'op': 'events'})
    return talks


def places_of_followers():
    run_as(OWNER, follows_four_times)

    def others_have_theirs():
        until_served({'op': 'events', 'follow': True}).close()
    run_as(OTHER, others_have_theirs)


# Lines that wait to be sent are what it had; then it ends.
def diff_to_its_end(ready, go):
    t = Talk()
    t.must({'op': 'snapshot.diff', 'from': {'subvolume': 'mine', 'snapshot': 's'}, 'to': {'subvolume': 'mine'}})
    while 'path' not in t.reply():
        pass
    time.sleep(0.5) # until as many wait as can
    os.write(ready, b'x')
    os.read(go, 1)
    paths = 1
    while True:
        line = t.reply()
        check(line is not None, 'it was cut off')
        if line.get('end'):
            break
        paths += 'path' in line
    check_refusal({**line, 'version': 1}, 'the end', ('EPERM',))
    check(paths < 1500, paths, 'paths were told to who was no owner any more')


def ownership_ends_a_diff():
    ready, go = os.pipe(), os.pipe()
    root = Talk()
    pid = as_user(OWNER, diff_to_its_end, ready[1], go[0])
    well = select.select([ready[0]], [], [], BOUND)[0]
    root.must({'op': 'tenant.set', 'name': 'red', 'owner_uids': []})
    os.write(go[1], b'x')
    check(ended_well([pid]) and well, 'it ended in another way')
    root.must({'op': 'tenant.set', 'name': 'red', 'owner_uids': [OWNER]})


def places_of_administrators():
    talks = [Talk() for _ in range(80)]
    served = refused = 0
    for t in talks:
        reply = t.ask({'op': 'pool.show'})
        if reply['ok']:
            served += 1
        else:
            check_refusal(reply, 'too many', ('EBUSY',))
            refused += 1
    # Who was here before and goes now may have had a place.
    check(served + refused == 80 and 56 <= served <= 64, served, 'served', refused, 'refused')
    for t in talks:
        t.close()
    until_served({'op': 'pool.show'}).close()


# ---- Others meanwhile

def bystander(uid, folder, stop):
    t = Talk()
    rounds = size = 0
    name = 'mine' if uid == OWNER else 'yours'
    while not os.path.exists(stop):
        size = (8 << 20) + (rounds % 2 << 20)
        t.must({'op': 'subvolume.list'})
        t.must({'op': 'subvolume.resize', 'name': name, 'size_bytes': size})
        fresh = until_served({'op': 'subvolume.show', 'name': name})
        fresh.close()
        if uid == 0:
            t.must({'op': 'pool.show'})
        with open(f'{folder}/{uid}', 'wb') as f:
            f.write(b'%d' % rounds)
            f.flush()
            os.fsync(f.fileno())
        with open(f'{folder}/{uid}', 'rb') as f:
            check(f.read() == b'%d' % rounds, 'other bytes in', folder)
        rounds += 1
        time.sleep(0.01)
    check(rounds > 0, 'nothing was done')


def in_threads(*fns):
    wrong = []

    def one(fn):
        try:
            fn()
        except Exception as e:
            wrong.append(f'{fn.__name__}: {e}')

    threads = [threading.Thread(target=one, args=(fn,)) for fn in fns]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not wrong, *wrong)


def all_attacks(uid, seed):
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    in_threads(slow_sender, half_a_request_and_silence, endless_line, never_reads)
    in_threads(never_reads_what_follows, reads_slowly, many_descriptors)
    half_a_request_and_gone()
    killed_in_the_middle(uid, seed)
    mutated_requests(uid, seed, 300)


def strangers_again():
    for _ in range(300):
        check_refusal(Talk().reply(), 'a stranger', ('EPERM',))


# ---- What the daemon has

def worker():
    return Talk().must({'op': 'pool.show'})['pool']['worker_pid']


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def resident(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS:')) << 10


def threads_of(pid):
    return len(os.listdir(f'/proc/{pid}/task'))


def has_sanitizer(pid):
    with open(f'/proc/{pid}/maps', encoding='utf-8') as f:
        return any(name in f.read() for name in ('libasan', 'libtsan', 'libubsan', '__asan'))


def one_storm(seed):
    stop = f'{WORK}/stop'
    if os.path.exists(stop):
        os.unlink(stop)
    others = [as_user(0, bystander, 0, f'{WORK}/mnt-yours', stop), as_user(OTHER, bystander, OTHER, f'{WORK}/mnt-yours', stop)]
    pids = [as_user(0, all_attacks, 0, seed), as_user(OWNER, all_attacks, OWNER, seed), as_user(STRANGER, strangers_again)]
    well = ended_well(pids)
    with open(stop, 'wb'):
        pass
    check(ended_well(others), 'others were not served')
    check(well, 'an attack was answered in another way than it should be, seed', seed)


def storm():
    seed = random.randrange(1 << 30)
    print('seed', seed)
    pid = worker()
    one_storm(seed)
    # From here on it has what it needs: threads, arenas, caches.
    time.sleep(0.5)
    before = descriptors(pid), threads_of(pid), resident(pid)
    one_storm(seed + 1)
    check(worker() == pid, 'another worker serves now')
    end = time.monotonic() + BOUND
    while descriptors(pid) > before[0] or threads_of(pid) > before[1]:
        check(time.monotonic() < end, 'descriptors, threads:', descriptors(pid), threads_of(pid), 'and before', before[:2])
        time.sleep(0.1)
    print('descriptors, threads, memory:', *before, 'then', descriptors(pid), threads_of(pid), resident(pid))
    check(has_sanitizer(pid) or resident(pid) < before[2] + (24 << 20), 'its memory grows:', before[2], resident(pid))


TESTS = {
    'wrong_requests_of_root': lambda: (wrong_requests_are_refused(0), numbers_out_of_range(0)),
    'wrong_requests_of_an_owner': lambda: (run_as(OWNER, wrong_requests_are_refused, OWNER), run_as(OWNER, numbers_out_of_range, OWNER)),
    'stranger_hears_one_line': lambda: run_as(STRANGER, stranger_hears_one_line),
    'places_of_owners': places_of_owners,
    'places_of_administrators': places_of_administrators,
    'places_of_followers': places_of_followers,
    'ownership_ends_a_diff': ownership_ends_a_diff,
    'descriptors_of_an_owner_that_linger': lambda: run_as(OWNER, descriptors_that_linger),
    'descriptors_of_a_stranger_that_linger': lambda: (run_as(STRANGER, strangers_descriptors_that_linger), Talk().must({'op': 'pool.show'})),
    'storm': storm,
}

if __name__ == '__main__':
    try:
        TESTS[sys.argv[3]]()
    except Wrong as e:
        sys.exit(str(e))
