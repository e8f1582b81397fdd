"""A vote whose outcome depends on who says what: can a model bind words to places?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from blogcore import contest
from blogcore import pseudolikelihood as pseudo
from blogcore.blocks import EncoderConfig
from blogcore.checks import check_integer
from blogcore.cloze import Cloze
from blogcore.encoder import TextAutoencoder
from blogcore.runtime import stream
from blogcore.training import Probe

VOTERS, WORDS = 6, 6
BATCH, RATE, TEST = 64, 0.003, 1000  # votes a step, learning rate, votes of the test
MakeModel = Callable[[EncoderConfig, torch.Generator], nn.Module]


class Poll(NamedTuple):
    """Excess in nats before every ``every``-th step and at the end; parameters."""

    curve: list[float]
    parameters: int


class LastToken(nn.Module):
    """BERT or T-TA, asked about the last token alone: ids (B, T) → (B, 1, width).

    It is the model's own last vector, less what nobody asks for: T-TA's other queries,
    and those of BERT's last layer. Raises ValueError for a mask of padding: the last
    token would be no word.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.head = model, model.head

    def forward(
        self, ids: torch.Tensor, valid: torch.Tensor | None = None
    ) -> torch.Tensor:
        if valid is not None:
            shape = tuple(valid.shape)
            raise ValueError(
                f"valid: a mask {shape} is not None; votes have no padding"
            )
        memory = self.model.embedding(ids)
        if isinstance(self.model, TextAutoencoder):
            last = self.model.queries(ids)[:, -1:]
            return self.model.blocks(last, memory[:, :-1])
        for block in self.model.blocks[:-1]:
            memory = block(memory)
        return self.model.blocks[-1](memory[:, -1:], memory)


def votes(
    count: int, tables: torch.Tensor, dice: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of the votes and their outcome, and log p of the outcomes."""
    voters, words, _ = tables.shape
    ids = torch.randint(words, (count, voters), generator=dice)
    log_p = tables[torch.arange(voters), ids].sum(1).log_softmax(1)
    outcome = log_p.exp().multinomial(1, generator=dice)
    return torch.cat([ids, outcome], 1), log_p


def tables_of(seed: int, voters: int = VOTERS, words: int = WORDS) -> torch.Tensor:
    """What each word means for each voter: (voters, words, words), N(0, 1.5²)."""
    check_integer("voters", voters, 1)
    check_integer("words", words, 2)
    sizes = voters, words, words
    return 1.5 * torch.randn(sizes, generator=stream(seed, "tables"))


def last_token(ids: torch.Tensor, covered: int) -> Cloze:
    """The one question of each text: who has won? For models in ``LastToken``."""
    hidden = ids.clone()
    hidden[:, -1] = covered
    return Cloze(hidden, None, torch.arange(len(ids)), ids[:, -1])


def poll(
    seed: int,
    make: MakeModel,
    config: EncoderConfig,
    steps: int,
    every: int,
) -> Poll:
    """A model trained on the votes of one seed's tables, and scored by the exact p."""
    voters, words = config.positions - 1, config.vocabulary - 1
    tables = tables_of(seed, voters, words)
    model = contest.at_width(make(config, stream(seed, "init")), config)
    asked = LastToken(model)
    drawn, _ = votes(steps * BATCH, tables, stream(seed, "votes"))
    test, log_p = votes(TEST, tables, stream(seed, "test"))

    def excess():
        guess = pseudo.cloze_distribution(asked, last_token(test, words))[:, :words]
        return {"excess": F.kl_div(guess, log_p.exp(), reduction="batchmean")}

    probe, batches = Probe(every, excess), drawn.split(BATCH)
    ask = lambda step: last_token(batches[step], words)  # noqa: E731
    contest.fit(asked, ask, steps, RATE, [probe])
    curve = [*probe.history()["excess"].tolist(), excess()["excess"].item()]
    return Poll(curve, sum(p.numel() for p in model.parameters()))
