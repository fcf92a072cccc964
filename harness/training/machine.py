"""What a machine has free before a run: memory, shared memory, a port; and whether a Ray is running already."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from harness.training.child import MARK

SHARED = Path("/dev/shm")
GIB = 1 << 30
RAYLET = "raylet"
"""The process of every node of a Ray cluster."""


@dataclass(frozen=True)
class MachineState:
    """GiB of memory that programs can still take, GiB free in /dev/shm, a free port, Rays of this user by process id.

    A Ray of another run of the harness lies in a folder of its own, so that nobody joins it: it is none of these.
    ``ports`` False means that no port could be had. ``accelerators`` counts the devices that the kernel shows.
    """

    memory: float
    shared: float
    ports: bool
    rays: tuple[int, ...]
    accelerators: int
    cores: int


def look_around() -> MachineState:
    """Return the state of this machine."""
    import psutil

    rays = []
    for process in psutil.process_iter(["name", "uids", "pid", "environ"]):
        uids = process.info["uids"]
        own = uids is not None and uids.real == os.getuid()
        if own and process.info["name"] == RAYLET and MARK not in (process.info["environ"] or {}):
            rays.append(process.info["pid"])
    return MachineState(
        memory=psutil.virtual_memory().available / GIB,
        shared=shutil.disk_usage(SHARED).free / GIB if SHARED.is_dir() else 0.0,
        ports=_port_is_free(),
        rays=tuple(sorted(rays)),
        accelerators=len(list(Path("/dev").glob("nvidia[0-9]*"))),
        cores=os.cpu_count() or 1,
    )


def _port_is_free() -> bool:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError:
        return False
    return True
