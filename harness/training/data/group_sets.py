"""The groups that a task scores: those of a folder, or swap groups of the scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from architectures.frozen import SettingError, nearest
from harness.training.data.corpus import Corpus
from harness.training.data.decoding import Square
from harness.training.data.group_files import GroupLine, read_groups
from harness.training.data.groups import Group, Groups
from harness.training.data.scenes.swaps import swap_groups
from harness.training.settings.data import Scenes
from harness.training.settings.tasks import Pairs


def groups_of(corpus: Corpus, task: Pairs) -> Groups:
    """Opens or draws the groups of a task at the size of the corpus's pictures.

    Raises `SettingError` where pictures have no swap groups and no folder is named, and as
    `check_tags` does; else as `read_groups` and `swap_groups` do.
    """
    side, _, channels = corpus.train.images_NHWC.shape[1:]
    if task.groups:
        square = Square(side=side, channels=channels, fit=task.fit)
        groups = read_groups(task.groups, square, corpus.cache)
    elif isinstance(corpus.data, Scenes):
        groups = swap_groups(corpus.data, task.split, task.count, side, channels, task.tags)
    else:
        raise SettingError(
            "pairs: only scenes have swap groups; name a folder of groups in the task's `groups`"
        )
    check_tags(task, groups.groups)
    kept = tuple(group for group in groups.groups if not task.tags or group.tag in task.tags)
    return replace(groups, groups=kept)


def check_tags(task: Pairs, groups: Sequence[Group | GroupLine]) -> None:
    """Raises `SettingError` with the nearest one where the task names a tag that no group has, and
    where its tags leave statements of one kind alone.
    """
    tags = {group.tag for group in groups}
    for tag in task.tags:
        if tag not in tags:
            raise nearest(tag, tags, "tag of groups (setting tags of the task pairs)")
    left = [group.match_kl for group in groups if group.tag in task.tags]
    kinds = {bool(match_kl[0, 0]) for match_kl in left if match_kl.size == 1}
    if len(kinds) == 1:
        only, other = ("right", "wrong") if kinds.pop() else ("wrong", "right")
        raise SettingError(
            f"pairs: under tags {', '.join(task.tags)} every group of one caption is {only}, so a "
            f"constant answer is never mistaken; name a tag that has {other} ones too (setting "
            "tags)"
        )
