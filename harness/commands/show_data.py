"""Prints what `fuselab data` shows: counts, identity, floors and notes of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.commands.terminal import console, table
from harness.words import visible

if TYPE_CHECKING:
    from harness.training.data.corpus import Corpus
    from harness.training.data.facts import Facts, SplitFacts, Spread


def facts(cells: str, counted: Facts, notes: Sequence[str]) -> None:
    """Prints the counts of each split, the tokenizer's and what a reader should know. `cells`: of
    a study whose cells have different data, those that have these.
    """
    if cells:
        console.print(f"\nCells {visible(cells)}:")
    columns = {name: _column(split) for name, split in counted.splits.items()}
    rows = next(iter(columns.values()))
    table(
        ("", *columns), [(label, *(column[label] for column in columns.values())) for label in rows]
    )
    console.print(
        "Three numbers are the least, the mean and the most.\n\n"
        f"Vocabulary: {counted.vocabulary:,} tokens, from {counted.words:,} different words to "
        f"train on; {100 * counted.unknown_share:.2g} % of all tokens are unknown. A caption holds "
        f"at most {counted.length} tokens, [CLS] and [SEP] included."
    )
    for note in notes:
        console.print(f"Note: {visible(note)}.")


def _column(split: SplitFacts) -> dict[str, str]:
    """Returns label -> cell."""
    numbers = {
        "pictures": split.pictures,
        "captions": split.captions,
        "different captions": split.different_captions,
    }
    identity = {
        "captions cut": split.cut,
        "groups": split.groups,
        "pictures sharing a group": split.in_groups,
        "largest group": split.largest_group,
        "identical pictures": split.same_pixels,
        "caption of another group too": split.shared_captions,
    }
    return {
        **{label: f"{number:,}" for label, number in numbers.items()},
        "captions a picture": _spread(split.captions_a_picture),
        "words a caption": _spread(split.words),
        "tokens a caption": _spread(split.tokens),
        **{label: f"{number:,}" for label, number in identity.items()},
    }


def _spread(counts: Spread) -> str:
    if counts.least == counts.most:
        return str(counts.least)
    return f"{counts.least} - {counts.mean:.1f} - {counts.most}"


def floors(corpus: Corpus, note: Callable[[str], object]) -> None:
    """Measures and prints the floors of the tasks on scenes; of other data a line that says why
    there are none.
    """
    if corpus.train.truth is None:
        console.print("Floors of tasks are measured on scenes only, whose truth is known.")
        return
    from harness.training.data.cache import DataError
    from harness.training.data.scenes.floors import TASKS, task_floors

    rows, left_out = [], {}
    for place, task in enumerate(TASKS):
        note(f"measuring the floors of {task} ({place + 1} of {len(TASKS)})")
        try:
            measured = task_floors(corpus.train, corpus.val, task)
        except DataError as error:
            left_out[task] = str(error)
            continue
        shares = (measured.majority, measured.text_only, measured.picture_only)
        rows.append((task, f"{measured.items:,}", *(f"{100 * share:.1f}" for share in shares)))
    console.print("\nFloors, percent right on val, of classifiers trained on items of train:")
    table(("task", "items", "majority", "text alone", "picture alone"), rows)
    for task, why in left_out.items():
        console.print(f"No {task}: {why}.")
