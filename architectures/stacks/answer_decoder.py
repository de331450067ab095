"""An answer decoder is made of copies of fusion layers: causal, and reading a question's states.

ALBEF's for VQA (Li et al. 2021; salesforce/ALBEF, models/model_vqa.py): self-attention of each copy
sees earlier tokens only, and where its fusion layer read the image it reads the fused states of the
question. Embeddings and the MLM head, which says the next token, are copies too.

Shape suffixes: A answers, L answer positions, V vocabulary, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import Tensor, nn

from architectures.contract import AnswerDecoding, TextStates
from architectures.layers.blocks import Layer
from architectures.layers.heads import MLMHead
from architectures.layers.read import Read
from architectures.layout import Layout
from architectures.stacks.towers import TwoTowers


class AnswerDecoder(AnswerDecoding):
    """A causal decoder over the states of a question, from the weights of a design's layers.

    Roles: `embeddings`, `layers.i`, `head`, whose decoder is tied to the word embedding.
    """

    def __init__(self, design: TwoTowers, layers: Iterable[Layer]) -> None:
        """Copies fusion layers, lowest first, with the design's embeddings and LM or MLM head.

        Keys and values of cross-attention start fresh where the design's read image tokens of
        another width than the text's, and so does the head where the design was built without both.
        Raises `TypeError` without layers.
        """
        super().__init__()
        copied = [copy.deepcopy(layer) for layer in layers]
        if not copied:
            raise design.cannot_fuse()
        embeddings, fresh = design.text_encoder()[0], list[str]()
        named = next((name for name in ("lm", "mlm") if name in design.heads), None)
        if named:
            head = design.heads[named]
        else:
            head = MLMHead(embeddings.word, design.backbone.text_kind.eps)
            fresh += ["head.dense.", "head.norm.", "head.decoder.bias"]
        # In one copy, so that the head stays tied.
        parts = copy.deepcopy(nn.ModuleList([embeddings, head]))
        self.embeddings, self.head = parts
        for place, layer in enumerate(copied):
            layer.self_attention.causal = True
            if not layer.crosses:
                continue
            attention = layer.cross_attention
            if attention.key.in_features != attention.query.in_features:
                for part in ("key", "value"):
                    setattr(attention, part, nn.Linear(*attention.query.weight.shape))
                    fresh.append(f"layers.{place}.cross_attention.{part}.")
        self.layers = nn.ModuleList(copied)
        self.fresh = tuple(fresh)

    def forward(self, ids_AL: Tensor, is_real_AL: Tensor, question: TextStates) -> Tensor:
        layout = Layout.of(is_real_AL)
        read = Read(states=question.tokens_TD, layout=question.layout)
        x_TD = self.embeddings(ids_AL, layout)
        for layer in self.layers:
            x_TD = layer(x_TD, layout, read)
        return layout.unpack(self.head(x_TD))
