"""``harness lm-eval`` hands its arguments on, and says how to get the package."""

from __future__ import annotations

import sys
import types

import pytest

from harness.cli.main import main

pytestmark = pytest.mark.unit

MODULE = "harness.library.lm_eval_model"


def test_arguments_are_handed_on_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, ...]] = []
    module = types.ModuleType(MODULE)
    module.run_lm_eval = given.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    arguments = ["run", "--model", "harness", "--model_args", "a=1,b=x y", "--help", "-s"]
    with pytest.raises(SystemExit) as end:
        main(["lm-eval", *arguments])
    assert (end.value.code or 0, given) == (0, [tuple(arguments)])


def test_without_the_package_the_way_to_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "lm_eval"] + ["lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(SystemExit) as end:
        main(["lm-eval", "run", "--model", "harness"])
    assert end.value.code == 2
    assert "lm-eval is not installed" in capsys.readouterr().err
