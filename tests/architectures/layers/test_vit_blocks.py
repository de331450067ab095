"""A block of the image tower on flat tokens against timm's own, and what timm's cannot do."""

import pytest
import timm
import torch

from architectures.frozen import SettingError
from architectures.layers.vit_blocks import ViTBlock
from architectures.layout import Layout

WIDTH = 24
REAL = torch.tensor([[True] * 5, [True, True, True, False, False], [True] * 4 + [False]])


def vit_block(name: str = "vit_tiny_patch16_224", **changes):
    """A block of timm's, all of whose weights are random, norms and scales too."""
    torch.manual_seed(0)
    sizes = dict(img_size=16, patch_size=8, embed_dim=WIDTH, depth=1, num_heads=2, num_classes=0)
    block = timm.create_model(name, **{**sizes, **changes}).blocks[0].eval().double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block


def tokens(rows: int = 3, length: int = 5) -> torch.Tensor:
    return torch.randn(rows, length, WIDTH, generator=torch.Generator().manual_seed(1)).double()


def test_equal_to_timms_block_by_value_name_and_gradient():
    for changes in ({}, {"init_values": 0.1}, {"qk_norm": True}, {"mlp_ratio": 2}):
        timms, block = vit_block(**changes), ViTBlock(vit_block(**changes)).eval()
        assert list(block.state_dict()) == list(timms.state_dict())
        block.load_state_dict(timms.state_dict())
        x = tokens()
        wanted = timms(x)
        found = block(x.flatten(0, 1), Layout.full(3, 5, x.device))
        torch.testing.assert_close(found, wanted.flatten(0, 1))
        wanted.pow(3).sum().backward()
        found.pow(3).sum().backward()
        for name, parameter in timms.named_parameters():
            torch.testing.assert_close(block.get_parameter(name).grad, parameter.grad)


def test_a_named_models_activation_and_epsilon_are_kept():
    clip = vit_block("vit_base_patch16_clip_quickgelu_224")
    plain = vit_block()
    layout, x = Layout.full(3, 5, torch.device("cpu")), tokens().flatten(0, 1)
    torch.testing.assert_close(ViTBlock(clip)(x, layout).view(3, 5, -1), clip(tokens()))
    assert not torch.allclose(ViTBlock(clip)(x, layout), ViTBlock(plain)(x, layout))
    assert ViTBlock(clip).norm1.eps == 1e-5


def test_padding_is_not_read_and_packed_equals_padded():
    timms = vit_block()
    block, x = ViTBlock(timms), tokens()
    padded, packed = Layout.of(REAL), Layout.of(REAL, packed=True)
    found = block(padded.pack(x), padded)
    for row, real in enumerate(REAL):
        alone = timms(x[row : row + 1, real])[0]
        torch.testing.assert_close(padded.unpack(found)[row, real], alone)
    torch.testing.assert_close(block(packed.pack(x), packed), padded.unpack(found)[REAL])


def test_a_bias_is_added_to_the_scores_of_every_head():
    """By hand from timm's weights: row i of head h adds bias[h, i, j] to its score of j."""
    timms, x = vit_block(), tokens(1, 3)
    block = ViTBlock(timms)
    bias = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(2)).double()
    q, k, v = timms.attn.qkv(timms.norm1(x[0])).view(3, 3, 2, WIDTH // 2).unbind(1)
    mixed = torch.zeros(3, 2, WIDTH // 2).double()
    for head in range(2):
        for i in range(3):
            scores = [
                q[i, head] @ k[j, head] / (WIDTH // 2) ** 0.5 + bias[0, head, i, j]
                for j in range(3)
            ]
            shares = torch.stack(scores).softmax(0)
            mixed[i, head] = sum(share * v[j, head] for j, share in enumerate(shares))
    x = x[0] + timms.attn.proj(mixed.flatten(1))
    wanted = x + timms.mlp(timms.norm2(x))
    full = Layout.full(1, 3, x.device)
    kept: list[torch.Tensor] = []
    found = block(tokens(1, 3)[0], full, bias_1HQK=bias)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(block(tokens(1, 3)[0], full, bias_1HQK=bias, keep=kept), wanted)
    assert kept[0].shape == (1, 2, 3, 3)


def test_reading_some_positions_gives_what_reading_all_gives_there():
    block, x = ViTBlock(vit_block()), tokens()
    bias = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(2)).double()
    at = torch.tensor([[0, 2], [1, 0], [3, 3]])
    for packed in (False, True):
        layout = Layout.of(REAL, packed=packed)
        flat = layout.pack(x)
        for more in ({}, {"bias_1HQK": bias}):
            whole = layout.unpack(block(flat, layout, **more))
            some = block(flat, layout, read_at_BR=at, **more)
            wanted = whole[torch.arange(3)[:, None], at].flatten(0, 1)
            torch.testing.assert_close(some, wanted)
    unbiased = ViTBlock(vit_block(qkv_bias=False))
    whole, some = unbiased(flat, layout), unbiased(flat, layout, read_at_BR=at)
    torch.testing.assert_close(some[0], layout.unpack(whole)[0, 0])


def test_what_stands_in_for_the_mlp_is_scaled_as_the_mlp_is():
    block, x = ViTBlock(vit_block(init_values=0.1)), tokens().flatten(0, 1)
    layout = Layout.full(3, 5, x.device)
    before = block(x, layout, own_mlp=False)
    torch.testing.assert_close(
        block.add(before, block.mlp(block.norm2(before)), layout), block(x, layout)
    )


def test_layer_scales_start_at_their_value_and_replace_the_named_models():
    block = ViTBlock(vit_block(init_values=0.5), layer_scale=0.1)
    assert (
        set(block.ls1.gamma.tolist()) == set(block.ls2.gamma.tolist()) == {torch.tensor(0.1).item()}
    )


def test_drop_path_leaves_out_whole_rows_in_training_alone():
    block = ViTBlock(vit_block(), drop_path=0.25).train()
    real = torch.tensor([[True, True, True], [True, True, False]] * 2000)
    layout = Layout.of(real, packed=True)
    ones = torch.ones(10_000, WIDTH).double()
    torch.manual_seed(0)
    added = layout.unpack(block.add(torch.zeros_like(ones), ones, layout))
    assert set(added[real].unique().tolist()) == {0, 1 / 0.75}
    by_row = added[:, 0, 0]
    torch.testing.assert_close(added[real], by_row[:, None, None].expand_as(added)[real])
    assert abs((by_row == 0).double().mean() - 0.25) < 0.03  # over four standard errors
    assert torch.equal(block.eval().add(ones * 0, ones, layout), ones)


def test_another_kind_of_block_is_refused():
    with pytest.raises(SettingError, match="ParallelThingsBlock cannot take words too; set the"):
        ViTBlock(vit_block("vit_small_patch16_18x2_224"))
