"""Models of one modality alone: a BERT with its MLM head, its half (DistilBERT), and a ViT that
names classes or fills in hidden patches. Their parts and roles are those of every design, so that
designs can start from their weights.

Letters: B rows, L text positions, R positions read, T flat tokens, P patches, D width, V
vocabulary, N rows times positions read, K pixel values of a patch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.backbone import Backbone
from architectures.frozen import checked
from architectures.layers.blocks import Embeddings, Layer
from architectures.layers.heads import MLMHead
from architectures.layout import Layout
from architectures.stacks.image_tower import ImageTower
from architectures.weights import widths
from architectures.weights.slots import choose


class MaskedWords(nn.Module):
    """The backbone's text stack with an MLM head. Roles: `embeddings`, `layers.j`, `heads.mlm`."""

    def __init__(self, backbone: Backbone, vocabulary: int) -> None:
        super().__init__()
        self.backbone, self.vocabulary = backbone, vocabulary
        self.embeddings = Embeddings(backbone, vocabulary)
        self.layers = nn.ModuleList(Layer(backbone) for _ in range(backbone.text_layers))
        head = MLMHead(self.embeddings.word, backbone.text_kind.eps)
        self.heads = nn.ModuleDict({"mlm": head})
        widths.prepare(self, backbone, lambda at: MaskedWords(at, vocabulary))

    def forward(self, ids_BL: Tensor, is_real_BL: Tensor, at_BR: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits (N, V) at the positions `at_BR`, and the last states (T, D) of all tokens,
        padding too.

        ids_BL:     (B, L) int64 token ids
        is_real_BL: (B, L) bool, the token is no padding
        at_BR:      (B, R) int64 positions
        """
        layout = Layout.of(is_real_BL)
        x_TD = self.embeddings(ids_BL, layout)
        for layer in self.layers:
            x_TD = layer(x_TD, layout)
        return self.heads["mlm"](layout.at(x_TD, at_BR)[0]), x_TD


@torch.no_grad()
def halved(teacher: MaskedWords) -> MaskedWords:
    """Makes a DistilBERT of every other layer of a BERT, counted down from the highest.

    DistilBERT has no token types; the row that BERT adds to every position is kept in its position
    table (Sanh et al. 2019 leave it out), so that both embed a text alike.
    """
    there = teacher.backbone.text_layers
    kept = choose("every_other", max(1, there // 2), there, "layers of the student")
    sizes = {**dict(teacher.backbone), "text": "distilbert", "text_layers": len(kept)}
    student = MaskedWords(checked(Backbone, sizes), teacher.vocabulary)
    source = teacher.state_dict()
    types_2D = source.pop("embeddings.token_type.weight")
    source["embeddings.position.weight"] = source["embeddings.position.weight"] + types_2D[0]
    for role, value in student.state_dict().items():
        part, _, rest = role.partition(".")
        if part == "layers":
            slot, _, rest = rest.partition(".")
            role = f"layers.{kept[int(slot)]}.{rest}"
        value.copy_(source[role])
    return student


class NamesClasses(nn.Module):
    """A ViT with a linear classifier on its class token."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.image = ImageTower(backbone)
        self.head = nn.Linear(backbone.image_width, classes)
        widths.prepare(self, backbone, lambda at: NamesClasses(at, classes))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Returns logits (B, classes) of normalised pixels (B, C, H, W)."""
        return self.head(self.image(image_BCHW).pooled_BD)


class FillsPatches(nn.Module):
    """A ViT that reads a learnt token in the place of some patches and predicts their pixels by a
    linear map of its last states there (SimMIM, Xie et al. 2022).
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.size = backbone.patch_size
        self.image = ImageTower(backbone)
        self.hidden = nn.Embedding(1, backbone.image_width)
        self.head = nn.Linear(backbone.image_width, self.size**2 * backbone.image_channels)
        widths.prepare(self, backbone, FillsPatches)

    def forward(self, image_BCHW: Tensor, at_BR: Tensor) -> tuple[Tensor, Tensor]:
        """Returns predicted and true pixels, (N, K) each, of the patches at the places `at_BR`
        (B, R) of the grid. Every true patch is less its mean and over its deviation (He et al.
        2022).
        """
        vit = self.image.vit
        patches_BPD = vit.patch_embed(image_BCHW)
        at_BRD = at_BR[..., None].expand(-1, -1, patches_BPD.shape[-1])
        token_BRD = self.hidden.weight.to(patches_BPD.dtype).expand(at_BRD.shape)
        x_BPD = vit._pos_embed(patches_BPD.scatter(1, at_BRD, token_BRD))
        x_BPD = vit.norm(vit.blocks(vit.norm_pre(x_BPD)))
        hidden_BRD = x_BPD[:, x_BPD.shape[1] - patches_BPD.shape[1] :].gather(1, at_BRD)
        true_BPK = F.unfold(image_BCHW, self.size, stride=self.size).transpose(1, 2)
        true_BRK = true_BPK.gather(1, at_BR[..., None].expand(-1, -1, true_BPK.shape[-1]))
        mean_BR1 = true_BRK.mean(-1, keepdim=True)
        variance_BR1 = true_BRK.var(-1, keepdim=True)
        true_BRK = (true_BRK - mean_BR1) / (variance_BR1 + 1e-6).sqrt()
        return self.head(hidden_BRD).flatten(0, 1), true_BRK.flatten(0, 1)
