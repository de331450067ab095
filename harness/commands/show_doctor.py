"""Prints what `fuselab doctor` examined: a line for each part, and what is wrong below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from harness.commands.show import console
from harness.words import visible

if TYPE_CHECKING:
    from harness.outputs.doctor import Examined


def examined(part: Examined) -> None:
    """Prints one part: sound or how many faults, each with what helps, and notes."""
    state = Text(f"{len(part.faults)} wrong", "red") if part.faults else Text("sound", "green")
    console.print(Text.assemble(f"{part.part}: ", state, f" ({visible(part.seen)})"))
    for fault in part.faults:
        helps = f"; {fault.remedy}" if fault.remedy else ""
        mendable = " [--mend does it]" if fault.cure else ""
        console.print(Text(f"  {visible(fault.text + helps + mendable)}"), soft_wrap=True)
    for note in part.notes:
        console.print(Text(f"  note: {visible(note)}"), soft_wrap=True)


def mended(lines: Iterable[str]) -> None:
    """Prints what was done."""
    for line in lines:
        console.print(Text(f"mended: {visible(line)}"), soft_wrap=True)


def end(parts: Sequence[Examined]) -> None:
    """Prints the sum of it."""
    faults = [fault for part in parts for fault in part.faults]
    cures = sum(fault.cure is not None for fault in faults)
    if not faults:
        console.print("Healthy.")
        return
    left = f"; --mend mends {cures}" if cures else ""
    console.print(f"{len(faults)} wrong{left}.")
