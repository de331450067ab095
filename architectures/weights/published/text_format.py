"""A `TextFormat` tells how transformers keeps one kind of text encoder: sizes, constants, names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from pydantic import JsonValue
from torch import Tensor

from architectures.weights.published.format import Config, constant

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
    """A text format says how a folder (or hub name) of one kind is read and written."""

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

    def sizes_of(self, config: Config) -> dict[str, JsonValue]:
        """Returns the fields of `Backbone`, and `vocabulary`, that a configuration tells.

        Raises `SettingError` where its layers are not ours.
        """
        constant(config, self.constants, f"a {self.model_type}")
        return {ours: config[theirs] for ours, theirs in self.sizes.items() if theirs in config}
