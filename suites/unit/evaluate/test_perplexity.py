"""Perplexity from end to end: windows as in lm-evaluation-harness, a certified run, its report and its gate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.baselines.book import accept, check_acceptable, load_named
from harness.baselines.file import dump
from harness.engines.generation import Forced
from harness.evaluate.checkpoint import load_checkpoint
from harness.evaluate.prepared import prepare
from harness.evaluate.request_tokens import RequestTokens
from harness.evaluate.run import evaluate
from harness.evaluate.tasks import Continuation, load_task
from harness.exceptions import NotComparableError
from harness.gates import gate
from harness.gates.levels import compare_levels
from harness.record import CERTIFIED
from harness.reports.render.markdown import markdown
from harness.reports.run_report import run_report, stored_page
from harness.reports.tasks_page import tasks_page, tasks_report
from harness.runs.loaded import Run, load_run
from harness.spec import EvalSpec
from harness.testing import tiny_checkpoint
from suites.contract.plugin_projects import run_pytest_in, write

pytestmark = pytest.mark.long
TEXTS = [
    f"The {word} sea. " * count for word, count in (("cold", 1), ("old", 3), ("wide", 2), ("grey", 6), ("dark", 5))
]
CONTEXT = 40


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a context of 40 tokens, so that documents take several windows."""
    return tiny_checkpoint(tmp_path_factory.mktemp("short") / "tiny", seed=3, max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def evaluated(checkpoint: Path, data: str, out: Path) -> Run:
    spec = EvalSpec("perplexity", data, items=None, levels=(0.0, 0.1), noise_seeds=2)
    evaluate(prepare(checkpoint, spec), out, 3)
    return load_run(out)


@pytest.fixture(scope="module")
def run(short: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(short, data, tmp_path_factory.mktemp("run") / "run")


def test_documents_are_rows_or_what_empty_lines_part(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfOne\r\nline.\r\n\r\n \nTwo.\n\n\n")
    assert [item.question for item in load_task("perplexity", file).items()] == ["One\nline.", "Two."]
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "One.", "cluster": "c"}\n{"text": "Two."}\n')
    assert [(item.question, item.cluster) for item in load_task("perplexity", rows).items()] == [
        ("One.", "c"),
        ("Two.", ""),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "One."}\n{"text": " "}\n', "line 2: text is ' '"),
        ("a.jsonl", b'{"words": "One."}\n', "line 1: text is missing"),
        ("a.jsonl", b'{"text": "One.", "cluster": 1}\n', "line 1: cluster is 1"),
        ("a.txt", b"\xff\xfe", "the file must be UTF-8"),
        ("a.txt", b" \n\n", "is empty"),
    ],
)
def test_bad_data_are_refused(
    tmp_path: Path, refusal: Callable[..., str], name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    text = refusal(lambda: load_task("perplexity", path).items())
    assert words in text and str(path) in text


def test_windows_score_every_token_once_behind_all_the_room_there_is(short: Path) -> None:
    tokens = RequestTokens(load_checkpoint(short))
    for length in (1, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT - 1, 3 * CONTEXT):
        whole = tuple(ord("a") + n % 20 for n in range(length))
        text = "".join(map(chr, whole))
        ids = tokens.of(Continuation("", text)).continuation
        found = tokens.windows(text)
        assert sum((each.continuation for each in found), ()) == ids
        assert found[0].context == (tokens.prefix,)
        assert all(len(each.fed) == CONTEXT for each in found[1:])
        assert all(len(each.fed) <= CONTEXT for each in found)


def test_the_published_windows_are_the_same(short: Path) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    tokens = RequestTokens(load_checkpoint(short))
    for length in range(1, 3 * CONTEXT + 2):
        text = "".join(chr(ord("a") + n % 20) for n in range(length))
        published = map(
            utils.make_disjoint_window,
            utils.get_rolling_token_windows(list(tokens._encoded(text)), tokens.prefix, CONTEXT, 1),
        )
        assert tokens.windows(text) == tuple(Forced(tuple(context), tuple(scored)) for context, scored in published)


@pytest.mark.parametrize("checkpoint", ["short", "arith"])
def test_the_published_log_likelihoods_are_the_same(
    request: pytest.FixtureRequest, data: str, checkpoint: str, tmp_path: Path
) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    path = request.getfixturevalue(checkpoint)
    theirs = huggingface.HFLM(pretrained=str(path), device="cpu", dtype="float32", batch_size=2)
    found = evaluated(path, data, tmp_path / "run")
    asked = [type("Instance", (), {"args": (text,)}) for text in TEXTS]
    published = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    ours = {result.item: result.scores["nats"] for result in found.results if result.level == 0}
    by_text = {found.arm.questions[item]: nats for item, nats in ours.items()}
    assert [by_text[text] for text in TEXTS] == pytest.approx(published, abs=1e-3)


def test_a_run_is_certified_and_reports_perplexities(run: Run) -> None:
    certificate = run.arm.certificate
    assert certificate.status == CERTIFIED, [words for level in certificate.levels for words in level.problems]
    clean, noisy = run_report(run)["levels"]
    assert clean["accuracy"] is None and clean["perplexity"]["lost"] is None
    nats = -sum(result.scores["nats"] or 0.0 for result in run.results if result.level == 0)
    size = sum(len(text.encode()) for text in TEXTS)
    assert clean["perplexity"]["by"]["bytes"]["estimate"] == pytest.approx(math.exp(nats / size))
    lost, apart = noisy["perplexity"]["lost"], noisy["perplexity"]["nats_per_token"]["estimate"]
    assert lost["estimate"] == pytest.approx(apart - clean["perplexity"]["nats_per_token"]["estimate"])
    page = json.dumps(stored_page(run.path), default=vars)
    assert "Perplexity by noise level" in page and "Accuracy" not in page
    assert "in the place of an empty context stands <|im_end|> (258)" in page


def test_nothing_reads_it_as_an_accuracy(run: Run, refusal: Callable[..., str]) -> None:
    assert "give --nats-margin" in refusal(gate, run.arm, run.arm)
    assert "perplexity has no right answers" in refusal(compare_levels, run.arm, 0.1)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights have learned nothing: here that is no objection."""
    monkeypatch.setattr("harness.baselines.book.LEARNED_NATS", -10.0)


def test_what_has_learned_nothing_is_no_baseline(run: Run, tmp_path: Path, refusal: Callable[..., str]) -> None:
    words = refusal(accept, run.path, tmp_path, "a/b", "why", kind=NotComparableError, code=4)
    assert "is at the floor" in words and "tokens alike would be 5.56" in words
    named = replace(run, counts=[replace(each, site=each.site.replace("lm_head", "embed_out")) for each in run.counts])
    assert "is at the floor" in refusal(check_acceptable, named, kind=NotComparableError, code=4)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("learned")
def test_a_run_is_accepted_shown_and_gated_in_nats(run: Run, short: Path, data: str, tmp_path: Path, cli: Any) -> None:
    """Five documents are too few for PASS; the same numbers come from the file as from the run."""
    folder = ("--baselines-dir", tmp_path)
    assert cli("baseline", "accept", run.path, "--name", "texts/tiny", "--reason", "a test", *folder).code == 0
    held = load_named(tmp_path, "texts/tiny")
    assert held.arm.outcomes == run.arm.outcomes and dump(held) == (tmp_path / "texts" / "tiny.json").read_text()
    shown = cli("baseline", "show", "texts/tiny", *folder)
    assert shown.code == 0 and "nats a token, of 5 documents" in shown.out
    found = cli("gate", run.path, "--baseline", "texts/tiny", "--nats-margin", "0.05", *folder)
    assert found.code == 3 and "80 decide" in found.out and "Log-likelihood lost" in found.out
    again = cli("gate", run.path, "--baseline", "texts/tiny", "--nats-margin", "0.05", "--from-records", *folder)
    assert "byte for byte" in again.out
    assert "Log-likelihood lost" in (run.path / "report.md").read_text()
    plan = cli("plan", "--baseline", "texts/tiny", "--nats-margin", "0.05", *folder)
    assert plan.code == 0 and "cannot PASS, 80 can" in plan.out
    refused = cli("gate", short, "--baseline", "texts/tiny", "--nats-margin", "0.05", "--data", data, *folder)
    assert refused.code == 4 and "accept a baseline of 80 documents or more" in refused.err
    assert cli("gate", run.path, "--baseline", "texts/tiny", *folder).code == 2


def test_several_tasks_show_texts_by_themselves(run: Run) -> None:
    shown = markdown(tasks_page(tasks_report(run.path.parent, {"arith": None, "perplexity": run})))
    assert "perplexity: perplexity by noise level" in shown and "| arith | not evaluated yet" in shown
    assert "| perplexity | 0 %" not in shown


SUITE = """
def test_loses_little(robustness):
    assert robustness.gate(0.1, nats_margin=0.05)
"""


@pytest.mark.usefixtures("learned")
def test_a_users_own_suite_gates_texts(run: Run, tmp_path: Path, cli: Any) -> None:
    folder = tmp_path / "baselines"
    assert cli("baseline", "accept", run.path, "--name", "a", "--reason", "a test", "--baselines-dir", folder).code == 0
    write(tmp_path, test_mine_py=SUITE)
    given = {"checkpoint": run.path, "baseline": "a", "baselines-dir": folder, "report": tmp_path / "report"}
    done = run_pytest_in(tmp_path, *(f"--robustness-{name}={value}" for name, value in given.items()), installed=None)
    assert "INCONCLUSIVE level 10 %: +0.0000 [+0.0000, +0.0000] nats lost against baseline a, limit 0.05" in done.stdout
    assert "0.05 nats" in (tmp_path / "report" / "robustness.md").read_text()


@pytest.mark.usefixtures("learned")
def test_two_baselines_of_texts_differ_in_nats(run: Run, short: Path, data: str, tmp_path: Path, cli: Any) -> None:
    folder = ("--baselines-dir", tmp_path)
    assert cli("baseline", "accept", run.path, "--name", "a", "--reason", "a test", *folder).code == 0
    text = (tmp_path / "a.json").read_text()
    assert "0 outcomes differ" in cli("baseline", "diff", "a", run.path, *folder).out
    other = tiny_checkpoint(tmp_path / "other", seed=4, max_position_embeddings=CONTEXT)
    second = evaluated(other, data, tmp_path / "run")
    apart = cli("baseline", "diff", "a", second.path, *folder).out
    assert "5 outcomes differ" in apart and "nats -> -" in apart
    (tmp_path / "a.json").write_text(text.replace('"tokens": ', '"tokens": 1', 1))
    assert "checksum" in cli("baseline", "show", "a", *folder).err


def test_two_runs_are_compared_in_nats(run: Run, short: Path, data: str, tmp_path: Path, cli: Any) -> None:
    other = tiny_checkpoint(tmp_path / "other", seed=4, max_position_embeddings=CONTEXT)
    second = evaluated(other, data, tmp_path / "run")
    said = cli("report", second.path, "--against", run.path, "--format", "markdown")
    assert said.code == 0 and "Log-likelihood lost" in said.out and "| 10 %" in said.out
    same = cli("report", run.path, "--against", run.path, "--format", "markdown")
    assert "0.0000 [0.0000, 0.0000]" in same.out.replace("+", "")


def test_another_prefix_is_another_measurement(run: Run, short: Path, data: str, tmp_path: Path, cli: Any) -> None:
    spec = EvalSpec("perplexity", data, items=None, levels=(0.0,), prefix_token="<|bos|>")
    evaluate(prepare(short, spec), tmp_path / "run", 8)
    said = cli("report", tmp_path / "run", "--against", run.path)
    assert said.code == 4 and "prefix_token" in said.line
    clean = {result.item: result.text for result in run.results if result.level == 0}
    assert all(result.text != clean[result.item] for result in load_run(tmp_path / "run").results)


def test_a_scorer_of_another_kind_is_refused(short: Path, data: str, refusal: Callable[..., str]) -> None:
    for scorer, words in (("strict", "the scorer reads texts"), ("pair", "at least two choices")):
        assert words in refusal(prepare, short, EvalSpec("perplexity", data, items=None, levels=(0.0,), scorer=scorer))


def test_options_that_mean_nothing_are_refused(short: Path, data: str, refusal: Callable[..., str]) -> None:
    for changes in ({"max_new_tokens": 4}, {"fewshot": 1}, {"system": "Be brief."}):
        text = refusal(prepare, short, EvalSpec("perplexity", data, items=None, levels=(0.0,), **changes))
        assert "the task gives log-likelihoods" in text
    assert "the task gives texts" in refusal(prepare, short, EvalSpec("arith", items=1, prefix_token="<|bos|>"))


def test_an_interrupted_run_resumes_to_the_same_records(run: Run, short: Path, data: str, tmp_path: Path) -> None:
    spec = EvalSpec("perplexity", data, items=None, levels=(0.0, 0.1), noise_seeds=2)
    told: list[int] = []

    def interrupt(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(prepare(short, spec), tmp_path / "run", 2, interrupt)
    assert 0 < len(load_run(tmp_path / "run").results) < len(run.results)
    evaluate(prepare(short, spec), tmp_path / "run", 5)
    again = load_run(tmp_path / "run")
    assert again.arm.certificate.status == CERTIFIED
    for one, other in zip(again.results, run.results, strict=True):
        assert (one.item, one.level, one.seed, one.tokens) == (other.item, other.level, other.seed, other.tokens)
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
