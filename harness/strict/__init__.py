"""Reads what people and other programs write, strictly: what is truncated, unknown or of another kind is refused.

Files: :func:`read_text`, :func:`read_object` (JSON) and :func:`read_toml`. Their content: :class:`Table` takes the keys
of one table one by one and refuses the rest; :func:`fill` makes a dataclass of a table, by its annotations, and
:func:`to_plain` the table of a dataclass. Every error is one line that names the file, the path of the key in it, the
value, the rule and the way out. Nothing is mended.
"""

from harness.strict.files import once, read_object, read_text, read_toml, reading_advice
from harness.strict.fill import WRITTEN, fill, to_plain
from harness.strict.table import CORRECT, Table, shown, unknown_key

__all__ = [
    "CORRECT",
    "WRITTEN",
    "Table",
    "fill",
    "once",
    "read_object",
    "read_text",
    "read_toml",
    "reading_advice",
    "shown",
    "to_plain",
    "unknown_key",
]
