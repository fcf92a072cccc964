"""The angle product of positions is told from attention's products in every architecture that transformers ships."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise import NoiseSession, build_plan
from harness.noise.sites import frequencies, is_rotary
from harness.spec import parse_noise
from suites.contract.architectures import build
from suites.contract.noise_models import ITEMS, REAL, batch

pytestmark = pytest.mark.contract
MODELS = Path(transformers.__file__).parent / "models"
LEAST, LEAST_BUILT = 150, 130
"""Fewer classes than these would mean that the search, or the building, finds nothing any more."""


@functools.cache
def classes() -> dict[tuple[str, str], tuple[str, ...]]:
    """(module, class) of everything in the installed transformers that registers inverse frequencies -> the names of
    these buffers, those for a kind of layer as for sliding attention."""
    found = {}
    for file in sorted(MODELS.glob("*/modeling_*.py")):
        for block in re.split(r"^(?=class |@|def )", file.read_text(), flags=re.MULTILINE):
            name = re.match(r"class (\w+)\(nn\.Module\)", block)
            buffers = re.findall(r'register_buffer\(\s*f?"([\w{}]*inv_freq)"', block)
            if name and buffers:
                names = tuple(buffer.replace("{layer_type}", "sliding_attention") for buffer in buffers)
                found[f"{file.parent.name}.{file.stem}", name[1]] = names
    return found


def test_every_class_that_holds_frequencies_is_rotary() -> None:
    assert len(classes()) > LEAST
    for (_, name), buffers in classes().items():
        module = type(name, (nn.Module,), {})()
        for buffer in buffers:
            module.register_buffer(buffer, torch.ones(4), persistent=False)
        assert is_rotary(module), name
        wanted = "sliding_attention" if "sliding_attention_inv_freq" in buffers else ""
        assert list(frequencies(module)) == [wanted], name


@pytest.mark.thorough  # 9 s: imports the modelling files of all architectures
def test_every_rotary_module_that_can_be_built_is_rotary() -> None:
    built = 0
    for where, name in classes():
        try:
            module = made(where, name)
        except (AttributeError, ImportError, NameError, TypeError):  # wants another configuration than its default
            continue
        built += 1
        assert is_rotary(module), name
        assert frequencies(module), name
    assert built > LEAST_BUILT


def made(where: str, name: str) -> nn.Module:
    """The module, from the default configuration that its signature names, or with 8 for every number it needs."""
    home = importlib.import_module(f"transformers.models.{where}")
    kind = getattr(home, name)
    parameters = inspect.signature(kind.__init__).parameters
    if "config" not in parameters:
        return kind(**{key: 8 for key, each in parameters.items() if key != "self" and each.default is each.empty})
    hint = parameters["config"].annotation
    if isinstance(hint, str):
        hint = getattr(home, hint.partition("|")[0].strip(' "'))
    with torch.device("meta"):
        return kind(next(iter(typing.get_args(hint)), hint)())


def test_what_learns_is_not_rotary() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("inv_freq", torch.ones(1))
    assert not is_rotary(module)


@pytest.mark.parametrize("place", ["op:matmul", "profile:matmul"])
def test_frequencies_of_each_kind_of_layer_are_left_alone(place: str) -> None:
    plan = build_plan(build("gemma3_text"), parse_noise(f"relative_gaussian @ {place}"))
    assert not any("rotary" in site.name for site in plan.sites)
    angles = {name: why for name, why in plan.excluded.items() if "rotary" in name}
    assert set(angles) == {f"model.rotary_emb:{kind}_attention_angle" for kind in ("sliding", "full")}
    assert all("op:rotary reaches it" in why for why in angles.values())


def test_frequencies_of_each_kind_of_layer_are_reached_one_by_one() -> None:
    model = build("gemma3_text")
    plan = build_plan(model, parse_noise("relative_gaussian @ op:rotary"))
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 0.05):
        model(**batch())
        counts = session.ledger.drain(0.05)
    assert {name: (count.calls, count.rows) for name, count in counts.items()} == {
        f"model.rotary_emb:{kind}_attention_angle": (1, REAL) for kind in ("sliding", "full")
    }
    assert all(count.changed for count in counts.values())


def test_positions_of_several_kinds_are_refused() -> None:
    model = build("qwen3_5_text")
    plan = build_plan(model, parse_noise("relative_gaussian @ op:rotary"))
    with (
        torch.no_grad(),
        NoiseSession(model, plan) as session,
        session.batch(ITEMS, [0] * 3, 0.05),
        pytest.raises(NoiseSpecError, match="several kinds"),
    ):
        model(**batch())
