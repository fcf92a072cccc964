"""SIGTERM ends a verb as Ctrl-C does: what was finished is kept, locks and hooks are undone, and one line says so."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raise :class:`KeyboardInterrupt` in the block on SIGTERM, where nobody else handles or ignores it.

    A process that was forked in the block dies of it, as its parent expects.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_at_once_with(code: int) -> None:
    """Let a SIGTERM that comes while the interpreter ends do so at once with ``code``: the verb is done, and stopping
    it says nothing else."""

    def install() -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(code))

    atexit.register(install)
