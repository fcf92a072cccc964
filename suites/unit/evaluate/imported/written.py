"""Results as other programs write them: real files of lm-eval, Inspect, OpenAI's evals and NeMo Evaluator 0.2.8 (the
folders of the machine taken out of one command), and lines in the schema of these and the others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
LM_EVAL, INSPECT = DATA / "lm-eval-0.4.13", DATA / "inspect-0.3.285"
EVALS, NEMO = DATA / "evals-3.0.1", DATA / "nemo-evaluator-0.2.8"
STRICT = "exact_match,strict-match"


def samples(task: str = "arith_tiny", folder: Path = LM_EVAL) -> Path:
    """The samples of one task that lm-eval wrote."""
    (found,) = folder.glob(f"samples_{task}_*.jsonl")
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def lm_eval(folder: Path, scores: Sequence[int], model: str = "m", fault: str = "") -> Path:
    """A run of lm-eval in ``folder`` with these scores, hashes and means as it writes them; returns its samples."""
    rows = []
    for number, score in enumerate(scores):
        doc = {"question": f"What is {number} + 1?", "answer": str(number + 1)}
        text = {
            "doc_hash": json.dumps(doc, indent=2, ensure_ascii=False),
            "prompt_hash": doc["question"],
            "target_hash": doc["answer"],
        }
        hashes = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in text.items()}
        answer = doc["answer"] if score else "0"
        rows.append(
            {"doc_id": number, "doc": doc, "target": doc["answer"]}
            | {"arguments": {"gen_args_0": {"arg_0": doc["question"], "arg_1": {"until": ["\n"]}}}}
            | {"resps": [[answer]], "filtered_resps": [answer], "filter": "none", "metrics": ["exact_match"]}
            | {**hashes, "exact_match": float(score)}
        )
    date = "2026-11-29T10-00-00.000000"
    results = {
        "results": {"sums": {"alias": "sums", "exact_match,none": sum(scores) / len(scores)}},
        "configs": {"sums": {"output_type": "generate_until", "generation_kwargs": {"do_sample": False}}},
        "versions": {"sums": 1.0},
        "n-samples": {"sums": {"original": len(scores), "effective": len(scores)}},
        "config": {"model": "hf", "model_dtype": "torch.float32", "gen_kwargs": {}},
        "lm_eval_version": "0.4.13",
        "model_name": model,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    return write_lines(folder / f"samples_sums_{date}.jsonl", rows)


def copied(source: Path, folder: Path) -> Path:
    """A copy of the folder of ``source`` in ``folder``; returns the file in it."""
    shutil.copytree(source.parent, folder)
    return folder / source.name


def verl(path: Path, scores: Sequence[float], repeats: int = 1, **extra: Any) -> Path:
    rows = [
        {"input": f"user\n{n} + 1?", "output": f"#### {n + 1}", "gts": str(n + 1), "score": score, "step": 8} | extra
        for _ in range(repeats)
        for n, score in enumerate(scores)
    ]
    return write_lines(path, rows)


def nemo(path: Path, rewards: Sequence[float], repeats: int = 1) -> Path:
    rows = [
        {
            "problem_idx": n,
            "reward": reward,
            "repeat": repeat,
            "expected_answer": str(n),
            "model_response": f"It is {n}.",
        }
        | {"metadata": {"category": "even" if n % 2 == 0 else "odd"}}
        for n, reward in enumerate(rewards)
        for repeat in range(repeats)
    ]
    return write_lines(path, rows)


def openai(path: Path, right: Sequence[bool], ended: bool = True) -> Path:
    rows: list[dict[str, Any]] = [{"spec": {"eval_name": "sums.dev.v0", "completion_fns": ["m"], "split": "dev"}}]
    for n, correct in enumerate(right):
        own = {"run_id": "r", "event_id": n, "sample_id": f"sums.dev.{n}", "created_by": "", "created_at": "2026"}
        prompt = [{"role": "user", "content": f"{n} + 1?"}]
        rows.append({**own, "type": "sampling", "data": {"prompt": prompt, "sampled": [str(n + 1)]}})
        matched = {"correct": correct, "expected": str(n + 1), "picked": str(n + 1), "sampled": str(n + 1)}
        rows.append({**own, "type": "match", "data": matched})
    if ended:
        rows.insert(1, {"final_report": {"accuracy": sum(right) / len(right)}})
    return write_lines(path, rows)
