"""Reads what was written before records had a format number, as the records of now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import JsonValue

Content = dict[str, JsonValue]


def upgraded(kind: str, content: Content) -> Content:
    """Returns a file's content as format 2; unchanged where it has a format number.

    `kind`: name of the record that is asked for. Raises KeyError, TypeError or AttributeError where
    the content is nothing that was ever written.
    """
    if "format" in content or kind not in _UPGRADES:
        return content
    return {"format": 2, **_UPGRADES[kind](content)}


def _status(content: Content) -> Content:
    return {name: value for name, value in content.items() if value is not None}


def _ledger(content: Content) -> Content:
    return {"spent": content}


def _certificate(content: Content) -> Content:
    roles, sizes, starts = (_mapping(content, name) for name in ("roles", "sizes", "drawn_as"))
    facts = _mapping(content, "facts")
    return {
        "batches": _mapping(content, "batches"),
        "roles": {
            name: {
                "digest": digest,
                "size": sizes.get(name, 0),
                "drawn_as": starts.get(name, name),
            }
            for name, digest in roles.items()
        },
        "code": [*str(content["code"]).split("+")],  # begun by one, gone on by another
        "data": content["data"],
        "facts": {
            name: facts[name]
            for name in ("text_layers", "fusion_layers", "image_layers", "itc_reads")
        },
    }


def _scores(content: Content) -> Content:
    protocol = content.get("protocol", "")
    return {
        "task": "",  # its file's name says it
        "score_key": content.get("score_key", ""),
        "protocol": protocol,
        "scores": [
            score_of(name, value, str(protocol))
            for name, value in _mapping(content, "values").items()
        ],
        "levels": [
            {"name": name, **_whole(level)} for name, level in _mapping(content, "levels").items()
        ],
    }


def score_of(name: str, value: JsonValue, protocol: str) -> Content:
    """Returns a score whose name alone was kept: losses in nats, all else in percent."""
    loss = name.endswith("loss")
    beside = {"itc": "ITC alone", "reranked": "re-ranked", "every_pair": "every pair by ITM"}
    way = next((text for end, text in beside.items() if name.endswith(f"recall_{end}")), protocol)
    return {
        "name": name,
        "value": value,
        "unit": "nats" if loss else "percent",
        "higher_is_better": not loss,
        "protocol": way,
    }


def _study(content: Content) -> Content:
    study, rows = _mapping(content, "study"), content["rows"]
    same = ("name", "question", "control", "primary", "equal_within", "alpha", "looks", "axis")
    (unit,) = (name for name, amount in _mapping(study, "budget").items() if amount is not None)
    return {
        **{name: study[name] for name in same},
        "seeds": study["seeds"],
        "budget_unit": unit,
        "rows": rows,
        "notes": content.get("notes", []),
        "settings": study,
    }


NOT_TRAINED_BY = frozenset({"tasks", "not_applicable", "data", "design_file"})
"""Fields of a spec that do not shape the weights."""


def trained_by(spec: Content) -> Content:
    """Returns the part of a spec, of either format, that shapes the weights."""
    if "train" in spec:
        return _mapping(spec, "train")
    return {name: value for name, value in spec.items() if name not in NOT_TRAINED_BY}


def _choice(content: Content) -> Content:
    return content


def _mapping(content: Mapping[str, JsonValue], name: str) -> Content:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value


def _whole(value: JsonValue) -> Content:
    if not isinstance(value, dict):
        raise TypeError("a level is no record")
    return value


_UPGRADES: Mapping[str, Callable[[Content], Content]] = {
    "Status": _status,
    "LedgerRecord": _ledger,
    "Certificate": _certificate,
    "ScoresRecord": _scores,
    "StudyRecord": _study,
    "TuningChoice": _choice,
}
