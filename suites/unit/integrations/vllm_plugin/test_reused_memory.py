"""Compiled code puts other results into the memory of a product that it has used: the auditor must not mix them up."""

from __future__ import annotations

import pytest
import torch

from harness.integrations.vllm_plugin.auditor import EngineAuditor, Looked
from harness.integrations.vllm_plugin.payload import Payload, site_number
from harness.integrations.vllm_plugin.rows import Request
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice
from harness.noise import build_plan
from harness.noise.custom_ops import RESULT, perturb
from harness.record import PREFILL
from harness.spec import RelativeGaussian, parse_noise

pytestmark = pytest.mark.unit
LINEAR, NORM = "model.layers.0.self_attn.q_proj", "model.layers.0.input_layernorm"
REQUEST = ("r", Request("a", 0, 0.1), 0, 4, 4)


@pytest.fixture
def session(toy):
    """A product with noise, a norm with noise, and the quantized input of a product."""
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear,rms_norm"))
    quantizer = build_plan(model, parse_noise("fake_quant(mxfp8) @ op:linear at:input"))
    made = EngineSession(Payload.of(model, plan, (quantizer,)))
    sites = {site.name: site for site in plan.sites}
    made.register(Product("linear", (Slice(sites[LINEAR], 0, 32),)))
    made.register(Product("norm", (Slice(sites[NORM], 0, 32),)))
    made.register(Product("input", (Slice(quantizer.sites[0], 0, 32),), quantizer=0))
    made.open()
    yield made
    made.close()


def audited(session, *, also, pieces=None):
    """What is seen of a forward whose product's memory is then used for the inputs of the operators ``also``."""
    looked = Looked(0.1, RelativeGaussian(), False, 0)
    auditor = EngineAuditor(session.handle, pieces or session.pieces, [LINEAR, NORM], looked)
    token = torch.zeros((), dtype=torch.int64)
    session.begin([REQUEST], "cpu")
    with auditor:
        auditor.begin([REQUEST])
        y = torch.randn(4, 16) @ torch.randn(16, 32)
        perturb(y, token, session.handle, site_number("linear"), RESULT)
        for name in also:
            perturb(y.copy_(torch.randn(4, 32)), token, session.handle, site_number(name), RESULT)
    return auditor.seen[PREFILL]


def test_only_the_operator_of_a_product_is_matched_with_it(session):
    alone, beside = audited(session, also=()), audited(session, also=("norm", "input"))
    assert (alone.products, alone.matched, alone.rows, alone.strays) == (1, 1, 4, 0)
    assert (beside.products, beside.matched, beside.rows, beside.strays) == (1, 1, 4, 0)


def test_memory_alone_would_mix_them_up(session):
    """As it was: every operator whose input lies where the last product lay was taken for the product's."""
    found = audited(session, also=("norm", "input"), pieces=lambda number: session.pieces(number) or ())
    assert found.matched == 3 and found.strays


def test_an_operator_that_was_never_built_is_not_overlooked(session):
    assert session.pieces(12345) == ()
    assert session.pieces(site_number("norm")) is None is session.pieces(site_number("input"))
