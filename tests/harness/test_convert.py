"""Copies of published sets in the layouts of their repositories, tiny ones, become groups."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from harness.commands.main import app
from harness.training.data.decoding import Square
from harness.training.data.group_files import read_groups, read_lines
from harness.training.data.published.sets import SETS
from tests.training.data.conftest import png

Layout = Callable[[Path], tuple[Path, Path | None]]


def put(folder: Path, *names: str) -> None:
    """Writes pictures, different by their place."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(seed, (12, 8)))


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        assert isinstance(content, list)
        path.write_text("".join(json.dumps(line) + "\n" for line in content))
    else:
        path.write_text(json.dumps(content))
    return path


def winoground(at: Path) -> tuple[Path, Path | None]:
    put(at / "images", "ex_0_img_0.png", "ex_0_img_1.png")
    row = {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "an old cat",
           "caption_1": "a cat old", "tag": "Adjective", "collapsed_tag": "Object"}  # fmt: skip
    write(at / "examples.jsonl", [row])
    return at, None


def colorswap(at: Path) -> tuple[Path, Path | None]:
    put(at, "images/img_0_1.png", "images/img_0_2.png")
    row = {"id": 0, "caption_1": "yellow umbrella white dress", "image_1": "images/img_0_1.png",
           "caption_2": "white umbrella yellow dress", "image_2": "images/img_0_2.png",
           "image_source": "midjourney", "caption_source": "human"}  # fmt: skip
    return write(at / "test.json", [row]), None


def bivlc(at: Path) -> tuple[Path, Path | None]:
    at.mkdir(parents=True, exist_ok=True)
    cell = [{"bytes": png(seed), "path": None} for seed in (1, 2)]
    columns = {"image": [cell[0]], "caption": ["a man"], "negative_caption": ["a woman"],
               "negative_image": [cell[1]], "type": ["replace"], "subtype": ["obj"]}  # fmt: skip
    pq.write_table(pa.table(columns), at / "test-00000.parquet")
    return at, None


def whats_up(at: Path) -> tuple[Path, Path | None]:
    rows, sides = [], ("left_of", "right_of", "on", "under")
    for side in sides:
        name = f"data/controlled_images/mug_{side}_plate.jpeg"
        put(at / "controlled_images", Path(name).name)
        (at / "controlled_images" / Path(name).name).write_bytes(png(sides.index(side)))
        others = [f"a mug {other} a plate" for other in sides if other != side]
        rows.append({"image_path": name, "caption_options": [f"a mug {side} a plate", *others]})
    rows.append({**rows[0], "image_path": "data/controlled_images/fork_on_table.jpeg"})
    put(at / "controlled_images", "fork_on_table.jpeg")
    return write(at / "controlled_images_dataset.json", rows), None


def whats_up_coco(at: Path) -> tuple[Path, Path | None]:
    put(at / "val2017", "000000000139.jpg")
    row = [139, "A photo of a tv to the left", "A photo of a tv to the right"]
    return write(at / "coco_qa_one_obj.json", [row]), None


def sugarcrepe(at: Path) -> tuple[Path, Path | None]:
    put(at / "val2017", "000000085329.jpg", "000000085330.jpg")
    rows = {
        "0": {"filename": "000000085329.jpg", "caption": "a dog", "negative_caption": "a cat"},
        "1": {"filename": "000000085330.jpg", "caption": "Two", "negative_caption": "two "},
    }
    write(at / "data" / "swap_obj.json", rows)
    write(at / "data" / "add_att.json", {"0": rows["0"]})
    return at / "data", at / "val2017"


def sugarcrepe_pp(at: Path) -> tuple[Path, Path | None]:
    put(at / "val2017", "000000222235.jpg")
    row = {"id": 0, "filename": "000000222235.jpg", "caption": "a cat swats", 
           "caption2": "it swats", "negative_caption": "a plant swats"}  # fmt: skip
    same = {**row, "id": 1, "negative_caption": "a cat swats"}  # there are such in swap_obj
    write(at / "data" / "swap_obj.json", [row, same])
    return at / "data", at / "val2017"


def valse(at: Path) -> tuple[Path, Path | None]:
    put(at / "images", "SWiG/exercising_255.jpg", "COCO/exercising_255.jpg")
    row = {"dataset": "SWiG", "image_file": "exercising_255.jpg", "foil": "A torso exercises.",
           "caption": "A man exercises.", "mturk": {"foil": 0, "caption": 3}}  # fmt: skip
    doubted = {**row, "mturk": {"foil": 2, "caption": 1, "other": 0}}
    write(at / "data" / "actions.json", {"actions_test_0": row, "actions_test_1": doubted})
    return at / "data", at / "images"


def vsr(at: Path) -> tuple[Path, Path | None]:
    put(at / "images", "000000050403.jpg", "000000401552.jpg")
    rows = [{"image": "000000050403.jpg", "caption": "The bear is in front of the person.",
             "label": 1, "relation": "in front of"},
            {"image": "000000401552.jpg", "caption": "The umbrella is far from the bus.",
             "label": 0, "relation": "far from"}]  # fmt: skip
    return write(at / "test.jsonl", rows), at / "images"


def aro(at: Path) -> tuple[Path, Path | None]:
    put(at / "images", "2353831.jpg")
    row = {"image_path": "2353831.jpg", "bbox_x": 3, "bbox_y": 2, "bbox_w": 5, "bbox_h": 4,
           "true_caption": "the door is to the left of the shelf", "relation_name": "left of",
           "false_caption": "the shelf is to the left of the door"}  # fmt: skip
    return write(at / "visual_genome_relation.json", [row]), None


LAYOUTS: dict[str, list[tuple[Layout, list[str], list[list[list[bool]]]]]] = {
    "winoground": [(winoground, ["Object"], [[[True, False], [False, True]]])],
    "colorswap": [(colorswap, ["colour"], [[[True, False], [False, True]]])],
    "bivlc": [(bivlc, ["replace obj"], [[[True, False], [False, True]]])],
    "whats_up": [
        (whats_up, ["controlled_images"], [np.eye(4, dtype=bool).tolist()]),
        (whats_up_coco, ["coco_qa_one_obj"], [[[True, False]]]),
    ],
    "sugarcrepe": [(sugarcrepe, ["add_att", "swap_obj"], [[[True, False]]] * 2)],
    "sugarcrepe_pp": [(sugarcrepe_pp, ["swap_obj"], [[[True, True, False]]])],
    "valse": [(valse, ["actions"], [[[True, False]]])],
    "vsr": [(vsr, ["in front of", "far from"], [[[True]], [[False]]])],
    "aro": [(aro, ["hackable relation"], [[[True, False]]])],
}
"""Name of a set -> its layouts, with the tags and tables of match that come out."""
LEFT_OUT = {
    "whats_up": "1 left out: not four pictures of its pair of things",
    "sugarcrepe": "1 left out: captions are equal but for case and spacing",
    "sugarcrepe_pp": "1 left out: captions are equal but for case and spacing",
    "valse": "1 left out: fewer than 2 annotators chose the caption alone",
}


def said(*words: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["convert", *map(str, words)], env={"COLUMNS": "300"})
    return answer.exit_code, answer.output


def with_images(images: Path | None) -> list[object]:
    return ["--images", images] if images else []


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, its in LAYOUTS.items() for place in range(len(its))]
)
def test_a_published_set_becomes_groups(name: str, place: int, tmp_path: Path) -> None:
    layout, tags, matches = LAYOUTS[name][place]
    source, images = layout(tmp_path / "copy")
    target = tmp_path / "groups"
    code, output = said(name, source, target, *with_images(images))
    assert code == 0, output
    lines = read_lines(target)
    assert [line.tag for line in lines] == tags
    assert [line.match_kl.tolist() for line in lines] == matches
    assert place or LEFT_OUT.get(name, f"{len(lines)} groups") in output
    assert SETS[name].note in output
    groups = read_groups(str(target), Square(side=8, channels=3, fit="squash"), tmp_path / "cache")
    assert len(groups) == len(lines)
    first = groups.images_PHWC[list(groups.groups[0].pictures)]
    assert len(np.unique(first, axis=0)) == len(first)
    assert not list(tmp_path.glob(".*part"))


def test_every_set_has_a_layout_here() -> None:
    assert set(LAYOUTS) == set(SETS)


def test_the_right_captions_stay_with_their_pictures(tmp_path: Path) -> None:
    source, _ = whats_up(tmp_path / "copy")
    said("whats_up", source, tmp_path / "groups")
    (line,) = read_lines(tmp_path / "groups")
    for side, image, caption in zip(
        ("left_of", "right_of", "on", "under"), line.images, line.captions, strict=True
    ):
        assert caption == f"a mug {side} a plate"
        original = tmp_path / "copy" / "controlled_images" / f"mug_{side}_plate.jpeg"
        assert (tmp_path / "groups" / image).read_bytes() == original.read_bytes()


def test_only_the_box_of_aro_is_kept(tmp_path: Path) -> None:
    from PIL import Image

    source, _ = aro(tmp_path / "copy")
    said("aro", source, tmp_path / "groups")
    (line,) = read_lines(tmp_path / "groups")
    cut = np.asarray(Image.open(tmp_path / "groups" / line.images[0]))
    whole = np.asarray(Image.open(tmp_path / "copy" / "images" / "2353831.jpg").convert("RGB"))
    assert np.array_equal(cut, whole[2:6, 3:8])


def test_a_picture_of_several_groups_is_there_once(tmp_path: Path) -> None:
    source, images = sugarcrepe(tmp_path / "copy")
    said("sugarcrepe", source, tmp_path / "groups", *with_images(images))
    assert len(list((tmp_path / "groups" / "images").iterdir())) == 1


def test_what_is_wrong_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    source, images = sugarcrepe(tmp_path / "copy")
    target = tmp_path / "groups"
    cases: list[tuple[list[object], str]] = [
        (["sugar", source, target], "unknown published set 'sugar'; did you mean 'sugarcrepe'?"),
        (["sugarcrepe", source, target], "is no file in .*; name its folder by --images"),
        (["sugarcrepe", source, target, "--images", tmp_path / "no"], "--images .*no is no folder"),
        (["sugarcrepe", tmp_path / "no", target], "neither a file nor a folder with"),
        (["vsr", source, target], "neither a file nor a folder with test.jsonl"),
        (["sugarcrepe", source, tmp_path / "copy"], "is there already; name a new or an empty"),
        (["valse", source, target, "--images", images], "item '0', field 'mturk': no votes"),
    ]
    for words, message in cases:
        code, output = said(*words)
        assert code == 2 and re.search(message, output), (words, output)
        assert "Traceback" not in output and len(output.strip().splitlines()) == 1
        assert not target.exists() and not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("caption", None, "item '0', field 'caption': is not there"),
        ("caption", "", "item '0', field 'caption': is empty"),
        ("negative_caption", 3, "item '0', field 'negative_caption': holds int, not a text"),
        ("filename", "../x.jpg", "item '0': '../x.jpg' is no file"),
        ("filename", "/etc/hosts", "item '0': '/etc/hosts' is no file"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    put(tmp_path / "images", "a.jpg")
    row = {"filename": "a.jpg", "caption": "a", "negative_caption": "b", field: value}
    if value is None:
        del row[field]
    source = write(tmp_path / "swap_obj.json", {"0": row})
    code, output = said("sugarcrepe", source, tmp_path / "t", "--images", tmp_path / "images")
    assert code == 2 and message in output and str(source) in output


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "swap_obj.json").write_text("{")
    code, output = said("sugarcrepe", tmp_path / "swap_obj.json", tmp_path / "t")
    assert code == 2 and "swap_obj.json: no JSON" in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox_w": 0}, "item 0, field 'bbox_w': 0 is less than a pixel"),
        ({"bbox_h": 0.3}, "item 0, field 'bbox_h': 0.3 is less than a pixel"),
        ({"bbox_h": -4}, "item 0, field 'bbox_h': -4 is less than a pixel"),
        ({"bbox_x": math.nan}, "item 0, field 'bbox_x': nan is no number that can be used"),
        ({"bbox_y": math.inf}, "item 0, field 'bbox_y': inf is no number that can be used"),
        ({"bbox_x": 10**400}, "(401 characters) is no number that can be used"),
        ({"bbox_x": 12}, "item 0: the box (12, 2, 17, 6) of the fields 'bbox_x' to 'bbox_h' lies"),
        ({"bbox_y": -4}, "item 0: the box (3, -4, 8, 0) of the fields 'bbox_x' to 'bbox_h' lies"),
    ],
)
def test_a_box_that_holds_nothing_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    source, _ = aro(tmp_path / "copy")
    (file,) = source.glob("*.json") if source.is_dir() else [source]
    write(file, [{**row, **changes} for row in json.loads(file.read_text())])
    code, output = said("aro", source, tmp_path / "groups")
    assert code == 2 and f"{file}, item 0" in output and message in output, output


def test_a_name_of_one_thing_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "mug.jpeg")
    row = {"image_path": "mug.jpeg", "caption_options": ["a mug"]}
    source = write(tmp_path / "controlled.json", [row])
    code, output = said("whats_up", source, tmp_path / "groups")
    assert code == 2 and f"{source}, item 0, field 'image_path': 'mug.jpeg' does not" in output


def row_of(**fields: object) -> dict[str, object]:
    return {"id": 1, "image_1": "a.png", "image_2": "b.png", "caption_1": "x\u2028y",
            "caption_2": "y\x85x", **fields}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row_of(), row_of()], "item 1: the group '1' is that of {source}, item 0 too"),
        ([row_of(id="")], "item 0: GroupLine.group: must not be empty"),
        ([row_of(image_2="a.png")], "item 0, field 'images': the same image twice"),
        ([row_of(caption_2="X y")], "{source}: no group left; 1 left out: captions are equal"),
        ([], "{source}: no group left; it holds none"),
    ],
)
def test_faults_are_those_of_the_source(rows: list[object], message: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    source = write(tmp_path / "test.json", rows)
    code, output = said("colorswap", source, tmp_path / "groups")
    assert code == 2 and message.format(source=source) in output, output
    assert str(source) in output and ".part" not in output


def test_statements_that_are_all_right_are_said_of_the_source(tmp_path: Path) -> None:
    source, images = vsr(tmp_path / "copy")
    source.write_text(source.read_text().replace('"label": 0', '"label": 1'))
    code, output = said("vsr", source, tmp_path / "groups", *with_images(images))
    assert code == 2 and f"{source}, field 'match': every group of one caption is right" in output
    assert ".part" not in output


def test_lines_of_a_source_end_at_line_feeds_alone(tmp_path: Path) -> None:
    source, images = vsr(tmp_path / "copy")
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows:
        row["caption"] += "\u2028\x85."
    content = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    source.write_text(f"\ufeff{content}", encoding="utf-8")
    code, output = said("vsr", source, tmp_path / "groups", *with_images(images))
    assert code == 0, output
    assert [line.captions[0] for line in read_lines(tmp_path / "groups")] == [
        row["caption"] for row in rows
    ]
