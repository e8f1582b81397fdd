"""Weights that others trained: Hugging Face's BERT folders, read strictly."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from blogcore.blocks import Block, EncoderConfig, Stack
from blogcore.encoder import Bert, Embedding, MaskedLanguageHead, Pooler

# The names of our parts, and Hugging Face's for the same.
NAMES = {
    "embedding.tokens.": "embeddings.word_embeddings.",
    "embedding.positions.": "embeddings.position_embeddings.",
    "embedding.segments.": "embeddings.token_type_embeddings.",
    "embedding.norm.": "embeddings.LayerNorm.",
    "blocks.": "encoder.layer.",
    ".attention.query.": ".attention.self.query.",
    ".attention.key.": ".attention.self.key.",
    ".attention.value.": ".attention.self.value.",
    ".attention.output.": ".attention.output.dense.",
    ".attention.norm.": ".attention.output.LayerNorm.",
    ".feed_forward.inner.": ".intermediate.dense.",
    ".feed_forward.output.": ".output.dense.",
    ".feed_forward.norm.": ".output.LayerNorm.",
}
LANGUAGE = {
    "head.dense.": "cls.predictions.transform.dense.",
    "head.norm.": "cls.predictions.transform.LayerNorm.",
    "head.bias": "cls.predictions.bias",
}
# architecture: (where its head's tensors stand, their names)
HEADS = {
    "BertModel": ("pooler.", {"head.dense.": "pooler.dense."}),
    "BertForMaskedLM": ("cls.predictions.", LANGUAGE),
    "BertForPreTraining": ("cls.predictions.", LANGUAGE),
}
SHAPE = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "inner": "intermediate_size",
    "positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "epsilon": "layer_norm_eps",
}
# What a Bert here always has; a folder may leave these settings out.
FIXED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
# Written by older versions beside the tensors, and known without reading them.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
COPIES = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def load_bert(folder: Path, without: Sequence[str] = ()) -> Bert:
    """The BERT in a folder with config.json and model.safetensors, in eval mode.

    Its head is the ``MaskedLanguageHead`` of a BertForMaskedLM or the ``Pooler`` of a
    BertModel; ``without`` lists beginnings of tensor names to leave out, such as
    ``"pooler."``, and a head left out is the identity. Raises ValueError for every
    other tensor that is missing, surplus or of the wrong shape, for settings that a
    ``Bert`` does not have, for sharded or damaged files; FileNotFoundError for no file.
    Source: transformers 5.23, modeling_bert.py.
    """
    folder = Path(folder)
    settings = _settings(folder / "config.json")
    config = _config(settings)
    tensors = _tensors(folder, tuple(without))
    place, names = _head_of(settings)
    language = place.startswith("cls.")
    with torch.device("meta"):
        embedding = Embedding(config)
        if place in without:
            head = nn.Identity()
        elif language:
            head = MaskedLanguageHead(config, embedding.tokens)
        else:
            head = Pooler(config)
        blocks = Stack(Block(config) for _ in range(config.layers))
        model = Bert(embedding, blocks, head)
    _fill(model, tensors, NAMES | names)
    return model.eval()


def _settings(path: Path) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} is no JSON ({error})") from error
    for name, ours in FIXED.items():
        if settings.get(name, ours) not in (ours, None):
            raise ValueError(
                f"folder: {path} says {name} = {settings[name]!r}; only {ours!r} is read"
            )
    return settings


def _config(settings: dict) -> EncoderConfig:
    missing = [theirs for theirs in SHAPE.values() if theirs not in settings]
    if missing:
        raise ValueError(f"folder: config.json does not say {missing}")
    attention = settings.get("attention_probs_dropout_prob")
    if attention not in (None, settings["hidden_dropout_prob"]):
        raise ValueError(
            f"folder: attention_probs_dropout_prob = {attention!r} is not "
            f"hidden_dropout_prob = {settings['hidden_dropout_prob']!r}"
        )
    return EncoderConfig(**{ours: settings[theirs] for ours, theirs in SHAPE.items()})


def _head_of(settings: dict) -> tuple[str, dict[str, str]]:
    kind = (settings.get("architectures") or [None])[0]
    if kind not in HEADS:
        raise ValueError(f"folder: architecture {kind!r} is not one of {list(HEADS)}")
    return HEADS[kind]


def _tensors(folder: Path, without: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The folder's tensors under BertModel's names, but for those left out."""
    path = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if index.exists():
        raise ValueError(f"folder: {index} means several files; one file is read")
    if not path.exists():
        raise FileNotFoundError(f"folder: {path} does not exist")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"folder: {path} is no intact file ({error})") from error
    found = {}
    for name, tensor in stored.items():
        plain = name.removeprefix("bert.")
        plain = plain.replace("LayerNorm.gamma", "LayerNorm.weight")
        plain = plain.replace("LayerNorm.beta", "LayerNorm.bias")
        if plain in found:
            raise ValueError(f"folder: {path} holds {plain} twice")
        if not plain.startswith(without or ("\0",)):
            found[plain] = tensor
    return found


def _fill(model: Bert, tensors: dict[str, torch.Tensor], names: dict[str, str]):
    """Put every tensor in its place; nothing may be missing, nothing left over."""
    state = model.state_dict()
    state.pop("head.tokens.weight", None)  # the embedding's own
    expected = {}
    for ours in state:
        theirs = ours
        for part, other in names.items():
            theirs = theirs.replace(part, other)
        expected[theirs] = ours
    for copy, original in COPIES.items():
        if copy in tensors and original in tensors:
            if not torch.equal(tensors.pop(copy), tensors[original]):
                raise ValueError(f"folder: {copy} is not {original}: weights untied")
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys() - set(BUFFERS))
    if missing or surplus:
        raise ValueError(f"folder: missing tensors {missing}, surplus {surplus}")
    for theirs, ours in expected.items():
        if tensors[theirs].shape != state[ours].shape:
            raise ValueError(
                f"folder: {theirs} has shape {tuple(tensors[theirs].shape)}, "
                f"config.json says {tuple(state[ours].shape)}"
            )
    placed = {ours: tensors[theirs] for theirs, ours in expected.items()}
    if isinstance(model.head, MaskedLanguageHead):
        placed["head.tokens.weight"] = placed["embedding.tokens.weight"]
    model.load_state_dict(placed, assign=True)
