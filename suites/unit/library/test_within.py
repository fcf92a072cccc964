"""Gates within a budget: a part of the baseline, by its own order, planned before the candidate is known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import GatePolicy, accept_baseline, evaluate, gate
from harness.baselines.book import load_named
from harness.evaluate import within
from harness.exceptions import HarnessError, NotComparableError
from harness.gates.budget import choose
from harness.gates.budget_design import design_of
from harness.gates.costs import Costs, Rate
from harness.gates.quick import QuickCheck
from harness.library.for_gate import GateEvaluation, baseline_spec
from harness.library.within import budget_for, planned_check
from harness.record import RIGHT, WRONG, ItemResult
from harness.runs.item_order import choice_order
from harness.runs.loaded import load_run
from harness.scorers import load_scorer, scorer_key
from harness.spec import EvalSpec
from harness.thresholds import CONTROL_SCALE

pytestmark = pytest.mark.long

SPEC = EvalSpec("arith", items=60, levels=(0.0, 0.05), noise_seeds=3, max_new_tokens=2)
POLICY = GatePolicy(margin=0.15)
COSTS = Costs(0.0, Rate(0.1, 0.1), Rate(0.1, 0.1), (0.0, 0.0), 6.0, 64)


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model answers right, and wrong in the positive control: it never learned. Its costs are given."""
    from harness.evaluate import prepared as module

    honest = module.scored_result

    def scored(item: Any, *arguments: Any, **fields: Any) -> ItemResult:
        good = fields["level"] != CONTROL_SCALE
        return replace(honest(item, *arguments, **fields), score=float(good), reason=RIGHT if good else WRONG)

    monkeypatch.setattr(module, "scored_result", scored)
    # texts are those of the tokens, which replays check, so that the planted scores are not those of the texts
    monkeypatch.setattr("harness.runs.loaded.check_scores", lambda path, name, *_: scorer_key(load_scorer(name)))
    monkeypatch.setattr(within, "calibrate", lambda *_: COSTS)
    monkeypatch.setattr(within.Budget, "gone", lambda self: 0.0)


def several(tiny: Path, folder: Path) -> Path:
    """A second baseline, of word problems from a file."""
    rows = [{"Body": f"He has {n} pens.", "Question": "How many?", "Answer": n} for n in range(50)]
    (folder / "svamp.json").write_text(json.dumps(rows))
    spec = replace(SPEC, task="svamp", data=str(folder / "svamp.json"), items=50, noise_seeds=2)
    run = evaluate(tiny, spec, folder / "other")
    accept_baseline(run.path, folder / "baselines", "words", "for a test", False)
    return folder


@pytest.fixture(scope="module")
def reference(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and the baseline that it became."""
    path = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        run = evaluate(tiny, SPEC, path / "reference")
        accept_baseline(run.path, path / "baselines", "mine", "for a test", False)
    return path


@pytest.fixture
def folder(reference: Path, tmp_path: Path) -> Path:
    return shutil.copytree(reference, tmp_path / "folder")


def judged(folder: Path, tiny: Path, seconds: float, out: str = "run", policy: GatePolicy = POLICY) -> Any:
    how = GateEvaluation(budget=seconds, out=folder / out)
    return gate(tiny, "mine", policy, how, baselines_dir=folder / "baselines")


def test_a_part_of_the_baseline_is_planned_and_judged(folder: Path, tiny: Path) -> None:
    held = load_named(folder / "baselines", "mine")
    found = judged(folder, tiny, 20.0)
    run = load_run(folder / "run")
    kept = run.manifest.budget  # type: ignore[union-attr]
    assert kept is not None
    costs = replace(COSTS, spent=kept["costs"]["spent"])
    plan = choose(design_of(held.arm, baseline_spec(held), POLICY), costs, 20.0)
    assert found.verdict == "PASS" and not plan.whole
    order = choice_order(held.arm.outcomes[0.0], SPEC.item_seed)
    assert run.asked.items == order[: plan.items] and run.asked.noise_seeds == plan.noise_seeds
    quick = found.to_json()["quick_check"]
    assert (quick["items"], quick["items_of"], quick["noise_seeds"]) == (plan.items, 60, plan.noise_seeds)
    whole = {name: value for name, value in quick.items() if name != "label"}
    assert planned_check(held, run) == QuickCheck(**whole)
    again = gate(
        folder / "run",
        "mine",
        POLICY,
        GateEvaluation(**{n: quick[n] for n in ("items", "noise_seeds")}),
        baselines_dir=folder / "baselines",
    )
    assert again.repeated, "judged as the declared part that it is, the verdict is the same byte for byte"


def test_the_same_command_resumes_and_judges_what_it_chose(
    folder: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judged(folder, tiny, 20.0)
    monkeypatch.setattr(within, "calibrate", lambda *_: pytest.fail("it was planned anew"))
    again = judged(folder, tiny, 20.0)
    assert again.repeated and again.to_json()["levels"] == first.to_json()["levels"]


def test_enough_seconds_take_the_whole_baseline(folder: Path, tiny: Path) -> None:
    found = judged(folder, tiny, 500.0)
    assert "quick_check" not in found.to_json() and found.verdict == "PASS"


def test_the_policys_least_seeds_are_kept(folder: Path, tiny: Path) -> None:
    found = judged(folder, tiny, 24.0, policy=replace(POLICY, noise_seeds=3))
    assert found.verdict == "PASS" and load_run(folder / "run").asked.noise_seeds == 3


def test_too_small_a_budget_and_a_hopeless_margin_are_refused(folder: Path, tiny: Path) -> None:
    with pytest.raises(HarnessError, match=r"--budget 9; within it PASS is out of reach") as caught:
        judged(folder, tiny, 9.0)
    assert caught.value.exit_code == 2 and not (folder / "run").exists()
    with pytest.raises(NotComparableError, match="INCONCLUSIVE is foregone"):
        judged(folder, tiny, 500.0, policy=GatePolicy(margin=0.01))


def test_what_the_budget_plans_is_not_given_too(folder: Path, cli: Any) -> None:
    with pytest.raises(HarnessError, match=r"--items 4 with --budget 20; the budget plans that number"):
        GateEvaluation(items=4, budget=20.0)
    said = cli(
        "gate", "x", "--baseline", "mine", "--baselines-dir", folder / "baselines", "--budget", 9, "--noise-seeds", 2
    )
    assert said.code == 2 and "--noise-seeds 2 with --budget 9" in said.line
    said = cli(
        "gate", folder / "reference", "--baseline", "mine", "--baselines-dir", folder / "baselines", "--budget", 9
    )
    assert said.code == 2 and "--budget 9" in said.line


def test_early_stopping_within_a_budget_looks_at_the_planned_part(folder: Path, tiny: Path) -> None:
    found = judged(folder, tiny, 16.0, policy=GatePolicy(margin=0.2, early_stop=0.5))
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert found.verdict == "PASS" and manifest["identity"]["early_stop"]["share"] == 0.5
    assert len(manifest["identity"]["items"]) < 60


def test_the_folder_hangs_on_the_budget_and_on_all_that_a_plan_follows_from(folder: Path, tiny: Path) -> None:
    held = load_named(folder / "baselines", "mine")
    how = GateEvaluation(budget=20.0)
    assert budget_for(held, POLICY, how)[1] == budget_for(held, POLICY, how)[1]
    assert budget_for(held, replace(POLICY, margin=0.2), how)[1] != budget_for(held, POLICY, how)[1]


def test_a_dry_run_says_what_would_be_chosen_and_runs_nothing(folder: Path, tiny: Path, cli: Any) -> None:
    asked = ("--baseline", "mine", "--baselines-dir", folder / "baselines", "--margin", "0.15", "--budget", 20)
    found = cli("plan", tiny, *asked, "--json").json["budget"]
    assert found["seconds"] == 20.0 and 1 <= found["plan"]["noise_seeds"] <= 3 and found["plan"]["items"] < 60
    said = cli("plan", tiny, *asked)
    assert said.code == 0 and said.out.startswith("budget 20 s: ") and "of 60 items" in said.out
    said = cli("plan", tiny, "--task", "arith", "--margin", "0.2", "--budget", 40)
    assert said.code == 0 and "of 2000 items" in said.out and "assumed discordance" in said.out
    assert sorted(entry.name for entry in folder.iterdir()) == ["baselines", "reference"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--budget", 20), "batches of a checkpoint are timed; give CHECKPOINT"),
        (("x", "--budget", 20, "--tokens", 5), "--tokens 5 with --budget"),
        (("x", "--task", "arith"), "--task arith without --budget"),
        (("x", "--budget", 20, "--baseline", "mine", "--task", "arith"), "--task arith with --baseline"),
    ],
)
def test_a_dry_run_refuses_what_it_would_not_read(given: Any, words: str, cli: Any) -> None:
    said = cli("plan", *given)
    assert said.code == 2 and words in said.line


def test_an_evaluation_refuses_a_budget_beside_its_numbers(tiny: Path, tmp_path: Path, cli: Any) -> None:
    for option in (("--items", 5), ("--all-items",), ("--noise-seeds", 2)):
        said = cli("eval", tiny, "--out", tmp_path / "run", "--budget", 20, *option)
        assert said.code == 2 and "with --budget 20; the budget plans that number" in said.line
    said = cli("eval", tiny, "--out", tmp_path / "run", "--margin", "0.1")
    assert said.code == 2 and "--margin 0.1 without --budget" in said.line
    assert not (tmp_path / "run").exists()


def test_several_tasks_share_one_budget(folder: Path, tiny: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    several(tiny, folder)
    asked = ("--baseline", "mine,words", "--baselines-dir", folder / "baselines", "--margin", "0.15")
    said = cli("gate", tiny, *asked, "--budget", 40, "--out", folder / "both", "--json")
    assert said.code == 0, said.err
    assert "mine" not in said.json["tasks"] and set(said.json["tasks"]) == {"arith", "svamp"}
    runs = {task: load_run(folder / "both" / task) for task in ("arith", "svamp")}
    for task, whole in (("arith", 60), ("svamp", 50)):
        kept = runs[task].manifest.budget  # type: ignore[union-attr]
        assert kept is not None and kept["together"] == ["arith", "svamp"] and kept["seconds"] == 40
        quick = said.json["tasks"][task]["quick_check"]
        assert quick["items_of"] == whole and quick["items"] == len(runs[task].asked.items) == kept["plan"]["items"]
    total = sum(run.manifest.budget["plan"]["forecast"] for run in runs.values())  # type: ignore[union-attr, index]
    assert total <= 0.95 * 40
    monkeypatch.setattr(within, "calibrate", lambda *_: pytest.fail("it was planned anew"))
    again = cli("gate", tiny, *asked, "--budget", 40, "--out", folder / "both", "--json")
    assert again.code == 0 and again.json["tasks"]["svamp"]["repeated"]


def test_what_is_too_little_for_all_tasks_is_refused(folder: Path, tiny: Path, cli: Any) -> None:
    several(tiny, folder)
    asked = ("--baseline", "mine,words", "--baselines-dir", folder / "baselines", "--margin", "0.15")
    said = cli("gate", tiny, *asked, "--budget", 18, "--out", folder / "both")
    assert said.code == 2 and "seconds are the least" in said.line and not (folder / "both").exists()
