"""Pictures of designs become files here: one by itself, or a page of many, pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.diagrams.diagram import drawn
from reports.diagrams.parts import Graph

HEAD = """# The designs

A slab is a layer. Its colour says which pretrained model its weights would come from, a number
after ← which layer of that model, a strip at its end where some of its weights would, as those of
cross-attention, which no text model has. Beside it stand parts that work inside it: what reads the
other tower, experts of one modality or of both. A heavy edge says that image and text meet in it, a
heavy arrow that it reads the other modality. ITC, ITM and MLM stand at what these objectives read.
Every design is drawn from the model itself, with default fields at {scale}; `--set` draws a
variant. With `whole_weights` colours say what such a checkpoint gives and what it lacks.

This page is written by `fuselab designs --draw {page}`.
"""
ENTRY = """
## {name}

{summary}

![{name}]({picture})

```
fuselab designs {name} --draw {name}.svg
```
"""


def files(target: Path, designs: Sequence[tuple[str, Graph]], scale: str) -> dict[Path, bytes]:
    """Returns path -> content. `designs`: a line of words and the graph of each; `scale`: its name.

    A target that ends in .svg or .png is the picture of the one design there is; one that ends in
    .md is a page of all, whose pictures lie in a folder of its name.
    """
    if target.suffix.lower() != ".md":
        ((_, graph),) = designs
        return {target: drawn(graph, "png" if target.suffix.lower() == ".png" else "svg")}
    folder = target.with_suffix("")
    pictures, text = {}, HEAD.format(scale=scale, page=target)
    for summary, graph in designs:
        name = graph["design"]
        picture = folder / f"{name}.svg"
        pictures[picture] = drawn(graph, "svg")
        where = f"{folder.name}/{picture.name}"
        text += ENTRY.format(name=name, summary=summary, picture=where)
    return {**pictures, target: text.encode()}
