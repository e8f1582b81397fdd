"""Our encoder against transformers' of the same shape, and one pass against n."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForMaskedLM

from blogcore.blocks import EncoderConfig
from blogcore.cloze import every_token
from blogcore.encoder import bert, tta
from blogcore.pseudolikelihood import (
    one_mask_each,
    one_pass_log_likelihood,
    pseudo_log_likelihood,
)
from blogcore.runtime import stream
from tests.benchmarks.timing import Work, ratios, report

# (layers, width, length, texts, vocabulary): the targets at that shape
SHAPES = {
    (2, 128, 48, 32, 5_000): "same ≥ 1, asked ≥ 1.4",
    (4, 256, 64, 32, 5_000): "same ≥ 1, asked ≥ 1.4",
    (4, 256, 128, 16, 20_000): "same ≥ 1, asked ≥ 2.3",
}


def theirs(layers, width, length, vocabulary) -> BertForMaskedLM:
    """BertForMaskedLM with torch's fused attention and without dropout."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return BertForMaskedLM(config)


def shape(layers, width, length, vocabulary) -> EncoderConfig:
    heads = width // 64
    return EncoderConfig(
        vocabulary, width, heads, layers, 4 * width, length, dropout=0.0
    )


def learning(model, loss: Work, steps: int, fused: bool) -> Work:
    """``steps`` training steps with AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused or None)

    def work():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return work


def reduced(work: Work) -> None:
    """Products of float32 matrices in bfloat16, where the processor can."""
    torch.set_float32_matmul_precision("medium")
    try:
        work()
    finally:
        torch.set_float32_matmul_precision("highest")


def against_transformers(steps: int) -> None:
    """Training step and inference; above 1 is in our favour."""
    columns = "same work", "asked, fused", "and bfloat16", "inference", "target"
    report("\ntransformers / ours", *columns)
    for (layers, width, length, texts, vocabulary), target in SHAPES.items():
        dice = stream(0, "texts")
        ids = torch.randint(vocabulary, (texts, length), generator=dice)
        asked = torch.rand(ids.shape, generator=dice) < 0.15
        labels = ids.where(asked, -100)
        other = theirs(layers, width, length, vocabulary)
        own = bert(shape(layers, width, length, vocabulary), stream(0, "init"))
        lean = copy.deepcopy(own)

        def every_place(ids=ids, labels=labels, own=own):
            logits = own.head(own(ids)).flatten(0, 1)
            return F.cross_entropy(logits, labels.flatten())

        def places_asked(ids=ids, asked=asked, lean=lean):
            return F.cross_entropy(lean.head(lean(ids)[asked]), ids[asked])

        def judged(ids=ids, labels=labels, other=other):
            return other(input_ids=ids, labels=labels).loss

        rival = learning(other, judged, steps, fused=False)
        fast = learning(lean, places_asked, steps, fused=True)
        found = ratios(rival, learning(own, every_place, steps, fused=False))
        found += ratios(rival, fast)
        found += ratios(rival, partial(reduced, fast))
        with torch.no_grad():
            other.eval(), own.eval()
            found += ratios(
                lambda other=other, ids=ids: other(input_ids=ids).logits,
                lambda own=own, ids=ids: own.head(own(ids)),
            )
        report(f"L{layers} d{width} T{length} B{texts} V{vocabulary}", *found, target)


def scoring() -> None:
    """n masked passes over one T-TA pass: a text's score, and the encoder alone."""
    columns = "one by one", "all in one batch", "encoder alone"
    report("\nn masked passes / one of T-TA, L3 d512", *columns)
    config = shape(3, 512, 128, 29_530)
    masked, whole = bert(config, stream(0, "init")), tta(config, stream(0, "init"))
    masked.eval(), whole.eval()
    for length in (10, 20, 40):
        ids = torch.randint(4, 29_530, (1, length), generator=stream(0, "text"))
        (copies,) = one_mask_each(every_token(ids), mask=4, rows=length)
        one = partial(one_pass_log_likelihood, whole, ids)
        found = []
        for rows in (1, length):
            n_passes = partial(pseudo_log_likelihood, masked, ids, 4, rows=rows)
            found += ratios(n_passes, one)
        with torch.no_grad():
            found += ratios(
                partial(masked, copies.asked.inputs),
                partial(whole, ids),
            )
        report(f"n = {length}", *found)


def encoders(steps: int) -> None:
    """Everything about encoders; steps count tenfold, theirs being long."""
    against_transformers(max(1, steps // 10))
    scoring()
