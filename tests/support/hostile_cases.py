"""Submissions made to harm, cheat, hang or leave a mess, and what each must come to. A table for `test_runs`.

Every entrypoint begins with `KIT`: `answer()` writes a good output; `attempt(name, call)` prints `held` where the call
fails and `ESCAPED` where it works; `facts` has what an attacker would like to know of the host.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

MB = 10**6

KIT = '''
import ctypes, errno, json, os, shutil, signal, socket, stat, subprocess, sys, threading, time

facts = json.load(open("facts.json", encoding="utf-8"))

def answer():
    for folder, _, names in os.walk("answer"):
        target = "output" + folder.removeprefix("answer")
        os.makedirs(target, exist_ok=True)
        for name in names:
            shutil.copyfile(os.path.join(folder, name), os.path.join(target, name))

def attempt(name, call):
    try:
        result = call()
    except (OSError, ValueError, EOFError, subprocess.SubprocessError) as error:
        print("held", name, type(error).__name__, error)
    else:
        print("ESCAPED", name, repr(result)[:300])

libc = ctypes.CDLL(None, use_errno=True)

def system(name, *arguments):
    """A call of libc that must fail."""
    ctypes.set_errno(0)
    arguments = [value.encode() if isinstance(value, str) else value for value in arguments]
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def write(path, text="x", flags=os.O_WRONLY):
    descriptor = os.open(path, flags)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
'''


@dataclass(frozen=True)
class Case:
    """One submission. `docker` and `local` are the verdict and, after a blank, a rule that the findings must name;
    None: not run there, as that runner does not promise it, or as trying would harm a machine without a jail.

    `held` is the number of attempts that must fail; `limits` (name=value) and `arguments` go to the command line,
    `files` into the submission; `dangerous`: a good submission must run well directly afterwards.
    """

    code: str
    docker: str | None
    local: str | None = None
    limits: tuple[str, ...] = ()
    held: int = 0
    entrypoint: str = "python3 run.py"
    image: str | None = None
    files: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    dangerous: bool = False


def bilevel_png(side: int) -> bytes:
    """A black PNG, whole and valid, of one bit a pixel: 312 MB of zeros for a side of 50 000."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(1)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">2I5B", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def edit(change: str) -> str:
    """Code that writes a good output and then another predictions.json: `change` works on `document`."""
    return (
        'answer()\npath = "output/predictions.json"\ndocument = json.load(open(path, encoding="utf-8"))\n'
        + 'drawing = next(id for id, entries in document.items() if entries[0]["type"] == "image")\n'
        + f"{change}\n"
        + 'json.dump(document, open(path, "w", encoding="utf-8"))\n'
    )


def raw(content: str) -> str:
    """Code whose predictions.json is the bytes that an expression gives."""
    return f'open("output/predictions.json", "wb").write({content})'


def image(content: str) -> str:
    """Code that writes a good output and replaces the images by the bytes that an expression gives."""
    return (
        f"answer()\ncontent = {content}\n"
        + 'for name in os.listdir("output/images"):\n    open("output/images/" + name, "wb").write(content)\n'
    )


SMALL_DISK = ("output=2MB", "tmp=4MB")
FEW_FILES = ("output_files=300",)
LITTLE_MEMORY = ("memory=200MB", "shm=1GB")
SHORT = ("time=3s", "grace=1s")

HOG = "x = bytearray(10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1\n"
SLOW_HOG = "x = []\nwhile True:\n    x.append(bytearray(b'1') * 10**7)\n    time.sleep(0.02)\n"

CASES = {
    # --- more than it may have ---
    "fork bomb": Case(
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        docker="TIMEOUT time-limit",
        limits=(*SHORT, "pids=40", "memory=512MB", "cpus=1"),
        dangerous=True,
    ),
    "fork bomb that gives up": Case(
        "while True: os.fork()",
        docker="EXIT exit-code",
        limits=("pids=40", "memory=512MB", "time=20s"),
        dangerous=True,
    ),
    "too many processes": Case(  # a bomb would get ahead of a runner that only looks from time to time
        "children = [subprocess.Popen(['sleep', '60'], start_new_session=True) for _ in range(40)]\ntime.sleep(60)",
        docker="EXIT exit-code",
        local="EXIT process-limit",
        limits=("pids=20",),
        dangerous=True,
    ),
    "too many threads": Case(
        "for _ in range(100): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\ntime.sleep(60)",
        docker="EXIT exit-code",
        local="EXIT process-limit",
        limits=("pids=20",),
    ),
    "memory": Case(HOG, docker="OOM memory-limit", limits=LITTLE_MEMORY, dangerous=True),
    "memory, by and by": Case(
        SLOW_HOG, docker="OOM memory-limit", local="OOM memory-limit", limits=LITTLE_MEMORY
    ),
    "memory, by mmap": Case(
        "import mmap\nx = mmap.mmap(-1, 10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1",
        docker="OOM memory-limit",
        limits=LITTLE_MEMORY,
    ),
    "memory, in /dev/shm": Case(
        "file = open('/dev/shm/x', 'wb')\nfor _ in range(1000): file.write(bytes(10**6))\nanswer()",
        docker="OOM memory-limit",
        limits=LITTLE_MEMORY,
        dangerous=True,
    ),
    "memory, in a child of a session of its own": Case(
        f"code = 'import time\\n' + {SLOW_HOG!r}\n"
        "raise SystemExit(subprocess.run([sys.executable, '-c', code], start_new_session=True).returncode != 0)",
        docker="OOM memory-limit",
        local="OOM memory-limit",
        limits=("memory=200MB",),
    ),
    "/dev/shm full": Case(
        "file = open('/dev/shm/x', 'wb', buffering=0)\n"
        "attempt('fill', lambda: [file.write(bytes(10**5)) for _ in range(99)])\nanswer()",
        docker="OK",
        limits=("shm=4MB",),
        held=1,
    ),
    "disk: output": Case(
        "open('output/x', 'wb').write(bytes(10**8))",
        docker="DISK disk-limit",
        local="DISK disk-limit",
        limits=SMALL_DISK,
        dangerous=True,
    ),
    "disk: output, in many files": Case(
        "for i in range(100):\n    open(f'output/{i}', 'wb').write(bytes(10**5))\n    time.sleep(0.01)\ntime.sleep(60)",
        docker="DISK disk-limit",
        local="DISK disk-limit",
        limits=SMALL_DISK,
    ),
    "disk: /tmp": Case(
        "path = os.path.expanduser('~/')\n"
        "try:\n    for i in range(100): open(f'{path}{i}', 'wb').write(bytes(10**5))\n"
        "finally:\n    time.sleep(2)",
        docker="DISK disk-limit",
        local="DISK disk-limit",
        limits=SMALL_DISK,
        dangerous=True,
    ),
    "a million files": Case(
        "for i in range(10**6): open(f'output/{i}', 'w').close()",
        docker="DISK disk-limit",
        local="DISK disk-limit",
        limits=FEW_FILES,
        dangerous=True,
    ),
    "a million files in /tmp": Case(  # names lie in memory
        "for i in range(10**6): open(f'/tmp/{i}', 'w').close()",
        docker="OOM memory-limit",
        limits=("memory=64MB",),
    ),
    "sparse file": Case(
        "open('output/x', 'w').truncate(10**12)",
        docker="BAD_OUTPUT output-bytes",
        local="EXIT exit-code",  # the kernel does not let it grow
        dangerous=True,
    ),
    "sparse files": Case(
        "answer()\nfor i in range(9): open(f'output/{i}', 'w').truncate(10**6)",
        docker="BAD_OUTPUT output-bytes",
        local="BAD_OUTPUT output-bytes",
        limits=SMALL_DISK,
    ),
    "log flood": Case(
        "for _ in range(100): print('ж' * 50_000)\nanswer()",
        docker="OK",
        local="OK",
        limits=("log=100KB",),
        dangerous=True,
    ),
    "open files": Case(
        "files = []\ntry:\n    while len(files) < 10**5: files.append(open('/dev/null'))\nexcept OSError: pass\n"
        "print(len(files))\nfiles.clear()\nanswer()",
        docker="OK",
        local="OK",
        limits=("memory=512MB",),
    ),
    "deep folders": Case(
        "answer()\nos.makedirs('output/' + 'd/' * 300)",
        docker="BAD_OUTPUT output-depth",
        local="BAD_OUTPUT output-depth",
    ),
    # --- longer than it may ---
    "sleeps": Case("time.sleep(600)", docker="TIMEOUT time-limit", local="TIMEOUT time-limit", limits=SHORT),
    "answers and sleeps": Case(
        "answer()\ntime.sleep(600)", docker="TIMEOUT time-limit", local="TIMEOUT time-limit", limits=SHORT
    ),
    "ignores SIGTERM": Case(
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
        "time.sleep(600)",
        docker="TIMEOUT time-limit",
        local="TIMEOUT time-limit",
        limits=SHORT,
        dangerous=True,
    ),
    "stops itself": Case(
        "os.kill(0, signal.SIGSTOP)\ntime.sleep(600)",
        docker="TIMEOUT time-limit",
        local="TIMEOUT time-limit",
        limits=SHORT,
    ),
    "daemon that goes on": Case(
        "answer()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        for number in range(1, 32):\n"
        "            try: signal.signal(number, signal.SIG_IGN)\n"
        "            except OSError: pass\n"
        "        os.environ.clear()\n"
        "        while True: time.sleep(0.01)\n"
        "    os._exit(0)\n",
        docker="OK",
        local="OK",
        dangerous=True,
    ),
    "daemons at the deadline": Case(
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        if os.fork(): os._exit(0)\n"
        "        time.sleep(600)\n"
        "time.sleep(600)",
        docker="TIMEOUT time-limit",
        local="TIMEOUT time-limit",
        limits=SHORT,
        dangerous=True,
    ),
    # --- where it must not get ---
    "network": Case(
        "def connect(kind, address):\n"
        "    with socket.socket(socket.AF_INET, kind) as s:\n"
        "        s.settimeout(3)\n"
        "        s.connect(address)\n"
        "        s.send(b'x')\n"
        "def unix(address):\n"
        "    with socket.socket(socket.AF_UNIX) as s: s.connect(address)\n"
        "attempt('DNS', lambda: socket.getaddrinfo('example.com', 80))\n"
        "attempt('DNS of the host', lambda: socket.getaddrinfo('host.docker.internal', 80))\n"
        "attempt('TCP', lambda: connect(socket.SOCK_STREAM, ('1.1.1.1', 443)))\n"
        "attempt('UDP', lambda: connect(socket.SOCK_DGRAM, ('8.8.8.8', 53)))\n"
        "attempt('metadata', lambda: connect(socket.SOCK_STREAM, ('169.254.169.254', 80)))\n"
        "attempt('TCP6', lambda: socket.create_connection(('2606:4700:4700::1111', 443), 3))\n"
        "attempt('abstract socket', lambda: unix(chr(0) + facts['abstract']))\n"
        "attempt('loopback', lambda: connect(socket.SOCK_STREAM, ('127.0.0.1', facts['port'])))\n"
        "attempt('host', lambda: connect(socket.SOCK_STREAM, (facts['address'], facts['port'])))\n"
        "answer()",
        docker="OK",
        local="OK",
        held=9,
    ),
    "sockets of the engine": Case(
        "def unix(address):\n"
        "    with socket.socket(socket.AF_UNIX) as s: s.connect(address)\n"
        "for path in (facts['engine'], '/var/run/docker.sock', '/run/containerd/containerd.sock'):\n"
        "    attempt(path, lambda: unix(path))\n"
        "attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))\n"
        "attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x300))\n"
        "answer()",
        docker="OK",
        held=5,
    ),
    "reads the truth": Case(
        "for path in (facts['data'] + '/ground_truth.json', '../input/ground_truth.json', '../../ground_truth.json'):\n"
        "    attempt(path, lambda: open(path).read())\n"
        "attempt('pictures', lambda: os.listdir(facts['data'] + '/gt_images'))\n"
        "answer()",
        docker="OK",
        local="OK",
        held=4,
    ),
    "looks for the truth everywhere": Case(
        "def look(top):\n"
        "    found = [os.path.join(folder, name) for folder, folders, names in os.walk(top)\n"
        "             for name in names + folders\n"
        "             if name in ('ground_truth.json', 'gt_images', 'sample_ids.json')]\n"
        "    if not found: raise OSError('nothing')\n"
        "    return found\n"
        "for top in ('/', '/proc/1/root', '/proc/self/root', '..'): attempt(top, lambda: look(top))\n"
        "answer()",
        docker="OK",
        held=4,
    ),
    "writes to the input and the code": Case(
        "attempt('input', lambda: write('../input/input.json'))\n"
        "attempt('images', lambda: open('../input/images/x', 'w'))\n"
        "attempt('remove', lambda: os.unlink('../input/input.json'))\n"
        "attempt('rename', lambda: os.rename('../input', '../truth'))\n"
        "attempt('code', lambda: write('run.py'))\n"
        "attempt('metadata', lambda: os.replace('facts.json', 'metadata.json'))\n"
        "attempt('chmod', lambda: os.chmod('run.py', 0o777))\n"
        "attempt('work', lambda: os.mkdir('../x'))\n"
        "answer()",
        docker="OK",
        local="OK",
        held=8,
    ),
    "output a link to /": Case(
        "attempt('remove', lambda: os.rmdir('output'))\n"
        "attempt('rename', lambda: os.rename('output', 'old'))\n"
        "attempt('link', lambda: os.symlink('/', 'output'))\n"
        "attempt('replace', lambda: [os.symlink('/', 'link'), os.replace('link', 'output')])\n"
        "answer()",
        docker="OK",
        local="OK",
        held=4,
    ),
    "folders of mode 000": Case(
        "attempt('own folder', lambda: os.chmod('.', 0))\n"
        "attempt('parent', lambda: os.chmod('..', 0))\n"
        "answer()\nos.chmod('output/images', 0)\nos.chmod('output/predictions.json', 0)\nos.chmod('output', 0)",
        docker="OK",
        local="OK" if os.geteuid() == 0 else "BAD_OUTPUT file-unreadable",  # only root reads what its owner has closed
        held=2,
        dangerous=True,
    ),
    "files of the host": Case(
        "attempt('sentinel', lambda: write(facts['sentinel']))\n"
        "attempt('folder', lambda: os.listdir(os.path.dirname(facts['sentinel'])))\n"
        "attempt('etc', lambda: open('/etc/fbc2-evil', 'w'))\n"
        "attempt('root', lambda: open('/fbc2-evil', 'w'))\n"
        "attempt('bin', lambda: os.unlink('/usr/bin/env'))\n"
        "attempt('shadow', lambda: open('/etc/shadow').read())\n"
        "answer()",
        docker="OK",
        held=6,
    ),
    "the kernel's files": Case(
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/overcommit_memory',\n"
        "             '/proc/sysrq-trigger', '/sys/kernel/uevent_helper', '/dev/mem', '/dev/kmsg', '/dev/sda',\n"
        "             '/dev/vda', '/proc/1/root/etc/passwd', '/proc/1/cwd/x', '/proc/1/environ', '/proc/1/cgroup',\n"
        "             '/proc/1/uid_map'):\n"
        "    attempt(path, lambda: write(path))\n"
        "attempt('oom_score_adj', lambda: write('/proc/1/oom_score_adj', '-1000'))\n"
        "knobs = {'cgroup.procs', 'memory.max', 'memory.limit_in_bytes', 'pids.max', 'release_agent'}\n"
        "for folder, _, names in os.walk('/sys/fs/cgroup'):\n"
        "    for path in (os.path.join(folder, name) for name in knobs & {*names}):\n"
        "        try: write(path, '1')\n"
        "        except OSError: pass\n"
        "        else: print('ESCAPED', path)\n"
        "answer()",
        docker="OK",
        held=15,
    ),
    "privileges": Case(
        "NEWNS, NEWUSER, NEWNET, NEWPID, NEWCGROUP = 0x20000, 0x10000000, 0x40000000, 0x20000000, 0x2000000\n"
        "for flags in (NEWNS, NEWUSER, NEWUSER | NEWNS, NEWNET, NEWPID, NEWCGROUP):\n"
        "    attempt(f'unshare {flags:#x}', lambda: system('unshare', flags))\n"
        "attempt('setuid', lambda: os.setuid(0))\n"
        "attempt('setgid', lambda: os.setgid(0))\n"
        "attempt('setgroups', lambda: os.setgroups([0]))\n"
        "attempt('chroot', lambda: os.chroot('/tmp'))\n"
        "attempt('mount', lambda: system('mount', 'none', '/tmp', 'tmpfs', 0, None))\n"
        "attempt('remount', lambda: system('mount', None, '/work/input', None, 0x20 | 0x1000, None))\n"
        "attempt('umount', lambda: system('umount', '/work/input'))\n"
        "attempt('setns', lambda: system('setns', os.open('/proc/1/ns/net', os.O_RDONLY), 0))\n"
        "attempt('hostname', lambda: socket.sethostname('evil'))\n"
        "attempt('clock', lambda: time.clock_settime(time.CLOCK_REALTIME, 0))\n"
        "attempt('reboot', lambda: system('reboot', 0))\n"
        "attempt('nice', lambda: os.nice(-20))\n"
        "attempt('bpf', lambda: system('syscall', 321, 0, None, 0))\n"
        "attempt('module', lambda: system('syscall', 175, None, 0, ''))\n"
        "attempt('keyctl', lambda: system('syscall', 250, 0, -3, 1))\n"
        "attempt('handle', lambda: system('syscall', 304, -100, None, 0))\n"
        "attempt('device', lambda: os.mknod('output/disk', stat.S_IFBLK | 0o666, os.makedev(8, 0)))\n"
        "for line in open('/proc/self/status'):\n"
        "    if line.startswith('Cap') and int(line.split()[1], 16): print('ESCAPED', line)\n"
        "os.chmod(shutil.copy('/usr/bin/id', '/tmp/id'), 0o6777)\n"
        "uid = subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout\n"
        "print('ESCAPED' if uid != '10001\\n' else 'as', uid)\n"
        "answer()",
        docker="OK",
        held=23,
        dangerous=True,
    ),
    "signals to everybody": Case(
        "os.kill(1, signal.SIGKILL)\nos.kill(1, signal.SIGSTOP)\n"
        "for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):\n"
        "    if pid not in (1, os.getpid()): print('ESCAPED: sees', pid)\n"
        "child = subprocess.Popen(['sleep', '60'])\nos.kill(-1, signal.SIGKILL)\nchild.wait()\nanswer()",
        docker="OK",
        dangerous=True,
    ),
    "holds the init process": Case(  # with PTRACE_ATTACH: nothing but SIGKILL reaches it any more
        "libc.ptrace(16, 1, None, None)\ntime.sleep(600)",
        docker="TIMEOUT time-limit",
        limits=SHORT,
        dangerous=True,
    ),
    "SIGTERM to the init process": Case("os.kill(1, signal.SIGTERM)\ntime.sleep(60)", docker="EXIT exit-code"),
    "secrets of the environment": Case(
        "print(os.environ)\n"
        "for pid in {'self', '1', *filter(str.isdigit, os.listdir('/proc'))} if facts['jail'] else {'self'}:\n"
        "    for name in ('environ', 'cmdline'):\n"
        "        try: print(open(f'/proc/{pid}/{name}').read())\n"
        "        except OSError: pass\n"
        "answer()",
        docker="OK",
        local="OK",
    ),
    # --- what it leaves as output ---
    "link to /etc/passwd": Case(
        "os.symlink('/etc/passwd', 'output/predictions.json')",
        docker="BAD_OUTPUT output-kind",
        local="BAD_OUTPUT output-kind",
    ),
    "link to the input": Case(
        "os.symlink('/work/input/input.json', 'output/predictions.json')",
        docker="BAD_OUTPUT output-kind",
        local="BAD_OUTPUT output-kind",
    ),
    "links to folders": Case(
        "answer()\nshutil.rmtree('output/images')\nos.symlink(facts['data'] + '/gt_images', 'output/images')",
        docker="BAD_OUTPUT output-kind",
        local="BAD_OUTPUT output-kind",
    ),
    "link in a circle": Case(
        "answer()\nos.symlink('.', 'output/loop')", docker="BAD_OUTPUT output-kind", local="BAD_OUTPUT output-kind"
    ),
    "hard link": Case(
        "answer()\nos.link('output/predictions.json', 'output/x')",
        docker="BAD_OUTPUT output-kind",
        local="BAD_OUTPUT output-kind",
    ),
    "hard link out of it": Case(
        "attempt('link', lambda: os.link('../input/input.json', 'output/predictions.json'))",
        docker="BAD_OUTPUT file-missing",
        local="BAD_OUTPUT file-missing",
        held=1,
    ),
    "FIFO": Case(
        "os.mkfifo('output/predictions.json')", docker="BAD_OUTPUT output-kind", local="BAD_OUTPUT output-kind"
    ),
    "device": Case(
        "attempt('device', lambda: os.mknod('output/predictions.json', stat.S_IFCHR | 0o666, os.makedev(1, 5)))\n"
        "answer()",
        docker="OK",
        held=1,
    ),
    "socket": Case(
        "answer()\nsocket.socket(socket.AF_UNIX).bind('output/s')\nos.unlink('output/predictions.json')\n"
        "socket.socket(socket.AF_UNIX).bind('output/predictions.json')",
        docker="BAD_OUTPUT file-missing",  # the engine leaves sockets out of what it copies
        local="BAD_OUTPUT output-kind",
    ),
    "name that is no text": Case(
        "answer()\nopen(b'output/\\xff\\xfe', 'w')", docker="BAD_OUTPUT file-path", local="BAD_OUTPUT file-path"
    ),
    "name that moves the cursor": Case(
        "answer()\nopen('output/\\x1b[2J\\nverdict: OK', 'w')",
        docker="BAD_OUTPUT file-path",
        local="BAD_OUTPUT file-path",
    ),
    "path traversal": Case(
        edit("document[drawing][0]['content'] = '../' * 9 + facts['data'].lstrip('/') + '/gt_images/200.png'"),
        docker="BAD_OUTPUT file-path",
        local="BAD_OUTPUT file-path",
    ),
    "absolute path": Case(
        edit("document[drawing][0]['content'] = facts['data'] + '/gt_images/200.png'"),
        docker="BAD_OUTPUT file-path",
        local="BAD_OUTPUT file-path",
    ),
    "the input as answer": Case(
        edit("document[drawing][0]['content'] = '../../input/images/300.png'"),
        docker="BAD_OUTPUT file-path",
        local="BAD_OUTPUT file-path",
    ),
    "forged scores": Case(
        "answer()\nforged = json.dumps({'verdict': 'OK', 'forged': True, 'integral': 1.0, 'tasks': {}})\n"
        "for name in ('scores.json', 'report.html', 'record.json'): open('output/' + name, 'w').write(forged)\n"
        "attempt('beside', lambda: open('../scores.json', 'w'))",
        docker="OK",
        local="OK",
        held=1,
    ),
    "forged log": Case(
        "print('\\x1b[2J\\x1b[Hverdict: OK', '\\x1b]0;evil\\x07', '\\r\\x9b1A\\x08\\x08')\n"
        "print('Traceback (most recent call last):\\n  evaluator error: INFRA', flush=True)\n"
        "os.write(2, bytes(range(256)))\nraise SystemExit(1)",
        docker="EXIT exit-code",
        local="EXIT exit-code",
    ),
    "repeats hidden data": Case(
        "text = json.dumps(json.load(open('../input/input.json')), ensure_ascii=False)\n"
        "print(text, file=sys.stderr, flush=True)\n"
        "answer()\nopen('output/' + text[:60].replace('/', ''), 'w')\nraise ValueError(text)",
        docker="EXIT exit-code",
        local="EXIT exit-code",
        arguments=("--private",),
    ),
    "answers with hidden data": Case(
        "hidden = json.load(open('../input/input.json'))\n" + edit("document['0'] = hidden['0']"),
        docker="OK",
        local="OK",
        arguments=("--private",),
    ),
    "hidden data where a finding quotes it": Case(
        "hidden = json.load(open('../input/input.json'))\n" + edit("document[hidden['0'][0]['content']] = []"),
        docker="BAD_OUTPUT unknown-id",
        local="BAD_OUTPUT unknown-id",
        arguments=("--private",),
    ),
    "image bomb": Case(
        image("open('bomb.png', 'rb').read()"),
        docker="BAD_OUTPUT image-pixels",
        local="BAD_OUTPUT image-pixels",
        files={"bomb.png": lambda: bilevel_png(50_000)},
    ),
    "truncated JPEG": Case(
        image("open('answer/images/image_200.jpg', 'rb').read()[:-200]"),
        docker="BAD_OUTPUT image-broken",
        local="BAD_OUTPUT image-broken",
    ),
    "JPEG that is SVG": Case(
        image('b\'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>\''),
        docker="BAD_OUTPUT image-format",
        local="BAD_OUTPUT image-format",
    ),
    "NaN": Case(
        edit("document['0'][0]['content'] = float('nan')"),
        docker="BAD_OUTPUT json-number",
        local="BAD_OUTPUT json-number",
    ),
    "ids twice": Case(
        raw("b'{\"0\": [], \"0\": []}'"), docker="BAD_OUTPUT duplicate-key", local="BAD_OUTPUT duplicate-key"
    ),
    "millions of ids": Case(  # below the limit of bytes, above that of values
        raw("b'{' + b','.join(b'\"%d\":[]' % i for i in range(4_100_000)) + b'}'"),
        docker="BAD_OUTPUT json-values",
        local="BAD_OUTPUT json-values",
        limits=("output=100MB", "memory=2GB"),
    ),
    "too many bytes of JSON": Case(
        "open('output/predictions.json', 'wb').truncate(101 * 10**6)",
        docker="BAD_OUTPUT file-size",
        local="BAD_OUTPUT file-size",
        limits=("output=200MB", "memory=2GB"),
    ),
    "nested JSON": Case(raw("b'[' * 10**6"), docker="BAD_OUTPUT json-depth", local="BAD_OUTPUT json-depth"),
    "JSON that is not UTF-8": Case(
        raw("'{\"0\": \"ё\"}'.encode('cp1251')"), docker="BAD_OUTPUT json-encoding", local="BAD_OUTPUT json-encoding"
    ),
    # --- how it ends ---
    "exit 0 without output": Case("", docker="BAD_OUTPUT file-missing", local="BAD_OUTPUT file-missing"),
    "exit 1 with good output": Case(
        "answer()\nraise SystemExit(1)", docker="EXIT exit-code", local="EXIT exit-code"
    ),
    "exit 137, as if out of memory": Case(
        "answer()\nos._exit(137)", docker="EXIT exit-code", local="EXIT exit-code"
    ),
    "kills itself": Case(
        "answer()\nos.kill(os.getpid(), signal.SIGKILL)", docker="EXIT exit-code", local="EXIT exit-code"
    ),
    "crash in native code": Case(
        "answer()\nctypes.string_at(0)", docker="EXIT exit-code", local="EXIT exit-code"
    ),
    # --- metadata.json ---
    "entrypoint with a shell's characters": Case(
        "wanted = [';', 'touch', 'output/pwned', '&&', '$(id)', '`id`', '|', 'cat', '>', 'output/x', '$HOME', '*']\n"
        "answer()\nraise SystemExit(sys.argv[1:] != wanted or os.path.exists('output/pwned'))",
        docker="OK",
        local="OK",
        entrypoint="python3 run.py ; touch output/pwned && '$(id)' '`id`' | cat > output/x $HOME *",
    ),
    "entrypoint that is not there": Case(
        "answer()",
        docker="BAD_METADATA metadata-failure",
        local="BAD_METADATA metadata-failure",
        entrypoint="./no-such-program",
    ),
    "another image": Case("answer()", docker="BAD_IMAGE image-failure", image="stranger/miner:latest"),
    "an image's number": Case("answer()", docker="BAD_IMAGE image-failure", image="@number"),
    "options for an image": Case("answer()", docker="BAD_METADATA metadata-image", image="--privileged"),
}  # fmt: skip
