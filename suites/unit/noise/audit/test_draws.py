"""What the auditor says of draws: honest ones pass, each way to spoil them is found by its own words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.noise.audit.draw_checks import check_draws
from harness.noise.audit.draws import Draws
from harness.noise.replay.draws import Side, columns_of, counted, normal, row_stream
from harness.spec.errors import AbsoluteGaussian, ErrorModel, RelativeGaussian, Spike
from harness.spec.faults import FaultMix

pytestmark = pytest.mark.unit
SITES = ("layers.0.up", "layers.1.up", "layers.1.down")
OWNERS = [(f"item {row // 2}", row % 2) for row in range(16)]
TOKENS, WIDTH, LEVEL = 8, 64, 0.05
Spoil = Callable[[str, Tensor], Tensor]


def draws_of(site: str, items: Callable[[int], tuple[str, int]] = lambda row: OWNERS[row]) -> Tensor:
    """The draws of all rows at ``site``, (16, 8, 64)."""
    keys = np.stack([counted(row_stream(*items(row), "item"), range(TOKENS)) for row in range(len(OWNERS))])
    return normal(Side.of(keys).view(len(OWNERS), TOKENS, 1), Side.of(columns_of(site, WIDTH)).view(1, 1, -1))


def looked(
    spoil: Spoil = lambda site, z: z,
    dtype: torch.dtype = torch.float32,
    level: float = LEVEL,
    error: ErrorModel | None = None,
    scale: float = 1.0,
) -> list[str]:
    """The problems of four forwards over the same rows, whose draws are ``spoil`` (site, draws)."""
    model = error or RelativeGaussian()
    draws = Draws(model, level, SITES, lot=3)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        draws.begin(step, OWNERS, [TOKENS] * len(OWNERS))
        for site in SITES:
            exact = torch.randn(len(OWNERS), TOKENS, WIDTH, generator=generator).to(dtype)
            z = spoil(site, draws_of(site)) * scale
            size = exact.float() if isinstance(model, RelativeGaussian) else 1.0
            used = (exact.float() + size * (z * level)).to(dtype)
            draws.look(site, exact, used, torch.ones(exact.shape[:2], dtype=torch.bool))
    return check_draws(draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("error", [RelativeGaussian(), AbsoluteGaussian()])
def test_honest_draws_have_no_problem(dtype: torch.dtype, level: float, error: ErrorModel) -> None:
    assert looked(dtype=dtype, level=level, error=error) == []


def opposite(site: str, z: Tensor) -> Tensor:
    """Seed 1 is minus seed 0."""
    return torch.stack([z[0::2], -z[0::2]], 1).flatten(0, 1)


def silent_row(site: str, z: Tensor) -> Tensor:
    z[-1] = 0
    return z


SPOILT: dict[str, tuple[Spoil, str]] = {
    "signs": (lambda site, z: z.sign(), "fourth moment"),
    "bounded": (lambda site, z: torch.erf(z / 2**0.5) * 3**0.5, "fourth moment"),
    "halved": (lambda site, z: z / 2, "variance 0.25"),
    "shifted": (lambda site, z: z + 0.5, "mean 0.5"),
    "one site everywhere": (lambda site, z: draws_of("any"), "go with those of the site before it: correlation"),
    "one layer everywhere": (
        lambda site, z: draws_of(site.rpartition(".")[2]),
        "go with those of the site of its name in the layer before: correlation 0.9",
    ),
    "opposite seeds": (opposite, "go with those of another seed of its item: correlation -0.9"),
    "equal seeds": (
        lambda site, z: draws_of(site, lambda row: (OWNERS[row][0], 0)),
        "go with those of another seed of its item: correlation 0.9",
    ),
    "equal items": (
        lambda site, z: draws_of(site, lambda row: ("one", OWNERS[row][1])),
        "go with those of another item",
    ),
    "equal tokens": (lambda site, z: z[:, :1].expand_as(z), "go with those of the token before it: correlation"),
    "equal columns": (lambda site, z: z[..., :1].expand_as(z), "go with those of the column before it: correlation"),
    "a silent row": (silent_row, "rows as they were"),
    "by the row": (lambda site, z: draws_of(site, lambda row: (f"{OWNERS[row][0]}/{row}", OWNERS[row][1])), "keys do"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_draws_are_named(name: str) -> None:
    spoil, words = SPOILT[name]
    found = looked(spoil)
    assert any(words in problem for problem in found), found
    assert any("that the draws of their keys do not give" in problem for problem in found) or name == "a silent row"


def test_what_the_moments_cannot_show_the_keys_do() -> None:
    """Other seeds than named: draws of the right kind. Spikes have no moments to test."""
    (problem,) = looked(lambda site, z: draws_of(site, lambda row: (OWNERS[row][0], OWNERS[row][1] + 7)))
    assert problem.startswith("layers.0.up gave ") and problem.endswith("(and 2 more sites)")
    draws = Draws(Spike(), 0.1, SITES, lot=3)
    draws.begin(0, OWNERS, [TOKENS] * len(OWNERS))
    exact = torch.ones(len(OWNERS), TOKENS, WIDTH)
    draws.look(SITES[0], exact, exact, torch.ones(exact.shape[:2], dtype=torch.bool))
    (problem,) = check_draws(draws)
    assert "do not give" in problem


def test_what_is_not_perturbed_is_not_looked_at() -> None:
    draws = Draws(RelativeGaussian(), LEVEL, SITES)
    draws.begin(0, OWNERS, [TOKENS] * len(OWNERS))
    exact = torch.ones(len(OWNERS), TOKENS, WIDTH)
    draws.look("norm", exact, exact, torch.ones(exact.shape[:2], dtype=torch.bool))
    assert check_draws(draws) == [] and not draws.checked


@pytest.mark.parametrize("rare", [True, False])
def test_every_row_with_a_rare_fault_is_computed_again(rare: bool) -> None:
    """One infinity among thousands of rows, where a choice of eight would hardly meet it."""
    level = 1e-6 if rare else 0.5
    draws = Draws(FaultMix(), level, SITES, lot=3)
    draws.begin(0, OWNERS, [TOKENS] * len(OWNERS))
    exact = torch.ones(len(OWNERS), TOKENS, WIDTH)
    for row in range(len(OWNERS)):
        used = exact.clone()
        used[row, row % TOKENS, 5] = torch.inf
        draws.look(SITES[0], exact, used, torch.ones(exact.shape[:2], dtype=torch.bool))
    if rare:
        assert draws.wrong[SITES[0]] == len(OWNERS)
    assert draws.checked[SITES[0]] <= (8 + 1 if rare else 8) * WIDTH * len(OWNERS)
