"""A distribution as an installer would leave it, on the path: metadata with entry points, and its modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_distribution(folder: Path, name: str, points: Mapping[str, Mapping[str, str]], **modules: str) -> Path:
    """Write version 1.0 of ``name`` into ``folder`` and return that, for ``sys.path``.

    ``points`` is group -> name -> object; ``modules`` name -> source.
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{each} = {target}" for each, target in named.items())])
        for group, named in points.items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    return folder
