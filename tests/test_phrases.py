"""Phrases are real, their cuts lose nothing, and the arms differ in one thing each."""

import pytest
import torch

from blogcore.phrases import ARMS, SMALL, owners, padded, phrases, starts


@pytest.fixture(scope="module")
def data():
    return phrases()


def spelled(row: torch.Tensor, tokens: tuple[str, ...]) -> str:
    return "".join(tokens[i] for i in row[row >= 0].tolist())


def test_both_cuts_are_the_text(data):
    assert len(data.texts) == len(data.labels) == 85_237
    assert data.classes == ("n", "i", "l", "nr", "m", "ns", "nz", "nt")
    assert (data.labels == 0).float().mean() == pytest.approx(0.3124, abs=1e-4)
    for place in range(0, len(data.texts), 997):
        text = data.texts[place]
        assert spelled(data.characters[place], data.base.tokens) == text
        assert spelled(data.words[place], data.vocabulary.tokens) == text
        assert (data.characters[place] >= 0).sum() == len(text) >= 4
    tokens = (data.words >= 0).sum()
    assert (data.characters >= 0).sum() / tokens == pytest.approx(1.322, abs=1e-3)
    assert set(data.texts).isdisjoint(data.vocabulary.tokens)


def test_each_character_has_the_token_that_covers_it(data):
    covering = owners(data)
    assert torch.equal(covering >= 0, data.characters >= 0)
    for place in range(0, len(data.texts), 997):
        row = [data.vocabulary.tokens[i] for i in data.words[place] if i >= 0]
        owned = [data.vocabulary.tokens[i] for i in covering[place] if i >= 0]
        assert owned == [token for token in row for _ in token]


def test_arms_differ_in_where_they_start(data):
    tables, old = starts(data, 0), len(data.base)
    assert tables.keys() == ARMS.keys()
    for name, unit in ARMS.items():
        assert len(tables[name]) == len(
            data.vocabulary if unit == "words" else data.base
        )
    trained = tables["characters trained"]
    for name in ("words = mean", "words random", "words small", "words shuffled"):
        assert torch.allclose(tables[name][:old], trained, atol=1e-5)
    means, dealt = tables["words = mean"][old:], tables["words shuffled"][old:]
    word = data.vocabulary.ids["语言"] - old
    ids = [data.base.ids[c] for c in "语言"]
    assert torch.allclose(means[word], trained[ids].mean(0), atol=1e-5)
    assert torch.allclose(means.sum(0), dealt.sum(0), rtol=1e-3, atol=0.1)
    assert (means == dealt).all(1).float().mean() < 0.01
    nothing = tables["words from nothing"]
    ratio = nothing.std() / trained[5:].std()
    assert ratio == pytest.approx(SMALL, rel=0.01)
    assert torch.equal(nothing[:old], tables["characters from nothing"])
    assert torch.equal(nothing[old:], tables["words small"][old:])


def test_names_what_is_wrong():
    with pytest.raises(ValueError, match="size: 9000000"):
        phrases(9_000_000)
    for rows in ([], [[1], []]):
        with pytest.raises(ValueError, match="rows: "):
            padded(rows)
