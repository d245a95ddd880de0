"""Holds a file and a mapping of it, as its standard input says; answers each line with one.

The mapping is made by mmap(2) itself: Python's own would keep the file open."""

import ctypes
import mmap
import os
import sys
import zlib

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
MS_SYNC = 4
PROTECTION = {"r": mmap.PROT_READ, "rw": mmap.PROT_READ | mmap.PROT_WRITE}


def checked(result):
    if result == ctypes.c_void_p(-1).value or result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


fd, address, size = -1, None, 0
for line in sys.stdin:
    word, *rest = line.split()
    answer = "done"
    try:
        if word == "open":
            fd = os.open(rest[1], {"r": os.O_RDONLY, "rw": os.O_RDWR}[rest[0]])
        elif word == "map":
            size = os.fstat(fd).st_size
            protection = PROTECTION[rest[0]]
            address = checked(libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, 0))
        elif word == "close":
            os.close(fd)
        elif word == "sum":
            answer = str(zlib.crc32(ctypes.string_at(address, size)))
        elif word == "put":
            ctypes.memmove(address + int(rest[0]), rest[1].encode(), len(rest[1]))
        elif word == "sync":
            checked(libc.msync(address, size, MS_SYNC))
    except OSError as error:
        answer = f"failed: {error}"
    print(answer, flush=True)
