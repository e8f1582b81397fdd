"""Who can see whom: bookkeeping and slopes agree, and refuse bad sizes."""

import pytest
import torch

from blogcore import blocks
from blogcore.blocks import EncoderConfig
from blogcore.encoder import bert, tta
from blogcore.runtime import stream
from blogcore.wiring import WIRINGS, largest_change, reach, slopes


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", WIRINGS)
def test_bookkeeping_says_which_slopes_vanish(name, layers):
    found = slopes(WIRINGS[name], layers, 4, stream(1, "slopes"))
    assert torch.equal(found > 0, reach(WIRINGS[name], layers, 4)[-1])


def test_tta_knows_all_but_itself_and_a_rewritten_memory_leaks():
    for known in reach(WIRINGS["T-TA"], 6, 5)[1:]:
        assert torch.equal(known, blocks.not_self(5))
    first, *deeper = reach(WIRINGS["memory updated"], 3, 5)[1:]
    assert torch.equal(first, blocks.not_self(5))
    assert all(known.all() for known in deeper)


@pytest.mark.parametrize(
    ("layers", "length", "message"), [(0, 5, "layers: 0"), (2, 1, "length: 1")]
)
def test_sizes_that_make_no_sense_are_refused(layers, length, message):
    with pytest.raises(ValueError, match=message):
        reach(WIRINGS["T-TA"], layers, length)


def test_replacing_a_token_moves_berts_output_and_not_ttas():
    config = EncoderConfig(5, 8, 2, 2, 16, 4, segments=0, dropout=0.0)
    moved = [
        largest_change(make(config, stream(0, "x")).double(), 5, 4, stream(0, "text"))
        for make in (tta, bert)
    ]
    assert moved[0] == 0
    assert moved[1] > 1e-3
