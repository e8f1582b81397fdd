"""Fine-tuning keeps the best, draws from named streams; the score is scikit-learn's."""

import pytest
import torch
from sklearn import metrics
from torch import nn

from blogcore import finetuning
from blogcore.blocks import EncoderConfig
from blogcore.data import Examples, shuffled, split
from blogcore.encoder import bert, classifier, token_classifier
from blogcore.finetuning import (
    IGNORED,
    Best,
    Settings,
    accuracy,
    finetune,
    predictions,
    token_classification,
)
from blogcore.objectives import classification, flood
from blogcore.runtime import stream
from blogcore.tokens import Texts

CONFIG = EncoderConfig(8, 16, 2, 1, 32, 10, 0, 0.1)


def task(count: int = 96, name: str = "task") -> Examples:
    """Texts of ids 4 … 7, 1 … 6 of them; the label says whether the first is 4 or 5."""
    generator = stream(0, name)
    ids = torch.randint(4, 8, (count, 10), generator=generator)
    sizes = torch.randint(1, 7, (count, 1), generator=generator)
    valid = torch.arange(10) < sizes
    return Examples(Texts(ids.where(valid, 0), valid), (ids[:, 0] < 6).long())


def machine(seed: int = 0) -> nn.Module:
    encoder = bert(CONFIG, stream(seed, "init"))
    return classifier(encoder, CONFIG, 2, stream(seed, "head"))


def fit(model, seed=0, steps=60, size=16, **settings):
    adam = torch.optim.Adam(model.parameters(), 0.01)
    settings = Settings(steps, size, 15, **settings)
    return finetune(model, task(), task(64, "validation"), adam, settings, seed)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_score_is_that_of_scikit_learn(classes):
    for seed in range(30):
        generator = stream(seed, "labels")
        labels = torch.randint(classes, (40,), generator=generator)
        found = torch.randint(classes, (40,), generator=generator)
        found = found.where(torch.rand(40, generator=generator) < 0.6, labels)
        if seed == 0:
            labels[:], found[:] = 1, 1
        expected = metrics.accuracy_score(labels, found)
        assert accuracy(found, labels) == pytest.approx(expected)


def test_texts_are_examples_that_split_shuffle_and_flood():
    whole = task(50)
    train, test = split(whole, [40, 10], stream(0, "split"))
    order = torch.randperm(50, generator=stream(0, "split"))
    assert torch.equal(train.inputs.ids, whole.inputs.ids[order[:40]])
    assert torch.equal(test.labels, whole.labels[order[40:]])
    batches = shuffled(train, 16, 3)
    rows = torch.randperm(40, generator=stream(3, "batches/1"))
    second = batches(3)  # two batches of 16 an epoch
    assert torch.equal(second.inputs.ids, train.inputs.ids[rows[16:32]])
    assert torch.equal(second.inputs.valid, train.inputs.valid[rows[16:32]])
    assert torch.equal(second.labels, train.labels[rows[16:32]])
    model = machine().eval()
    loss, parts = flood(classification, 2.0)(model, second)
    assert loss.item() == pytest.approx(4 - parts["loss"].item())
    assert set(parts) == {"loss", "accuracy"}
    there = second.to(torch.device("meta"))
    assert {there.inputs.ids.device.type, there.labels.device.type} == {"meta"}


def test_one_seed_shuffles_tensors_as_the_only_member_of_a_list():
    examples = Examples(torch.arange(20.0).view(10, 2), torch.arange(10))
    alone, members = shuffled(examples, 4, 5), shuffled(examples, 4, [5])
    for step in range(7):
        assert torch.equal(alone(step).inputs, members(step).inputs[0])
        assert torch.equal(alone(step).labels, members(step).labels[0])


def test_classification_meets_an_encoder_with_a_head():
    model, batch = machine().eval(), task(8)
    expected = classification(model, batch)[0]
    encoder = model.encoder
    encoder.head = nn.Sequential(model.pooler, model.output)
    assert classification(encoder, batch)[0] == expected


def test_predictions_do_not_depend_on_how_texts_are_batched():
    model, texts = machine(), task().inputs
    model.train().encoder.eval()
    whole = predictions(model, texts)
    assert torch.equal(whole, predictions(model, texts, rows=7))
    assert model.training
    assert not model.encoder.training
    with torch.no_grad():
        logits = model.eval()(texts.ids, texts.valid)
    assert torch.equal(whole, logits.argmax(-1))


def test_it_learns_and_leaves_the_best_model():
    model = machine()
    history, best = fit(model)
    assert best.steps == [15, 30, 45, 60]
    assert history["loss"].shape == (60,)
    validation = task(64, "validation")
    score = accuracy(predictions(model, validation.inputs), validation.labels)
    assert score == max(best.scores) > 0.9
    assert history["loss"][-10:].mean() < history["loss"][:10].mean() / 2


def test_the_best_is_the_first_of_equals_and_is_restored_whole():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    scores = iter([0.1, 0.7, 0.7, 0.2])
    best = Best(model, 2, lambda: next(scores))
    with pytest.raises(ValueError, match="nothing was measured"):
        best.restore()
    for step in range(9):
        with torch.no_grad():
            model[0].weight.fill_(step)
            model[1].running_mean.fill_(step)
        best(step, {})
    assert best.steps == [2, 4, 6, 8]
    assert best.restore() == 0.7
    assert model[0].weight.item() == model[1].running_mean.item() == 4


def test_dropout_is_drawn_from_the_seed_alone():
    first, second, other = machine(), machine(), machine()
    one, _ = fit(first, steps=5)
    torch.rand(3)  # a stray draw from the global stream
    before = torch.get_rng_state()
    two, _ = fit(second, steps=5)
    assert torch.equal(one["loss"], two["loss"])
    assert torch.equal(torch.get_rng_state(), before)
    three, _ = fit(other, steps=5, seed=1)
    assert not torch.equal(one["loss"], three["loss"])


def test_cards_that_the_model_is_not_on_are_left_alone(monkeypatch):
    """With two cards torch warned that all of their streams are kept."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    history, _ = fit(machine(), steps=1)
    assert history["loss"].isfinite().all()


def test_another_score_chooses_another_model(monkeypatch):
    seen = []
    fit(machine(), steps=15, score=lambda found, labels: seen.append(found) or 0.0)
    assert [len(found) for found in seen] == [64]


class TestTokens:
    """Every token is asked for its own id's parity, where it is text."""

    def examples(self, name="tokens", count=64) -> Examples:
        inputs, _ = task(count, name)
        return Examples(inputs, (inputs.ids % 2).where(inputs.valid, IGNORED))

    def model(self):
        encoder = bert(CONFIG, stream(0, "init"))
        return token_classifier(encoder, CONFIG, 2, stream(0, "head"))

    def test_loss_is_the_mean_over_what_is_asked(self):
        model, batch = self.model().eval(), self.examples()
        loss, parts = token_classification(model, batch)
        logits = model(batch.inputs.ids, batch.inputs.valid)
        log_p = logits.log_softmax(-1)
        asked = batch.inputs.valid.nonzero().tolist()
        true = [log_p[n, t, batch.labels[n, t]] for n, t in asked]
        assert torch.allclose(loss, -torch.stack(true).mean())
        hits = [logits[n, t].argmax() == batch.labels[n, t] for n, t in asked]
        assert parts["accuracy"].item() == pytest.approx(sum(hits).item() / len(hits))

    def test_it_learns_and_is_scored_on_what_is_asked(self):
        model, examples = self.model(), self.examples()
        adam = torch.optim.Adam(model.parameters(), 0.01)
        settings = Settings(60, 16, 60, objective=token_classification)
        test = self.examples("validation")
        _, best = finetune(model, examples, test, adam, settings, 0)
        assert best.scores[0] > 0.95

    def test_predictions_are_as_long_as_the_texts(self):
        model, texts = self.model(), self.examples().inputs
        found = predictions(model, texts, rows=7)
        logits = model.eval()(texts.ids, texts.valid)
        assert torch.equal(found, logits.argmax(-1).where(texts.valid, found))

    def test_no_label_at_all_is_refused(self):
        inputs, _ = task(2)
        batch = Examples(inputs, torch.full((2, 10), IGNORED))
        with pytest.raises(ValueError, match="labels: all 20 are -100"):
            token_classification(self.model(), batch)


WORDS, NUMBERS = torch.tensor([0.5, 1.0]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy(NUMBERS, WORDS), "labels: torch.float32"),
        (lambda: accuracy(NUMBERS[:1], NUMBERS), "found: 1 for 2 labels"),
        (lambda: accuracy(NUMBERS[:0], NUMBERS[:0]), r"found: .* shape \(0,\)"),
        (lambda: accuracy(NUMBERS[None], NUMBERS), r"found: .* shape \(1, 2\)"),
        (lambda: Best(machine(), 0, float), "every: 0"),
        (lambda: fit(machine(), steps=0), "steps: 0"),
        (lambda: fit(machine(), size=97), "size: 97 exceeds 96"),
        (lambda: classifier(None, CONFIG, 1, stream(0, "x")), "classes: 1"),
        (lambda: token_classifier(None, CONFIG, True, stream(0, "x")), "classes: True"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_ignored_is_torchs():
    assert nn.CrossEntropyLoss().ignore_index == finetuning.IGNORED
