"""Large runs' way against the plain one, on the same CPU: texts, masks, steps."""

from functools import partial

import torch

from blogcore import cloze, elbo, packed
from blogcore.blocks import EncoderConfig
from blogcore.captured import captured
from blogcore.data import Examples, shuffled
from blogcore.encoder import bert
from blogcore.hierarchies import NVAE_CELLS
from blogcore.likelihoods import LogisticMixture, exact_bins
from blogcore.runtime import stream
from blogcore.tokens import BertTokenizer, character_vocabulary
from blogcore.training import train
from blogcore.vae import HierarchicalVAE, Hierarchy
from tests.benchmarks.timing import Work, ratios, report

LENGTH, SIZE, WORDS = 128, 64, 4_000


def some_texts(count: int) -> list[str]:
    """Texts of 41 characters in the mean, half of them shorter than 29."""
    dice = stream(0, "texts")
    lengths = (29 * torch.randn(count, generator=dice).mul(0.83).exp()).clamp(2, 126)
    drawn = torch.randint(WORDS, (count, LENGTH), generator=dice).tolist()
    signs = ["".join(chr(0x4E00 + k) for k in row) for row in drawn]
    return [s[: int(n)] for s, n in zip(signs, lengths, strict=True)]


def batches(steps: int) -> None:
    """A step's batch of texts, read, padded and masked, over packed rows."""
    written = some_texts(4_000)
    tokenizer = BertTokenizer(character_vocabulary(written, 1))
    pad, _, first, last, mask = tokenizer.vocabulary.specials
    rows = packed.packed(written, tokenizer, LENGTH)
    count, special = len(tokenizer.vocabulary), (pad, first, last)
    fill = sum(min(len(t) + 2, LENGTH) for t in written) / (len(written) * LENGTH)

    def read():
        for step in range(steps):
            batch = tokenizer.batch(written[SIZE * step :][:SIZE], length=LENGTH)
            dice = stream(0, f"masks/{step}")
            given = batch.ids, 0.15, mask, count, dice, special, batch.valid
            cloze.mask_tokens(*given)

    ask = packed.questions(rows, tokenizer.vocabulary, SIZE, 0.15, 0)
    (found,) = ratios(read, lambda: [ask(step) for step in range(steps)])
    report("\nbatches of 64 texts", "plain / packed", "padding filled")
    report("read, pad, mask over draw, mask", found, f"{fill:.0%} of the places")

    ids = rows[:SIZE]
    ordinary = torch.tensor([k for k in range(count) if k not in {*special, mask}])
    others, places = torch.tensor([pad, first, last, mask]), round(0.15 * (LENGTH - 2))

    def listed():
        for step in range(steps):
            dice = stream(0, f"{step}")
            cloze.mask_tokens(ids, 0.15, mask, count, dice, special)

    def drawn():
        for step in range(steps):
            cloze.hide_tokens(ids, places, mask, ordinary, others, stream(0, f"{step}"))

    report("masks: listed, over drawn where the ids lie", *ratios(listed, drawn))
    _encoder(max(steps // 10, 1), tokenizer, written, ask)


def _encoder(steps: int, tokenizer: BertTokenizer, written: list[str], ask) -> None:
    """Training steps of BERT: padded texts over packed rows, plain AdamW over fused."""
    pad, _, first, last, mask = tokenizer.vocabulary.specials
    count = len(tokenizer.vocabulary)
    config = EncoderConfig(count, 128, 2, 2, 512, LENGTH, 0, 0.0)

    def padded(step: int) -> cloze.Cloze:
        batch = tokenizer.batch(written[SIZE * step :][:SIZE], length=LENGTH)
        dice = stream(0, f"masks/{step}")
        given = batch.ids, 0.15, mask, count, dice, (pad, first, last), batch.valid
        return cloze.mask_tokens(*given)

    def learning(batches, fused: bool) -> Work:
        model = bert(config, stream(0, "init"))
        adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
        return partial(train, model, batches, cloze.token_prediction, adam, steps)

    fast = learning(ask, True)
    found = ratios(learning(padded, True), learning(ask, False), fast)
    report("\nBERT, 2 layers of 128, a step", "padded / packed", "plain / fused Adam")
    report(f"{SIZE} rows, as they are", *found)


def captures(steps: int) -> None:
    """The hierarchy's step: names and numbers, over tensors alone and captured."""
    law = LogisticMixture(exact_bins(17), 1)
    shape = Hierarchy(outputs=law.outputs, width=8, latent_channels=2, **NVAE_CELLS)
    levels = torch.randint(17, (640, 1, 8, 8), generator=stream(0, "images"))
    known = Examples(levels, torch.zeros(640))
    named = elbo.noisy(shuffled(known, 64, [0]), 0, elbo.warm_up(steps // 3 + 1))
    alone = elbo.drawn(named, shape)

    def learning(batches, fast: bool) -> Work:
        model = HierarchicalVAE(shape, stream(0, "init"))
        adam = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        asked = elbo.negative_elbo(law, elbo.balanced(shape))
        if fast:
            asked = captured(model, asked, [batches(0), batches(1)])
        return partial(train, model, batches, asked, adam, steps)

    found = ratios(learning(named, False), learning(alone, True))
    report("\nhierarchy of the digits, a step", "plain / captured on the CPU")
    report("three groups, 64 digits", *found)
