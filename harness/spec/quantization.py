"""What of a model an evaluation quantizes, at every noise level: the short form, and the rules (standard library only).

``weights=mxfp4`` is W4A16, ``activations=nvfp4`` W16A4, ``weights=mxfp4,activations=mxfp8`` W4A8; a scale rule follows
the format after a colon. The long form is one noise specification or several:
``fake_quant(mxfp4) @ op:linear at:weight layers:2-5``.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.exceptions import NoiseSpecError
from harness.spec.errors import FakeQuant
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noises
from harness.text import nearest

PARTS = {"weights": "weight", "activations": "input"}
"""Word of the short form -> injection point. Activations are the inputs of the linears."""

NONE = "none"


def quantization(part: str, fmt: str, scale_rule: str | None = None, rounding: str = "nearest_even") -> NoiseSpec:
    """Return all linears with ``part`` (weights or activations) in the format ``fmt``; heads, routers and adapters
    stay."""
    if part not in PARTS:
        raise NoiseSpecError(f"unknown part {part!r} to quantize", nearest(part, PARTS))
    return NoiseSpec(FakeQuant(fmt, scale_rule, rounding), at=PARTS[part])


def parse_quantization(text: str) -> tuple[NoiseSpec, ...]:
    """Return the specifications of ``text``: ``PART=FORMAT[:RULE],...``, or noise specifications separated by ``;``.

    Raises :class:`NoiseSpecError` for what cannot be read and for what :func:`check_quantization` refuses.
    """
    if "(" in text or "@" in text:
        return check_quantization(parse_noises(text))
    specs = []
    for word in text.split(","):
        part, equals, rest = (piece.strip() for piece in word.partition("="))
        if not equals:
            raise NoiseSpecError(f"--quantize {text!r}", "it says what is quantized", f"write weights={word.strip()}")
        fmt, _, rule = (piece.strip() for piece in rest.partition(":"))
        specs.append(quantization(part, fmt, rule or None))
    return check_quantization(specs)


def check_quantization(specs: Sequence[NoiseSpec]) -> tuple[NoiseSpec, ...]:
    """Return ``specs`` in the order of their text, if all quantize weights or inputs in the forward pass at all
    times."""
    for spec in specs:
        if spec.error.recipe is None or spec.at not in PARTS.values():
            raise NoiseSpecError(
                f"quantization {spec}",
                "it is fake_quant at:weight or at:input; noise on results goes to --noise",
                "write for example weights=mxfp4",
            )
        if spec.backward or spec.phases or spec.seed or spec.tokens:
            raise NoiseSpecError(
                f"quantization {spec}",
                "it acts on all tokens in every forward pass",
                "drop when:, phase:, seed: and tokens:",
            )
    found = tuple(sorted(specs, key=str))
    if len(set(found)) < len(found):
        raise NoiseSpecError(f"quantization {'; '.join(map(str, found))}", "one of them is given twice", "drop one")
    return found


def quantization_text(specs: Sequence[NoiseSpec], stored: str | None = None) -> str:
    """Return one line for keys and reports: how the weights are ``stored``, if quantized, then the specifications; or
    ``none``."""
    return "; ".join([*([stored] if stored else []), *map(str, specs)]) or NONE
