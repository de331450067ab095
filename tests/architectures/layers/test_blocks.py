"""Fusion layers against a loop-written ALBEF; layouts against hand-made rows."""

import pytest
import torch

from architectures.layout import Layout
from tests.architectures.reference import layer


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_fusion_layers_equal_a_loop_written_albef(make, batch, packed):
    design = make("split_bert", {"text_layers": 6})
    images, ids, real = (x[:3] for x in batch)
    image = design.encode_image(images)
    text = design.encode_text(ids, real, packed=packed)
    fused = design.fuse(image, text)
    for row in range(3):
        x = text.tokens_BLD[row]
        for j in (6, 7):
            weights = dict(design.layers[j].named_parameters())
            x = layer(weights, x, real[row], image.tokens_BPD[row], heads=2)
        torch.testing.assert_close(fused.text_BRD[row][real[row]], x[real[row]])
        torch.testing.assert_close(fused.pooled_BD[row], x[0])


def test_a_text_longer_than_the_table_is_said(make):
    ids = torch.ones(1, 13, dtype=torch.int64)
    with pytest.raises(ValueError, match="13 tokens is longer than max_positions = 12"):
        make("split_bert", {}).encode_text(ids, ids > 0)


@pytest.mark.parametrize("packed", [False, True])
def test_a_layout_gives_rows_positions_and_means(packed):
    real = torch.tensor([[True, True, False], [True, True, True]])
    rows = torch.arange(12.0).view(2, 3, 2)
    layout = Layout.of(real, packed=packed)
    flat = layout.pack(rows)
    assert flat.shape[0] == (5 if packed else 6)
    assert torch.equal(layout.unpack(flat)[real], rows[real])
    assert torch.equal(layout.first(flat), rows[:, 0])
    at, own = layout.at(flat, torch.tensor([[1, 0], [2, 2]]))
    assert torch.equal(at, rows[[0, 0, 1, 1], [1, 0, 2, 2]])
    assert torch.equal(own.unpack(at), at.view(2, 2, 2))
    assert torch.equal(layout.mean(flat), torch.tensor([[1.0, 2.0], [8.0, 9.0]]))
    assert layout.bias(layout).squeeze().tolist() == [[0, 0, -1e4], [0, 0, 0]]
