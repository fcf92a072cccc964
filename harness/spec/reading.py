"""What a user writes for a noise and its levels: one line, several, or the path of a TOML file."""

from __future__ import annotations

from harness.exceptions import HarnessError
from harness.spec.evaluation import check_levels, default_levels, parse_levels
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noise, parse_noises
from harness.spec.toml_file import load_noises

TOML = ".toml"


def read_noises(text: str) -> tuple[NoiseSpec, ...]:
    """Return the specifications of ``text``: one or several separated by ``;``, or those of a ``.toml`` file.

    Raises :class:`HarnessError`.
    """
    return load_noises(text) if text.strip().endswith(TOML) else parse_noises(text)


def read_noise(text: str, levels: str | None = None) -> tuple[NoiseSpec, tuple[float, ...]]:
    """Return noise without a strength, and the levels: of ``levels``, else 0 and the strength that ``text`` gives.

    ``text`` is a specification or the path of a ``.toml`` file that holds exactly one. Raises :class:`HarnessError`.
    """
    noise = _one_noise(text)
    strength = noise.error.strength
    if strength is None or noise.level is None:
        return noise, default_levels(noise.error) if levels is None else parse_levels(levels, noise.error)
    if levels is not None:
        raise HarnessError(
            f"--noise {text!r} has a {strength} and --noise-levels {levels} gives others",
            f"the {strength} may come from one place only",
            "drop one of the two",
        )
    if noise.level == 0:
        raise HarnessError(f"--noise {text!r}", f"{strength} 0 changes nothing", f"give a {strength} above 0")
    return noise.without_level, check_levels((0.0, noise.level), noise.error)


def _one_noise(text: str) -> NoiseSpec:
    if not text.strip().endswith(TOML):
        return parse_noise(text)
    found = read_noises(text)
    if len(found) > 1:
        raise HarnessError(
            f"--noise {text!r} holds {len(found)} noise tables", "an evaluation runs one", "give a file with one"
        )
    return found[0]
