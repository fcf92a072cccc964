"""The manifest: what a number depends on and where it came from."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from harness.runs import manifest as module
from harness.runs.manifest import build_manifest, digest, environment

pytestmark = pytest.mark.unit


def test_a_digest_is_the_beginning_of_sha256() -> None:
    assert digest("caf\u00e9") == hashlib.sha256("caf\u00e9".encode()).hexdigest()[:16]


def test_a_manifest_keeps_what_it_is_given_apart() -> None:
    identity, key = {"weights": "w", "items": ["a"]}, {"task": "arith"}
    found = build_manifest("evaluation", identity, key, {"plan": {"sites": []}, "checkpoint": None})
    assert found["schema_version"] == 3
    assert (found["kind"], found["identity"], found["measurement_key"]) == ("evaluation", identity, key)
    assert (found["plan"], found["checkpoint"]) == ({"sites": []}, None)
    assert set(found["environment"]) == {"python", "packages", "machine", "processor", "cores", "git_commit"}
    key["task"] = "changed later"
    assert found["measurement_key"] == {"task": "arith"}


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
