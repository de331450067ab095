"""Numbers and times as words: what several rooms print alike."""

from __future__ import annotations


def count(value: float) -> str:
    """A large number in thousands, millions or billions: 1.23 M."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"


def clock(seconds: float | None) -> str:
    """A time left, as `1:02:03` or `2:03`.

    >>> clock(3723.4), clock(59), clock(None)
    ('1:02:03', '0:59', '?')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def visible(text: str) -> str:
    r"""A text as a terminal may show it: characters that would steer it are written out.

    >>> print(visible("a\x1b[31m b"))
    a\x1b[31m b
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """A length of time with its units, two at most.

    >>> duration(12.3), duration(754), duration(9000), duration(200_000)
    ('12 s', '12 min 34 s', '2 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, smaller, lesser in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"
