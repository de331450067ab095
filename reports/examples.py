"""Examples for the page: what a run said of a few items, hits and misses alike.

Which items are shown is fixed before anybody looks: a task keeps some that are spread evenly over
all, the same for every run, and the first seed of every compared cell shows them. They illustrate;
no verdict hangs on them.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from harness.results.tables import Results
from reports.gallery import STYLE
from reports.heat_maps import HeatMap, heat_maps, kept

Arrays = Callable[[str, str], Mapping[str, np.ndarray]]
"""(run, task) -> name -> what the task kept of its items; empty where it kept nothing."""

SHOWN = 4
"""Items of a cell."""
LARGEST = 40 * 1024
"""Bytes of a picture's file."""
DPIS = (110, 80, 55, 40)
"""Dots per inch that are tried, until the file is small enough; noise is at the last."""
COLOURS = 128
LETTERS = 62
SWAPS = ("shown_pictures", "shown_captions", "shown_scores", "shown_group")
"""What the task `pairs` keeps of a few groups of two pictures with two captions."""
POINTS = "Box: the thing. Cross: the map's maximum, which hits where it lies in the box."
MATCHES = (
    "The first caption is of the left picture, the second of the right one. A group is right where "
    "each of the four finds its own."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A few items of a task, and what the first seed of a cell said of them."""

    title: str
    caption: str
    png: bytes
    cells: tuple[str, ...]
    """The cells whose run it is."""

    @property
    def encoded(self) -> str:
        """The picture as text, for an address that holds its data."""
        return base64.b64encode(self.png).decode()


def examples(arrays: Arrays, results: Results) -> list[Example]:
    """Returns the examples of every task that keeps items, cell by cell."""
    drawn = []
    compared = results.runs[
        (results.runs["role"] == "compared") & (results.runs["seed"] == results.study.seeds[0])
    ]
    for task in results.scores["task"].unique():
        for run, rows in compared.groupby("run", sort=False):
            own = results.scores[(results.scores["run"] == run) & (results.scores["task"] == task)]
            if not len(own):
                continue
            cells = tuple(rows["cell"])
            for figure, how in _figures(arrays(str(run), str(task))):
                caption = f"{own['protocol'].iloc[0]}, seed {results.study.seeds[0]}. {how}"
                drawn.append(
                    Example(title=str(task), caption=caption, png=small_png(figure), cells=cells)
                )
    return drawn


def _figures(predictions: Mapping[str, np.ndarray]) -> Iterator[tuple[Figure, str]]:
    """Yields what can be drawn of the items that a task kept, and how to read it."""
    if maps := kept(predictions):
        rows = _spread(len(maps))
        items = predictions["shown_item"][rows]
        shown = [
            _judged(maps[row], predictions, item) for row, item in zip(rows, items, strict=True)
        ]
        yield heat_maps(shown, ""), f"{_which(items, len(predictions['pointing']))} {POINTS}"
    if all(name in predictions for name in SWAPS):
        rows = _spread(len(predictions["shown_group"]))
        yield (
            swap_groups(*(predictions[name][rows] for name in SWAPS[:3])),
            (f"{_which(predictions['shown_group'][rows])} {MATCHES}"),
        )


def _spread(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))


def _which(items: np.ndarray, count: int | None = None) -> str:
    every = "" if count is None else f" of {count:,}"
    return f"Items {', '.join(map(str, items.tolist()))}{every}, the same for every cell."


def _judged(shown: HeatMap, predictions: Mapping[str, np.ndarray], item: int) -> HeatMap:
    """Returns an item with the point of its map and whether that is right; of maxima that tie, the
    share that is.
    """
    share = float(predictions["pointing"][item])
    verdict = {0.0: "miss", 1.0: "hit"}.get(share, f"{share:.0%} of its maxima hit")
    point = (float(predictions["point_x"][item]), float(predictions["point_y"][item]))
    return dataclasses.replace(shown, text=f"{verdict}: {shown.text}", point=point)


def swap_groups(
    pictures_GKHWC: np.ndarray, captions_GL: np.ndarray, scores_GKL: np.ndarray
) -> Figure:
    """Draws groups of two pictures and two captions with the score of every pair, and whether the
    group is right.
    """
    groups, side = len(pictures_GKHWC), 1.1
    high, wide = groups * (side + 0.15) + 0.1, 2 * side + 4.6
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(wide, high))
        for row in range(groups):
            top = high - 0.1 - row * (side + 0.15)
            for place, image_HWC in enumerate(pictures_GKHWC[row]):
                left, size = 0.05 + place * (side + 0.1), side - 0.05
                ax = figure.add_axes((left / wide, (top - size) / high, size / wide, size / high))
                grey = image_HWC[..., 0] if image_HWC.shape[2] == 1 else image_HWC
                ax.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                ax.set_axis_off()
            figure.text(
                (2 * side + 0.3) / wide,
                top / high,
                _in_words(captions_GL[row], scores_GKL[row]),
                ha="left",
                va="top",
                fontsize=8,
                linespacing=1.35,
                parse_math=False,
            )
    return figure


def _in_words(caption_L: np.ndarray, score_KL: np.ndarray) -> str:
    """Says of a group both captions, their scores with both pictures, and whether it is right."""
    lines = []
    for number, caption in enumerate(caption_L.tolist()):
        folded = textwrap.wrap(caption, LETTERS, max_lines=2, placeholder=" ...")
        left, right = score_KL[:, number].tolist()
        lines += [*folded, f"    with the left picture {left:.3f}, with the right one {right:.3f}"]
    own, other = np.diag(score_KL), np.diag(score_KL[:, ::-1])
    right = min(own) > max(other)
    return "\n".join([f"{'right' if right else 'wrong'}:", *lines])


def small_png(figure: Figure) -> bytes:
    """Returns a figure as a file of at most `LARGEST` bytes, coarser where it must be."""
    for dpi in DPIS:
        buffer, small = io.BytesIO(), io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        with Image.open(buffer) as image:
            few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(small, format="png", optimize=True)
        if small.tell() <= LARGEST:
            break
    return small.getvalue()
