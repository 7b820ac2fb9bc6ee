"""Tiny folders of transformers: random weights from a seed, a tokenizer trained on four lines."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

PAGE = (
    "the quick brown fox jumps over the lazy dog",
    "a model server answers texts, pictures and numbers",
    "Anna lives in Paris and works for the post office",
    "pack my box with five dozen liquor jugs",
)


def tokenizer() -> Any:
    """A word piece tokenizer with the special tokens of BERT."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(PAGE, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=32,
    )


def saved(folder: Path, model: Any, with_tokenizer: bool = True) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    model.eval().save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def small(**more: Any) -> Any:
    """The configuration of a BERT of two layers."""
    return transformers.BertConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=0.5,
        **more,
    )


def named(*labels: str) -> dict[str, Any]:
    """What a configuration says of its classes."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: place for place, name in enumerate(labels)},
    }


def sequence_classifier(folder: Path) -> Path:
    torch.manual_seed(1)
    config = small(**named("bad", "fair", "good"))
    return saved(folder, transformers.BertForSequenceClassification(config))


def token_classifier(folder: Path) -> Path:
    torch.manual_seed(2)
    config = small(**named("O", "B-PER", "I-PER", "B-LOC"))
    return saved(folder, transformers.BertForTokenClassification(config))


def embedder(folder: Path) -> Path:
    torch.manual_seed(3)
    return saved(folder, transformers.BertModel(small()))


def generator(folder: Path) -> Path:
    torch.manual_seed(4)
    config = transformers.GPT2Config(
        vocab_size=200,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        initializer_range=0.5,
    )
    model = transformers.GPT2LMHeadModel(config)
    model.generation_config.max_new_tokens = 8
    return saved(folder, model)


def picture_classifier(folder: Path) -> Path:
    torch.manual_seed(5)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        initializer_range=0.5,
        **named("cat", "dog"),
    )
    saved(folder, transformers.ViTForImageClassification(config), with_tokenizer=False)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder
