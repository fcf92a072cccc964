"""The extras, the two files of versions and the doctor's commands are about one set of packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.doctor.stack import COMPANIONS, CUDA_STACK, QUEUE_SETUP, SETUP, SETUP_FULL, TWINS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, Requirement]:
    """Canonical name -> pin, of a file of versions."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = {canonicalize_name(each.name): each for each in parsed}
    assert len(found) == len(parsed), f"{name} names a package twice"
    return found


BASE, FULL = pins("constraints.txt"), pins("constraints-full.txt")


def version(of: Requirement) -> str:
    match = re.fullmatch(r"==([^,*]+)", str(of.specifier))
    assert match, f"{of} is no exact pin"
    return match[1]


def test_every_line_is_one_exact_version_without_an_address() -> None:
    assert len(BASE) > 70 and len(FULL) > 140
    assert all(version(each) and each.url is None for each in (*BASE.values(), *FULL.values()))


def test_the_two_files_have_only_torch_in_common_and_agree_on_it() -> None:
    assert {*BASE} & {*FULL} == {"torch"}
    assert version(FULL["torch"]) == f"{version(BASE['torch'])}+cpu"


def test_what_arrives_broken_is_not_in_the_set() -> None:
    assert not {*COMPANIONS, *TWINS} & {*BASE, *FULL}
    assert {*TWINS.values()} <= {*BASE}
    assert not [name for name in FULL if name.startswith(("nvidia", "cuda"))]


@pytest.mark.parametrize("extra", ["vllm", "verl"])
def test_the_extras_for_cpus_name_the_versions_of_the_set(extra: str) -> None:
    for text in EXTRAS[extra]:
        wanted = Requirement(text)
        pin = {**FULL, **BASE}[canonicalize_name(wanted.name)]
        assert version(wanted) == version(pin)


def test_both_stacks_fit_what_the_package_itself_wants() -> None:
    own = {canonicalize_name(each.name): each for each in map(Requirement, PROJECT["dependencies"])}
    for text in (*EXTRAS["vllm"], *EXTRAS["verl"], *EXTRAS["vllm-cuda"]):
        wanted = Requirement(text)
        if (mine := own.get(canonicalize_name(wanted.name))) is not None:
            assert mine.specifier.contains(version(wanted)), f"{mine} and {wanted}"
    for name, mine in own.items():
        assert mine.specifier.contains(version(BASE[name])), f"{mine} and {BASE[name]}"


def test_the_commands_of_the_doctor_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in (SETUP, SETUP_FULL):
        assert f"\n{command.split()[-1]}:" in makefile
    extra = re.search(r"\[([\w-]+)\]", CUDA_STACK)
    assert extra and extra[1] in EXTRAS
    assert QUEUE_SETUP.split()[-1] == str(FULL["transferqueue"])


def test_setup_full_removes_what_arrives_broken_and_checks() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("$(FULL_STAMP): ")[2].partition("\n\n")[0]
    removal = next(line for line in recipe.splitlines() if "uninstall" in line)
    assert {*COMPANIONS} <= {*removal.split()}
    assert "harness doctor $(FULL)" in recipe and recipe.rstrip().endswith("touch $@")
