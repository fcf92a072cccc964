"""A worker under ``HARNESS_NOISE``: calls models, forks, and writes what it saw as lines of JSON."""

import harness  # noqa: I001 - first, as a worker imports it: everything below happens under its noise

import json
import os
import sys

import torch

from harness.noise import switch
from harness.testing import tiny_model

IDS = torch.arange(6)[None]
MASK = torch.tensor([[0, 1, 1, 1, 1, 1]])


def counted() -> dict[str, tuple[int, int, int]]:
    """Label -> (calls, rows, changed) of everything so far."""
    return {count.label: (count.calls, count.rows, count.changed) for count in switch.counts()}


def say(**found: object) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps({"pid": os.getpid(), **found}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Calls a model for the first time, again, for training and to generate; forks twice."""
    assert harness.__doc__
    model = tiny_model()
    state = torch.random.get_rng_state()
    with torch.no_grad():
        logits = [model(input_ids=IDS, attention_mask=MASK).logits]
        first = counted()
        logits.append(model(input_ids=IDS, attention_mask=MASK).logits)
    twice, rng_kept = counted(), torch.equal(state, torch.random.get_rng_state())
    model(input_ids=IDS, labels=IDS).loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    trained = counted()
    say(
        first=first,
        twice=twice,
        trained=trained,
        rng_kept=rng_kept,
        draws=[tensor.double().sum().item() for tensor in (*logits, *gradients)],
        generated=model.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0).tolist(),
        sessions=len(switch.sessions()),
        calls=sum(calls for calls, _, _ in counted().values()),
    )
    child = os.fork()
    if not child:
        model(IDS)
        say(calls=sum(calls for calls, _, _ in counted().values()))
        return
    os.waitpid(child, 0)
    silent = os.fork()
    if silent:
        os.waitpid(silent, 0)


if __name__ == "__main__":
    main()
