"""Small models of the published kinds, every weight random, saved as they are published."""

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.architectures.reference import randomised

TEXT = dict(
    vocab_size=50, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
ROBERTA = {**TEXT, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
CLIP_VISION = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, image_size=16,
    patch_size=8,
)  # fmt: skip
VILT = {
    **TEXT, "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
LXMERT = {
    **{k: v for k, v in TEXT.items() if k != "num_hidden_layers"}, "l_layers": 3, "x_layers": 2,
    "r_layers": 1, "num_qa_labels": 3, "num_object_labels": 3, "num_attr_labels": 2,
    "visual_feat_dim": 8,
}  # fmt: skip
BLIP2 = dict(
    vision_config=dict(
        hidden_size=24, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        image_size=16, patch_size=8,
    ),
    qformer_config={
        **TEXT, "num_hidden_layers": 5, "encoder_hidden_size": 24, "use_qformer_text_input": True,
    },
    text_config=dict(
        model_type="opt", vocab_size=50, hidden_size=16, num_hidden_layers=1, ffn_dim=16,
        num_attention_heads=2, word_embed_proj_dim=16, max_position_embeddings=12,
    ),
    num_query_tokens=3, image_text_hidden_size=8,
)  # fmt: skip
BLIP = dict(
    text_config={
        **TEXT, "vocab_size": 52, "encoder_hidden_size": 24, "projection_dim": 8, "eos_token_id": 3,
        "bos_token_id": 50, "sep_token_id": 3,
    },
    vision_config=BLIP2["vision_config"], image_text_hidden_size=8,
)  # fmt: skip
CONFIGS = {
    "Bert": lambda: transformers.BertConfig(**TEXT),
    "Roberta": lambda: transformers.RobertaConfig(**ROBERTA),
    "DistilBert": lambda: transformers.DistilBertConfig(
        vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=12
    ),
    "CLIP": lambda: transformers.CLIPConfig(
        text_config={**TEXT, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 0},
        vision_config=CLIP_VISION,
        projection_dim=8,
    ),
    "Vilt": lambda: transformers.ViltConfig(**VILT),
    "VisualBert": lambda: transformers.VisualBertConfig(**TEXT, visual_embedding_dim=24),
    "Lxmert": lambda: transformers.LxmertConfig(**LXMERT),
    "Git": lambda: transformers.GitConfig(**TEXT, vision_config=CLIP_VISION),
    "Blip": lambda: transformers.BlipConfig(**BLIP),
    "Blip2": lambda: transformers.Blip2Config(**BLIP2),
    "BridgeTower": lambda: transformers.BridgeTowerConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, contrastive_hidden_size=8,
        text_config={k: v for k, v in ROBERTA.items() if k != "pad_token_id"},
        vision_config=dict(
            hidden_size=128, num_hidden_layers=5, image_size=16, patch_size=8,
            remove_last_layer=True,
        ),
    ),
}  # fmt: skip


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def for_clip(image_BCHW: torch.Tensor) -> torch.Tensor:
    """Pixels from -1 to 1 as CLIP, BridgeTower, BLIP-2 and ALBEF are fed them."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    return ((image_BCHW + 1) / 2 - mean) / std


def model(cls: str) -> Any:
    """A randomised model of a class of transformers, with eager attention."""
    family = next(name for name in sorted(CONFIGS, key=len, reverse=True) if cls.startswith(name))
    config = CONFIGS[family]()
    config._attn_implementation = "eager"
    for part in ("text_config", "vision_config", "qformer_config"):
        if hasattr(config, part):
            getattr(config, part)._attn_implementation = "eager"
    own = cls.startswith(("CLIPText", "CLIPVision"))
    config = getattr(config, f"{cls[4:8].lower()}_config", config.vision_config) if own else config
    return randomised(getattr(transformers, cls)(config))


def saved(cls: str, folder: Path) -> Any:
    """The same, saved; the model."""
    made = model(cls)
    made.save_pretrained(folder)
    return made


def change(folder: Path, edit: Any) -> None:
    """Edits the state dict of a saved folder in place."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def albef_training(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An ALBEF state dict with all that its pre-training keeps beside the model."""
    twins = ("visual_encoder.", "text_encoder.", "vision_proj.", "text_proj.")
    twin = {
        name.replace(".", "_m.", 1): x + 1 for name, x in state.items() if name.startswith(twins)
    }
    queues = {f"{part}_queue": torch.randn(8, 4) for part in ("image", "text")}
    return {
        **state, **twin, **queues, "queue_ptr": torch.zeros(1, dtype=torch.int64),
        "temp": torch.tensor(0.07),
        "text_encoder.bert.embeddings.position_ids": torch.arange(12)[None],
    }  # fmt: skip
