"""Reads a member of a zip archive, also one compressed with Zstandard, which Python's own reader learns in 3.14."""

from __future__ import annotations

import importlib.util
import io
import struct
import zipfile
import zlib
from pathlib import Path

from harness.exceptions import HarnessError

ZSTANDARD = 93
_HEADER, _SIGNATURE = struct.Struct("<4s22xHH"), b"PK\x03\x04"


def member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of ``name`` in the open ``archive``, which lies at ``path``.

    Raises :class:`zipfile.BadZipFile` for a damaged one and :class:`HarnessError` where the package zstandard is
    needed and not installed.
    """
    info = archive.getinfo(name)
    if info.compress_type != ZSTANDARD:
        return archive.read(name)
    if importlib.util.find_spec("zstandard") is None:
        raise HarnessError(
            f"file {path}",
            "its samples are compressed with Zstandard, and the package zstandard is not installed",
            "pip install zstandard, or convert it: inspect log convert --to json",
        )
    import zstandard

    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, named, extra = _HEADER.unpack(file.read(_HEADER.size))
        if signature != _SIGNATURE:
            raise zipfile.BadZipFile(f"no member {name} at its place")
        file.seek(named + extra, io.SEEK_CUR)
        packed = file.read(info.compress_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            content = reader.read()
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(f"{name}: {error}") from None
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"bad checksum of {name}")
    return bytes(content)
