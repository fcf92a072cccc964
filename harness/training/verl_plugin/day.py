"""The day that a chat template is told in a training run: that of evaluations, whatever day it is.

verl renders prompts without saying a day, and a template that asks for it (``strftime_now``, as in Llama 3) would ask
otherwise after midnight, in a resumed run, and in the evaluation of what was trained.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from harness.spec import TEMPLATE_DATE


class OneDay(datetime):
    """A clock that stands at midnight of :data:`harness.spec.TEMPLATE_DATE`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> OneDay:
        """Return that midnight, in ``tz`` where one is given."""
        return cls.fromisoformat(TEMPLATE_DATE).replace(tzinfo=tz)


def one_day() -> None:
    """Give transformers this clock for its templates, in this process from here on."""
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = OneDay
