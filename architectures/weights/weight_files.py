"""Files and folders of weights are opened here, none of which can run code; of others is said what
they seem to be.

Contents decide, never a file's ending: torch's archives and old pickles by `weights_only`,
safetensors, and folders with a config.json beside either. The digest of what is inside stands in a
run's key for the path.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures.frozen import SettingError, path_named
from architectures.weights.digests import digest_of, sealed

VERSION = b"2"
"""Raised when the same files give other weights: it is in their digest, and so in every key."""
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Of a folder, the first that is there; each may be an index of parts, `NAME.index.json`."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files of transformers that tell what a model was fed; the newer one has more than pictures."""
WRAPPERS = ("model", "state_dict")
"""Keys under which training scripts keep the weights (ALBEF and DeiT the first, timm the other)."""

BEGINNINGS = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself; run `git lfs pull`",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"\x89HDF": "HDF5, as TensorFlow and Keras write weights; take the PyTorch weights",
    b"GGUF": "GGUF, weights for llama.cpp; take the PyTorch weights",
    b"<": "a web page or an XML error, not weights; the download went wrong, do it again",
    b"{": "JSON text, not weights; give the file of the weights or its whole folder",
}
"""First bytes of a file -> what it seems to be and what to do."""
NEIGHBOURS = {
    r"^tf_model\.h5$|\.ckpt\.index$|\.ckpt\.meta$|^saved_model\.pb$": (
        "TensorFlow weights; take the PyTorch weights of the same model, or convert them with "
        "transformers 4 (`from_pretrained(folder, from_tf=True).save_pretrained(new_folder)`)"
    ),
    r"^flax_model\.msgpack$": "Flax weights; take the PyTorch weights of the same model",
    r"^adapter_model\.": "an adapter (LoRA) without its model; merge it into the model first",
    r"^(weights|checkpoint)\.pt$": "a fuselab run; write its design with `fuselab export` first",
    r"\.onnx$": "an ONNX model; take the PyTorch weights of the same model",
}
"""Files of a folder without weights -> what it holds instead and what to do."""


def configuration(folder: Path) -> dict[str, Any]:
    """Reads the config.json of a folder. Raises `SettingError` where it has none."""
    path = folder / CONFIG
    if not path.is_file():
        raise SettingError(
            f"{folder}: no configuration found ({CONFIG}); give the folder of a model as "
            "`save_pretrained` writes it, or a file of weights"
        )
    return json_of(path)


def json_of(path: Path) -> dict[str, Any]:
    """Reads a configuration. Raises `SettingError` where a file holds none."""
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise SettingError(f"{path} is no JSON ({error}); download it again") from None
    if not isinstance(config, dict):
        raise SettingError(f"{path} is no configuration of a model, but a {type(config).__name__}")
    return config


def open_folder(folder: Path) -> dict[str, Tensor]:
    """Reads the state dict of a folder of transformers or timm.

    Raises `SettingError` that says what the folder seems to hold instead and what to do.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return open_file(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _parts(folder / f"{name}.index.json")
    there = sorted(path.name for path in folder.iterdir())
    for pattern, seems in NEIGHBOURS.items():
        if any(re.search(pattern, name) for name in there):
            raise SettingError(f"{folder} holds {seems}")
    raise SettingError(
        f"{folder} has no weights: neither {' nor '.join(WEIGHTS)}; it holds {', '.join(there)}"
    )


def open_file(path: Path) -> dict[str, Tensor]:
    """Reads the state dict of a file.

    Raises `SettingError` that says what else it seems to be.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise SettingError(f"{path} is empty; the download or the copy went wrong, do it again")
    if head[5:9] == b"\0\0\0{":  # its length comes first, which may look like any text
        return _safetensors(path, struct.unpack("<Q", head[:8])[0])
    for beginning, seems in BEGINNINGS.items():
        if head.lstrip().startswith(beginning):
            raise SettingError(f"{path} is {seems}")
    if head[257:262] == b"ustar":
        raise SettingError(f"{path} is a tar archive; unpack it and give what is inside")
    if head.startswith(b"PK"):
        _check_archive(path)
    elif not head.startswith(b"\x80"):  # what every pickle begins with
        raise SettingError(
            f"{path} is neither a checkpoint of PyTorch nor safetensors; take the PyTorch weights"
        )
    return _state(path, _unpickled(path))


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises `SettingError` that names the weights that are no numbers."""
    wrong = [
        role
        for role, x in tensors.items()
        if x.is_floating_point() and not bool(x.isfinite().all())
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise SettingError(
            f"it holds NaN or infinite numbers in {', '.join(wrong[:8])}{more}; the training that "
            "wrote it diverged, or the file is damaged: take another"
        )


def content(source: str) -> str:
    """Digests a file of weights, or configuration and weights of a folder (16 hex characters);
    empty where there is none of the two, as for a name on a hub.
    """
    files = state(path_named(source))
    digest = hashlib.blake2b(VERSION, digest_size=8)
    for file in files:
        digest.update(_digest_once(*file))
    return digest.hexdigest() if files else ""


def state(path: Path) -> tuple[tuple[Path, int, int], ...]:
    """Lists the files that a source of weights consists of, with size (bytes) and time of the last
    change (ns).
    """
    files = {path}
    if not path.is_file():
        names = (CONFIG, *PROCESSORS, "*.index.json", "*.safetensors", "*.bin")
        files = {file for name in names for file in path.glob(name)}
    elif path.name in WEIGHTS:  # what lies beside it tells how it is read
        files |= {file for name in (CONFIG, *PROCESSORS) for file in path.parent.glob(name)}
    stats = [(file.resolve(), file.stat()) for file in sorted(files)]
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


@functools.lru_cache(maxsize=64)
def _digest_once(file: Path, size: int, changed: int) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()


def _parts(index: Path) -> dict[str, Tensor]:
    """Reads the weights that an index spreads over several files of its folder."""
    try:
        files: dict[str, str] = json.loads(index.read_text())["weight_map"]
        names = sorted(set(files.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingError(f"{index} is no index of weights; download it again") from None
    tensors: dict[str, Tensor] = {}
    for name in names:
        part = index.parent / name
        if Path(name).name != name or not part.is_file():
            raise SettingError(f"{index} names {name}, which is not beside it; download it too")
        tensors |= open_file(part)
    if absent := sorted(files.keys() - tensors.keys()):
        raise SettingError(f"{index} names weights that no part holds: {', '.join(absent[:8])}")
    return tensors


def _safetensors(path: Path, header: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        short = 8 + header > path.stat().st_size
        seems = "its header is cut off" if short else str(error)
        raise SettingError(f"{path} is damaged or incomplete ({seems}); get it again") from None
    written = sealed(path).get("digest")
    if written and digest_of(tensors) != written:
        raise SettingError(
            f"{path} is damaged: its weights are not those that fuselab wrote there; delete them "
            "and let fuselab make them again"
        )
    return tensors


def _check_archive(path: Path) -> None:
    """Raises `SettingError` where a zip archive is none that `torch.save` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
    except zipfile.BadZipFile:
        raise SettingError(
            f"{path} is incomplete: it begins as a checkpoint of PyTorch and has no end "
            f"({path.stat().st_size} bytes); get it again"
        ) from None
    if any(name.endswith("constants.pkl") for name in names):
        raise SettingError(f"{path} is a TorchScript program; give the state dict of the model")
    if not any(name.endswith("/data.pkl") for name in names):
        seems = (
            "arrays of NumPy" if any(n.endswith(".npy") for n in names) else ", ".join(names[:4])
        )
        raise SettingError(f"{path} is a zip archive, but no checkpoint; it holds {seems}")


def _unpickled(path: Path) -> Any:
    try:
        # Opened here, since torch takes a file named .safetensors for one whatever is in it.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what is wrong is raised, or read all the same
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise SettingError(
                f"{path} is damaged, or a pickle that is no checkpoint; get it again"
            ) from None
        raise SettingError(
            f"{path} holds objects besides tensors ({named[1]}) and opening it could run code; "
            "whoever trusts it saves its weights alone: torch.save(torch.load(FILE, "
            "weights_only=False)['model'], NEW), with the key that they are under"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, struct.error) as error:
        reason = str(error).partition("\n")[0]
        raise SettingError(f"{path} is damaged or incomplete ({reason}); get it again") from None


def _state(path: Path, content: Any) -> dict[str, Tensor]:
    """Takes the state dict out of what a file held, without what training keeps beside it."""
    if not isinstance(content, Mapping):
        raise SettingError(
            f"{path} holds a {type(content).__name__}, not the state dict of a model"
        )
    if "pytorch-lightning_version" in content:
        raise SettingError(
            f"{path} is a Lightning checkpoint, whose names are those of its training script; save "
            "the state dict of the model inside it, by the model's own names"
        )
    if content.keys() >= {"state", "param_groups"}:
        raise SettingError(f"{path} is the state of an optimizer; give the weights of the model")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        held = f"also {', '.join(others[:8])}" if others else "nothing"
        raise SettingError(
            f"{path} is no state dict, which holds tensors only: it holds {held}; save the state "
            "dict of the model alone, or under the key 'model' or 'state_dict'"
        )
    if all(name.startswith("module.") for name in content):  # trained on several devices
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)
