"""Tiny models of four architectures, and the laws of AQN that hold for each: mutants have to break one."""

from __future__ import annotations

import torch
import transformers

from harness.aqn.config import AqnConfig
from harness.aqn.holder import ModuleHolder
from harness.aqn.multipliers import Multipliers
from harness.aqn.schedule import Schedule
from harness.aqn.session import Aqn
from harness.aqn.targets import LAYERNORM, LINEAR, RMSNORM, Targets

SMALL = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
CONFIGS = {
    "qwen2": lambda: transformers.Qwen2Config(**SMALL, **HEADS),
    "llama": lambda: transformers.LlamaConfig(**SMALL, **HEADS),
    "mixtral": lambda: transformers.MixtralConfig(**SMALL, **HEADS, num_local_experts=2),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=64, n_embd=64, n_layer=3, n_head=2, n_positions=32),
}
NORMS_OF = {"qwen2": 7, "llama": 7, "mixtral": 3, "gpt2": 7}
LINEARS_OF = {"qwen2": 21, "llama": 21, "mixtral": 12, "gpt2": 12}


def model_of(name, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=dtype).eval()


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def config_of(kinds=(RMSNORM, LAYERNORM), sigma=0.05, **more):
    more.setdefault("schedule", Schedule(sigma, sigma / 10, 12, 4))
    return AqnConfig(targets=more.pop("targets", Targets(kinds)), **more)


def aqn_of(model, **more):
    return Aqn(ModuleHolder(model), config_of(**more))


# The laws. Each takes a fresh model; an AssertionError or an error of the harness breaks it.


def law_sigma_follows_the_schedule(model):
    aqn = aqn_of(model)
    found = [aqn.apply(step).sigma for step in range(13)]
    stage = [0.0] * 3 + [0.05] * 3 + [0.05 / 10**0.5] * 3 + [0.005] * 4
    assert torch.allclose(torch.tensor(found), torch.tensor(stage), rtol=1e-6)
    aqn.restore()


def law_restore_is_bit_exact(model):
    before = bits(model)
    aqn = aqn_of(model)
    for step in (3, 4, 7):
        aqn.apply(step)
        assert not same(bits(model), before)
    restored = aqn.restore()
    assert same(bits(model), before) and restored.restored and not restored.updated


def law_restore_keeps_an_update(model):
    aqn = aqn_of(model)
    aqn.apply(3)
    name, module = next((n, m) for n, m in model.named_modules() if "Norm" in type(m).__name__)
    with torch.no_grad():
        module.weight.fill_(0.75)
    restored = aqn.restore()
    assert restored.updated == (name,) and (module.weight == 0.75).all()
    assert aqn.apply(3).layers and aqn.restore().updated == () and (module.weight == 0.75).all()


def law_only_the_named_class_changes(model):
    before = bits(model)
    aqn_of(model, kinds=(RMSNORM, LAYERNORM)).apply(3)
    changed = {name for name, value in bits(model).items() if not torch.equal(value, before[name])}
    norms = {f"{n}.weight" for n, m in model.named_modules() if "Norm" in type(m).__name__}
    assert changed and changed <= norms


def law_multipliers_act(model):
    factors = Multipliers(1.0, {0: 2.0, 1: 0.0})
    found = aqn_of(model, multipliers=factors, kinds=(LINEAR,), sigma=0.002).apply(3)
    for layer in found.layers:
        wanted = {0: 2.0, 1: 0.0}.get(layer.layer, 1.0)
        assert abs(layer.achieved - 0.002 * wanted) <= 0.002 * wanted * 0.1


def law_dose_is_what_was_asked(model):
    before = bits(model)
    dose = aqn_of(model, kinds=(LINEAR,), sigma=0.005).apply(3)
    after = bits(model)
    for layer in dose.layers:
        change = after[f"{layer.name}.weight"] - before[f"{layer.name}.weight"]
        assert abs(float(change.std()) / 0.005 - 1) < 5 / (2 * change.numel()) ** 0.5
        assert abs(float(change.mean())) < 5 * 0.005 / change.numel() ** 0.5


def law_steps_and_layers_draw_anew(model):
    aqn = aqn_of(model, kinds=(LINEAR,), sigma=0.005)
    before = bits(model)
    changes = []
    for step in (3, 4):
        layers = aqn.apply(step).layers
        changes += [bits(model)[f"{each.name}.weight"] - before[f"{each.name}.weight"] for each in layers]
    alike = [c.flatten()[:2000] for c in changes]
    for number, one in enumerate(alike):
        for other in alike[:number]:
            size = min(one.numel(), other.numel())
            assert abs(float(torch.corrcoef(torch.stack([one[:size], other[:size]]))[0, 1])) < 0.2


def law_noise_does_not_add_up(model):
    one = aqn_of(model)
    for step in (3, 3, 4, 8, 5):
        one.apply(step)
    after = bits(model)
    one.restore()
    one.apply(5)
    assert same(bits(model), after)


def law_the_global_generator_is_untouched(model):
    state = torch.random.get_rng_state()
    with aqn_of(model).applied(3):
        pass
    assert torch.equal(state, torch.random.get_rng_state())


LAWS = {name.removeprefix("law_"): value for name, value in list(globals().items()) if name.startswith("law_")}
