"""Text encoders made of blocks: BERT, ALBERT, and T-TA, which predicts all at once.

An encoder turns ids (B, T) into hidden vectors (B, T, width); its ``head`` turns those
that are asked into predictions. BERT and T-TA hold the same parts and differ in wiring;
ALBERT is a BERT whose tables are narrow and whose blocks are one.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.blocks import (
    GELU,
    EncoderConfig,
    Stack,
    check_allowed,
    not_self,
    shared,
)
from blogcore.checks import check_integer
from blogcore.embeddings import embedding_of

SPREAD = 0.02  # of initial weights: BERT's initializer_range


class MaskedLanguageHead(nn.Module):
    """Logits over the vocabulary: E LN(GELU(W h + b)) + c, with the embedding's own E.

    Called on the positions asked only: ``head(hidden[asked])``, (…, width) → (…, V).
    ``tokens`` is tied as an object, so that whatever trains or replaces it is seen.
    """

    def __init__(self, config: EncoderConfig, tokens: nn.Embedding):
        super().__init__()
        self.dense = nn.Linear(config.width, tokens.embedding_dim)
        self.norm = nn.LayerNorm(tokens.embedding_dim, eps=config.epsilon)
        self.activation = nn.GELU(GELU[config.gelu])
        self.tokens = tokens
        self.bias = nn.Parameter(torch.zeros(tokens.num_embeddings))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        found = self.norm(self.activation(self.dense(hidden)))
        return F.linear(found, self.tokens.weight, self.bias)


class Pooler(nn.Module):
    """tanh(W h₁ + b) of the first position: hidden (B, T, width) → (B, width)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.dense(hidden[:, 0]).tanh()


class Classifier(nn.Module):
    """Logits (B, classes) of whole texts: W · dropout(pooler(hidden)) + b.

    ``encoder`` maps ids, valid, segments (B, T) to hidden vectors (B, T, width), and
    ``pooler`` those to (B, width). Source: Devlin et al. (2019), 4.1.
    """

    def __init__(
        self, encoder: nn.Module, pooler: Pooler, classes: int, dropout: float = 0.1
    ):
        super().__init__()
        self.encoder, self.pooler = encoder, pooler
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(pooler.dense.out_features, classes)

    def forward(
        self,
        ids: torch.Tensor,
        valid: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
    ) -> torch.Tensor:
        hidden = self.encoder(ids, valid, segments)
        return self.output(self.dropout(self.pooler(hidden)))


class TokenClassifier(nn.Module):
    """Logits (B, T, classes) of every token: W · dropout(hidden) + b."""

    def __init__(
        self, encoder: nn.Module, width: int, classes: int, dropout: float = 0.1
    ):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes)

    def forward(
        self,
        ids: torch.Tensor,
        valid: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.output(self.dropout(self.encoder(ids, valid, segments)))


class Bert(nn.Module):
    """Hidden vectors (B, T, width) of ids (B, T): every position reads every other.

    ``valid`` (B, T) bool is False at padding; ``allowed`` bool, (T, T) or broadcastable
    to (B, heads, T, T), may forbid more. What is asked of the vectors is ``head``'s.
    A text of padding alone gets finite vectors that mean nothing.
    """

    def __init__(self, embedding: nn.Module, blocks: nn.Module, head: nn.Module):
        super().__init__()
        self.embedding, self.blocks, self.head = embedding, blocks, head

    def forward(
        self,
        ids: torch.Tensor,
        valid: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = self.embedding(ids, segments)
        return self.blocks(x, None, _visible(ids, valid, allowed))


class TextAutoencoder(nn.Module):
    """T-TA: hidden vector i of ids (B, T) knows every token but the i-th.

    Queries start from LN(q₀ + P), where q₀ is 0 or the embedding of the token ``start``
    (published code: [MASK]); all blocks read LN(E + P). ``allowed`` is ``not_self``
    unless given; the rest is as in ``Bert``. Source: Shin et al. (2020).
    """

    def __init__(self, embedding, blocks, head, start: int | None = None):
        super().__init__()
        self.embedding, self.blocks, self.head = embedding, blocks, head
        self.start = start

    def forward(
        self,
        ids: torch.Tensor,
        valid: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        memory = self.embedding(ids, segments)
        if allowed is None:
            allowed = not_self(ids.shape[1], ids.device)
        visible = _visible(ids, valid, allowed)
        return self.blocks(self.queries(ids, segments), memory, visible)

    def queries(
        self, ids: torch.Tensor, segments: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The first queries, (B, T, width): of ids they take the shape alone."""
        tokens = self.embedding.tokens.weight
        q0 = torch.zeros_like(tokens[0]) if self.start is None else tokens[self.start]
        return self.embedding.placed(q0.expand(*ids.shape, -1), segments)


def masked_language_bert(
    config: EncoderConfig, narrow: int | None = None, share: str = "none", groups=1
) -> Bert:
    """BERT with its masked-language head, as torch initialises its parts."""
    embedding = embedding_of(config, narrow)
    head = MaskedLanguageHead(config, embedding.tokens)
    return Bert(embedding, shared(config, share, groups), head)


def bert(config: EncoderConfig, generator: torch.Generator) -> Bert:
    """BERT with its masked-language head, initialised from the generator alone.

    109,514,298 parameters for the default shape and 30,522 tokens. Source: Devlin et
    al. (2019).
    """
    with torch.device("meta"):  # torch's own initialisation would cost time and draws
        model = masked_language_bert(config)
    return initialise(model.to_empty(device="cpu"), generator)


def albert(
    config: EncoderConfig,
    narrow: int,
    generator: torch.Generator,
    share: str = "all",
    groups: int = 1,
) -> Bert:
    """ALBERT: one block, called once a layer, behind token vectors of width ``narrow``.

    ``share`` and ``groups`` as in ``blocks.shared``. With 30,000 tokens, ``narrow`` 128
    and a pooler as head ALBERT-base has 11,683,584 parameters. Raises ValueError for a
    ``narrow`` that is not in 1 … width. Source: Lan et al. (2020).
    """
    if isinstance(narrow, int) and narrow > config.width:
        raise ValueError(f"narrow: {narrow} exceeds width: {config.width}")
    with torch.device("meta"):
        model = masked_language_bert(config, narrow, share, groups)
    return initialise(model.to_empty(device="cpu"), generator)


def unshared(model: Bert) -> Bert:
    """A copy of the model in which each layer has parameters of its own, equal so far.

    It computes the same function until the first step. Source: Su (2020).
    """
    twin = copy.deepcopy(model)
    twin.blocks = Stack(copy.deepcopy(block) for block in twin.blocks)
    return twin


def tta(
    config: EncoderConfig, generator: torch.Generator, start: int | None = None
) -> TextAutoencoder:
    """T-TA of the same parameters as ``bert``: another wiring of equal parts.

    ``start`` is the id of the token whose embedding is q₀; None: q₀ = 0. Source: Shin
    et al. (2020).
    """
    if start is not None:
        check_integer("start", start, 0)
        if start >= config.vocabulary:
            raise ValueError(f"start: {start} is not in 0 … {config.vocabulary - 1}")
    parts = bert(config, generator)
    return TextAutoencoder(parts.embedding, parts.blocks, parts.head, start)


def classifier(
    encoder: nn.Module, config: EncoderConfig, classes: int, generator: torch.Generator
) -> Classifier:
    """A classifier of texts on an encoder of this config; what is new is drawn.

    The encoder is used as it is, with its weights, and trained along; its own head is
    not used. Raises ValueError for fewer than two classes.
    """
    check_integer("classes", classes, 2)
    whole = Classifier(encoder, Pooler(config), classes, config.dropout)
    initialise(whole.pooler, generator)
    initialise(whole.output, generator)
    return whole


def token_classifier(
    encoder: nn.Module, config: EncoderConfig, classes: int, generator: torch.Generator
) -> TokenClassifier:
    """A classifier of tokens on an encoder of this config; see ``classifier``."""
    check_integer("classes", classes, 2)
    whole = TokenClassifier(encoder, config.width, classes, config.dropout)
    initialise(whole.output, generator)
    return whole


def initialise(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """The module itself, its matrices now N(0, 0.02²), norms 1 and 0, biases 0."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=SPREAD, generator=generator)
            else:
                ones = isinstance(part, nn.LayerNorm) and name == "weight"
                nn.init.constant_(parameter, float(ones))
    return module


def grown(model: nn.Module, averaging: torch.Tensor) -> nn.Module:
    """A copy with another vocabulary: token table A E, output bias A c, the rest equal.

    ``averaging`` A is (new tokens, old tokens), its rows sum to 1, sparse or not; see
    ``words.averaging``. Where output and input share one table they still do. Raises
    ValueError for another shape or rows with other sums. Source: Su (2020), «Model».
    """
    old = model.embedding.tokens.weight
    if averaging.ndim != 2 or averaging.shape[1] != len(old):
        raise ValueError(
            f"averaging: shape {tuple(averaging.shape)} is not (new tokens, {len(old)})"
        )
    ones = torch.ones(len(old), 1, dtype=averaging.dtype, device=averaging.device)
    sums = (averaging @ ones).flatten()
    if not torch.allclose(sums, torch.ones_like(sums)):
        row = int((sums - 1).abs().argmax())
        raise ValueError(f"averaging: row {row} sums to {float(sums[row]):g}, not to 1")
    twin = copy.deepcopy(model)
    means = averaging.to(old.device, old.dtype)
    with torch.no_grad():
        table = twin.embedding.tokens
        table.weight = nn.Parameter(means @ table.weight)
        table.num_embeddings = len(averaging)
        twin.head.bias = nn.Parameter((means @ twin.head.bias[:, None])[:, 0])
    return twin


def _visible(ids, valid, allowed):
    """``allowed`` without the keys that are padding."""
    length = ids.shape[1]
    if allowed is not None:
        heads = allowed.shape[1] if allowed.ndim == 4 else 1
        check_allowed(allowed, (len(ids), heads, length, length))
    if valid is None:
        return allowed
    if valid.dtype != torch.bool or valid.shape != ids.shape:
        raise ValueError(
            f"valid: {valid.dtype} of shape {tuple(valid.shape)} is not torch.bool of "
            f"shape {tuple(ids.shape)}, as ids"
        )
    keys = valid[:, None, None, :]
    return keys if allowed is None else keys & allowed
