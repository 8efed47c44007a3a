"""A disk that remembers every write and every flush, in order: what dm-log-writes does, without the device mapper.

A file over FUSE, served from memory by a thread of this process; a loop device over it; a file system on that. The kernel
hands a write to us when the file system does, and `fsync` when a flush reaches the device.

Needs root, /dev/fuse and a loop device; nothing else, and nothing is left behind.
"""

import ctypes
import errno
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import threading

SECTOR_BYTES = 512


class Disk:
    """`log` holds `(offset, bytes)` for each write and `None` for each flush."""

    def __init__(self, folder, size):
        self.folder = pathlib.Path(folder)
        self.size = size
        self.memory = bytearray(size)
        self.log = []
        # Reads that touch these bytes fail with EIO.
        self.lost = range(0)
        self.file = self.folder / "disk"
        self.root = self.folder / "root"
        self.loop = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=100000,user_id=0,group_id=0"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"disk", str(self.file).encode(), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount a file over FUSE")
        threading.Thread(target=self._serve, daemon=True).start()
        try:
            self.loop = attach(self.file)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        unmount(self.root)
        if self.loop:
            run("losetup", "-d", self.loop, check=False)
        run("umount", "-l", self.file, check=False)

    def format_and_mount(self):
        run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", self.loop)
        self.root.mkdir(exist_ok=True)
        run("mount", "-t", "ext4", self.loop, self.root)
        os.sync()

    # ------------------------------------------------------------ FUSE, as in linux/fuse.h

    def _serve(self):
        while True:
            try:
                request = os.read(self.device, WRITE_BYTES_MAX + 4096)
            except OSError as problem:
                if problem.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            answer = self._answer(opcode, memoryview(request)[40:])
            if answer is None:
                continue
            error, data = (answer, b"") if isinstance(answer, int) else (0, answer)
            try:
                os.write(self.device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
            except OSError:
                # The kernel no longer waits for it.
                pass

    def _answer(self, opcode, body):
        """Bytes, an error number, or None when nobody waits for an answer."""
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHH", 7, 31, 1 << 17, BIG_WRITES | MAX_PAGES, 64, 48, WRITE_BYTES_MAX, 1, WRITE_BYTES_MAX >> 12, 0).ljust(64, b"\0")
        if opcode in (GETATTR, SETATTR):
            attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, self.size, self.size >> 9, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)
            return struct.pack("<QII", 3600, 0, 0) + attributes
        if opcode == OPEN:
            return struct.pack("<QII", 1, DIRECT_IO, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            if offset < self.lost.stop and self.lost.start < offset + size:
                return errno.EIO
            return bytes(self.memory[offset : offset + size])
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = bytes(body[40 : 40 + size])
            self.memory[offset : offset + size] = data
            self.log.append((offset, data))
            return struct.pack("<II", size, 0)
        if opcode == FSYNC:
            self.log.append(None)
            return b""
        if opcode in (FLUSH, RELEASE, DESTROY):
            return b""
        if opcode in (FORGET, INTERRUPT, BATCH_FORGET):
            return None
        return errno.ENOSYS


class PowerCut:
    """What the disk may hold after the power went at some place of the log: all that was flushed, and of the rest any sectors."""

    def __init__(self, disk):
        self.log = list(disk.log)
        self.image = bytearray(disk.size)
        # Writes before this place are in `image`.
        self.done = 0

    def flushed_before(self, place):
        """The place behind the last flush before `place`."""
        return next((at + 1 for at in range(place - 1, -1, -1) if self.log[at] is None), 0)

    def write_image(self, path, place, rng):
        """Places must rise from call to call. Returns the count of writes that were in the disk's cache."""
        flushed = self.flushed_before(place)
        for entry in self.log[self.done : flushed]:
            if entry is not None:
                offset, data = entry
                self.image[offset : offset + len(data)] = data
        self.done = max(self.done, flushed)
        cached = [entry for entry in self.log[flushed:place] if entry is not None]
        with open(path, "wb") as file:
            file.write(self.image)
            for offset, data in cached:
                share = rng.choice([0, 0, 0.5, 1])
                for at in range(0, len(data), SECTOR_BYTES):
                    if rng.random() < share:
                        file.seek(offset + at)
                        file.write(data[at : at + SECTOR_BYTES])
        return len(cached)


class Mounted:
    """An image, mounted at `root`."""

    def __init__(self, image, root):
        self.image = image
        self.root = pathlib.Path(root)

    def __enter__(self):
        self.root.mkdir(exist_ok=True)
        self.loop = attach(self.image)
        try:
            run("mount", "-t", "ext4", self.loop, self.root)
        except RuntimeError:
            run("losetup", "-d", self.loop, check=False)
            raise
        return self.root

    def __exit__(self, *_):
        unmount(self.root)
        run("losetup", "-d", self.loop, check=False)


def is_possible():
    """Whether this machine lets us: '' or why not."""
    if os.geteuid() != 0:
        return "needs root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return f"needs {path}"
    for tool in ("mkfs.ext4", "losetup", "mount"):
        if not shutil.which(tool):
            return f"needs {tool}"
    with tempfile.TemporaryDirectory(prefix="millrace-disk-") as folder:
        try:
            with Disk(folder, 1 << 20):
                return ""
        except (OSError, RuntimeError) as problem:
            return str(problem)


def attach(file):
    return run("losetup", "-f", "--show", file).strip()


def unmount(root):
    if os.path.ismount(root):
        run("umount", root, check=False)
        if os.path.ismount(root):
            run("umount", "-l", root, check=False)


def run(*command, check=True):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 2, 3, 4, 14, 15, 16, 18, 20, 25, 26
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1
WRITE_BYTES_MAX = 1 << 20
