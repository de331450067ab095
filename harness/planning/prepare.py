"""Makes what must be there before any worker starts: decoded data, and what runs start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from architectures import build, registry
from architectures.contract import Facts
from architectures.frozen import SettingError
from harness.planning.plan import Plan
from harness.training.data.corpus import Corpus
from harness.training.objectives.binding import binding_of
from harness.training.scoring import registry as tasks
from harness.training.settings.spec import RunSpec
from harness.warm_start import make
from harness.warm_start.keys import key, stage_folder, text_stage


def notes_of(corpora: Mapping[str, Corpus]) -> list[str]:
    """Says what a reader should know of the data: captions cut, splits that share something."""
    return list(dict.fromkeys(note for corpus in corpora.values() for note in corpus.notes))


def prepared(planned: Plan, outputs: Path, say: Callable[[str], object] = str) -> dict[str, Corpus]:
    """Decodes the data of every cell once, before any worker starts; returns cell -> corpus.

    Raises `SettingError` where a batch is larger than the data, a design cannot be built or a task
    cannot be scored, besides what loading raises.
    """
    import torch

    from harness.runs.assemble import load_data

    corpora: dict[str, Corpus] = {}
    for row in planned.rows:
        cell = row.cell.name
        if cell not in corpora:
            if not corpora:
                say("opening the data; they are decoded where the cache does not have them")
            corpus = corpora[cell] = load_data(row.spec, outputs)
            if row.spec.train.batch_size > len(corpus.train):
                raise SettingError(
                    f"cell {cell!r}: batch_size {row.spec.train.batch_size} is larger than the "
                    f"training data, {len(corpus.train)} pictures"
                )
            spec, words = row.spec, corpus.tokenizer.vocabulary
            active = spec.train.objectives.active()
            if not corpus.tokenizer.masks and ("mlm" in active or spec.train.warm_start):
                raise SettingError(
                    f"cell {cell!r}: data.text.tokenizer has no token to mask words with; set "
                    "objectives.mlm.weight to 0 and warm_start to null, or take BERT's"
                )
            try:
                with torch.device("meta"):  # no weights are made, but what is asked for must exist
                    parts = (spec.train.design, spec.config, spec.backbone, words, active)
                    with registry.blamed(spec.train.design):
                        design = build.construct(*parts)
                build.start(design)
                _check_scores(spec, design.facts(design.config, design.backbone), corpus)
            except SettingError as error:
                raise SettingError(f"cell {cell!r}: {error}") from None
    return corpora


def _check_scores(spec: RunSpec, facts: Facts, corpus: Corpus) -> None:
    """Raises `SettingError` where curves or scores that are asked for could not be made."""
    binding_of(spec.train.measure, corpus)
    for task in spec.asked.tasks:
        tasks.find(task.name).refuse(facts, spec.train.objectives, corpus, task)


def make_all(
    planned: Plan, corpora: Mapping[str, Corpus], outputs: Path, say: Callable[[str], object] = str
) -> list[Path]:
    """Makes every folder that the runs of a plan start from, where it is not there; `corpora`: cell
    -> corpus.

    Raises `SettingError` naming the cell where a design cannot start from it.
    """
    import torch

    cells = {row.cell.name: row.spec for row in planned.rows if row.spec.train.warm_start}
    folders: dict[Path, None] = {}  # each once, in the order made
    for cell, spec in cells.items():
        try:
            make.made(spec, corpora[cell], outputs, say)
            folder = outputs / "warm_start" / key(spec)
            folders[folder] = None
            if stage := text_stage(spec):
                folders[folder.parent / stage_folder(spec, stage)] = None
            backbone, config = make.applied(spec, folder)
            with torch.device("meta"):  # says at once what would not fit
                words = corpora[cell].tokenizer.vocabulary
                build.construct(spec.train.design, config, backbone, words)
        except SettingError as error:
            raise SettingError(f"cell {cell!r}: {error}") from None
    return list(folders)
