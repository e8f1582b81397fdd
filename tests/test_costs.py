"""What an encoder costs is counted right: torch's own counter, and bytes kept."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blogcore.blocks import EncoderConfig
from blogcore.costs import forward_work, training_bytes
from blogcore.encoder import masked_language_bert

SHAPES = [
    EncoderConfig(50, 16, 2, 3, 24, 12, dropout=0.0),
    EncoderConfig(30, 32, 4, 2, 64, 12, dropout=0.0),
]


@pytest.mark.parametrize("share", ["none", "all"])
@pytest.mark.parametrize("narrow", [None, 8, 64])
@pytest.mark.parametrize("config", SHAPES)
def test_forward_work_is_what_torch_counts(config, narrow, share):
    model = masked_language_bert(config, narrow, share).eval()
    ids = torch.zeros(3, 7, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hidden = model(ids)
        model.head(hidden.flatten(0, 1)[:5])
    work = forward_work(config, 3, 7, narrow, asked=5)
    assert counter.get_total_flops() == work.total == sum(work)
    assert forward_work(config, 3, 7, narrow).head == 0


def test_factorised_logits_make_albert_cheaper_where_all_is_asked():
    config = EncoderConfig(30_000)
    wide = forward_work(config, 1, 128, asked=128)
    narrow = forward_work(config, 1, 128, 128, asked=128)
    assert wide.blocks == narrow.blocks
    assert round(narrow.total / wide.total, 3) == 0.823
    assert 1 < forward_work(config, 1, 128, 128).total / wide.blocks < 1.002


def test_memory_is_the_published_formula():
    found = training_bytes(EncoderConfig(30_000), 32, 128, 109_081_344)
    assert found["parameters"] == found["gradients"] == 4 * 109_081_344
    assert found["optimizer"] == 8 * 109_081_344
    # s b h (34 + 5 a s / h) bytes a layer in half precision, twice that in single
    own = 2 * 12 * 128 * 32 * 768 * (34 + 5 * 12 * 128 / 768)
    assert found["activations"] == own
    shared = training_bytes(EncoderConfig(30_000), 32, 128, 11_683_584)
    saved = 1 - sum(shared.values()) / sum(found.values())
    assert round(saved, 2) == 0.31


def test_wrong_calls_name_the_argument():
    config = SHAPES[0]
    for call, words in (
        (lambda: forward_work(config, 0, 7), "texts: 0"),
        (lambda: forward_work(config, 1, 0), "length: 0"),
        (lambda: forward_work(config, 1, 7, asked=-1), "asked: -1"),
        (lambda: training_bytes(config, 1, 7, -1), "parameters: -1"),
        (lambda: training_bytes(config, 1.5, 7, 1), "texts: 1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
