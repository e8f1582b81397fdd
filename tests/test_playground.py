"""The playground of the pages on ALBERT and ELECTRA."""

import itertools

import pytest
import torch
from sklearn.metrics import roc_auc_score

from blogcore import playground
from blogcore.blocks import EncoderConfig
from blogcore.cloze import Cloze
from blogcore.corpus import random_markov
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
    nearly = playground.filled(SOURCE, asked, truth, 1e-12, stream(1, "draws"))
    assert torch.equal(flat.inputs, nearly.inputs)  # the same draws by the short way


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


@pytest.mark.parametrize("kind", ["predictable", "hard"])
def test_each_text_is_rewritten_in_one_place_as_the_formula_says(kind):
    source = playground.language(kind, 4)
    texts = playground.rewritten(source, 0.5, 3000, 4, "texts")
    assert (texts.resampled.sum(1) == 1).all()
    says = playground.best(source, texts, 0.5)
    assert torch.allclose(says.resampled.sum(1), torch.ones(3000).double())
    # Where the best discriminator says “another” often, it is so as often.
    sure = says.changed > says.changed.median()
    found = texts.changed[sure].double().mean()
    assert found.item() == pytest.approx(says.changed[sure].mean().item(), rel=0.1)


def test_hard_text_is_harder_to_predict():
    surprise = {}
    for kind in ("predictable", "hard"):
        source = playground.language(kind, 4)
        ids = source.sample(300, playground.PLACES, stream(4, "texts")).ids
        told = source.cloze(ids).gather(2, ids[:, :, None])
        surprise[kind] = -told.mean().item()
    assert surprise["predictable"] < 0.6 * surprise["hard"]
    with pytest.raises(ValueError, match="kind: 'soft' is not"):
        playground.language("soft", 4)


def test_naming_kinds_is_an_exam_that_leaves_the_student_as_it_is():
    model = playground.reader(playground.STUDENT, "restore", 5)
    before = [p.clone() for p in model.parameters()]
    found = playground.named(model, SOURCE, 1, 5)
    assert 100 / playground.KINDS < found < 100
    assert found == playground.named(model, SOURCE, 1, 5)
    assert all(map(torch.equal, before, model.parameters()))
    with pytest.raises(ValueError, match="draws: 0"):
        playground.named(model, SOURCE, 0, 5)


def test_a_reader_has_the_head_of_its_question():
    texts = playground.rewritten(SOURCE, 0.0, 40, 6, "texts")
    restores, detects = (
        playground.reader(playground.STUDENT, question, 6)
        for question in ("restore", "detect")
    )
    assert restores.head(restores(texts.inputs)).shape == (40, 16, 25)
    assert detects.head(detects(texts.inputs)).shape == (40, 16)
    with pytest.raises(ValueError, match="question: 'copy' is not"):
        playground.reader(playground.STUDENT, "copy", 6)


def test_drawn_batches_are_rows_of_the_texts():
    texts = playground.rewritten(SOURCE, 0.0, 40, 6, "texts")
    batch = playground.drawn(texts, 8, 6)(3)
    assert batch.inputs.shape == batch.changed.shape == (8, 16)
    rows = {tuple(row) for row in texts.inputs.tolist()}
    assert all(tuple(row) in rows for row in batch.inputs.tolist())
    assert torch.equal(batch.inputs, playground.drawn(texts, 8, 6)(3).inputs)


def test_the_area_is_one_where_changes_get_the_largest_scores():
    class Oracle(torch.nn.Module):
        head = torch.nn.Identity()

        def forward(self, ids):
            return (ids >= playground.WORDS - 1).float()

    inputs = torch.tensor([[1, 2, 23], [23, 4, 5]])
    texts = playground.Lesson(inputs, inputs, None, inputs == 23)
    assert playground.area(Oracle(), texts) == 1
    wrong = texts._replace(changed=inputs != 23)
    assert playground.area(Oracle(), wrong) == 0


@pytest.mark.parametrize("holes", [0, 17, 1.5])
def test_a_number_of_holes_that_no_text_has_is_refused(holes):
    with pytest.raises((ValueError, TypeError), match=f"holes: {holes}"):
        playground.questions(SOURCE, holes, 0)


@pytest.mark.parametrize("holes", [1, 2, 3])
@pytest.mark.parametrize("sharpness", [0.0, 0.5, 1.0])
def test_the_best_detector_is_what_listing_everything_gives(sharpness, holes):
    source = random_markov(2, 3, stream(5, "listed"), 0.7, 0.7)
    texts = torch.tensor([*itertools.product(range(3), repeat=4)])
    joint = source.log_likelihood(texts).exp()
    wrote, another = torch.zeros(81).double(), torch.zeros(81, 4).double()
    for places in map(list, itertools.combinations(range(4), holes)):
        seen = torch.ones_like(texts, dtype=torch.bool)
        seen[:, places] = False
        q = (sharpness * source.cloze(texts, seen)).softmax(-1)[:, places]
        for tokens in itertools.product(range(3), repeat=holes):
            made = texts.clone()
            made[:, places] = torch.tensor(tokens)
            chance = joint * q[:, range(holes), tokens].prod(1)
            at = (made * torch.tensor([27, 9, 3, 1])).sum(1)
            wrote.index_add_(0, at, chance)
            another.index_add_(0, at, chance[:, None] * (made != texts))
    best = playground.best_of_holes(source, texts, sharpness, holes)
    assert torch.allclose(best, another / wrote[:, None], atol=1e-12)


def test_the_best_detector_reads_many_texts_in_parts(monkeypatch):
    texts = SOURCE.sample(7, playground.PLACES, stream(4, "texts")).ids
    whole = playground.best_of_holes(SOURCE, texts, 0.5)
    monkeypatch.setattr(playground, "TOGETHER", 300)
    assert torch.allclose(playground.best_of_holes(SOURCE, texts, 0.5), whole)


@pytest.mark.parametrize("holes", [0, 17, 1.5])
def test_the_best_detector_refuses_holes_that_no_text_has(holes):
    texts = SOURCE.sample(2, playground.PLACES, stream(4, "texts")).ids
    with pytest.raises((ValueError, TypeError), match=f"holes: {holes}"):
        playground.best_of_holes(SOURCE, texts, 0.5, holes)


def test_the_rest_of_a_lesson_are_the_places_that_nobody_asked_about():
    lesson = playground.lessons(SOURCE, 0.0, 3, 2)(0)
    assert len(lesson.rest) == lesson.truth.numel() - len(lesson.holes)
    assert not {*lesson.rest.tolist()} & {*lesson.holes.tolist()}
    assert not lesson.changed.flatten()[lesson.rest].any()


def test_nobody_is_expected_to_tell_more_than_the_best_detector():
    lesson = playground.lessons(SOURCE, 0.5, 2, 1)(0)
    best = playground.best_of_holes(SOURCE, lesson.inputs, 0.5)
    area = playground.findable(SOURCE, lesson, 0.5)
    assert area == roc_auc_score(lesson.changed.flatten(), best.flatten())
    guess = -SOURCE.cloze(lesson.inputs).gather(2, lesson.inputs[..., None])
    assert 0.6 < roc_auc_score(lesson.changed.flatten(), guess.flatten()) < area


def test_what_a_restoring_model_repeats_is_counted_outside_the_holes():
    class Echo(torch.nn.Module):
        def forward(self, ids):
            return ids[..., None]

        def head(self, ids):
            return torch.nn.functional.one_hot(ids[:, 0], playground.WORDS).float()

    lesson = playground.lessons(SOURCE, 0.0, 2, 1)(0)
    assert playground.repeats(Echo(), lesson) == 1
    shifted = lesson._replace(truth=(lesson.truth + 1) % playground.WORDS)
    assert playground.repeats(Echo(), shifted) == 0
