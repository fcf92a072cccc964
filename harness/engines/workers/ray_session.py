"""Connects to Ray for one evaluation: the user's own, or a small quiet one on this machine that ends with it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from harness.exceptions import HarnessError
from harness.installed import full_setup

ADDRESS = "RAY_ADDRESS"
OBJECT_STORE = 150 * 2**20
"""Bytes of shared memory of a local Ray; a batch with its counts is some hundred kilobytes."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it kills workers for what other programs use
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def check_ray(workers: int) -> None:
    """Raise :class:`HarnessError` where Ray cannot be imported."""
    try:
        importlib.import_module("ray")
    except Exception as error:  # a broken installation raises anything
        raise HarnessError(
            f"--workers {workers}",
            f"several engines run over Ray, which cannot be imported here ({type(error).__name__}: {error!s:.160})",
            f"install it with {full_setup()}, or use --workers 1",
        ) from None


@contextlib.contextmanager
def connected(workers: int, needs: Mapping[str, float], verbose: bool = False) -> Iterator[None]:
    """Have Ray, with room for ``workers`` actors that need ``needs`` (Ray's resource names) each.

    One that this process is connected to already is used and left as it is; else the cluster at ``RAY_ADDRESS``;
    else one is started here and stopped at the end. Raises :class:`HarnessError` where it does not start or is too
    small.
    """
    import ray

    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            address = os.environ.get(ADDRESS, "")
            quiet = {
                "log_to_driver": verbose,
                "logging_level": logging.WARNING if verbose else logging.CRITICAL,
            }
            if address in ("", "local"):
                # its own folder: a socket's path may have 107 bytes, and nothing may stay behind
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="rh-", dir=_short_folder(), ignore_cleanup_errors=True)
                )
                given = {"address": "local", **_local(workers, folder), **quiet}
            else:
                given = {"address": address, **quiet}
            stack.enter_context(_kept_from_stdout(verbose))
            stack.callback(ray.shutdown)
            _start(given, f"--workers {workers}" + (f" with {ADDRESS}={address}" if address else ""))
        check_room(workers, needs, ray.cluster_resources())
        yield


@contextlib.contextmanager
def _kept_from_stdout(verbose: bool) -> Iterator[None]:
    """Ray prints what it has to say about processes that died to standard output, also without ``log_to_driver``.

    That belongs to the results: it goes to standard error where asked for, else nowhere.
    """
    if verbose:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    printing = importlib.import_module("ray._private.worker")  # its own debugger switches it off in the same way
    before = getattr(printing, "_worker_logs_enabled", True)
    printing.__dict__["_worker_logs_enabled"] = False
    try:
        yield
    finally:
        printing.__dict__["_worker_logs_enabled"] = before


def _local(workers: int, folder: str) -> dict[str, Any]:
    """``num_cpus`` are places, not cores: every worker gets one, also where there are fewer cores."""
    return {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_temp_dir": folder,
    }


def _short_folder() -> str | None:
    """Where temporary files lie, unless that path is too long for Ray's sockets."""
    return "/tmp" if len(tempfile.gettempdir()) > 30 else None


def _start(given: Mapping[str, Any], what: str) -> None:
    import ray

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with kept_sigterm():
            ray.init(**given)
    except Exception as error:  # its start fails in as many ways as there are clusters
        raise HarnessError(
            what,
            f"Ray did not start ({type(error).__name__}: {' '.join(str(error).split()):.300})",
            f"correct or unset {ADDRESS}, or use --workers 1",
        ) from None


@contextlib.contextmanager
def kept_sigterm() -> Iterator[None]:
    """Put back the handler of SIGTERM that the program had, where it had one.

    Ray replaces it by one that ends the program at once with exit code 15 or 1, which would be a FAIL here.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def check_room(workers: int, needs: Mapping[str, float], resources: Mapping[str, float]) -> None:
    """Raise :class:`HarnessError` where Ray would wait for ever for a place for one of the workers."""
    for name, each in needs.items():
        have = resources.get(name, 0.0)
        if have < workers * each:
            most = int(have // each)
            raise HarnessError(
                f"--workers {workers}",
                f"Ray has {have:g} {name} here and each worker takes {each:g}",
                f"give at most --workers {most}" if most else "run where it has one, or --device cpu",
            )
