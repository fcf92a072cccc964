"""``harness --help``: seconds, beside the interpreter's own start, and what it imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.bench
HEAVY = ("torch", "transformers", "scipy", "numpy", "statsmodels", "pandas")


def seconds(*command):
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - begun


def test_help_is_quick_and_imports_nothing_heavy(benchmark):
    helps = benchmark.pedantic(lambda: [seconds("-m", "harness.cli.main", "--help") for _ in range(9)], rounds=1)
    bare = statistics.median(seconds("-c", "pass") for _ in range(9))
    benchmark.extra_info |= {"help_s": statistics.median(helps), "bare_interpreter_s": bare}
    print(f"\nharness --help: {statistics.median(helps):.3f} s, bare interpreter {bare:.3f} s")
    code = "import sys, harness.cli.main as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += f"sys.exit(any(name in sys.modules for name in {HEAVY}))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
