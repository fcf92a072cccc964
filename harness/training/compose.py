"""Puts rendered settings into the real configuration of verl: composed by Hydra, with every key known."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from harness.exceptions import HarnessError
from harness.text import nearest
from harness.training.layers import Setting
from harness.training.render import ENGINE
from harness.training.verl_source import fields_of, verl_folder

FREE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "actor_rollout_ref.model.override_config": ("attn_implementation", "attention_dropout"),
        "actor_rollout_ref.actor.fsdp_config.mixed_precision": ("param_dtype", "reduce_dtype", "buffer_dtype"),
        "actor_rollout_ref.ref.fsdp_config.mixed_precision": ("param_dtype", "reduce_dtype", "buffer_dtype"),
        "actor_rollout_ref.rollout.engine_kwargs.vllm": ("worker_extension_cls", "additional_config"),
        "reward.reward_kwargs": ("max_resp_len", "overlong_buffer_cfg"),
        "reward.reward_kwargs.overlong_buffer_cfg": ("enable", "len", "penalty_factor", "log"),
        "ray_kwargs.ray_init": ("num_gpus", "include_dashboard", "object_store_memory", "_temp_dir", "address"),
    }
)
"""Tables that verl hands on as they are -> the keys that their reader (transformers, torch, vLLM, Ray, the reward
manager) knows."""


@dataclass(frozen=True)
class Composed:
    """``overrides`` as verl's command line takes them, and verl's whole configuration with them (plain data)."""

    overrides: tuple[str, ...]
    config: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """Return the value of a dotted ``key``. Raises KeyError."""
        return _at(self.config, key)


def compose(settings: Mapping[str, Setting]) -> Composed:
    """Return verl's configuration under ``settings``.

    Raises :class:`HarnessError` for a key that neither verl's files nor its dataclasses know, for values that Hydra
    refuses, and where the composed value is not the one asked for.
    """
    engine = str(settings.get(ENGINE, "dp"))
    rest = {key: value for key, value in settings.items() if key != ENGINE}
    plain, names = _plain(engine)
    overrides = [f"{_plus(names, key)}{key}={_text(value)}" for key, value in rest.items()]
    config = _with(plain, overrides)
    for key, value in rest.items():
        found = _at(config, key)
        if found != value:
            raise HarnessError(f"{key} = {value!r}", f"verl's configuration holds {found!r} instead", "report it")
    return Composed(tuple([f"{ENGINE}={engine}"] if engine != "dp" else []) + tuple(overrides), config)


@cache
def _plain(engine: str) -> tuple[Any, Mapping[str, Any]]:
    """Return verl's own configuration with the engine ``engine``, as Hydra's object and as plain data."""
    import hydra
    from omegaconf import OmegaConf

    folder = verl_folder() / "trainer" / "config"
    with _refusals(), hydra.initialize_config_dir(str(folder), version_base=None):
        config = hydra.compose("ppo_trainer", [f"{ENGINE}={engine}"] if engine != "dp" else [])
    return config, _container(OmegaConf.to_container(config, resolve=False))


def _with(plain: Any, overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return ``plain`` with ``overrides``, parsed by Hydra's own grammar and merged as Hydra does; composing anew takes
    a second each time."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf, open_dict

    with _refusals():
        config = copy.deepcopy(plain)
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            with open_dict(config) if override.is_add() else nullcontext():
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return _container(OmegaConf.to_container(config, resolve=False))


@contextmanager
def _refusals() -> Iterator[None]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise HarnessError("verl's configuration", str(error), "correct the recipe") from None


def _container(found: Any) -> Mapping[str, Any]:
    assert isinstance(found, dict)
    return found


def _plus(config: Mapping[str, Any], key: str) -> str:
    """Return what stands before ``key`` in an override: nothing where verl's files have it, ``+`` where only verl's
    dataclasses or the reader of a free table know it."""
    parent, _, name = key.rpartition(".")
    try:
        _at(config, key)
    except KeyError:
        pass
    else:
        return ""
    known = tuple(_known_below(config, parent))
    if name not in known:
        raise HarnessError(f"verl setting {key!r}", "the installed verl does not know it", nearest(name, known))
    return "+"


def _known_below(config: Mapping[str, Any], parent: str) -> Iterator[str]:
    """Yield the names that may stand under ``parent``."""
    yield from FREE.get(parent, ())
    try:
        table = _at(config, parent) if parent else config
    except KeyError:
        return
    if isinstance(table, Mapping):
        yield from map(str, table)
        if "_target_" in table:
            yield from fields_of(str(table["_target_"]))


def _at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise KeyError(key)
        found = found[part]
    return found


def _text(value: Setting) -> str:
    """Return ``value`` in Hydra's grammar: quoted text, lists of it, null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'") if value.endswith("\\") or "'" in value else value
        return f"'{escaped}'"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value)
