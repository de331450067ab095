"""A digest of tensors says whether weights are, bit for bit, those that were written.

Safetensors files that this project writes carry it in their header (`seal`), which other readers
pass over.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEY = "fuselab"
"""What a safetensors header keeps ours under, as JSON: `digest` and, of a ViT alone, `config`."""


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Digests names, dtypes, shapes and bytes of tensors (32 hex characters), whatever their order,
    layout in memory and device.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seal(
    path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, object] | None = None
) -> None:
    """Writes into the header of a safetensors file the digest of the tensors that it was written
    from, and what a configuration would say of them. The same tensors give the same bytes.
    """
    record = {"digest": digest_of(tensors), **({"config": config} if config else {})}
    part = path.with_name(f"{path.name}.part")
    with path.open("rb") as old, part.open("wb") as new:
        (size,) = struct.unpack("<Q", old.read(8))
        header = json.loads(old.read(size))
        metadata = {**header.get("__metadata__", {}), KEY: json.dumps(record, sort_keys=True)}
        text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode()
        text += b" " * (-len(text) % 8)
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(old, new)
    part.replace(path)


def sealed(path: Path) -> dict[str, Any]:
    """Reads what `seal` wrote into a file's header; nothing where it is another kind of file."""
    with path.open("rb") as file:
        head = file.read(9)
        if head[5:] != b"\0\0\0{":
            return {}
        file.seek(8)
        try:
            header = json.loads(file.read(struct.unpack("<Q", head[:8])[0]))
            return dict(json.loads(header["__metadata__"][KEY]))
        except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
            return {}
