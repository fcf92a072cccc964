"""The manifest: what a number depends on and where it came from."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import StoreError
from harness.runs import machine as module
from harness.runs.folder import read_manifest
from harness.runs.machine import environment
from harness.runs.manifest import (
    EvaluationManifest,
    ExternalIdentity,
    ExternalManifest,
    Manifest,
    QuantizedPart,
    QuantizedSite,
    ScanManifest,
    checksum,
    digest,
    parse_manifest,
)

pytestmark = pytest.mark.unit


def test_a_digest_is_the_beginning_of_sha256() -> None:
    assert digest("caf\u00e9") == hashlib.sha256("caf\u00e9".encode()).hexdigest()[:16]


@pytest.fixture
def manifest(make_run: Any) -> EvaluationManifest:
    """One with every field that may be there."""
    hub = {"checkpoint": {"id": "org/name", "revision": "0" * 40}}
    plain = make_run.manifest(["i0", "i1"], [0.0, 0.05], 2, settings="s1", early_stop={"share": 0.2}, hub=hub)
    part = QuantizedPart("fake_quant @ at:weight", "weight", (QuantizedSite("up", 12),), {"lm_head": "kept"})
    return replace(
        plain,
        device="cpu",
        training={"seed": 3},
        quantization=(part,),
        floor=0.1,
        clusters={"i0": "a", "i1": "a"},
        groups={"i0": "g"},
        budget={"seconds": 60.0},
    )


def written(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    """Its JSON with ``changes`` (None: without the field) and a checksum that fits."""
    data = json.loads(json.dumps({**manifest.to_json(), **changes}))
    kept = {name: value for name, value in data.items() if name not in changes or value is not None}
    return kept | {"sha256": checksum(kept)}


def test_what_is_written_comes_back(manifest: EvaluationManifest) -> None:
    data = json.loads(json.dumps(manifest.to_json()))
    assert set(data) == {f.name for f in fields(manifest)} | {"kind"}
    assert data["schema_version"] == 4 and data["kind"] == "evaluation"
    found = parse_manifest(data)
    assert found == manifest and found.digest == data["sha256"] == checksum(data)
    assert found.to_json() == data


def test_other_kinds_come_back(manifest: EvaluationManifest) -> None:
    key, here = {"task": "arith"}, {"python": "3"}
    external = ExternalManifest(
        identity=ExternalIdentity("c1", key), measurement_key=key, environment=here, completions="a.jsonl"
    )
    scan = ScanManifest(identity={"settings": {"formats": ["mxfp4"]}}, measurement_key={}, environment=here)
    for each in (external, scan):
        assert parse_manifest(written(each)) == each


def test_runs_of_older_versions_are_read(manifest: EvaluationManifest) -> None:
    """They have no code, coverage, floor, replays, and before that no device, training and quantization."""
    younger = ("code", "coverage", "floor", "replay", "clusters", "device", "training", "quantization")
    data = written(manifest, **dict.fromkeys(younger), schema_version=2)
    del data["identity"]["settings"], data["identity"]["early_stop"]
    data["sha256"] = checksum(data)
    found = parse_manifest(data)
    assert isinstance(found, EvaluationManifest) and not found.current and found.digest == data["sha256"]
    assert (found.code, found.coverage, found.replay, found.floor, found.quantization) == (None, None, None, None, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(kind="eval"), "kind = 'eval'; it is one of evaluation, external, scan"),
        (lambda data: data.pop("kind"), "no kind; it is needed"),
        (lambda data: data.update(devise="cpu"), "unknown key 'devise'; nothing reads it; did you mean 'device'?"),
        (lambda data: data.pop("plan"), "no plan; it is needed"),
        (lambda data: data["plan"]["sites"][1].pop("columns"), "[plan.sites[1]]: no columns; it is needed"),
        (
            lambda data: data["plan"]["sites"][0].update(columns="40"),
            "[plan.sites[0]]: columns = '40'; it must be a",
        ),
        (lambda data: data["plan"].update(sites={}), "[plan]: sites = {}; it must be a list"),
        (lambda data: data["identity"].update(noise_seeds=True), "[identity]: noise_seeds = True; it must be a whole"),
        (lambda data: data["identity"].update(levels=[0, "0.1"]), "[identity]: levels[1] = '0.1'; it must be a number"),
        (lambda data: data["identity"].update(positive_control=1), "positive_control = 1; it must be true or false"),
        (lambda data: data["identity"].update(seeds=3), "[identity]: unknown key 'seeds'"),
        (lambda data: data["measurement_key"].update(task=None), "[measurement_key]: task = None; it must be a text"),
        (lambda data: data.update(coverage=[]), "[coverage]: []; it must be a table"),
        (lambda data: data["quantization"][0]["sites"][0].update(name=7), "[quantization[0].sites[0]]: name = 7"),
        (lambda data: data["spec"].update(items=9), "it does not fit the content"),
    ],
)
def test_what_is_unknown_missing_or_of_another_type_is_named(
    manifest: EvaluationManifest, tmp_path: Path, refusal: Callable[..., str], change: Any, words: str
) -> None:
    data = written(manifest)
    change(data)
    if "does not fit" not in words:
        data["sha256"] = checksum(data)
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    text = refusal(read_manifest, tmp_path, kind=StoreError)
    assert words in text and text.startswith(f"run {tmp_path}, manifest.json") and text.count(";") >= 2


def test_the_environment_names_versions_and_hardware() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["machine"] == platform.machine()
    assert found["cores"] >= 1
    for name in ("torch", "transformers", "numpy", "scipy", "robustness-harness"):
        assert found["packages"][name] == metadata.version(name)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-at-all",))
    assert environment()["packages"] == {"no-such-package-at-all": None}


def test_the_commit_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["git_commit"] is None
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert environment()["git_commit"] == head
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None
