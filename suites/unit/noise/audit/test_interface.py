"""What attention functions return is compared whatever follows: gates, norms, projections of any name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import check_audit
from harness.noise.audit.interface import AttentionCall, attention_watched
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise

pytestmark = pytest.mark.unit
HEADS, HEAD, VALUE, LEVEL = 2, 4, 6, 0.05
IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
BETWEEN = ("nothing", "half", "zero", "norm", "cap", "bare")
"""What lies between attention and its projection; a cap on the scores; no width of heads, as GPT-NeoX's block."""


class StrangeConfig(PretrainedConfig):
    model_type = "strange"

    def __init__(self, between: str = "nothing", **more: Any) -> None:
        self.between, self.hidden_size, self.num_attention_heads, self.vocab_size = between, 8, HEADS, 16
        super().__init__(**more)


class StrangeMixing(nn.Module):
    """Attention of nobody's library: values of a width of their own, a projection with a name of its own."""

    def __init__(self, config: StrangeConfig) -> None:
        super().__init__()
        self.config, self.layer_idx, self.num_key_value_groups = config, 0, 1
        if config.between != "bare":
            self.head_dim = HEAD
        self.is_causal = True
        self.asks, self.offers = nn.Linear(8, HEADS * HEAD), nn.Linear(8, HEADS * HEAD)
        self.holds, self.leaves = nn.Linear(8, HEADS * VALUE), nn.Linear(HEADS * VALUE, 8)
        self.between = nn.LayerNorm(HEADS * VALUE)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (self.asks, self.offers, self.holds))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        more = {"softcap": 2.0} if self.config.between == "cap" else {}
        y = attend(self, q, k, v, None, scaling=0.25, **more)[0].flatten(2)
        factor = {"half": 0.5, "zero": 0.0}.get(self.config.between)
        y = y if factor is None else y * factor
        return self.leaves(self.between(y) if self.config.between == "norm" else y)


class StrangeModel(PreTrainedModel):
    config_class = StrangeConfig
    _supports_sdpa = True

    def __init__(self, config: StrangeConfig) -> None:
        super().__init__(config)
        self.embedding, self.mixing, self.head = nn.Embedding(16, 8), StrangeMixing(config), nn.Linear(8, 16)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Any) -> Tensor:
        return self.head(self.mixing(self.embedding(input_ids)))


def strange(between: str, attention: str = "eager") -> StrangeModel:
    torch.manual_seed(0)
    model = StrangeModel._from_config(StrangeConfig(between), attn_implementation=attention)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval()


def problems(model: StrangeModel, place: str, *, alive: bool = True) -> tuple[str, ...]:
    """What the audit says of a forward under noise at ``place``, or of a clean one that should have had it."""
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {place}"))
    level = LEVEL if alive else 0.0
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(["a", "b"], [0, 0], level):
        with Auditor(model) as auditor:
            model(IDS)
        session.ledger.drain(level)
    return check_audit(auditor, plan, LEVEL)


@pytest.mark.parametrize("place", ["op:linear", "op:linear,matmul", "op:sdpa"])
@pytest.mark.parametrize("between", BETWEEN)
def test_what_follows_attention_is_no_noise(between: str, place: str) -> None:
    if (between, place) in (("cap", "op:linear,matmul"), ("cap", "op:sdpa"), ("bare", "op:sdpa")):
        pytest.skip("no such noise there")
    assert problems(strange(between, "sdpa" if place == "op:sdpa" else "eager"), place) == ()


@pytest.mark.parametrize("place", ["op:pv", "op:sdpa"])
@pytest.mark.parametrize("between", ["nothing", "half", "zero", "norm"])
def test_a_dead_injection_is_found_behind_anything(between: str, place: str) -> None:
    site = "mixing:sdpa" if place == "op:sdpa" else "mixing:pv"
    found = problems(strange(between, "sdpa" if place == "op:sdpa" else "eager"), place, alive=False)
    assert any(f"{site} has relative error 0, 0.05 was asked for" in problem for problem in found)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("between", ["half", "zero", "norm"])
def test_noise_that_nobody_asked_for_is_found_behind_anything(between: str, attention: str) -> None:
    model = strange(between, attention)
    op = "pv" if attention == "eager" else "sdpa"
    other = build_plan(model, parse_noise(f"relative_gaussian @ op:{op}"))
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    with torch.no_grad(), NoiseSession(model, other) as session, session.batch(["a", "b"], [0, 0], LEVEL):
        with Auditor(model) as auditor:
            model(IDS)
        session.ledger.drain(LEVEL)
    assert any(f"mixing:{op} gave" in problem for problem in check_audit(auditor, plan, 0.0))


def test_the_plan_takes_the_width_of_values_from_what_attention_returned() -> None:
    plan = build_plan(strange("nothing"), parse_noise("relative_gaussian @ op:qk,pv"))
    assert {site.name: site.columns for site in plan.sites} == {"mixing:qk": HEADS, "mixing:pv": HEADS * VALUE}


def test_how_a_block_calls_its_function_is_told_and_nothing_stays_behind() -> None:
    before = inspect.getattr_static(AttentionInterface, "get_interface")
    model, calls, returned = strange("cap"), [], []
    with attention_watched(lambda block, call: calls.append((block, call)), lambda _, y: returned.append(y.shape)):
        model(IDS)
    assert calls == [(model.mixing, AttentionCall(0.25, 2.0, HEADS, False))]
    assert returned == [(2, 5, HEADS, VALUE)]
    assert inspect.getattr_static(AttentionInterface, "get_interface") is before
