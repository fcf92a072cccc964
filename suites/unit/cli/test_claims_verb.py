"""``harness claims``: tables, one claim, JSON, Markdown, the theory, and its errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
PUBLISHED = Path(__file__).resolve().parents[3] / "baselines" / "published"
VERDICTS = {"supported", "supported_single_seed", "not_established", "void", "confounded", "false"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is no terminal: workers of pytest-xdist set COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)


def test_the_page_is_json_with_all_claims(cli: Verb) -> None:
    said = cli("claims", "--json")
    assert (said.code, said.err) == (0, "")
    page = said.json
    assert set(page) == {"schema_version", "summary", "claims", "replicates"}
    assert [claim["id"] for claim in page["claims"]] == [f"C{number}" for number in range(1, 46)]
    assert {claim["verdict"] for claim in page["claims"]} <= VERDICTS
    assert sum(page["summary"].values()) == 45
    assert all({"claim", "source", "reason", "numbers"} <= set(claim) for claim in page["claims"])
    first = page["claims"][0]
    assert first["numbers"]["difference"] == pytest.approx(2.42) and first["seeds_per_arm_to_settle"] == 6
    assert page["replicates"]["degrees_of_freedom"] == 14 and len(page["replicates"]["groups"]) == 10


def test_the_tables_are_grouped_by_verdict(cli: Verb) -> None:
    out = cli("claims").out
    order = [
        out.index(f"{verdict} (") for verdict in ("supported_single_seed", "not_established", "void", "confounded")
    ]
    assert order == sorted(order)
    assert "45 claims: 6 supported_single_seed, 18 not_established, 9 void, 6 confounded, 6 false" in out
    assert "pooled sd 1.27 points with 14 degrees of freedom from 10 groups" in out


def test_one_verdict_only(cli: Verb) -> None:
    found = cli("claims", "--verdict", "void", "--json").json
    assert set(found["summary"]) == {"void"} and "C20" in {claim["id"] for claim in found["claims"]}
    empty = cli("claims", "--verdict", "supported", "--json").json
    assert (empty["claims"], empty["summary"]) == ([], {})


def test_one_claim_in_full(cli: Verb) -> None:
    out = cli("claims", "--id", "C1").out
    for words in (
        "AQN adds 2.42 points under 5 % noise",
        "verdict: not_established",
        "68.16 (n 1319, HWX, CF); 68.92 (n 1319, ALL)",
        "E9a-high 70.81",
        "with 70.58 and 68.92 (n 1319): not_established; difference +1.66",
        "to settle it: 6 training seeds per arm",
        "note: E5b: the checkpoint is lost",
    ):
        assert words in out
    assert "C2" not in out.split()


def test_the_page_in_markdown(cli: Verb, tmp_path: Path) -> None:
    said = cli("claims", "--markdown", tmp_path / "claims.md")
    text = (tmp_path / "claims.md").read_text()
    assert f"report: {tmp_path / 'claims.md'}" in said.out
    assert text.startswith("# Published claims, judged\n")
    assert all(f"\n### C{number}\n" in text for number in range(1, 46))
    assert "## void (9)" in text and "| C20 |" in text and "## Accidental replicates" in text


def test_the_markdown_file_that_cannot_be_written_is_one_line(cli: Verb, tmp_path: Path) -> None:
    said = cli("claims", "--markdown", tmp_path / "none" / "claims.md")
    assert (said.code, said.out) == (2, "") and "claims.md" in said.line


def test_another_registry_is_judged_by_its_own_data(cli: Verb, tmp_path: Path) -> None:
    folder = shutil.copytree(PUBLISHED, tmp_path / "registry")
    facts = folder / "facts.toml"
    text = facts.read_text().replace(
        'id = "dapo-sigma-zero"\nkind = "absent"', 'id = "dapo-sigma-zero"\nkind = "caution"'
    )
    facts.write_text(text.replace('factor = "aqn"\neffective = "off"\ntext = "the DAPO', 'text = "the DAPO'))
    found = cli("claims", "--registry", folder, "--id", "C22", "--json").json
    assert [claim["verdict"] for claim in found["claims"]] == ["not_established"]
    (folder / "claims.toml").write_text("[[claim]]\nid = 3\n")
    said = cli("claims", "--registry", folder)
    assert (said.code, said.out) == (2, "") and "claims.toml" in said.line


def test_the_theory_over_what_is_published_is_undecided_and_says_why(cli: Verb) -> None:
    said = cli("claims", "--theory", "--json")
    theory = said.json["theory"]
    assert (said.code, theory["outcome"]) == (0, "undecided")
    assert {criterion["outcome"] for criterion in theory["criteria"]} == {"undecided"}
    out = cli("claims", "--theory").out
    assert "one run per arm decides nothing" in out and "an arm has no run" in out
    assert "E8d: no run" in out and "the theory as a whole: undecided" in out


def test_the_theory_over_stored_runs(cli: Verb, tmp_path: Path, make_run: Any) -> None:
    rows = [[1]] * 3 + [[0]]
    run = make_run(tmp_path / "run", {0.0: rows, 0.05: rows, 0.1: rows})
    theory = cli("claims", "--theory", "--arm", f"E8c={run}", "--json").json["theory"]
    assert theory["arms"]["E8c"] == [{"run": str(run), "accuracy": {"0": 0.75, "0.05": 0.75, "0.1": 0.75}}]
    assert theory["outcome"] == "undecided"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--id", "C46"), "the registry has no such claim"),
        (("--verdict", "fals"), "did you mean 'false'?"),
        (("--registry", "/nowhere"), "no such folder; give --registry FOLDER"),
        (("--arm", "E8a=r"), "arms belong to the theory; add --theory"),
        (("--theory", "--id", "C1"), "--theory judges the theory alone"),
        (("--theory", "--arm", "E8f=r"), "did you mean 'E8"),
        (("--theory", "--arm", "E8a=none"), "not a run folder"),
    ],
)
def test_bad_arguments_are_one_line(cli: Verb, arguments: tuple[str, ...], words: str) -> None:
    said = cli("claims", *arguments)
    assert (said.code, said.out) == (2, "") and words in said.line


def test_the_registry_beside_the_package_serves_other_folders(
    cli: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("claims", "--id", "C7", "--json").json["claims"][0]["verdict"] == "void"
