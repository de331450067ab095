"""What pydantic finds wrong with a value is said here in words that a user can act on."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic_core import ErrorDetails

LONGEST = 80
"""Characters of a given value that a message shows."""

_NUMBER, _WHOLE, _TEXT = "must be a number", "must be a whole number", "must be text"
_LIST, _TABLE = "must be a list, as [1, 2]", 'must be names with values, as {{"a": 1}}'
_YES = "must be true or false"
WORDS = {
    "missing": "is needed",
    "extra_forbidden": "is no field of this record",
    "int_parsing": _WHOLE,
    "int_parsing_size": "is too large a number",
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "must be a finite number",
    "string_type": _TEXT,
    "string_unicode": "must be text that can be written as UTF-8",
    "string_pattern_mismatch": "must fit the pattern {pattern}",
    "bool_parsing": _YES,
    "bool_type": _YES,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_attributes_type": _TABLE,
    "model_type": "must be a {class_name}, or the fields of one",
    "dataclass_type": "must be a {class_name}, or the fields of one",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be greater than or equal to {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be less than or equal to {le}",
    "union_tag_not_found": "needs a {discriminator}, to tell which of several it is",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}, not {tag!r}",
    "literal_error": "must be {expected}",
}
"""Pydantic's type of an error -> what to say, with what its context holds. Other types are said
as pydantic does."""
_PLAIN_NAME = re.compile(r"\^\[A-Za-z0-9_\\?-\][*+]\$")


def problem_in_words(problem: ErrorDetails) -> str:
    """Says what is wrong with one value and, where it is short, what was given."""
    kind, value = problem["type"], problem.get("input")
    context: dict[str, Any] = problem.get("ctx", {})
    words = WORDS.get(kind)
    if kind in ("value_error", "assertion_error"):
        message = str(context.get("error") or problem["msg"])
        value = value if isinstance(value, str | int | float) else {}
    elif kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        message = "must not be empty" if least == 1 else f"must have at least {least} items"
    elif kind in ("too_long", "string_too_long"):
        message = f"must have at most {context['max_length']} {_parts(value)}"
    elif kind == "string_pattern_mismatch" and _PLAIN_NAME.fullmatch(context["pattern"]):
        message = "must be a word of letters, digits, _ and -"
    else:
        message = words.format(**_plain(context)) if words else problem["msg"]
        message = message.replace("Input should be", "must be")
        if kind in ("literal_error", "union_tag_invalid"):
            message += _nearest(context.get("tag", value), context)
    return f"{message}{_shown(value)}"


def _plain(context: dict[str, Any]) -> dict[str, Any]:
    """Numbers as a person writes them."""
    return {k: f"{v:.12g}" if isinstance(v, float) else v for k, v in context.items()}


def _parts(value: object) -> str:
    return "characters" if isinstance(value, str) else "items"


def _nearest(value: object, context: dict[str, Any]) -> str:
    """The nearest of the words that would do, where one is near."""
    choices = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags")))
    close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close and len(choices) > 1 else ""


def _shown(value: object) -> str:
    """Says what was given, at the end of a message; of a record only its kind."""
    if isinstance(value, str | int | float | bool | list | tuple) or value is None:
        text = "null" if value is None else repr(value)
        cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"
        return f" (given: {cut})"
    return "" if isinstance(value, dict) else f" (given: {type(value).__name__})"
