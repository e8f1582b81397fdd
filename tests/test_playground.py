"""The playground of the pages on ALBERT and ELECTRA."""

import pytest
import torch

from blogcore import playground
from blogcore.blocks import EncoderConfig
from blogcore.cloze import Cloze
from blogcore.runtime import stream

SOURCE = playground.kinds(3, 0.7)


def test_words_of_a_kind_stand_side_by_side_in_the_vocabulary():
    texts = SOURCE.sample(500, playground.PLACES, stream(0, "texts"))
    own = texts.ids // 4 == texts.states
    assert own.double().mean() > 0.95


@pytest.mark.parametrize("share", ["none", "all"])
def test_a_fact_machine_names_a_symbol_and_starts_from_its_seed(share):
    config = EncoderConfig(9, 16, 2, 4, 32, 2, segments=0, dropout=0.0)
    model, same = (playground.fact_machine(config, share, 5) for _ in range(2))
    assert model.head(model(torch.zeros(3, 2, dtype=torch.int64))).shape == (3, 9)
    pairs = zip(model.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    wide = model.blocks[0].feed_forward.inner.weight.std().item()
    assert wide == pytest.approx(0.02 * (768 / 16) ** 0.5, rel=0.15)


def test_a_perfect_generator_draws_from_the_true_cloze():
    text = SOURCE.sample(1, playground.PLACES, stream(1, "text")).ids
    truth = text.repeat(20_000, 1)
    places = torch.arange(len(truth)) * playground.PLACES + 7
    asked = Cloze(truth, None, places, truth.flatten()[places])
    made = playground.filled(SOURCE, asked, truth, 1.0, stream(1, "draws"))
    found = torch.bincount(made.inputs[:, 7], minlength=24) / len(truth)
    assert torch.allclose(found.double(), SOURCE.cloze(text)[0, 7].exp(), atol=0.015)
    flat = playground.filled(SOURCE, asked, truth, 0.0, stream(1, "draws"))
    assert torch.bincount(flat.inputs[:, 7], minlength=24).min() > 600


def test_lessons_repeat_and_ask_about_so_many_holes():
    make = playground.lessons(SOURCE, 0.5, 3, 4)
    one, same = make(7), make(7)
    assert torch.equal(one.inputs, same.inputs)
    assert not torch.equal(one.inputs, make(8).inputs)
    assert len(one.holes) == 3 * len(one.truth)
    assert torch.equal(one.inputs != one.truth, one.changed)
    untouched = torch.ones(one.truth.numel(), dtype=torch.bool)
    untouched[one.holes] = False
    assert not one.changed.flatten()[untouched].any()


def test_without_a_generator_most_holes_are_masks():
    lesson = playground.lessons(SOURCE, None, 2, 4)(0)
    masked = lesson.inputs.flatten()[lesson.holes] == playground.MASK
    assert 0.65 < masked.double().mean() < 0.95
    assert not lesson.changed.any()


@pytest.mark.parametrize("holes", [0, 17, 1.5])
def test_a_number_of_holes_that_no_text_has_is_refused(holes):
    with pytest.raises((ValueError, TypeError), match=f"holes: {holes}"):
        playground.questions(SOURCE, holes, 0)
