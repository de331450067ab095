"""How a library keeps one kind of text encoder: sizes, constants, names of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from architectures.frozen import SettingError

SIZES = {
    "text_width": "hidden_size",
    "text_layers": "num_hidden_layers",
    "text_heads": "num_attention_heads",
    "text_mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "vocabulary": "vocab_size",
}
"""Field of `Backbone`, or `vocabulary`, -> field of the configuration, as most name it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFormat:
    """What must be known to read a folder (or hub name) of one kind."""

    model_type: str
    """What the configuration says it is."""
    reader: str
    """Class of transformers that reads the encoder, and its MLM head where it has one."""
    constants: Mapping[str, object]
    """Field of the configuration -> the one value that our layers are built with."""
    roles: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """State dict of the reader -> tensors by role."""
    sizes: Mapping[str, str] = dataclasses.field(default_factory=lambda: SIZES)
    """Field of `Backbone`, or `vocabulary`, -> field of the configuration."""

    def check(self, config: Any, said: str) -> None:
        """Raises `SettingError`, whose message begins with `said`, where a configuration's layers
        are not ours.
        """
        for name, value in self.constants.items():
            if getattr(config, name) != value:
                raise SettingError(
                    f"{said}: {name} is {getattr(config, name)!r}, "
                    f"but our layers of a {self.model_type} are built with {value!r}"
                )

    def differing(self, config: Any, ours: Mapping[str, int], called: Mapping[str, str]) -> str:
        """Our sizes that a configuration does not have, in words; empty: it has them all.

        `called`: what a design calls a size that is not the backbone's.
        """
        theirs = {name: self.sizes[name] for name in ours}
        return "; ".join(
            f"{called.get(name, name)} is {ours[name]}, {their} there is {getattr(config, their)}"
            for name, their in theirs.items()
            if ours[name] != getattr(config, their)
        )
