"""Weights that others trained: Hugging Face's BERT folders, read strictly."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from blogcore.blocks import EncoderConfig
from blogcore.encoder import Bert, Pooler, masked_language_bert

# The names of our parts, and Hugging Face's for the same; replaced in this order.
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
POOLER = {"head.dense.": "pooler.dense."}
LANGUAGE = {
    "head.dense.": "cls.predictions.transform.dense.",
    "head.norm.": "cls.predictions.transform.LayerNorm.",
    "head.bias": "cls.predictions.bias",
}
# architecture: (where its head's tensors stand, their names)
HEADS = {
    "BertModel": ("pooler.", POOLER),
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
# How TensorFlow called them.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# Written by older versions beside the tensors, and known without reading them.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
COPIES = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def load_bert(folder: Path, without: Sequence[str] = ()) -> Bert:
    """The BERT in a folder with config.json and model.safetensors, in eval mode.

    Its head is the ``MaskedLanguageHead`` of a BertForMaskedLM or the ``Pooler`` of a
    BertModel. ``without`` lists beginnings of tensor names to leave out, such as
    ``"pooler."``; a head left out becomes the identity. Every other tensor that is
    missing, surplus or of the wrong shape raises ValueError, as do settings that a
    ``Bert`` does not have and sharded or damaged files; no file: FileNotFoundError.
    Source: transformers 5.23, modeling_bert.py.
    """
    if isinstance(without, str):
        raise TypeError(f"without: {without!r} is not a list of names")
    folder, without = Path(folder), tuple(without)
    settings = _settings(folder / "config.json")
    tensors = _tensors(folder, without)
    model, names = _skeleton(settings, without)
    _fill(model, tensors, names)
    return model.eval()


def _settings(path: Path) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} is no JSON ({error})") from error
    missing = [theirs for theirs in SHAPE.values() if theirs not in settings]
    if missing:
        raise ValueError(f"folder: {path} does not say {missing}")
    dropout = {"attention_probs_dropout_prob": settings["hidden_dropout_prob"]}
    for name, ours in (FIXED | dropout).items():
        found = settings.get(name, ours)
        if found != ours and found is not None:
            raise ValueError(f"folder: {path}: {name} is {found!r}, not {ours!r}")
    return settings


def _tensors(folder: Path, without: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The folder's tensors under BertModel's names, but for those left out."""
    path = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if index.exists():
        raise ValueError(f"folder: {index.name} says several files; one is read")
    if not path.exists():
        raise FileNotFoundError(f"folder: {path} does not exist")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"folder: {path} is no intact file ({error})") from error
    found = {}
    for name, tensor in stored.items():
        plain = name.removeprefix("bert.")
        for old, new in RENAMED.items():
            plain = plain.replace(old, new)
        if plain in found:
            raise ValueError(f"folder: {path} holds {plain} twice")
        if not any(plain.startswith(part) for part in without):
            found[plain] = tensor
    return found


def _skeleton(settings: dict, without: tuple[str, ...]) -> tuple[Bert, dict[str, str]]:
    """A model without numbers, and Hugging Face's names for the parts of it."""
    kind = (settings.get("architectures") or [None])[0]
    if kind not in HEADS:
        raise ValueError(f"folder: architecture {kind!r} is not one of {list(HEADS)}")
    place, names = HEADS[kind]
    config = EncoderConfig(**{ours: settings[theirs] for ours, theirs in SHAPE.items()})
    with torch.device("meta"):
        model = masked_language_bert(config)
        if place in without:
            model.head = nn.Identity()
        elif names is POOLER:
            model.head = Pooler(config)
    return model, NAMES | names


def _fill(model: Bert, tensors: dict[str, torch.Tensor], names: dict[str, str]) -> None:
    """Put every tensor in its place; nothing may be missing, nothing left over."""
    state = model.state_dict()
    tied = state.pop("head.tokens.weight", None)  # the embedding's own
    theirs = {ours: _translated(ours, names) for ours in state}
    surplus = tensors.keys() - theirs.values() - set(BUFFERS)
    if tied is not None:
        surplus -= _copies(tensors)
    missing = theirs.values() - tensors.keys()
    if missing or surplus:
        raise ValueError(
            f"folder: missing tensors {sorted(missing)}, surplus {sorted(surplus)}"
        )
    for ours, name in theirs.items():
        if tensors[name].shape != state[ours].shape:
            raise ValueError(
                f"folder: {name} has shape {tuple(tensors[name].shape)}, "
                f"not {tuple(state[ours].shape)} as config.json says"
            )
    # Clones: what safetensors hands out are views of the file.
    placed = {ours: tensors[name].clone() for ours, name in theirs.items()}
    if tied is not None:
        placed["head.tokens.weight"] = placed["embedding.tokens.weight"]
    model.load_state_dict(placed, assign=True)


def _translated(ours: str, names: dict[str, str]) -> str:
    for part, theirs in names.items():
        ours = ours.replace(part, theirs)
    return ours


def _copies(tensors: dict[str, torch.Tensor]) -> set[str]:
    """The decoder's tensors, if they are the tied ones once more."""
    for copy, original in COPIES.items():
        both = copy in tensors and original in tensors
        if both and not torch.equal(tensors[copy], tensors[original]):
            raise ValueError(f"folder: {copy} differs from {original}: not tied")
    return set(COPIES)
