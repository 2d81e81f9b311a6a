# SPDX-License-Identifier: MIT
"""Two users of one mount, for tests/mount/hostile.bats.

hostile.py locks FILE COUNT     has so many threads wait for one flock(2); says how many were refused with ENOLCK
hostile.py attack DIR SECONDS   takes all that it can get: open files, locks, waiting opens of FIFOs, attributes,
                                names without end, mappings, requests at once; says how many files it had open
hostile.py work DIR SECONDS     does simple things, one after another; says how many, and how long the slowest
                                took in milliseconds; ends with 1 when one failed
"""
import errno
import fcntl
import mmap
import os
import random
import resource
import sys
import threading
import time


def open_all(place, out):
    """Opens until no more are given, and keeps all."""
    held = []
    while len(held) < 4000:
        try:
            held.append(os.open(f"{place}/held-{os.getpid()}-{len(held)}", os.O_CREAT | os.O_RDWR))
        except OSError as e:
            os.write(out, f"{len(held)} {errno.errorcode[e.errno]}\n".encode())
            break
    return held


def flood(place, end):
    """Requests of all kinds, as many as one process can send, through 16 threads."""
    def names():
        while time.time() < end:
            try:
                os.stat(f"{place}/none-{random.random()}")
            except OSError:
                pass

    def tries(what):
        while time.time() < end:
            try:
                what()
            except OSError:
                time.sleep(0.001)

    def files():
        name = f"{place}/f-{threading.get_native_id()}"
        with open(name, "wb") as f:
            f.write(os.urandom(1 << 16))
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, random.randrange(1 << 20))
        for i in range(16):
            os.setxattr(name, f"user.a{i}", b"x" * 200)
        with open(name, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[random.randrange(len(m))] = 1
        os.listdir(place)
        os.unlink(name)

    def deep():
        base = f"{place}/deep-{threading.get_native_id()}"
        fds = [os.open(place, os.O_RDONLY)]
        name = os.path.basename(base)
        for _ in range(60):
            os.mkdir(name, dir_fd=fds[-1])
            fds.append(os.open(name, os.O_PATH, dir_fd=fds[-1]))
        for fd in reversed(fds):
            os.close(fd)

    def fifo():
        name = f"{place}/fifo-{threading.get_native_id()}"
        os.mkfifo(name)
        os.open(name, os.O_RDONLY)  # for ever

    work = [names] * 8 + [lambda: tries(files)] * 4 + [lambda: tries(deep)] * 2 + [lambda: tries(fifo)] * 2
    for w in work:
        threading.Thread(target=w, daemon=True).start()
    time.sleep(max(0, end - time.time()))


def attack(place, seconds):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 5000), hard))
    end = time.time() + seconds
    read, write = os.pipe()
    pids = []
    for n in range(8):
        pid = os.fork()
        if pid == 0:
            held = open_all(place, write) if n < 4 else None
            flood(place, end)
            os._exit(0 if held is not None or n >= 4 else 1)
        pids.append(pid)
    os.close(write)
    for pid in pids:
        os.waitpid(pid, 0)
    print(os.fdopen(read).read(), end="")


def work(place, seconds):
    slowest, done, end = 0.0, 0, time.time() + seconds
    while time.time() < end:
        begun = time.time()
        name = f"{place}/mine-{done % 7}"
        try:
            with open(name, "w") as f:
                f.write(str(done))
            with open(name) as f:
                if f.read() != str(done):
                    sys.exit(f"{name}: not what was written")
            os.rename(name, name + ".new")
            os.stat(name + ".new")
            os.unlink(name + ".new")
        except OSError as e:
            sys.exit(f"round {done}: {e}")
        slowest = max(slowest, time.time() - begun)
        done += 1
        time.sleep(0.02)
    print(done, round(slowest * 1000))


def locks(file, count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    threading.stack_size(64 << 10)
    fds = [os.open(file, os.O_RDWR) for _ in range(int(count) + 1)]
    fcntl.flock(fds[0], fcntl.LOCK_EX)
    refused = []

    def wait(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as e:
            refused.append(e.errno)

    for fd in fds[1:]:
        threading.Thread(target=wait, args=(fd,), daemon=True).start()
    end = time.time() + 40
    seen = -1
    while time.time() < end and (not refused or len(refused) != seen):
        seen = len(refused)
        time.sleep(1)
    print(refused.count(errno.ENOLCK), flush=True)
    sys.stdin.read()
    os._exit(0)


{"attack": attack, "work": work, "locks": locks}[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
