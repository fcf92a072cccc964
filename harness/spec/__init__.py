"""What goes in: the noise specification and the evaluation specification (standard library only).

Scales and levels are fractions, 0.05 is 5 % relative noise; error models whose strength is in the unit of the
perturbed value say so.
"""

from harness.spec.engine import EngineOptions
from harness.spec.errors import ERROR_GROUP, ERROR_MODELS, ErrorModel, FakeQuant, RelativeGaussian, make_error
from harness.spec.evaluation import (
    ATTENTIONS,
    DEFAULT_BATCH,
    DTYPES,
    ENGINE_GROUP,
    ENGINES,
    SCORER_GROUP,
    SCORERS,
    TEMPLATE_DATE,
    EvalSpec,
    check_levels,
    default_levels,
    engine_names,
    parse_levels,
    scorer_names,
)
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noise, parse_noises
from harness.spec.operators import OPS, PROFILES, SCOPES
from harness.spec.quantization import parse_quantization, quantization, quantization_text
from harness.spec.selectors import print_noise
from harness.spec.toml_file import dump_noises, load_noises
from harness.text import nearest, number_text

__all__ = [
    "ATTENTIONS",
    "DEFAULT_BATCH",
    "DTYPES",
    "ENGINES",
    "ENGINE_GROUP",
    "ERROR_GROUP",
    "ERROR_MODELS",
    "OPS",
    "PROFILES",
    "SCOPES",
    "SCORERS",
    "SCORER_GROUP",
    "TEMPLATE_DATE",
    "EngineOptions",
    "ErrorModel",
    "EvalSpec",
    "FakeQuant",
    "NoiseSpec",
    "RelativeGaussian",
    "check_levels",
    "default_levels",
    "dump_noises",
    "engine_names",
    "load_noises",
    "make_error",
    "nearest",
    "number_text",
    "parse_levels",
    "parse_noise",
    "parse_noises",
    "parse_quantization",
    "print_noise",
    "quantization",
    "quantization_text",
    "scorer_names",
]
