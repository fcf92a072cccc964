"""Public docstrings read as plain English: those of functions begin with a verb, and no phrase comes back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
WORDS = """
Accept Accumulate Add Adjust Align Announce Answer Append Apply Ask Assert Attach Audit Begin Bound Bring Build
Call Carry Change Check Choose Clear Close Collect Compare Complete Compute Copy Count Create Cut Decide Declare
Describe Disable Divide Do Draw Drop Empty Enable End Estimate Evaluate Examine Execute Explain Fail Fill Find
Finish Fit Fold Force Forget Form Format Generate Give Go Group Hand Have Hook Import Install Judge Keep Key Launch
Lead Lend Let Limit List Load Lock Log Look Make Mark Match Measure Merge Move Multiply Name Note Number Open
Parse Perturb Pin Place Plan Prepare Print Put Quantize Raise Read Rebuild Recompute Record Recount Refuse
Register Release Remember Remove Render Repeat Replace Replay Report Require Reset Resolve Restore Return Round
Run Save Say Scan Score See Seed Select Send Serve Set Shadow Shard Show Simulate Size Split Start Stop Store
Summarize Switch Sync Take Tell Test Time Track Train Transform Turn Undo Update Use Validate Wait Walk Warn
Watch Weigh Wrap Write Yield
"""
VERBS = frozenset(WORDS.split())
"""Words with which the docstring of a public function may begin, in the imperative. Extend it by a verb."""

PHRASES = (
    "What a checkpoint says",
    "is no whole number",
    "is no finite number",
    "is no number",
    "stands there twice",
    "stand there twice",
    "hang on the batch",
    "let out",
)
"""Words that only a translator would understand; messages and docs have none of them either."""


def sources() -> Iterator[Path]:
    return (path for path in sorted((ROOT / "harness").rglob("*.py")))


def functions(tree: ast.AST, public: bool = True) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every public function and method of public classes, but properties, which PEP 257 names as what they are."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            properties = [each for each in node.decorator_list if "property" in ast.unparse(each)]
            yield from () if properties else (node,)


def first_words(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, name and first word of the docstring of every public function that has one."""
    for node in functions(tree):
        text = ast.get_docstring(node)
        if text:
            yield node.lineno, node.name, text.split()[0].strip(".,:;")


def test_the_docstring_of_a_public_function_begins_with_a_verb() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {function}: {word}"
        for path in sources()
        for line, function, word in first_words(ast.parse(path.read_text(encoding="utf-8")))
        if word not in VERBS
    ]
    assert not wrong, "begin with a verb in the imperative, such as Return:\n" + "\n".join(wrong)


def test_no_phrase_comes_back() -> None:
    pages = [*sources(), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found = [
        f"{path.relative_to(ROOT)}: {phrase}"
        for path in pages
        for phrase in PHRASES
        if phrase in " ".join(path.read_text(encoding="utf-8").split())
    ]
    assert not found


def test_the_walk_finds_what_it_is_for() -> None:
    code = '''
class Public:
    """What it is."""
    @property
    def size(self): "The size."
    def make(self): "The thing."
    def _own(self): "The inside."
class _Own:
    def make(self): "The thing."
def load(): "Load it."
'''
    assert list(first_words(ast.parse(code))) == [(6, "make", "The"), (10, "load", "Load")]
