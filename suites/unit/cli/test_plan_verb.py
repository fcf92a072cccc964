"""``harness plan``: the sites, counts and shares it promises are those that a run has; no weights are needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.evaluate.planning import Source, from_config, plan_report
from harness.noise import build_plan, noisy
from harness.noise.estimate.expected import Width, expected_counts
from harness.noise.estimate.speed import Speed, measure_speed
from harness.noise.flop_coverage import product_share
from harness.record import FORWARD
from harness.reports.plan_page import grouped_rows, left_out_rows, pattern, plan_lines, width_text
from harness.spec import RelativeGaussian, parse_noise, parse_noises
from harness.thresholds import LEAST_RELATIVE

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
QWEN = Path(__file__).parents[3] / "fixtures" / "configs" / "qwen2.5-1.5b.json"
SCOPES = {"minimal": 57, "mlp": 85, "linear": 197, "all": 254}
GIVEN = {"attention": "auto", "dtype": "float32", "device": "cpu"}
TOKENS = 5


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is no terminal: workers of pytest-xdist set COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured speeds that are the same on every machine: 4 ns an element, 2 GFLOP/s."""

    def same(errors: Any, dtype: str, device: str) -> Speed:
        return Speed({str(error): 4.0 for error in errors}, 2.0)

    monkeypatch.setattr("harness.evaluate.planning.measure_speed", same)


def test_the_configuration_of_a_large_model_is_enough(cli: Verb, uncalibrated: None) -> None:
    noise = ";".join(f"relative_gaussian(0.05) @ scope:{name}" for name in SCOPES)
    report = cli("plan", "--config", QWEN, "--noise", noise, "--tokens", 3, "--device", "cpu", "--json").json
    assert [plan["sites"] for plan in report["plans"]] == list(SCOPES.values())
    assert report["vllm_fused_linears"] == 112
    linear = report["plans"][2]
    layer = 1536 + 256 + 256 + 1536 + 2 * 8960 + 1536
    assert linear["expected"]["width"] == {"per_pass": 0, "per_token": 28 * layer + 151936, "per_key": 0, "per_pair": 0}
    assert (linear["expected"]["calls"], linear["expected"]["elements"]) == (197, 3 * (28 * layer + 151936))
    flops = 2 * 3 * (28 * (2 * 1536 * 1536 + 2 * 1536 * 256 + 3 * 1536 * 8960) + 1536 * 151936)
    attention, rotary = 28 * 2 * 2 * 12 * 128 * 3 * 3, 2 * 64 * 3
    assert linear["products"]["perturbed"] == flops
    assert linear["products"]["flops"] == flops + attention + rotary
    assert len(linear["excluded"]) == 57 and not linear["uncovered"]


def test_a_configuration_allocates_no_weight() -> None:
    source = from_config(QWEN, parse_noises("relative_gaussian @ op:linear"), GIVEN)
    assert source.model.config._attn_implementation == "sdpa"
    assert sum(parameter.numel() for parameter in source.model.parameters()) > 1.5e9
    assert all(parameter.is_meta for parameter in source.model.parameters())
    assert (
        from_config(QWEN, parse_noises("relative_gaussian @ op:qk"), GIVEN).model.config._attn_implementation == "eager"
    )


EVERYWHERE = (
    *("op:linear when:both", "scope:mlp when:both", "scope:all", "at:weight op:linear", "op:rotary", "op:add,mul"),
    *("at:input op:linear,rms_norm when:both", "op:embedding,silu when:both", "class:Qwen2DecoderLayer when:both"),
)
EXPECTED = (
    *((attention, place) for attention in ("eager", "sdpa") for place in EVERYWHERE),
    *(
        ("eager", "profile:all-ops when:both"),
        ("eager", "op:softmax"),
        ("sdpa", "op:sdpa when:both"),
        ("sdpa", "op:sdpa,add"),
    ),
)


@pytest.mark.parametrize(("attention", "place"), EXPECTED)
def test_what_is_expected_is_what_the_ledger_counts(toy: Any, attention: str, place: str) -> None:
    model = toy(attention)
    spec = f"relative_gaussian(0.05) @ {place}"
    plan = build_plan(model, parse_noise(spec))
    ids = torch.arange(TOKENS)[None]
    with noisy(model, spec, checked=False) as noise:
        output = model(input_ids=ids, labels=ids, use_cache=False)
        if plan.spec.backward:
            output.loss.backward()
        counted = {(c.site, c.direction, c.operand): (c.calls, c.elements) for c in noise.counts()}
    promised = {
        (line.site.name, line.direction, line.operand): (line.calls, line.width and line.width.elements(TOKENS))
        for line in expected_counts(plan, model)
    }
    assert counted
    assert promised == counted


def test_sizes_of_gradients_of_function_calls_are_not_guessed(toy: Any, uncalibrated: None) -> None:
    model = toy()
    source = Source("checkpoint", Path("toy"), model, "float32", "cpu")
    report = plan_report(source, parse_noises("relative_gaussian(0.05) @ op:add when:backward"), 1)
    (plan,) = report["plans"]
    assert plan["expected"]["unknown"] == len(plan["expected"]["lines"]) > 0
    assert all(line["width"] is None and line["elements"] is None for line in plan["expected"]["lines"])
    assert any(line.startswith(f"?: {plan['expected']['unknown']} gradients") for line in plan_lines(plan, report))
    assert {row[-1] for row in grouped_rows(plan["expected"]["lines"])} == {"?"}


def by_hand(tokens: int) -> dict[str, float]:
    """FLOPs of the products of the toy model: two layers, 4 heads of 8, 32 wide, 48 inside, 64 tokens known."""
    linears = 2 * tokens * (2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + 32 * 64)
    score = 2 * 2 * 4 * 8 * tokens * tokens
    return {"linear": linears, "qk": score, "pv": score, "rotary": 2 * 4 * tokens}


@pytest.mark.parametrize(
    ("place", "attention", "covered"),
    [
        ("op:linear", "sdpa", ("linear",)),
        ("op:linear", "eager", ("linear",)),
        ("op:qk", "eager", ("qk",)),
        ("op:sdpa", "sdpa", ("qk", "pv")),
        ("profile:matmul", "eager", ("linear", "qk", "pv")),
        ("op:softmax,rms_norm", "eager", ()),
        ("op:rotary", "eager", ("rotary",)),
        ("at:weight op:linear", "sdpa", ("linear",)),
    ],
)
@pytest.mark.parametrize("tokens", [1, 7])
def test_the_share_of_products_by_hand(
    toy: Any, place: str, attention: str, covered: tuple[str, ...], tokens: int
) -> None:
    model = toy(attention)
    share = product_share(build_plan(model, parse_noise(f"relative_gaussian @ {place}")), model, tokens)
    flops = by_hand(tokens)
    assert share["flops"] == pytest.approx(sum(flops.values()), abs=1)
    assert share["perturbed"] == pytest.approx(sum(flops[name] for name in covered), abs=1)
    assert share["share"] == pytest.approx(sum(flops[name] for name in covered) / sum(flops.values()))
    assert share["inside"] == 0


def test_products_inside_a_block_are_told_apart(toy: Any) -> None:
    model = toy()
    share = product_share(build_plan(model, parse_noise("relative_gaussian @ scope:mlp")), model, 1)
    assert (share["perturbed"], share["inside"]) == (0, 2 * 2 * 3 * 32 * 48)


def test_the_overhead_is_elements_by_speed(toy: Any, uncalibrated: None) -> None:
    model = toy()
    source = Source("checkpoint", Path("toy"), model, "float32", "cpu")
    both, weights = plan_report(
        source,
        parse_noises("relative_gaussian(0.05) @ op:linear when:both; relative_gaussian @ op:linear at:weight"),
        4,
    )["plans"]
    forward, inputs = 2 * (2 * 32 + 2 * 16 + 2 * 48 + 32) + 64, 2 * (3 * 32 + 32 + 2 * 32 + 48) + 32
    stored = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + 64 * 32
    cost = both["overhead"]
    assert cost["noise_seconds_per_token"] == pytest.approx(4e-9 * (forward + inputs + stored / 64))
    assert cost["product_seconds_per_token"] == pytest.approx(3 * sum(by_hand(4).values()) / 4 / 2e9)
    assert cost["ratio"] == pytest.approx(cost["noise_seconds_per_token"] / cost["product_seconds_per_token"])
    assert weights["overhead"]["noise_seconds_per_token"] == pytest.approx(4e-9 * stored / 64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_calibration_measures_something(dtype: str) -> None:
    found = measure_speed([RelativeGaussian(0.05), RelativeGaussian()], dtype, "cpu")
    assert set(found.nanoseconds) == {"relative_gaussian(0.05)", "relative_gaussian"}
    assert all(0.01 < value < 1e5 for value in found.nanoseconds.values())
    assert 0.01 < found.gflops < 1e6


@pytest.mark.parametrize(("dtype", "least"), LEAST_RELATIVE.items())
def test_a_level_that_the_dtype_cannot_carry_is_warned_of(
    cli: Verb, tiny: Path, uncalibrated: None, dtype: str, least: float
) -> None:
    noise = f"relative_gaussian({least * 0.9:g}); relative_gaussian({least}) @ op:rms_norm; truncation(1e-9) @ op:silu"
    plans = cli("plan", tiny, "--noise", noise, "--dtype", dtype, "--device", "cpu", "--json").json["plans"]
    assert [len(plan["warnings"]) for plan in plans] == [1, 0, 0]
    assert f"{dtype} cannot carry a relative error of {least * 0.9:g}" in plans[0]["warnings"][0]
    said = cli("plan", tiny, "--noise", noise, "--dtype", dtype, "--device", "cpu").out
    assert said.count("warning: ") == 1


def test_the_tables_group_sites_and_say_what_is_left_out(cli: Verb, arith: Path, uncalibrated: None) -> None:
    said = cli("plan", arith, "--noise", "relative_gaussian(0.05) @ profile:matmul", "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    rows = {cells[0]: cells for line in said.out.splitlines() if len(cells := _cells(line)) > 2}
    header = ["site", "operator", "way", "direction", "layers", "sites", "calls", "elements per token"]
    assert rows["site"] == header
    mlp = ["model.layers.*.mlp.up_proj", "linear", "module", FORWARD, "0-3", "4", "4", "1,792"]
    assert rows[mlp[0]] == mlp
    assert rows["model.layers.*.self_attn:qk"][2:] == ["attention", FORWARD, "0-3", "4", "4", "16 heads x keys"]
    assert rows["all"] == ["all", "", "", "", "0-3", "37", "37", "6,404 + 16 heads x keys"]
    assert "rotary angle product" in rows["model.rotary_emb:angle"][2]
    for words in ("attention eager", "> 99.99 % of the", "of matrix products in a forward over 1 token lies"):
        assert words in said.out
    assert "estimate, measured on this machine's kernel and matmul, not on this model" in said.out
    assert "vLLM fuses the linears of a layer: 16 in all there, 28 here, the head apart" in said.out


def test_sites_one_by_one(cli: Verb, arith: Path, uncalibrated: None) -> None:
    options = ("--noise", "relative_gaussian @ op:linear layers:0-1", "--tokens", 10, "--sites", "--device", "cpu")
    out = cli("plan", arith, *options).out
    rows = {cells[0]: cells for line in out.splitlines() if len(cells := _cells(line)) == 9}
    assert rows["model.layers.1.mlp.down_proj"] == [
        *("model.layers.1.mlp.down_proj", "linear", "module", FORWARD, "1", "1", "1", "128", "1,280"),
    ]
    assert sum(name.startswith("model.layers.") for name in rows) == 14
    assert "calls: 14 in one pass, 140 token by token" in out


@pytest.mark.parametrize("columns", ["60", "100"])
def test_a_narrow_terminal_cuts_nothing(
    cli: Verb, arith: Path, uncalibrated: None, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = cli("plan", arith, "--noise", "relative_gaussian @ scope:all", "--tokens", 1000, "--device", "cpu").out
    assert "\u2026" not in out
    for words in ("model.layers.*.post_attention_layernorm", "1,792,000", "model.rotary_emb:angle"):
        assert words in out


def test_specifications_that_meet_are_warned_of(cli: Verb, tiny: Path, tmp_path: Path, uncalibrated: None) -> None:
    file = tmp_path / "noise.toml"
    tables = ('[[noise]]\nerror = "relative_gaussian"\nscope = "all"\n', '[[noise]]\nerror = "spike"\nop = "linear"\n')
    file.write_text("\n".join(tables))
    report = cli("plan", tiny, "--noise", file, "--device", "cpu", "--json").json
    assert [plan["noise"] for plan in report["plans"]] == ["relative_gaussian @ scope:all", "spike @ op:linear"]
    (conflict,) = report["conflicts"]
    assert (
        "cannot be used together: both perturb model.layers.0.self_attn.q_proj in forward (8 such places)" in conflict
    )
    file.write_text("\n".join((tables[1], tables[0].replace("all", "minimal"))))
    assert cli("plan", tiny, "--noise", file, "--device", "cpu", "--json").json["conflicts"] == []


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "nothing": ((), "give either CHECKPOINT or --config FILE"),
    "both": (("x", "--config", QWEN), "give either CHECKPOINT or --config FILE"),
    "missing checkpoint": (("nowhere",), "checkpoint nowhere; no such folder"),
    "missing config": (("--config", "nowhere"), "config nowhere; no such file"),
    "no tokens": (("--config", QWEN, "--tokens", 0), "--tokens 0; a pass has at least one token; give 1 or more"),
    "unknown dtype": (("--config", QWEN, "--dtype", "float"), "--dtype float; did you mean 'float32'?"),
    "unknown attention": (("--config", QWEN, "--attention", "flash"), "--attention flash; known: auto, eager, sdpa"),
    "unknown error model": (("--config", QWEN, "--noise", "relative_gausian"), "did you mean 'relative_gaussian'?"),
    "empty specification": (("--config", QWEN, "--noise", "relative_gaussian;"), "no specification between semicolons"),
    "missing noise file": (("--config", QWEN, "--noise", "no.toml"), "noise file no.toml; it cannot be read"),
    "unknown device": (("--config", QWEN, "--device", "cdua"), "--device cdua; no such device here"),
    "hidden product": (
        ("--config", QWEN, "--attention", "sdpa", "--noise", "relative_gaussian @ op:qk", "--device", "cpu"),
        "a fused attention kernel hides",
    ),
    "nothing matched": (
        ("--config", QWEN, "--noise", "relative_gaussian @ module:lm_haed", "--device", "cpu"),
        "module:lm_haed matches nothing",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_of_plan_is_one_line(cli: Verb, kind: str) -> None:
    arguments, words = WRONG[kind]
    said = cli("plan", *arguments)
    assert words in said.line
    assert (said.code, said.out) == (2, "")


def test_a_model_that_needs_its_weights_is_one_line(cli: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors\nmore")

    monkeypatch.setattr("harness.evaluate.planning.build_plan", fail)
    said = cli("plan", "--config", QWEN, "--device", "cpu")
    assert said.code == 2
    assert "does not run without weights (RuntimeError: Tensor.item() cannot be called on meta tensors)" in said.line


HEAVY = """
import sys
from harness.cli.main import main
try:
    main([sys.argv[1], "--help"])
except SystemExit as end:
    assert end.code == 0
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("verb", ["plan", "replay"])
def test_the_help_of_the_verb_loads_no_torch(verb: str) -> None:
    found = subprocess.run([sys.executable, "-c", HEAVY, verb], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f" {verb} [OPTIONS]" in found.stdout
    assert not {"torch", "transformers"} & set(found.stderr.split())


def test_names_widths_and_reasons_as_text() -> None:
    assert pattern("model.layers.12.experts.3.up_proj:linear#2") == "model.layers.*.experts.*.up_proj:linear#2"
    assert pattern("encoder.h2.conv1d") == "encoder.h2.conv1d"
    assert width_text(None) == "?"
    assert width_text({"per_pass": 0, "per_token": 0, "per_key": 0, "per_pair": 0}) == "0"
    assert width_text({"per_pass": 1000, "per_token": 2, "per_key": 3, "per_pair": 4}) == (
        "2 + 3 heads x keys + 4 heads x all keys + 1,000 a pass"
    )
    reasons = {"layers.0.a": "why", "layers.1.a": "why", "layers.2.a": "other", "head": "why"}
    assert left_out_rows(reasons) == [
        *(("layers.*.a", "2", "why"), ("layers.2.a", "1", "other"), ("head", "1", "why")),
    ]


def test_widths_add_up_to_elements() -> None:
    width = Width(per_pass=7, per_token=5) + Width(per_key=3, per_pair=2)
    assert width.elements(4) == 7 + 5 * 4 + 3 * (1 + 2 + 3 + 4) + 2 * 16


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]
