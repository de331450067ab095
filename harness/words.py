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
