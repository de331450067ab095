from unicodedata import normalize

import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training.data.identity import Identity, caption_hash, hashed, matches

row = st.tuples(
    st.integers(0, 3), st.integers(0, 3), st.lists(st.integers(0, 5), min_size=1, max_size=3)
)


def identity(rows: list[tuple[int, int, list[int]]]) -> Identity:
    """Rows of (group, picture, captions); the first caption is the one drawn."""
    widest = max(len(captions) for _, _, captions in rows)
    padded = [captions + [-1] * (widest - len(captions)) for _, _, captions in rows]
    return Identity(
        group_B=torch.tensor([group for group, _, _ in rows]),
        picture_B=torch.tensor([picture for _, picture, _ in rows]),
        caption_B=torch.tensor([captions[0] for _, _, captions in rows]),
        captions_BC=torch.tensor(padded),
    )


def test_each_rule_alone_makes_a_match() -> None:
    image = identity([(1, 1, [1, 2])])
    texts = identity([(1, 9, [9]), (9, 1, [9]), (9, 9, [2]), (9, 9, [9, 1]), (9, 9, [9])])
    # by group, by picture, by a caption that was not drawn for the image; another picture's
    # caption that was not drawn does not count, and nothing shared is no match
    assert matches(image, texts).tolist() == [[True, True, True, False, False]]


@given(st.lists(row, min_size=1, max_size=6), st.lists(row, min_size=1, max_size=6))
def test_matches_is_the_rule_read_naively(
    images: list[tuple[int, int, list[int]]], texts: list[tuple[int, int, list[int]]]
) -> None:
    naive = [
        [i[0] == t[0] or i[1] == t[1] or t[2][0] in i[2] for t in texts] for i in images
    ]  # fmt: skip
    assert matches(identity(images), identity(texts)).tolist() == naive


@given(st.lists(row, min_size=1, max_size=5), st.lists(row, min_size=1, max_size=5))
def test_joined_identities_match_as_their_parts(
    first: list[tuple[int, int, list[int]]], second: list[tuple[int, int, list[int]]]
) -> None:
    joined, both = Identity.join([identity(first), identity(second)]), identity(first + second)
    assert torch.equal(matches(joined, joined), matches(both, both))
    back = torch.arange(len(joined)).flip(0)
    assert torch.equal(matches(joined.take(back), joined), matches(both, both).flip(0))


def test_padding_never_matches() -> None:
    image, text = identity([(1, 1, [3])]), identity([(2, 2, [4, 5])])
    joined = Identity.join([image, text])  # the image's captions are now padded with -1
    assert matches(joined, joined).tolist() == [[True, False], [False, True]]


def test_two_ways_to_encode_an_accent_are_one_caption() -> None:
    for text in ("\u00c9t\u00e9 blanc", "\u0390", "\ud55c\uae00", "A\u030angstr\u00f6m"):
        forms = {caption_hash(normalize(form, text)) for form in ("NFC", "NFD")}
        assert len(forms) == 1, text
    assert caption_hash("\u00e9t\u00e9") != caption_hash("ete")
    plain = " A  red\tcircle, 3 cm"
    assert caption_hash(plain) == hashed(b"a red circle, 3 cm"), "as before in ASCII"


def test_hashes_leave_the_padding_free_and_ignore_case_and_spacing() -> None:
    assert all(hashed(bytes([i])) >= 0 for i in range(256))
    assert (
        caption_hash(" A  red\tcircle") == caption_hash("a red circle") != caption_hash("a circle")
    )
