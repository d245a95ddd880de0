"""The work behind run.sh: mounts each file system over the same files and times the same steps in turn.

Microseconds a unit, median of the rounds; the lines below a table say how far rounds were apart.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

FILES = int(os.environ.get("COVEFS_BENCH_FILES", 2000))
MIB = int(os.environ.get("COVEFS_BENCH_MIB", 256))
ROUNDS = int(os.environ.get("COVEFS_BENCH_ROUNDS", 3))
READS = 2000
BLOCK = os.urandom(1 << 20)
SMALL = BLOCK[:4096]


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def fill(share):
    with open(f"{share}/big", "wb") as file:
        for _ in range(MIB):
            file.write(BLOCK)
    for number in range(FILES):
        os.makedirs(f"{share}/many/{number % 20}", exist_ok=True)
        with open(f"{share}/many/{number % 20}/{number}", "wb") as file:
            file.write(SMALL)
    # covefs counts what is younger than an hour as a file that may still grow.
    os.utime(f"{share}/big", (time.time() - 86400,) * 2)


class Plain:
    """A directory of the disk that holds the caches of the others."""

    name = "plain"

    def __init__(self, place):
        self.mnt = self.share = f"{place}/share"
        os.makedirs(self.share)
        fill(self.share)

    def mount(self):
        pass

    def unmount(self):
        pass

    def wipe(self):
        pass


class Mounted:
    def __init__(self, place):
        self.place, self.share, self.mnt, self.cache = place, f"{place}/share", f"{place}/mnt", f"{place}/cache"
        for path in (self.share, self.mnt, self.cache):
            os.makedirs(path)
        self.prepare()

    def prepare(self):
        fill(self.share)

    def unmount(self):
        for _ in range(600):
            if subprocess.run(["umount", self.mnt], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        else:
            sys.exit(f"{self.mnt} stays mounted")
        time.sleep(1)

    def wipe(self):
        shutil.rmtree(self.cache)
        os.mkdir(self.cache)


class Covefs(Mounted):
    name = "covefs"

    def mount(self):
        run("covefs", "mount", f"dir:{self.share}", self.mnt, "--cache-dir", self.cache, "--cache-size", "4GiB")

    def unmount(self):
        run("covefs", "unmount", self.mnt, "--wait")


class Stub(Mounted):
    """A file system that keeps nothing: the kernel's own cost."""

    name = "stub"

    def prepare(self):
        pass

    def mount(self):
        subprocess.Popen(["stub", self.mnt, str(MIB), str(FILES)])
        while not os.path.ismount(self.mnt):
            time.sleep(0.05)


class Rclone(Mounted):
    name = "rclone"

    def mount(self):
        run("rclone", "mount", self.share, self.mnt, "--daemon", "--vfs-cache-mode", "full", "--vfs-cache-max-size",
            "4G", "--cache-dir", self.cache, "--dir-cache-time", "10s", "--vfs-write-back", "3s", "--config", "/dev/null")


class JuiceFs(Mounted):
    """It mounts no share as it is: its own form of one, on the same disk."""

    name = "JuiceFS"

    def meta(self):
        return f"sqlite3://{self.place}/meta.db"

    def prepare(self):
        run("juicefs", "format", "--storage", "file", "--bucket", f"{self.share}/", self.meta(), "bench")
        self.mount()
        fill(self.mnt)
        self.unmount()

    def mount(self):
        run("juicefs", "mount", "-d", "--writeback", "--cache-dir", self.cache, "--cache-size", "4096",
            "--log", f"{self.place}/log", self.meta(), self.mnt)


def drop_pages():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def read_big(mnt):
    buffer = bytearray(128 << 10)
    with open(f"{mnt}/big", "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def read_randomly(mnt):
    pick = random.Random(7)
    with open(f"{mnt}/big", "rb", buffering=0) as file:
        for _ in range(READS):
            os.pread(file.fileno(), 4096, pick.randrange(MIB << 8) * 4096)


def walk(mnt):
    for directory, _, names in os.walk(f"{mnt}/many"):
        for name in names:
            os.stat(f"{directory}/{name}")


def read_small(mnt):
    for number in range(FILES):
        with open(f"{mnt}/many/{number % 20}/{number}", "rb", buffering=0) as file:
            file.read(8192)


def write_big(mnt):
    with open(f"{mnt}/new", "wb", buffering=0) as file:
        for _ in range(MIB):
            file.write(BLOCK)


def create(mnt):
    os.mkdir(f"{mnt}/made")
    for number in range(FILES):
        with open(f"{mnt}/made/{number}", "wb", buffering=0) as file:
            file.write(SMALL)


def rename(mnt):
    for number in range(FILES):
        os.rename(f"{mnt}/made/{number}", f"{mnt}/made/r{number}")


def unlink(mnt):
    for number in range(FILES):
        os.unlink(f"{mnt}/made/r{number}")
    os.rmdir(f"{mnt}/made")
    os.unlink(f"{mnt}/new")


# What, units of one run, unit, the step; "dropped": all that the kernel keeps is dropped before it,
# "again": the same was done just before.
COLD = [
    ("cold: read a big file", MIB, "MiB", read_big),
    ("cold: walk and stat", FILES, "file", walk),
    ("cold: read small files", FILES, "file", read_small),
]
HOT = [
    ("hot: read a big file, dropped", MIB, "MiB", read_big),
    ("hot: again, kernel's pages", MIB, "MiB", read_big),
    ("hot: 4 KiB at random, dropped", READS, "read", read_randomly),
    ("hot: walk and stat, dropped", FILES, "file", walk),
    ("hot: walk and stat, again", FILES, "file", walk),
    ("hot: read small files, dropped", FILES, "file", read_small),
    ("write a big file", MIB, "MiB", write_big),
    ("make files of 4 KiB", FILES, "file", create),
    ("rename", FILES, "file", rename),
    ("unlink", FILES, "file", unlink),
]


def measure(systems, times):
    for steps, is_cold in ((COLD, True), (HOT, False)):
        for system in systems:
            if is_cold:
                system.wipe()
            system.mount()
        for step in steps:
            name, units, _, work = step
            for system in systems:
                if is_cold or "dropped" in name:
                    drop_pages()
                if "again" in name:
                    work(system.mnt)
                begin = time.perf_counter()
                work(system.mnt)
                times.setdefault((name, system.name), []).append((time.perf_counter() - begin) * 1e6 / units)
        for system in systems:
            system.unmount()


def report(systems, times):
    print(f"{'microseconds a unit':32}{'unit':>6}" + "".join(f"{s.name:>18}" for s in systems))
    for name, _, unit, _ in COLD + HOT:
        medians = [statistics.median(times[name, system.name]) for system in systems]
        cells = [f"{medians[0]:18.1f}"] + [f"{m:11.1f} ({medians[0] / m:4.2f})" for m in medians[1:]]
        print(f"{name:32}{unit:>6}" + "".join(cells))
    spread = [max(taken) / min(taken) for taken in times.values()]
    print(f"in brackets: plain / it. {ROUNDS} rounds, the slowest {statistics.median(spread):.1f} times the quickest "
          f"(median), {max(spread):.1f} at most; {os.uname().release}, {os.cpu_count()} cores")


def make_disk(place):
    """A new ext4 with a journal, whatever the machine has: one without searches long for free inodes after removals."""
    image, disk = f"{place}/image", f"{place}/disk"
    os.mkdir(disk)
    run("truncate", "-s", "16G", image)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    run("mount", "-o", "loop", image, disk)
    return disk


def main():
    place = tempfile.mkdtemp(prefix="peers-", dir=sys.argv[1])
    disk = make_disk(place)
    kinds = [Plain, Covefs, Stub, Rclone, JuiceFs]
    kinds = [kind for kind in kinds if kind is Plain or shutil.which(kind.name.lower())]
    systems = [kind(f"{disk}/{kind.name}") for kind in kinds]
    times = {}
    try:
        for _ in range(ROUNDS):
            measure(systems, times)
        report(systems, times)
    finally:
        for system in systems[1:]:
            subprocess.run(["umount", "-l", system.mnt], stderr=subprocess.DEVNULL)
        run("umount", disk)
        shutil.rmtree(place)


main()
