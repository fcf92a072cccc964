"""The evaluation loop: complete records, resuming, interruption, and what is refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.answers import RULE
from harness.engines.generation import Prompt
from harness.engines.protocol import Batch
from harness.engines.transformers import probe_seconds, run_batch
from harness.evaluate.checkpoint import fingerprint_weights
from harness.evaluate.prepared import Prepared, attention_for, prepare
from harness.evaluate.run import evaluate
from harness.evaluate.tasks import TASKS
from harness.exceptions import CheckpointError, HarnessError, StoreError
from harness.record import CERTIFIED, ItemResult
from harness.runs.choice import Choice, Trail
from harness.runs.loaded import load_run
from harness.runs.store import Store
from harness.spec import EvalSpec, parse_noise
from harness.spec.errors import Deadzone, RelativeBias
from suites.agreeing import apart

pytestmark = pytest.mark.long

SPEC = EvalSpec("arith", items=3, levels=(0.0, 0.05), noise_seeds=2, max_new_tokens=4)
RECORDS = 3 + 3 * 2


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> Prepared:
    return prepare(tiny, SPEC)


@pytest.fixture(scope="module")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    path = tmp_path_factory.mktemp("finished") / "run"
    evaluate(prepared, path, 2)
    return path


def content(path: Path) -> list[ItemResult]:
    return sorted(load_run(path).results, key=lambda result: (result.level, result.seed, result.item))


def test_a_run_is_complete_and_certified(prepared: Prepared, finished: Path) -> None:
    run = load_run(finished)
    items = {item.key for item in prepared.items}
    assert {(r.item, r.level, r.seed) for r in run.results} == {
        (item, level, seed) for item in items for level, seeds in ((0.0, 1), (0.05, 2)) for seed in range(seeds)
    }
    assert len(run.results) == RECORDS and run.complete
    assert run.arm.certificate.status == CERTIFIED
    assert run.arm.certificate.control is not None
    assert set(run.arm.questions) == items
    for result in run.results:
        assert result.prompt_tokens == len(prepared.prompts[result.item])
        assert len(result.tokens) <= 4
        assert result.text == prepared.checkpoint.tokenizer.decode(result.tokens, skip_special_tokens=True)
        assert result.reason == "truncated" and result.score is None


def test_the_manifest_says_what_the_numbers_depend_on(tiny: Path, prepared: Prepared, finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert prepared.coverage.text.startswith(
        "8 sites, 99.6 % of product FLOPs, left out: model.layers.0.self_attn, model.rotary_emb ["
    )
    assert manifest["measurement_key"] == {
        "task": "arith",
        "dataset": prepared.task.dataset_hash(),
        "template": prepared.template,
        "scorer": "strict",
        "scorer_rule": RULE,
        "engine": "transformers",
        "dtype": "float32",
        "attention": "sdpa",
        "quantization": "none",
        "aqn": "off",
        "noise": "relative_gaussian @ op:linear",
        "decoding": "greedy",
        "max_new_tokens": "4",
        "coverage": prepared.coverage.text,
    }
    assert manifest["coverage"] == prepared.coverage.to_json() and manifest["coverage"]["sites"] == 8
    assert {"harness", "sources", "torch", "transformers", "cpu_capability"} <= set(manifest["code"])
    assert manifest["checkpoint"] == {"path": str(tiny), "weights": fingerprint_weights(tiny), "kind": "hf"}
    assert manifest["device"].startswith(("cpu", "cuda"))
    assert EvalSpec.from_json(manifest["spec"]) == SPEC
    assert (manifest["spec"]["noise_seeds"], manifest["spec"]["item_seed"]) == (2, 0)
    assert {"torch", "transformers", "numpy"} <= set(manifest["environment"]["packages"])
    assert {"processor", "cores", "machine", "git_commit"} <= set(manifest["environment"])
    assert len(manifest["plan"]["sites"]) == 8
    assert any("rotary" in name for name in manifest["plan"]["excluded"])
    assert manifest["identity"]["items"] == [item.key for item in prepared.items]


def test_a_finished_run_resumes_to_nothing(prepared: Prepared, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {entry.name: entry.read_bytes() for entry in finished.iterdir()}
    stamp = (finished / "records.sqlite").stat().st_mtime_ns
    monkeypatch.setattr("harness.engines.transformers.generate", lambda *_: pytest.fail("something was generated"))
    told: list[int] = []
    evaluate(prepared, finished, 64, told.append)
    assert told == [RECORDS]
    assert {entry.name: entry.read_bytes() for entry in finished.iterdir()} == before
    assert (finished / "records.sqlite").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_run_resumes_to_the_same_records(
    prepared: Prepared, finished: Path, tmp_path: Path, after: int
) -> None:
    """Stopped by Ctrl-C after some batches, then resumed with another batch size."""
    told: list[int] = []

    def stop(count: int) -> None:
        told.append(count)
        if len(told) == 1 + after:
            raise KeyboardInterrupt

    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate(prepared, path, 2, stop)
    kept = content(path)
    assert 0 < len(kept) == sum(told)
    assert (len(kept) < RECORDS) or after == 5
    evaluate(prepared, path, 3, told.append)
    assert content(path) == content(finished)
    resumed, whole = load_run(path), load_run(finished)
    assert resumed.arm.certificate.status == CERTIFIED and resumed.complete
    assert apart(resumed.counts, whole.counts) == []


def test_an_interruption_within_a_batch_loses_that_batch_only(
    prepared: Prepared, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.engines import transformers as module

    real, calls = module.generate, []

    def second_stops(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    path = tmp_path / "run"
    monkeypatch.setattr(module, "generate", second_stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(prepared, path, 2)
    assert len(content(path)) == 2
    evaluate(prepared, path, 2)
    assert content(path) == content(finished)


def test_another_specification_or_checkpoint_is_refused_and_nothing_is_touched(
    prepared: Prepared, finished: Path, refusal: Callable[..., str]
) -> None:
    before = {entry.name: entry.read_bytes() for entry in finished.iterdir()}
    more = replace(prepared, spec=replace(SPEC, noise_seeds=3))
    assert "noise_seeds (2 there, 3 now)" in refusal(evaluate, more, finished, kind=StoreError)
    strange = replace(prepared.checkpoint, source=replace(prepared.checkpoint.source, weights="0" * 64))
    other = replace(prepared, checkpoint=strange)
    assert "another evaluation: weights (" in refusal(evaluate, other, finished, kind=StoreError)
    template = replace(prepared, template="other")
    assert f"template ({prepared.template} there, other now)" in refusal(evaluate, template, finished, kind=StoreError)
    assert {entry.name: entry.read_bytes() for entry in finished.iterdir()} == before


def test_no_control_is_run_where_none_is_wanted(prepared: Prepared, tmp_path: Path) -> None:
    plain = replace(prepared, spec=replace(SPEC, levels=(0.0,), positive_control=False))
    evaluate(plain, tmp_path / "run", 8)
    assert load_run(tmp_path / "run").arm.certificate.control is None
    assert load_run(tmp_path / "run").complete


def test_a_clean_run_alone_gets_its_control_too(prepared: Prepared, tmp_path: Path) -> None:
    evaluate(replace(prepared, spec=replace(SPEC, levels=(0.0,))), tmp_path / "run", 8)
    with Store.read(tmp_path / "run") as store:
        control = store.control()
        assert control is not None and (control.scale, control.items) == (1.0, 3)
        assert {count.level for count in store.counts()} == {0.0}, "the control is not in the ledger"


def test_an_empty_batch_is_refused_before_anything_is_written(
    prepared: Prepared, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert "--batch-size 0" in refusal(evaluate, prepared, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


def test_a_context_that_is_too_short_is_refused(tiny: Path, refusal: Callable[..., str]) -> None:
    text = refusal(prepare, tiny, replace(SPEC, max_new_tokens=4090))
    assert "and 4090 new ones; the context of" in text and "holds 4096; lower --max-new-tokens" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "artih"}, f"unknown task 'artih'; the tasks are {', '.join(TASKS)}; did you mean 'arith'?"),
        ({"data": "x.jsonl"}, "the task arith generates its items"),
        ({"task": "gsm8k", "data": "/no/such.jsonl"}, "/no/such.jsonl does not exist"),
        ({"items": 2001}, "2001 items asked for; the task has 2000"),
    ],
)
def test_bad_tasks_are_refused_before_the_checkpoint_is_read(
    tmp_path: Path, refusal: Callable[..., str], changes: dict[str, Any], words: str
) -> None:
    assert words in refusal(prepare, tmp_path / "no checkpoint", replace(SPEC, **changes))


def test_a_broken_chat_template_and_end_token_are_one_line(
    tiny: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    import shutil

    path = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    (path / "generation_config.json").write_text('{"eos_token_id": "end"}')
    assert "eos_token_id 'end'" in refusal(prepare, path, SPEC, kind=CheckpointError)
    shutil.copy(tiny / "generation_config.json", path)
    (path / "chat_template.jinja").write_text("{% for")
    assert "its chat template is damaged" in refusal(prepare, path, SPEC, kind=CheckpointError)


def test_attention_follows_the_noise_unless_it_is_given() -> None:
    assert attention_for(SPEC) == "sdpa"
    assert attention_for(replace(SPEC, noise=parse_noise("relative_gaussian @ profile:matmul"))) == "eager"
    assert attention_for(replace(SPEC, attention="eager")) == "eager"


def test_products_that_a_fused_kernel_hides_are_refused(tiny: Path, refusal: Callable[..., str]) -> None:
    spec = replace(SPEC, noise=parse_noise("relative_gaussian @ op:qk"), attention="sdpa")
    assert "--attention eager" in refusal(prepare, tiny, spec, kind=HarnessError)


@pytest.mark.parametrize("point", ["input", "weight"])
def test_noise_on_inputs_and_weights_is_refused_before_the_checkpoint_is_read(
    tmp_path: Path, refusal: Callable[..., str], point: str
) -> None:
    spec = replace(SPEC, noise=parse_noise(f"relative_gaussian @ op:linear at:{point}"))
    text = refusal(prepare, tmp_path / "no checkpoint", spec)
    assert f"at:{point}; the levels of an evaluation perturb results" in text and text.endswith("with --quantize")


@pytest.mark.parametrize("op", ["qk", "softmax"])
def test_models_of_whole_rows_are_refused_where_rows_hold_padded_keys(
    tiny: Path, refusal: Callable[..., str], op: str
) -> None:
    spec = replace(SPEC, levels=(0.0, 0.01), noise=parse_noise(f"deadzone @ op:{op}"))
    text = refusal(prepare, tiny, spec)
    assert f"deadzone reads whole rows, and those of model.layers.0.self_attn:{op} hold padded keys" in text
    prepare(tiny, replace(spec, noise=parse_noise(f"absolute_gaussian @ op:{op}")))
    prepare(tiny, replace(spec, noise=parse_noise("deadzone @ op:pv,linear")))


ALWAYS = Choice(0.2, 0, 1, Trail(0, ""))


def test_a_batch_may_have_another_error_model(prepared: Prepared) -> None:
    """The positive control does: it is the same lethal noise whatever is evaluated."""
    prompts = tuple(Prompt(item, 0, tokens) for item, tokens in prepared.prompts.items())
    relative = {}
    for error in (None, RelativeBias(), Deadzone()):
        with prepared.session() as session:
            _, audits = run_batch(prepared, session, Batch(0.2, prompts, ALWAYS, error=error))
            counts = session.noise.ledger.drain(0.2)
        assert [audit.phase for audit in audits] == ["prefill", "decode"]
        assert all(audit.problems == () and audit.products > 0 for audit in audits), "audited by what was asked of it"
        first = counts["model.layers.0.self_attn.q_proj"]
        relative[error] = first.relative_rms, first.changed / first.elements
    drawn, bias, cut = relative.values()
    assert drawn[0] == pytest.approx(0.2, rel=0.05) and drawn[1] > 0.99
    assert bias == (pytest.approx(0.2, rel=1e-5), 1.0)
    assert 0 < cut[1] < 1 and cut[0] == pytest.approx(cut[1] ** 0.5), "whatever a deadzone changes is lost whole"


def test_the_probe_estimates_and_stores_nothing(prepared: Prepared, tmp_path: Path) -> None:
    assert 0 < probe_seconds(prepared, 2) < 60
    assert not list(tmp_path.iterdir())


def test_an_audited_batch_runs_as_any_other(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every forward audited, then none: the same tokens and the same ledger, but for the order of its float32 sums."""
    prompts = tuple(Prompt(item, 0, tokens) for item, tokens in prepared.prompts.items())
    monkeypatch.setattr(Choice, "audits", lambda choice, step: True)
    with prepared.session(in_place=True) as session:
        looked, audits = run_batch(prepared, session, Batch(0.2, prompts, ALWAYS))
        seen = session.drain(0.2)
        plain, none = run_batch(prepared, session, Batch(0.2, prompts))
        energies = {"signal": 0.0, "error": 0.0, "relative": 0.0}
        unlike = [pair for pair in zip(seen, session.drain(0.2), strict=True) if pair[0] != pair[1]]
    for one, other in unlike:
        assert replace(one, **energies) == replace(other, **energies)
        assert (one.signal, one.error, one.relative) == pytest.approx((other.signal, other.error, other.relative), 1e-6)
    assert looked == plain and none == ()
    assert sum(audit.forwards for audit in audits) == max(result.steps for result in plain)
