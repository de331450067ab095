"""Statements are put in words here, in many ways that all say the same.

A caption is a template and a choice of synonyms: a swapped statement in the same template and with
the same choice has the same words in another arrangement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.training.data.scenes.draft import DIRECTIONS
from harness.training.data.scenes.statements import Scene, Statement, Thing, swapped_scene
from harness.training.data.scenes.words import SYNONYMS, synonym

PLAIN = {
    "place": ("{a} at {place}", "{bare} {place}", "{place} {a}", "{the} is {place}",
              "at {place} is {a}"),
    "places": ("{bare} {place}", "{a} at {place}", "{the} is {place}"),
    "relation": ("{bare} {side} {bare_b}", "{a} {side} {b}", "{the} is {side} {the_b}"),
    "count": ("{number}", "there are {number}", "the picture has {number}"),
}  # fmt: skip
"""Kind of statement (`place`: of one thing) -> how it is said; the first has no article. `{a}`,
`{the}`, `{bare}`: the first thing after that article or none, `{b}`, `{the_b}`, `{bare_b}`: the
second."""
WIDE = {
    "place": ("{a} which is at {place}", "{a} is seen at {place}", "at {place} there is {a}"),
    "places": ("{a} which is at {place}", "at {place} is {a}", "{a} is seen at {place}"),
    "relation": ("{side} {the_b} is {a}", "{a} that is {side} {b}",
                 "{b} is joined by {a} {side} it", "{b} with {a} {side} it",
                 "there is {a} {side} {b}", "{side} {b} {a} is seen"),
    "count": ("{number} are seen", "{number} can be counted"),
}  # fmt: skip
"""More of them, of the wide grammar."""
_NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One way to say a statement."""

    template: str
    turned: bool
    """The second thing comes first, and the direction is the opposite one."""
    synonyms: dict[str, str]
    """Word -> what is said for it, where it is another one."""


def templates(statement: Statement, grammar: str) -> tuple[str, ...]:
    """Lists the ways to say a statement of this kind."""
    one = statement.kind == "places" and len(statement.things) == 1
    kind = "place" if one else statement.kind
    return PLAIN[kind] + (WIDE[kind] if grammar == "wide" else ())


DRAWS = len(SYNONYMS) + 2
"""Uniform numbers that a wording takes."""


def wording(template: str, draws: Iterator[float]) -> Wording:
    """Chooses order and synonyms for a template."""
    turned = next(draws) < 0.5
    chosen = {word: synonym(word, next(draws)) for word in SYNONYMS}
    return Wording(template=template, turned=turned, synonyms=chosen)


def sentence(statement: Statement, way: Wording) -> str:
    """Says a statement in one way."""
    if way.turned:
        statement = _turned(statement)
    first = statement.things[0]
    if statement.kind == "places":
        text = " and ".join(_filled(way, thing, thing) for thing in statement.things)
    elif statement.kind == "count":
        counted = [f"{_NUMBERS[t.number]} {_look(t, way)}" for t in statement.things]
        text = way.template.format(number=" and ".join(counted))
    else:
        _, second, *others = statement.things
        text = _filled(way, first, second, DIRECTIONS[statement.side])
        text = " also ".join([text, *(_look(thing, way) for thing in others)])
    return f"only {text}" if statement.only else text


def swapped_sentence(scene: Scene, tag: str, way: Wording) -> str:
    """Says with the same words what is not true of the picture; empty where that cannot be."""
    swapped = swapped_scene(scene, tag)
    if swapped is None:
        return ""
    text = sentence(swapped.statement, way)
    same = sorted(text.split()) == sorted(sentence(scene.statement, way).split())
    return text if same else ""


def _turned(statement: Statement) -> Statement:
    first, *rest = statement.things
    things = (*rest, first) if statement.kind != "relation" else (rest[0], first, *rest[1:])
    return replace(statement, things=things, side=(-statement.side[0], -statement.side[1]))


def _filled(way: Wording, first: Thing, second: Thing, side: str = "") -> str:
    bare, bare_b = _look(first, way), _look(second, way)
    place = " ".join(way.synonyms.get(word, word) for word in first.place.split())
    return way.template.format(
        bare=bare, a=f"{_article(bare)} {bare}", the=f"the {bare}",
        bare_b=bare_b, b=f"{_article(bare_b)} {bare_b}", the_b=f"the {bare_b}",
        place=place, side=side,
    )  # fmt: skip


def _look(thing: Thing, way: Wording) -> str:
    words = [way.synonyms.get(word, word) for word in thing.look.split()]
    if thing.number > 1:
        words[-1] += "es" if words[-1].endswith(("s", "x")) else "s"
    return " ".join(words)


def _article(look: str) -> str:
    return "an" if look[0] in "aeiou" else "a"
