"""`fuselab designs NAME` prints the fields of a design: value, what it may be, what it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from rich.markup import escape

from harness.commands.terminal import console, say

if TYPE_CHECKING:
    from architectures.contract import DesignConfig


def show_fields(config: DesignConfig) -> None:
    """Prints every field, the design's own first: value, what it may be, and its documentation."""
    from architectures.weights import slots

    cls, schema = type(config), type(config).model_json_schema()
    properties, others = schema["properties"], schema.get("$defs", {})
    own = [name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})]
    names = [name for name in dict.fromkeys(own) if name in cls.model_fields]
    console.print("[bold]Configuration[/]  change it with --set field=value", markup=True)
    ruled = False
    for name in names:
        field, value = cls.model_fields[name], getattr(config, name)
        rule = set(get_args(slots.Rule)) <= set(get_args(field.annotation))
        ruled |= rule
        kind = words_of(properties[name], others)
        if rule:
            kind = "a rule of pretrained layers" + (", or null" if kind.endswith("null") else "")
        changed = "" if value == field.default else f"; default {as_typed(field.default)}"
        console.print(
            f"  [bold]{name} = {escape(as_typed(value))}[/]   [dim]({escape(kind + changed)})[/]",
            markup=True,
        )
        # Documentation speaks Python; on the command line None is null.
        say(re.sub(r"\bNone\b", "null", field.description or ""), lead=" " * 6)
    if ruled:
        console.print("  Rules of pretrained layers")
        for word, text in slots.RULES.items():
            say(f"{word}: {text}", lead=" " * 6)


def as_typed(value: object) -> str:
    """Writes a value as `--set` takes it: words bare, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def words_of(schema: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Says what a field may be, in words, from its JSON schema.

    >>> words_of({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'whole number from 1, or null'
    """
    if "$ref" in schema:
        return words_of(others[schema["$ref"].rpartition("/")[2]], others)
    if "anyOf" in schema:
        return ", or ".join(words_of(one, others) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(as_typed, schema["enum"]))
    if "const" in schema:
        return as_typed(schema["const"])
    if schema.get("type") == "array":
        return f"list of ({words_of(schema.get('items', {}), others)})"
    kinds = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    bounds = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    kind = schema.get("type", "anything")
    limits = [f"{word} {schema[bound]:g}" for bound, word in bounds.items() if bound in schema]
    return " ".join([kinds.get(kind, kind), *limits])
