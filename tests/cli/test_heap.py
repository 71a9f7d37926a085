"""One heap for all threads of a training, as glibc itself counts its heaps."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT_HEAPS = """
import ctypes, sys, threading
from kbert_cli import heap

heap._FEW_CORES = int(sys.argv[1])
heap.share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
barrier = threading.Barrier(4)

def take():
    barrier.wait()
    for _ in range(1000):
        libc.malloc(2000)
    barrier.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def heaps(folder: Path, few_cores: int, **environment: str) -> int:
    file = folder / "heaps.xml"
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", COUNT_HEAPS, str(few_cores), str(file)]
    subprocess.run(command, env=environment, check=True)
    return file.read_text().count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_all_threads_share_one_heap_on_few_cores(tmp_path, monkeypatch):
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert heaps(tmp_path, few_cores=1024) == 1
    assert heaps(tmp_path, few_cores=0) > 1
    assert heaps(tmp_path, few_cores=1024, MALLOC_ARENA_MAX="3") in (2, 3)
    tunables = "glibc.malloc.arena_max=3"
    assert heaps(tmp_path, few_cores=1024, GLIBC_TUNABLES=tunables) in (2, 3)
