"""The hash of the sources that make numbers: what is in it, and that any change of them changes it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import harness
from harness.engines.vllm.kind import EAGER as VLLM
from harness.integrations.vllm_plugin import payload
from harness.revision import FILES, INJECTING, MEASURING, code_identity, revision
from suites.unit.test_imports import ROOT, imported, modules

pytestmark = pytest.mark.unit


def test_every_package_and_file_is_there() -> None:
    for name in MEASURING:
        assert importlib.import_module(name)
    for name in FILES:
        assert (Path(harness.__file__).parent / name).is_file()
    assert set(INJECTING) < set(MEASURING)


def test_the_plugins_hash_is_that_of_what_injects() -> None:
    assert payload.revision() == revision(INJECTING) != revision(MEASURING)


BESIDE = {
    "exceptions",
    "extensions",
    "gates",
    "installed",
    "revision",
    "runs",
    "stats",
    "strict",
    "training_record",
    "votes",
}
"""Parts that an evaluation reaches and the hash leaves out: they keep, read, choose and judge what is measured, and
give errors their words; none of them changes an answer."""


def test_whatever_else_an_evaluation_reaches_is_in_the_hash() -> None:
    files = modules(ROOT)
    todo, reached = ["harness.evaluate.run", "harness.engines.registry"], set[str]()
    while todo:
        name = todo.pop()
        while name not in files and "." in name:
            name = name.rpartition(".")[0]
        if name in files and name != "harness" and name not in reached:
            reached.add(name)
            todo += [each for each in imported(ast.parse(files[name].read_text())) if each.startswith("harness.")]
    assert len(reached) > 150
    hashed = (*MEASURING, *(f"harness.{file.removesuffix('.py')}" for file in FILES))
    left = {name.split(".")[1] for name in reached if not any(f"{name}.".startswith(f"{each}.") for each in hashed)}
    assert left == BESIDE


@pytest.mark.parametrize("change", ["content", "name", "moved end", "new file"])
def test_any_change_of_a_source_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    name = f"measured_{change.replace(' ', '_')}"  # packages of one name would be one module
    folder = tmp_path / name
    (folder / "inner").mkdir(parents=True)
    for file, text in (("__init__.py", ""), ("a.py", "x = 1\n"), ("inner/b.c", "int y;\n")):
        (folder / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    fresh = revision.__wrapped__
    before = fresh((name,))
    assert fresh((name,)) == before
    if change == "content":
        (folder / "inner" / "b.c").write_text("int z;\n")
    elif change == "name":
        (folder / "a.py").rename(folder / "c.py")
    elif change == "moved end":
        (folder / "__init__.py").write_text("x = 1\n")
        (folder / "a.py").write_text("")
    else:
        (folder / "inner" / "__init__.py").write_text("")
    assert fresh((name,)) != before


def test_the_identity_names_versions_of_what_generates() -> None:
    scored, generated = code_identity(), code_identity("vllm", "AVX512", VLLM.distributions)
    assert set(scored) == {"harness", "sources"}
    assert set(generated) == {*scored, "torch", "transformers", "tokenizers", "peft", "cpu_capability", "vllm"}
    assert generated["cpu_capability"] == "AVX512" and generated["torch"]
