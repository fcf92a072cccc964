"""Today's architectures from end to end: planned, evaluated under noise, scanned, with counts against those on paper.

One run of each, over two items and two tokens of a model that has learned nothing; what is asked is its certificate.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import transformers

from harness.diagnostics.scan_run import scan
from harness.diagnostics.scan_spec import ScanSpec, parse_recipes
from harness.evaluate import prepared as preparing
from harness.evaluate.api import evaluate
from harness.evaluate.planning import from_checkpoint, plan_report
from harness.evaluate.prepared import prepare
from harness.exceptions import HarnessError, NoiseSpecError
from harness.noise.plan import PRESENCE
from harness.noise.replay import hooks
from harness.noise.sites import MATMUL, PV, QK
from harness.record import CERTIFIED
from harness.reports.render.markdown import markdown
from harness.reports.run_page import run_page
from harness.reports.run_report import run_report
from harness.runs.evidence import Fed
from harness.runs.loaded import Run
from harness.runs.store import Store
from harness.spec import EvalSpec, parse_noise
from harness.testing.tokenizer import build_tokenizer
from suites.contract.architectures import HEADS, LAYERS, REFUSED, TABLE, UNTOLD, VOCAB, Row, build, page

pytestmark = pytest.mark.contract
LEVEL = 0.05
PRODUCTS = "profile:matmul"
GIVEN = {"device": "cpu", "attention": "auto", "dtype": "float32", "base": None, "adapter": "merged"}
DATED = {name for name, row in TABLE.items() if row.thorough}
EVERY = [pytest.param(name, marks=[pytest.mark.thorough] if name in DATED else []) for name in TABLE]


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """What is installed is read once, not ten times for each architecture, and transformers says nothing."""
    read = functools.cache(importlib.metadata.entry_points)
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", read)
        yield
    transformers.logging.set_verbosity(before)


def saved(name: str, folder: Path) -> Path:
    """The tiny checkpoint of this type, with the tokenizer of the tests."""
    build(name).save_pretrained(folder)
    build_tokenizer(4096).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", EVERY)
def test_an_architecture_is_planned_evaluated_and_scanned(name: str, tmp_path: Path) -> None:
    row, folder = TABLE[name], saved(name, tmp_path / "checkpoint")
    noise = parse_noise(row.noise)
    attentions = 0 if row.refused else row.attentions
    plan = plan_report(from_checkpoint(folder, [noise], GIVEN), [noise], 1)["plans"][0]
    assert plan["sites"] == row.linears + 2 * attentions and not plan["warnings"]
    spec = EvalSpec(
        "arith", items=2, levels=(0.0, LEVEL), noise_seeds=1, noise=noise, max_new_tokens=2, positive_control=False
    )
    run = evaluate(folder, spec, tmp_path / "run")
    certificate = run.arm.certificate
    problems = [problem for level in certificate.levels for problem in level.problems]
    assert certificate.status == CERTIFIED, problems or certificate.problems
    check_counts(row, run)
    found = scan(ScanSpec(folder, parse_recipes("mxfp4", "floor"), "weights"))
    assert len(found.modules) == row.matrices


@pytest.mark.parametrize("replayed", [True, False])
def test_products_of_a_block_itself_are_replayed(
    replayed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under noise that moves the logits of so small a model: a replay without it departs, one with it does not."""
    if not replayed:
        monkeypatch.setattr(hooks, "_asks_interface", lambda module: True)
    noise = parse_noise("relative_gaussian @ op:qk,pv")
    short = EvalSpec("arith", items=2, levels=(0.0, 0.5), noise_seeds=1, max_new_tokens=2)
    spec = replace(short, noise=noise, positive_control=False)
    run = evaluate(saved("nemotron", tmp_path / "checkpoint"), spec, tmp_path / "run")
    assert (run.arm.certificate.status == CERTIFIED) == replayed
    report = run_report(run)
    told = {f"model.layers.{layer}.self_attn:qk": PRESENCE for layer in range(LAYERS)}
    assert report["plan"]["uncompared"] == told
    assert f"{', '.join(told)}: {PRESENCE}" in markdown(run_page(report)).replace("\\", "")


def check_counts(row: Row, run: Run) -> None:
    """Elements in the ledger against tokens fed times widths on paper, of linears, head, QK and PV."""
    fed = Fed.of(result for result in run.results if result.level == LEVEL)
    elements = {"linears": 0, "head": 0, "attention": 0}
    with Store.read(run.path) as store:
        counts = [count for count in store.counts() if count.level == LEVEL]
    for count in counts:
        assert count.changed > 0
        own = "head" if count.elements == fed.steps * VOCAB else "linears"
        elements["attention" if count.op in (QK, PV, MATMUL) else own] += count.elements
    attentions = 0 if row.refused else row.attentions
    assert elements == {
        "linears": fed.tokens * row.width,
        "head": fed.steps * VOCAB,
        "attention": attentions * (HEADS * fed.seen + row.values * fed.tokens),
    }


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.refused and not row.thorough])
def test_attention_products_that_cannot_be_perturbed_are_refused_before_loading(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, noise, asked = saved(name, tmp_path), parse_noise(f"relative_gaussian @ {PRODUCTS}"), []

    def watched(named: object, dtype: str, attention: str, device: str) -> object:
        asked.append(device)
        return load(named, dtype, attention, device)

    load: Callable[..., object] = preparing.load_checkpoint
    monkeypatch.setattr(preparing, "load_checkpoint", watched)
    with pytest.raises(NoiseSpecError, match=TABLE[name].refused):
        prepare(folder, EvalSpec("arith", items=2, levels=(0.0, LEVEL), noise_seeds=1, noise=noise))
    assert asked == ["meta"]
    if TABLE[name].refused == UNTOLD:  # the plan of a training may have such sites, and says it of an evaluation
        (line,) = plan_report(from_checkpoint(folder, [noise], GIVEN), [noise], 1)["plans"][0]["warnings"]
        assert UNTOLD in line


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_before_it_runs(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path)
    with pytest.raises(HarnessError, match=REFUSED[name].words):
        prepare(folder, EvalSpec("arith", items=2, levels=(0.0, LEVEL), noise_seeds=1))


def test_the_page_holds_the_table() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("|")] == [line for line in page() if line]
