"""A small corpus of scenes, and designs of the smallest backbone that reads its captions."""

from collections.abc import Callable

import pytest

from architectures import build
from architectures.backbone import Backbone
from architectures.contract import FusionDesign
from harness.training.data.corpus import Corpus, load_corpus
from harness.training.randomness import stream
from harness.training.settings.data import Scenes, Text

BACKBONE = Backbone(
    vision="vit_tiny_patch16_224",
    image_size=16,
    patch_size=8,
    image_width=24,
    image_layers=2,
    image_heads=2,
    text_width=16,
    text_layers=8,
    text_heads=2,
    text_mlp=32,
    max_positions=24,
    dropout=0.0,
    init_std=0.3,  # large enough that a pair is more than its two sides
    itc_width=8,
)


@pytest.fixture(scope="session")
def two_objects(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Scenes of two objects, whose captions say directions."""
    data = Scenes(train=96, val=24, test=24, objects=(2, 2), text=Text(max_tokens=20))
    return load_corpus(data, 16, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def small() -> Callable[..., FusionDesign]:
    """`small(name, vocabulary, objectives)`: a design of random weights."""

    def built(name: str, vocabulary: int, objectives: tuple[str, ...]) -> FusionDesign:
        def draw(role: str):  # type: ignore[no-untyped-def]
            return stream(0, "initial weights", role)

        return build.design(name, {}, BACKBONE, vocabulary, draw=draw, objectives=objectives).eval()

    return built
