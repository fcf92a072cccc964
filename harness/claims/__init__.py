"""Published claims judged from published numbers and integrity facts (no torch, no models, no raw data).

:func:`load_registry` reads the data, :func:`judge_all` recomputes every verdict; nothing about a verdict is stored.
"""

from harness.claims.judge import judge, judge_all
from harness.claims.judgements import VERDICTS, Judgement
from harness.claims.load import load_registry
from harness.claims.model import Registry

__all__ = ["VERDICTS", "Judgement", "Registry", "judge", "judge_all", "load_registry"]
