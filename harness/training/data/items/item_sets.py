"""The one door to the items of a task, whether they lie in a folder or are made of scenes."""

from __future__ import annotations

from architectures.frozen import SettingError
from harness.training.data.corpus import Corpus
from harness.training.data.items.folders import folder_sets
from harness.training.data.items.items import ItemSets
from harness.training.data.items.listed import ItemTask
from harness.training.data.items.of_scenes import scene_sets
from harness.training.settings.data import Scenes


def item_sets(corpus: Corpus, task: ItemTask) -> ItemSets:
    """Opens or makes the items of a task, their pictures as large as those of the corpus; the same
    corpus and settings give the same items.

    Of a probe `val` is empty, for it has no curves; of grounding that learns nothing it is empty
    too, and of a folder also `train`. Raises `SettingError` where pictures have no ground truth and
    no folder is named, and DataError as `folder_sets` and `scene_sets` do, before anything trains.
    """
    if task.source:
        side, _, channels = corpus.train.images_NHWC.shape[1:]
        return folder_sets(task, side, channels, corpus.cache)
    if isinstance(corpus.data, Scenes):
        return scene_sets(corpus, task)
    raise SettingError(
        f"{task.name}: only scenes have items of their own; name a folder of items in the task's "
        "`source`, which README.md describes"
    )
