"""FSDP2 shards on two processes: the noise of the whole, bit for bit, and exact restore."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.aqn.dose import LayerDose, merged

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FIELDS = (
    *("name", "kind", "layer", "asked", "multiplier", "spread"),
    *("elements", "changed", "total", "energy", "dtype"),
)


def test_shards_get_the_noise_of_the_whole(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    outs = [tmp_path / f"{rank}.json" for rank in range(2)]
    command = [sys.executable, "-m", "suites.slow.aqn_fsdp_child"]
    ranks = [subprocess.Popen([*command, str(rank), "2", port, str(out)], cwd=ROOT) for rank, out in enumerate(outs)]
    try:
        assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    found = [json.loads(out.read_text()) for out in outs]
    for one, other, count in zip(*found, (7, 21), strict=True):
        for rank in (one, other):
            assert rank["same"] and rank["close"] and rank["restored"] and rank["effective"]
        assert len(one["layers"]) == count
        for shards in zip(one["layers"], other["layers"], strict=True):
            doses = [LayerDose(**{name: shard[name] for name in FIELDS}) for shard in shards]
            assert merged(doses).problem() is None and merged(doses).elements == sum(d.elements for d in doses)
