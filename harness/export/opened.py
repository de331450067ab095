"""A trained design is opened here to be looked at: from its run, or from an exported folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from architectures import exported
from architectures.contract import FusionDesign
from architectures.downstream.model import TaskModel
from architectures.frozen import SettingError, path_named
from architectures.weights.published import fuselab
from harness.export.export import finished, same_data, trained_design
from harness.outputs.find import find_run
from harness.outputs.folder import RunFolder
from harness.training.data.corpus import Corpus
from harness.training.data.decoding import Square, decode
from harness.training.data.tokenized import pretrained
from harness.training.data.tokenizer import Tokenizer
from harness.training.data.transforms import fit_of

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Opened is a trained design in eval mode, with what reads texts and pictures for it."""

    name: str
    """A run's key, or the name of an exported folder."""
    design: FusionDesign
    tokenizer: Tokenizer
    square: Square
    corpus: Corpus | None
    """What it was trained on; None of an exported folder, which holds no data."""
    run: RunFolder | None

    def picture(self, where: str) -> np.ndarray:
        """Reads a picture as the design sees it, uint8 (S, S, C): a file, or a row of a split of
        its data, as `test:12`. Raises `SettingError` that says what is wrong with it.
        """
        split, colon, row = where.partition(":")
        if colon and split in SPLITS:
            return self._row(split, row, where)
        path = path_named(where)
        if not path.is_file():
            raise SettingError(
                f"IMAGE {where}: there is no such file; name a picture, or a row of a split, as "
                "test:12"
            )
        decoded = decode(str(path.resolve()), path.parent, self.square, named=True)
        if decoded.problem:
            raise SettingError(f"IMAGE {where}: {decoded.problem}")
        return decoded.image_SSC

    def _row(self, split: str, row: str, where: str) -> np.ndarray:
        if self.corpus is None:
            raise SettingError(
                f"IMAGE {where}: {self.name} is an exported folder, without data; name a file"
            )
        images_NHWC = getattr(self.corpus, split).images_NHWC
        if not row.isdecimal() or int(row) >= len(images_NHWC):
            raise SettingError(f"IMAGE {where}: {split} has rows 0 to {len(images_NHWC) - 1}")
        return np.array(images_NHWC[int(row)])


def opened(outputs: Path, name: str) -> Opened:
    """Opens a finished run (see `find_run`) or an exported folder. Raises `SettingError` where it
    is neither, or cannot be rebuilt.
    """
    folder = path_named(name)
    if (folder / fuselab.CONFIG).is_file():
        return _exported(folder)
    try:
        run = find_run(outputs, name)
    except SettingError as error:
        if not folder.is_dir():
            raise
        none = f"the folder {name} is none that `fuselab export` wrote, and names no run"
        raise SettingError(none) from error
    spec = finished(run)
    corpus = same_data(run, spec, outputs)
    backbone = spec.train.backbone
    return Opened(
        name=run.key,
        design=trained_design(run, spec, corpus).eval(),
        tokenizer=corpus.tokenizer,
        square=Square(
            side=backbone.image_size,
            channels=backbone.image_channels,
            fit=getattr(spec.asked.data, "fit", "squash"),
        ),
        corpus=corpus,
        run=run,
    )


def _exported(folder: Path) -> Opened:
    design, record = exported.load(folder), fuselab.record(folder)
    if isinstance(design, TaskModel):
        raise SettingError(
            f"{folder} was exported for task {record[fuselab.TASK]['title']!r}, which harness."
            "export.predict asks; `fuselab export` without --task writes a design to look at"
        )
    backbone = design.backbone
    tokenizer = pretrained(str(folder.resolve())).with_length(design.longest_text)
    return Opened(
        name=folder.resolve().name,
        design=design,
        tokenizer=tokenizer,
        square=Square(
            side=backbone.image_size,
            channels=backbone.image_channels,
            fit=fit_of(record["pixels"], backbone.image_channels),
        ),
        corpus=None,
        run=None,
    )
