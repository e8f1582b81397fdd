"""Weights that others trained: Hugging Face's folders, read strictly."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from blogcore.blocks import EncoderConfig
from blogcore.electra import DetectionHead
from blogcore.encoder import Bert, Pooler, masked_language_bert


class Head(NamedTuple):
    """Where a head's tensors begin, their names after ours, and what makes it."""

    place: str
    names: dict[str, str]
    make: Callable[[EncoderConfig], nn.Module] | None  # None: the tied language head


class Family(NamedTuple):
    """How Hugging Face stores a kind of encoder.

    ``prefix`` stands before all names but the head's. ``names`` are our parts' names
    and theirs, replaced in this order; ``heads`` those of each architecture; ``copies``
    of tied tensors, and what they repeat; ``fixed`` the settings it must have.
    """

    prefix: str
    names: dict[str, str]
    heads: dict[str, Head]
    copies: dict[str, str]
    fixed: dict[str, object]


TABLES = {
    "embedding.narrow.": "embedding.",
    "embedding.tokens.": "embeddings.word_embeddings.",
    "embedding.positions.": "embeddings.position_embeddings.",
    "embedding.segments.": "embeddings.token_type_embeddings.",
    "embedding.norm.": "embeddings.LayerNorm.",
}
BLOCKS = {
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
ALBERT_BLOCKS = {
    "embedding.up.": "encoder.embedding_hidden_mapping_in.",
    ".attention.output.": ".attention.dense.",
    ".attention.norm.": ".attention.LayerNorm.",
    ".feed_forward.inner.": ".ffn.",
    ".feed_forward.output.": ".ffn_output.",
    ".feed_forward.norm.": ".full_layer_layer_norm.",
}
WORDS = "embeddings.word_embeddings.weight"


def _language(place: str, dense: str) -> Head:
    names = {"head.dense.": f"{place}{dense}dense.", "head.bias": f"{place}bias"}
    return Head(place, names | {"head.norm.": f"{place}{dense}LayerNorm."}, None)


CLS = "cls.predictions."
# What an encoder here always has; a folder may leave these settings out.
FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
BERT = Family(
    "bert.",
    TABLES | BLOCKS,
    {
        "BertModel": Head("pooler.", {"head.dense.": "pooler.dense."}, Pooler),
        "BertForMaskedLM": _language(CLS, "transform."),
        "BertForPreTraining": _language(CLS, "transform."),
    },
    {f"{CLS}decoder.weight": WORDS, f"{CLS}decoder.bias": f"{CLS}bias"},
    FIXED | {"hidden_act": "gelu"},
)
ALBERT = Family(
    "albert.",
    TABLES | ALBERT_BLOCKS,
    {
        "AlbertModel": Head("pooler.", {"head.dense.": "pooler."}, Pooler),
        "AlbertForMaskedLM": _language("predictions.", ""),
        "AlbertForPreTraining": _language("predictions.", ""),
    },
    {
        "predictions.decoder.weight": WORDS,
        "predictions.decoder.bias": "predictions.bias",
    },
    FIXED | {"inner_group_num": 1},
)
DETECTION = {
    "head.dense.": "discriminator_predictions.dense.",
    "head.output.": "discriminator_predictions.dense_prediction.",
}
FILLING = {
    "head.dense.": "generator_predictions.dense.",
    "head.norm.": "generator_predictions.LayerNorm.",
    "head.bias": "generator_lm_head.bias",
}
ELECTRA = Family(
    "electra.",
    TABLES | {"embedding.up.": "embeddings_project."} | BLOCKS,
    {
        "ElectraForPreTraining": Head(
            "discriminator_predictions.", DETECTION, DetectionHead
        ),
        "ElectraForMaskedLM": Head("generator_", FILLING, None),
    },
    {"generator_lm_head.weight": WORDS},
    FIXED | {"hidden_act": "gelu"},
)
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
GELUS = {"gelu": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
# How TensorFlow called them.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# Written by older versions beside the tensors, and known without reading them.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


def load_bert(folder: Path, without: Sequence[str] = ()) -> Bert:
    """The BERT in a folder with config.json and model.safetensors, in eval mode.

    Its head is the ``MaskedLanguageHead`` of a BertForMaskedLM or the ``Pooler`` of a
    BertModel. ``without`` lists beginnings of tensor names to leave out, such as
    ``"pooler."``; a head left out becomes the identity. Every other tensor that is
    missing, surplus, of the wrong shape or type or not finite raises ValueError, as do
    settings that a ``Bert`` does not have and sharded or damaged files; no file:
    FileNotFoundError. Source: transformers 5.23, modeling_bert.py.
    """
    return _load(folder, BERT, without)


def load_albert(folder: Path, without: Sequence[str] = ()) -> Bert:
    """The ALBERT in a folder, as ``load_bert`` reads a BERT: blocks stay shared.

    Heads are those of AlbertModel and AlbertForMaskedLM; of an AlbertForPreTraining
    leave out ``["pooler.", "sop_classifier."]``. Source: transformers 5.23.
    """
    return _load(folder, ALBERT, without)


def load_electra(folder: Path, without: Sequence[str] = ()) -> Bert:
    """A player of ELECTRA in a folder, as ``load_bert`` reads a BERT.

    An ElectraForPreTraining has a ``DetectionHead``, an ElectraForMaskedLM, which is a
    generator, a ``MaskedLanguageHead``. Source: transformers 5.23.
    """
    return _load(folder, ELECTRA, without)


def _load(folder: Path, family: Family, without: Sequence[str]) -> Bert:
    if isinstance(without, str):
        raise TypeError(f"without: {without!r} is not a list of names")
    folder, without = Path(folder), tuple(without)
    settings = _settings(folder / "config.json", family)
    tensors = _tensors(folder, family, without)
    model, names = _skeleton(settings, family, without)
    _fill(model, tensors, names, family.copies)
    return model.eval()


def _settings(path: Path, family: Family) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} is no JSON ({error})") from error
    missing = [theirs for theirs in SHAPE.values() if theirs not in settings]
    if missing:
        raise ValueError(f"folder: {path} does not say {missing}")
    dropout = {"attention_probs_dropout_prob": settings["hidden_dropout_prob"]}
    for name, ours in (family.fixed | dropout).items():
        found = settings.get(name, ours)
        if found != ours and found is not None:
            raise ValueError(f"folder: {path}: {name} is {found!r}, not {ours!r}")
    return settings


def _tensors(
    folder: Path, family: Family, without: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """The folder's tensors under their names in the bare model, but those left out."""
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
        plain = name.removeprefix(family.prefix)
        for old, new in RENAMED.items():
            plain = plain.replace(old, new)
        if plain in found:
            raise ValueError(f"folder: {path} holds {plain} twice")
        if not any(plain.startswith(part) for part in without):
            found[plain] = tensor
    return found


def _skeleton(
    settings: dict, family: Family, without: tuple[str, ...]
) -> tuple[Bert, dict[str, str]]:
    """A model without numbers, and Hugging Face's names for the parts of it."""
    kind = (settings.get("architectures") or [None])[0]
    if kind not in family.heads:
        known = list(family.heads)
        raise ValueError(f"folder: architecture {kind!r} is not one of {known}")
    head = family.heads[kind]
    config = EncoderConfig(
        **{ours: settings[theirs] for ours, theirs in SHAPE.items()},
        gelu=_gelu(settings.get("hidden_act", "gelu")),
    )
    share, groups = "none", settings.get("num_hidden_groups")
    if groups is not None:
        share = "all"
    with torch.device("meta"):
        narrow = settings.get("embedding_size")
        model = masked_language_bert(config, narrow, share, groups or 1)
        if head.place in without:
            model.head = nn.Identity()
        elif head.make:
            model.head = head.make(config)
    return model, _layers(config.layers, groups) | family.names | head.names


def _gelu(name: str) -> str:
    if name not in GELUS:
        raise ValueError(f"folder: hidden_act is {name!r}, not one of {list(GELUS)}")
    return GELUS[name]


def _layers(layers: int, groups: int | None) -> dict[str, str]:
    """The names of ALBERT's groups for those of our blocks."""
    if groups is None:
        return {}
    group = "encoder.albert_layer_groups.{}.albert_layers.0."
    each = range(layers)
    return {f"blocks.{i}.": group.format(i * groups // layers) for i in each}


def _fill(
    model: Bert,
    tensors: dict[str, torch.Tensor],
    names: dict[str, str],
    copies: dict[str, str],
) -> None:
    """Put every tensor in its place; nothing may be missing, nothing left over."""
    state = model.state_dict()
    tied = state.pop("head.tokens.weight", None)  # the embedding's own
    theirs = {ours: _translated(ours, names) for ours in state}
    surplus = tensors.keys() - theirs.values() - set(BUFFERS)
    if tied is not None:
        surplus -= _repeated(tensors, copies)
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
    _check_numbers({name: tensors[name] for name in theirs.values()})
    # Clones: what safetensors hands out are views of the file.
    placed = {ours: tensors[name].clone() for ours, name in theirs.items()}
    if tied is not None:
        (words,) = (ours for ours, name in theirs.items() if name == WORDS)
        placed["head.tokens.weight"] = placed[words]
    model.load_state_dict(placed, assign=True)


def _check_numbers(tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError, naming the tensor, unless all are finite and of one kind."""
    ((usual, _),) = Counter(t.dtype for t in tensors.values()).most_common(1)
    if not usual.is_floating_point:
        raise ValueError(f"folder: tensors are {usual}, not floating-point numbers")
    for name, tensor in tensors.items():
        if tensor.dtype != usual:
            raise ValueError(
                f"folder: {name} is {tensor.dtype}, the others are {usual}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"folder: {name} holds numbers that are not finite")


def _translated(ours: str, names: dict[str, str]) -> str:
    for part, theirs in names.items():
        ours = ours.replace(part, theirs)
    return ours


def _repeated(tensors: dict[str, torch.Tensor], copies: dict[str, str]) -> set[str]:
    """The names of tied tensors that are there once more, as the same numbers."""
    for copy, original in copies.items():
        both = copy in tensors and original in tensors
        if both and not torch.equal(tensors[copy], tensors[original]):
            raise ValueError(f"folder: {copy} differs from {original}: not tied")
    return set(copies)
