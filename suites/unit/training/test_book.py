"""Where recipes come from: names and aliases, bases, profiles, files of users; and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.claims.load import load_registry
from harness.exceptions import HarnessError
from harness.training.book import GPU, PROFILES, TINY, aliases, find_recipe, load_recipe, recipe_names

NAMED = [
    "E2",
    "E3",
    "E3b",
    "E4",
    "E4b",
    "E4c",
    "E4d",
    "E5",
    "E5a",
    "E5b",
    "E5c",
    "E5d",
    "E6",
    "E7a",
    "E7b",
    "E7c",
    "E8a",
    "E8b",
    "E8c",
    "E8d",
    "E8e",
    "E8f",
    "E9a",
    "E9b",
    "1A",
    "1B",
    "1C",
    "1D",
    "1E",
    "E3a",
    "E3b-dapo",
    "E4a",
    "E4b-dapo",
    "E8a-dapo",
    "E5a-lora",
    "E5b-lora",
    "E6a",
    "E6b",
    "E7a-lora",
    "E3a-2ep",
    "E6b-2ep",
    "E8a-2ep",
    "E6b-qerl",
    "E12-qerl",
    "E10a",
    "E10c",
    "E10c-16",
    "E10c-128",
    "E11",
    "E12",
    "E13",
    "E14",
    "test-2",
    "test-3a",
    "test-3b",
    "test-4a",
    "test-2-dropout",
    "test-2-weight-decay",
    "E5b-hw",
]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_recipe_loads_and_says_what_it_is(profile: str) -> None:
    for name in recipe_names():
        recipe = load_recipe(name, profile)
        assert (recipe.name, recipe.profile) == (name, profile)
        assert recipe.title and recipe.label and recipe.source != "of its own"
        assert recipe.machine.platform == {GPU: "cuda", TINY: "cpu"}[profile]


def test_every_experiment_that_the_work_names_is_there() -> None:
    for name in NAMED:
        assert find_recipe(name).is_file()
    assert set(aliases().values()) <= set(recipe_names())
    assert not set(aliases()) & set(recipe_names())


def test_plain_ids_mean_the_operator_noise_experiments() -> None:
    assert load_recipe("E5b").name == load_recipe("e5b-HW").name == "E5b-hw"
    assert load_recipe("E7a").name == "E7a-7b"


def test_published_ids_are_those_of_the_registry() -> None:
    known = load_registry().experiments
    repeated = {each for name in recipe_names() for each in load_recipe(name).published}
    assert repeated <= set(known)
    trained = {
        name
        for name, experiment in known.items()
        if experiment.section in ("1.2", "1.3", "1.5", "1.6", "1.7", "1.8", "1.9") and name != "base-model"
    }
    left_out = {"E7c-7B-first", "freeze-router", "E5a-LoRA-broken", "E13e", "E13f", "E14c", "E13k-v2-first"}
    assert trained - repeated - left_out == set()


def test_a_users_recipe_says_only_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "E5"\ntitle = "mine"\n[run]\nsteps = 7\n[tiny.run]\nsave_every = 7\n')
    recipe = load_recipe(str(file))
    assert (recipe.total_steps, recipe.run.save_every, recipe.title, recipe.published) == (7, 7, "mine", ())
    assert recipe.noise == load_recipe("E5").noise
    again = tmp_path / "again.toml"
    again.write_text('base = "mine.toml"\ntitle = "again"\nnoise = false\n')
    assert load_recipe(str(again)).noise is None


def test_changes_come_last() -> None:
    recipe = load_recipe("E5", GPU, {"model": {"path": "elsewhere"}, "run": {"seed": 3}})
    assert (recipe.model.path, recipe.run.seed) == ("elsewhere", 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "E5x"\ntitle = "a"', "did you mean"),
        ('base = "E5"\ntitle = "a"\n[run]\nepoch = 2', r"\[run\]: unknown key 'epoch'.*did you mean 'epochs'"),
        ('base = "E5"\ntitle = "a"\n[nois]\nspec = "x"', "did you mean 'noise'"),
        ('base = "E5"\ntitle = "a"\nname = "b"', "the name is not said in the file"),
        ('base = "mine.toml"\ntitle = "a"', "come back to mine"),
        ('base = 3\ntitle = "a"', "name of another recipe"),
        ('base = "E5"\ntitle = "a"\ntiny = 3', "it is a table"),
        ('base = "E5"', "no title"),
        ('base = "E5"\ntitle = "a"\n[noise]\nspec = "relative_gausian(0.05)"', "did you mean"),
        ("base = ", "not valid TOML"),
        ('base = "aliases"\ntitle = "a"', "none of this name"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(HarnessError, match=words) as caught:
        load_recipe(str(file))
    assert "\n" not in str(caught.value)


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(HarnessError, match="did you mean 'E13h'"):
        load_recipe("E13hh")
    with pytest.raises(HarnessError, match="did you mean 'tiny'"):
        load_recipe("E5", "tyni")
    with pytest.raises(HarnessError, match="check the path"):
        load_recipe("absent.toml")


def test_reading_recipes_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.training.book import load_recipe; load_recipe('E13l', 'gpu').effective(28);"
        "print([name for name in ('torch', 'verl', 'ray', 'vllm', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_come_as_people_sort_them() -> None:
    names = recipe_names()
    for earlier, later in (("E2", "E10a"), ("E5b-hw", "E5c-lower"), ("E13a-mx", "E13b"), ("E10c-64", "E10c-128")):
        assert names.index(earlier) < names.index(later)
