"""Which value holds, which specification comes of it, and what the fixture says, without starting pytest again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.baselines.book import accept
from harness.exceptions import HarnessError
from harness.gate_options import in_pytest
from harness.pytest_plugin.evaluations import MADE_AS_IT_WAS, Evaluations, levels_of, policy_of, private_folder, spec_of
from harness.pytest_plugin.fixture import Robustness
from harness.pytest_plugin.options import PREFIX
from harness.pytest_plugin.rows import session_page
from harness.pytest_plugin.settings import SETTINGS, Settings
from harness.reports.render.markdown import markdown
from harness.spec import EvalSpec, parse_noise, parse_quantization

pytestmark = pytest.mark.unit

NOTHING: dict[str, Any] = {option.key: None for option in in_pytest()}


class Config:
    """What of ``pytest.Config`` the plugin asks for; ``given`` stands on the command line."""

    def __init__(self, folder: Path, ini: dict[str, Any] | None = None, **given: Any) -> None:
        self.invocation_params = SimpleNamespace(dir=folder)
        self.rootpath, self.inipath = folder, folder / "pytest.ini"
        self.pluginmanager = SimpleNamespace(getplugin=lambda name: None)
        self.stash = pytest.Stash()
        self._given = {PREFIX + key: value for key, value in given.items()}
        self.stash[SETTINGS] = Settings(self, ini or {}, {})  # type: ignore[arg-type]

    def getoption(self, name: str) -> Any:
        return self._given.get(name)


@pytest.fixture
def gated(tmp_path: Path, make_run: Any) -> tuple[Path, Path]:
    """A baseline of 60 items, and a run that lost 30 of them at 5 %."""
    same = [[1]] * 60
    run = make_run(tmp_path / "same", {0.0: same, 0.05: same})
    baseline = accept(run, tmp_path / "baselines", "mine", "for a test")
    return baseline, make_run(tmp_path / "lost", {0.0: same, 0.05: [[0]] * 30 + [[1]] * 30})


def robustness(config: Config, **marker: Any) -> tuple[Robustness, list[Any]]:
    properties: list[Any] = []
    return Robustness(config, marker, properties), properties  # type: ignore[arg-type]


def test_a_gate_says_verdict_and_numbers_first(tmp_path: Path, gated: tuple[Path, Path]) -> None:
    baseline, lost = gated
    fixture, properties = robustness(Config(tmp_path, checkpoint=str(lost), baseline=str(baseline)))
    assert fixture.gate(0.0, margin=0.2)
    words = r"^FAIL level 5 %: -50\.0 \[.*\] pp against baseline mine"
    with pytest.raises(pytest.fail.Exception, match=words) as caught:
        fixture.gate(0.05)
    assert not caught.value.pytrace and caught.value.__context__ is None
    rows = [json.loads(value) for name, value in properties if name == "robustness"]
    assert [(row["verdict"], row["limit"], row["n"]) for row in rows] == [("PASS", 0.2, 60), ("FAIL", 0.06, 60)]
    first = [value.split(":")[0] for name, value in properties if name != "robustness"]
    assert first == [
        "PASS level 0 %",
        "FAIL level 5 %",
    ]


def test_a_comparison_has_to_be_judged(tmp_path: Path, gated: tuple[Path, Path]) -> None:
    fixture, _ = robustness(Config(tmp_path, checkpoint=str(gated[1])))
    found = fixture.compare(0.05)
    with pytest.raises(TypeError, match=r"judge it: assert robustness\.compare"):
        bool(found)
    with pytest.raises(pytest.fail.Exception, match="never judged: 5 % against clean"):
        fixture.check_judged()
    with pytest.raises(pytest.fail.Exception, match=r"^FAIL level 5 %"):
        found.drop_at_most(0.1)
    fixture.check_judged()


def test_bad_input_is_one_line_without_what_came_before(tmp_path: Path, gated: tuple[Path, Path]) -> None:
    fixture, _ = robustness(Config(tmp_path, checkpoint=str(gated[1]), baseline="mein"), baselines_dir="baselines")
    with pytest.raises(pytest.fail.Exception, match=r"^harness: baseline 'mein'; .*did you mean 'mine'\?$") as caught:
        fixture.gate(0.0)
    assert caught.value.__suppress_context__
    fixture, _ = robustness(Config(tmp_path, checkpoint=str(gated[1])))
    with pytest.raises(pytest.fail.Exception, match=r"robustness\.gate without a baseline"):
        fixture.gate(0.0)
    with pytest.raises(pytest.fail.Exception, match="needs --robustness-checkpoint=PATH"):
        robustness(Config(tmp_path))


@pytest.mark.parametrize("name", [name for name in MADE_AS_IT_WAS if name not in ("base", "data")])
def test_a_finished_run_is_not_made_otherwise(tmp_path: Path, gated: tuple[Path, Path], name: str) -> None:
    value = {"items": 3, "item_seed": 1, "noise_seeds": 2, "max_new_tokens": 9, "noise_levels": [0]}.get(name, "x")
    given = NOTHING | {"checkpoint": gated[1], name: value}
    with pytest.raises(HarnessError, match=f"^--{name.replace('_', '-')} .*made as it was made"):
        Evaluations(Config(tmp_path), given).run()  # type: ignore[arg-type]


def test_what_is_given_changes_the_specification() -> None:
    spec = spec_of(NOTHING | {"items": 7, "engine": "vllm", "dtype": "bfloat16", "quantize": "weights=mxfp4"}, None)
    assert (spec.items, spec.engine, spec.dtype) == (7, "vllm", "bfloat16")
    assert spec.quantization == parse_quantization("weights=mxfp4")
    assert spec_of(NOTHING, None) == EvalSpec("arith")
    assert levels_of(NOTHING | {"noise_levels": "0,0.2"}) == (0.0, 0.2)
    assert levels_of(NOTHING | {"noise": "relative_gaussian(0.07) @ op:linear"}) == (0.0, 0.07)
    assert levels_of(NOTHING | {"noise": "relative_gaussian @ op:linear"}) == (0.0, 0.05, 0.1)


def test_a_policy_replaces_rules_of_later_sources_only(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[policy]\nmargin = 0.07\n")
    ini = {"margin": "0.2", "across": "dtype"}
    given = Config(tmp_path, ini, policy=str(tmp_path / "rules.toml")).stash[SETTINGS].given()
    assert policy_of(given).margin == 0.07 and policy_of(given).across is None
    named = Config(tmp_path, ini).stash[SETTINGS].given({"policy": str(tmp_path / "rules.toml")})
    assert policy_of(named).margin == 0.07
    both = Config(tmp_path, policy=str(tmp_path / "rules.toml"), margin=0.1).stash[SETTINGS].given()
    with pytest.raises(HarnessError, match="rules come from one place"):
        policy_of(both)


def test_the_folder_of_runs_ignores_itself(tmp_path: Path) -> None:
    kept = private_folder(tmp_path / "deep" / ".robustness") / ".gitignore"
    assert kept.read_text().splitlines()[-1] == "*"
    kept.write_text("mine\n")
    private_folder(kept.parent)
    assert kept.read_text() == "mine\n"


def given(folder: Path, marker: dict[str, Any], **options: Any) -> dict[str, Any]:
    return Config(folder, **options).stash[SETTINGS].given(marker)


@pytest.mark.parametrize(
    ("marker", "levels", "found"),
    [
        ({}, None, (0.0, 0.05, 0.1)),
        ({"noise": "fake_quant"}, None, (0.0, 1.0)),
        ({"noise": "fake_quant", "noise_levels": [1, 0]}, None, (0.0, 1.0)),
        ({"noise": "absolute_gaussian"}, "0,3", (0.0, 3.0)),
        ({"noise": "spike", "noise_levels": [0, 0.5]}, "0,0.25", (0.0, 0.25)),
    ],
)
def test_the_levels_follow_the_markers_noise(
    tmp_path: Path, marker: dict[str, Any], levels: str | None, found: tuple[float, ...]
) -> None:
    spec = spec_of(given(tmp_path, marker, noise_levels=levels), None)
    assert spec.levels == found
    assert spec.noise == parse_noise(marker.get("noise", "relative_gaussian"))


@pytest.mark.parametrize(
    ("noise", "levels", "found"),
    [("absolute_gaussian", "0,3", (0.0, 3.0)), ("fake_quant", "0,1", (0.0, 1.0)), ("fake_quant", None, (0.0, 1.0))],
)
def test_the_levels_follow_the_baselines_noise(
    tmp_path: Path, noise: str, levels: str | None, found: tuple[float, ...]
) -> None:
    spec = EvalSpec("arith", levels=(0, 1), noise=parse_noise(noise))
    held: Any = SimpleNamespace(spec=spec.to_json(), arm=SimpleNamespace(outcomes={1.0: {}, 0.0: {}}))
    assert spec_of(given(tmp_path, {}, noise_levels=levels), held).levels == found


def test_levels_are_fractions_where_nothing_else_is_known(tmp_path: Path) -> None:
    assert levels_of(given(tmp_path, {})) == (0.0, 0.05, 0.1)
    assert levels_of(given(tmp_path, {}, noise_levels="0,0.2")) == (0.0, 0.2)
    with pytest.raises(HarnessError, match="a level is a fraction"):
        levels_of(given(tmp_path, {}, noise_levels="0,3"))


@pytest.fixture
def quick(tmp_path: Path, make_run: Any) -> dict[str, str]:
    """A baseline of 60 items with two noise seeds, and a run of all items with one."""
    run = make_run(tmp_path / "two", {0.0: [[1]] * 60, 0.05: [[1, 1]] * 60})
    baseline = accept(run, tmp_path / "baselines", "two", "for a test")
    one = make_run(tmp_path / "one", {0.0: [[1]] * 60, 0.05: [[1]] * 60})
    return {"baseline": str(baseline), "checkpoint": str(one), "margin": "0.2"}


def test_a_part_of_the_baseline_has_to_be_declared_and_every_report_says_so(
    tmp_path: Path, quick: dict[str, str]
) -> None:
    fixture, _ = robustness(Config(tmp_path, **quick))
    with pytest.raises(pytest.fail.Exception, match=r"^INVALID level 5 %: .*noise seeds differ"):
        fixture.gate(0.05)
    fixture, properties = robustness(Config(tmp_path, **quick), noise_seeds=1, items=60)
    assert fixture.gate(0.05)
    words = "quick check, declared: the first 60 of 60 items in the baseline's own order (item seed 0), 1 of 2 noise"
    row = json.loads(next(value for name, value in properties if name == "robustness"))
    assert row["notes"][0].startswith(words)
    assert words in markdown(session_page([{"test": "t", **row}])).replace("\\", "")
    assert words in " ".join((tmp_path / "one" / "report.md").read_text().replace("\\", "").split())
    attempts = (tmp_path / "one" / "verdicts" / "attempts.jsonl").read_text().splitlines()
    assert ["QuickCheck(" in line for line in attempts] == [False, True]


def test_a_declared_part_is_the_baselines_own_first_and_no_other(tmp_path: Path, quick: dict[str, str]) -> None:
    for declared in ({"items": 20, "noise_seeds": 1}, {"items": 20}):
        fixture, _ = robustness(Config(tmp_path, **quick), **declared)
        with pytest.raises(pytest.fail.Exception, match=r"^INVALID: .* quick check is on"):
            fixture.gate(0.05)
