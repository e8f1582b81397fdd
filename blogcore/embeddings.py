"""Token embeddings: what a text encoder reads, at full width or from narrow tables."""

from dataclasses import replace

import torch
from torch import nn

from blogcore.blocks import EncoderConfig
from blogcore.checks import check_integer


class Embedding(nn.Module):
    """LN(E[id] + P[position] + S[segment]): ids (B, T) → (B, T, width).

    Raises TypeError for ids that are no integers, ValueError for ids outside of the
    vocabulary (on a GPU torch's own assertion: looking would make it wait), for texts
    that are empty or longer than the positions, and for unfit segments.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        if config.segments:
            self.segments = nn.Embedding(config.segments, config.width)
        else:
            self.segments = None
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, ids: torch.Tensor, segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        self._check(ids, segments)
        return self.placed(self.tokens(ids), segments)

    def placed(
        self, vectors: torch.Tensor, segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        """LN(vectors + P + S) for vectors (B, T, width); segment 0 if None."""
        total = vectors + self.positions.weight[: vectors.shape[1]]
        if self.segments is not None:
            first = self.segments.weight[0]
            total = total + (first if segments is None else self.segments(segments))
        return self.dropout(self.norm(total))

    def _check(self, ids, segments) -> None:
        _check_ids("ids", ids, self.tokens.num_embeddings)
        longest = self.positions.num_embeddings
        if ids.ndim != 2 or len(ids) == 0 or not 1 <= ids.shape[1] <= longest:
            raise ValueError(
                f"ids: shape {tuple(ids.shape)} is not (texts, length) with at least "
                f"one text and a length of 1 … {longest}"
            )
        if segments is not None:
            if self.segments is None:
                raise ValueError("segments: given, but the config has segments = 0")
            _check_ids("segments", segments, self.segments.num_embeddings)
            if segments.shape != ids.shape:
                raise ValueError(
                    f"segments: shape {tuple(segments.shape)} is not that of ids, "
                    f"{tuple(ids.shape)}"
                )


class Factorised(nn.Module):
    """W e + b of a narrow embedding e: ids (B, T) → (B, T, width).

    Tables of V · E + E · width numbers instead of V · width. Source: Lan et al. (2020),
    3.1; the norm stands before the product, and the product has a bias, as published.
    """

    def __init__(self, narrow: Embedding, width: int):
        super().__init__()
        self.narrow = narrow
        self.up = nn.Linear(narrow.tokens.embedding_dim, width)

    @property
    def tokens(self) -> nn.Embedding:
        """The narrow table, (V, E)."""
        return self.narrow.tokens

    def forward(
        self, ids: torch.Tensor, segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.up(self.narrow(ids, segments))

    def placed(
        self, vectors: torch.Tensor, segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        """W LN(vectors + P + S) + b for narrow vectors (B, T, E); segment 0 if None."""
        return self.up(self.narrow.placed(vectors, segments))


def embedding_of(config: EncoderConfig, narrow: int | None = None) -> nn.Module:
    """The embedding of a config, from tables of width ``narrow`` if that is given."""
    if narrow is None:
        return Embedding(config)
    check_integer("narrow", narrow, 1)
    return from_table(Embedding(replace(config, width=narrow, heads=1)), config.width)


def from_table(table: Embedding, width: int) -> nn.Module:
    """The table itself if it is as wide, or behind a product; several may share it."""
    same = table.tokens.embedding_dim == width
    return table if same else Factorised(table, width)


def _check_ids(name: str, ids: torch.Tensor, count: int) -> None:
    if not isinstance(ids, torch.Tensor) or ids.dtype not in (torch.int64, torch.int32):
        kind = getattr(ids, "dtype", type(ids).__name__)
        raise TypeError(f"{name}: {kind} is neither torch.int64 nor torch.int32")
    if ids.numel() and ids.device.type == "cpu":
        low, high = (extreme.item() for extreme in ids.aminmax())
        if low < 0 or high >= count:
            wrong = low if low < 0 else high
            raise ValueError(f"{name}: {wrong} is not in 0 … {count - 1}")
