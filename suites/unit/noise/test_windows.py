"""Noise on scores under a sliding window: counted, audited and replayed while the window holds all, else refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.evaluate.api import evaluate
from harness.evaluate.planning import CHECKPOINT, Source, plan_report
from harness.evaluate.prepared import prepare
from harness.exceptions import NoiseSpecError
from harness.noise.planner import build_plan
from harness.noise.windows import check_windows, least_window
from harness.record import CERTIFIED
from harness.runs.evidence import Fed
from harness.runs.store import Store
from harness.spec import EvalSpec, parse_noise
from harness.testing.tokenizer import build_tokenizer
from suites.contract.architectures import HEADS, LAYERS, build

pytestmark = pytest.mark.long
SCORES, LEVEL = "relative_gaussian @ op:qk,softmax", 0.05


def spec(noise: str, new: int = 3) -> EvalSpec:
    given = {"items": 2, "levels": (0.0, LEVEL), "noise_seeds": 1, "max_new_tokens": new, "positive_control": False}
    return EvalSpec("arith", noise=parse_noise(noise), **given)


def saved(folder: Path, kind: str, window: int) -> Path:
    build(kind, sliding_window=window).save_pretrained(folder)
    build_tokenizer(4096).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "layer"), [("mistral", 0), ("gemma3_text", 0)])
def test_sequences_longer_than_the_window_are_refused_before_anything_runs(
    kind: str, layer: int, tmp_path: Path
) -> None:
    folder = saved(tmp_path, kind, 16)
    with pytest.raises(NoiseSpecError, match=rf"layers.{layer}.*sliding window of 16 keys, in sequences of up to \d+"):
        prepare(folder, spec(SCORES))
    for noise in ("relative_gaussian @ op:linear,pv", "relative_gaussian @ op:rms_norm"):
        prepare(folder, spec(noise))


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_a_window_that_is_just_long_enough_is_certified(kind: str, tmp_path: Path) -> None:
    longest = prepare(saved(tmp_path / "wide", kind, 4096), spec(SCORES)).longest
    folder = saved(tmp_path / "tight", kind, longest)
    run = evaluate(folder, spec(SCORES), tmp_path / "run")
    certificate = run.arm.certificate
    assert certificate.status == CERTIFIED, certificate
    assert all(replay.records == 2 and not replay.problems for replay in certificate.replays)
    fed = Fed.of(result for result in run.results if result.level == LEVEL)
    with Store.read(run.path) as store:
        counts = [count for count in store.counts() if count.level == LEVEL]
    assert {count.elements for count in counts} == {HEADS * fed.seen} and len(counts) == 2 * LAYERS


@pytest.mark.parametrize(("new", "held"), [(9, True), (10, False)])
def test_the_limit_is_the_window_itself(new: int, held: bool) -> None:
    plan = build_plan(build("mistral", sliding_window=9), parse_noise(SCORES))
    assert least_window(plan) == ("model.layers.0.self_attn:qk", 9)
    if held:
        check_windows(plan, new)
        return
    with pytest.raises(NoiseSpecError, match="choose operators outside the scores"):
        check_windows(plan, new)


@pytest.mark.parametrize(
    ("kind", "noise"),
    [("mistral", "op:linear"), ("mistral", "op:pv"), ("gemma3_text", "op:qk include:layers.1.self_attn")],
)
def test_other_noise_has_no_window(kind: str, noise: str) -> None:
    """The second layer of this Gemma has full attention."""
    assert least_window(build_plan(build(kind, sliding_window=9), parse_noise(f"relative_gaussian @ {noise}"))) is None


@pytest.mark.parametrize(("tokens", "warned"), [(9, False), (10, True)])
def test_a_plan_for_more_tokens_says_it(tokens: int, warned: bool) -> None:
    model, noises = build("mistral", sliding_window=9), [parse_noise("relative_gaussian(0.05) @ op:qk")]
    (plan,) = plan_report(Source(CHECKPOINT, Path("here"), model, "float32", "cpu"), noises, tokens)["plans"]
    assert bool([line for line in plan["warnings"] if "sliding window" in line]) == warned
