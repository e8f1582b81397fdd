"""Labelled texts are read as they are distributed, and what is wrong is named."""

import os
from pathlib import Path

import pytest
import torch

from blogcore.lexicon import embedding
from blogcore.runtime import stream
from blogcore.tasks import (
    SETS,
    labelled_texts,
    next_sentence,
    parts_of_speech,
    random_facts,
    sentence_order,
)
from blogcore.tokens import BertTokenizer, character_vocabulary

FILES = {
    "text_zh/chnsenticorp/train.tsv": 'label\ttext_a\n1\t很"好\n0\t不好\n',
    "text_zh/thucnews_titles/dev.txt": "\ufeff标题甲\t3\n标题乙\t0\n",
    "text_zh/csts/AFQMC/dev.txt": "甲\t乙\t1\n丙\t丁\t0\n",
    "text_zh/csts/AFQMC/test.txt": "甲\t乙\n",
    "text_zh/csts/Chinese-STS-B/sts-b-test.txt": "甲\t乙\t5\n",
    "text_zh/csts/Chinese-MNLI/dev.txt": "甲\t乙\tneutral\n",
    "text_zh/csts/PAWS-X/dev_2k.tsv": "id\tsentence1\tsentence2\tlabel\n1\t甲\t乙\t0\n",
    "text_zh/clue/tnews/train.json": '{"label": "110", "sentence": "甲", "id": 1}\n',
    "text_zh/fewclue/tnews/train_few_all.json": '{"label": 100, "sentence": "乙"}\n',
    "text_zh/fewclue/tnews/test_public.json": '{"label": 116, "sentence": "丙"}\n',
    "text_zh/fewclue/iflytek/dev_few_all.json": '{"label": 118, "sentence": "丁"}',
    "text_zh/clue/iflytek/test.json": '{"id": 0, "sentence": "丁"}\n',
    "text_zh/fewclue/eprstmt/dev_few_all.json": (
        '{"label": "Positive", "sentence": "戊"}\n'
    ),
    "text_en/sst2/dev.tsv": "very good\t1\n",
}
FOUND = {
    ("chnsenticorp", "train"): (['很"好', "不好"], None, ["positive", "negative"]),
    ("titles", "dev"): (["标题甲", "标题乙"], None, ["education", "finance"]),
    ("afqmc", "dev"): (["甲", "丙"], ["乙", "丁"], ["same", "different"]),
    ("sts-b", "test"): (["甲"], ["乙"], ["5"]),
    ("cmnli", "dev"): (["甲"], ["乙"], ["neutral"]),
    ("paws-x", "dev"): (["甲"], ["乙"], ["different"]),
    ("tnews", "train"): (["甲"], None, ["military"]),  # CLUE's own, where it is there
    ("tnews", "test"): (["丙"], None, ["game"]),
    ("iflytek", "dev"): (["丁"], None, ["118"]),
    ("eprstmt", "dev"): (["戊"], None, ["positive"]),
    ("sst2", "dev"): (["very good"], None, ["positive"]),
}
needs_data = pytest.mark.skipif(
    "BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA names no folder"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("name", "part"), FOUND)
def test_every_set_is_read_with_its_classes(folder, name, part):
    found = labelled_texts(folder, name, part)
    classes = [found.classes[label] for label in found.labels.tolist()]
    assert (found.first, found.second, classes) == FOUND[name, part]
    assert found.labels.dtype == torch.int64


def test_texts_and_pairs_become_what_a_model_reads(folder):
    tokenizer = BertTokenizer(character_vocabulary(["甲乙丙丁很好不"]))
    pairs = labelled_texts(folder, "afqmc", "dev").encoded(tokenizer)
    assert torch.equal(pairs.inputs.ids[0], tokenizer.batch(["甲"], ["乙"]).ids[0])
    assert pairs.inputs.segments.tolist() == [[0, 0, 0, 1, 1]] * 2
    assert pairs.labels.tolist() == [1, 0]
    single = labelled_texts(folder, "chnsenticorp").encoded(tokenizer, 3)
    assert (single.inputs.ids.shape, single.inputs.segments) == ((2, 3), None)


@pytest.mark.parametrize(
    ("name", "part", "content", "message"),
    [
        ("afqmc", "test", None, r"test\.txt, line 1: .* is not 3 fields"),
        ("iflytek", "test", None, r"test\.json, line 1: KeyError\('label'\)"),
        ("lcqmc", "dev", None, "folder: none of .*LCQMC/dev.txt"),
        ("titles", "dev", "甲\t10\n", r"dev\.txt, line 1: label '10' is not one of"),
        ("chnsenticorp", "train", "label\ttext_a\n", "train.tsv: holds no text"),
        ("chnsenticorp", "train", "text_a\n甲\n", "train.tsv, line 1: no column label"),
        ("chnsenticorp", "train", "label\ttext_a\n2\t甲\n", "train.tsv, line 2: label"),
        ("tnews", "train", '{"label": true, "sentence": "甲"}', "line 1: True is not"),
        ("tnews", "train", '{"label": 100, "sentence": 7}', "line 1: 7 is not a text"),
        ("tnews", "train", "[1]\n", "train.json, line 1: TypeError"),
        ("tnews", "train", '{"label": ', "train.json, line 1: JSONDecodeError"),
        ("poems", "dev", None, r"name: 'poems' is not one of \['chnsenticorp'"),
        ("tnews", "valid", None, r"part: 'valid' is not one of \['train', 'dev'"),
    ],
)
def test_what_is_wrong_is_named(folder, name, part, content, message):
    if content is not None:
        path = next(
            folder / pattern.format(part=part, few=part) for pattern in SETS[name].files
        )
        path.write_text(content, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        labelled_texts(folder, name, part)


def test_words_are_spelled_in_characters_with_vectors():
    words, examples, vectors, classes = parts_of_speech()
    ids, labels = examples.inputs.ids, examples.labels
    assert ids.shape == (317_685, 4)
    assert len(words) == len(labels) == 317_685
    assert torch.equal(examples.inputs.valid, ids > 0)
    row = words.index("图书馆")
    known, table = embedding()
    assert ids[row].tolist() == [*(known.index(c) + 2 for c in "图书馆"), 0]
    assert torch.equal(vectors[ids[row, 0]], table[known.index("图")])
    assert not vectors[:2].any()
    assert classes[labels[row]] == "n"
    unknown = (ids == 1).any(1).nonzero()[0].item()
    assert not {*words[unknown]} <= {*known}


class TestPairs:
    """Labels that cost nothing: which passage comes first, and does it follow?"""

    first, second = [f"a{k}" for k in range(9)], [f"b{k}" for k in range(9)]

    def test_half_of_the_pairs_are_swapped(self):
        found = sentence_order(self.first, self.second, stream(0, "order"))
        assert found.classes == ("in order", "swapped")
        assert found.labels.sum() == 4
        rows = zip(found.first, found.second, found.labels.tolist(), strict=True)
        for number, (one, other, swapped) in enumerate(rows):
            pair = (f"a{number}", f"b{number}")
            assert (one, other) == (pair[::-1] if swapped else pair)
        again = sentence_order(self.first, self.second, stream(1, "order"))
        assert not torch.equal(found.labels, again.labels)

    @pytest.mark.parametrize("count", [4, 9, 10])
    def test_half_of_the_passages_follow_another_text(self, count):
        first, second = [f"a{k}" for k in range(count)], [f"b{k}" for k in range(count)]
        found = next_sentence(first, second, stream(0, "next"))
        assert found.first == first
        assert sorted(found.second) == sorted(second)
        assert found.labels.sum() == count // 2
        own = [other == f"b{k}" for k, other in enumerate(found.second)]
        assert own == [label == 0 for label in found.labels.tolist()]

    @pytest.mark.parametrize("make", [sentence_order, next_sentence])
    def test_wrong_pairs_are_named(self, make):
        for first, second, message in (
            ("ab", ["a"], "first: 'ab'"),
            (["a"] * 4, [], r"second: \[\]"),
            (["a"] * 4, ["b"] * 5, "second: 5 texts for 4"),
        ):
            with pytest.raises(ValueError, match=message):
                make(first, second, stream(0, "x"))
        with pytest.raises(ValueError, match="first: 3 is not an integer ≥ 4"):
            next_sentence(["a"] * 3, ["b"] * 3, stream(0, "x"))


def test_facts_are_pairs_without_repetition_and_uniform_answers():
    facts = random_facts(16, 256, stream(0, "facts"))
    ids = facts.inputs.ids
    assert len(set(map(tuple, ids.tolist()))) == 256
    assert (ids.min(), ids.max()) == (0, 15)
    assert facts.inputs.valid.all()
    counts = facts.labels.bincount(minlength=16)
    assert len(counts) == 16
    assert (counts - 16).abs().max() < 5 * 4
    assert len(random_facts(16, 40, stream(0, "facts")).labels) == 40
    for settings, message in (
        ((4, 17), "count: 17 facts exceed 4²"),
        ((1, 1), "symbols: 1"),
        ((4, 0), "count: 0"),
    ):
        with pytest.raises(ValueError, match=message):
            random_facts(*settings, stream(0, "x"))


@needs_data
def test_the_real_sets_are_read():
    sizes = {
        ("chnsenticorp", "train"): 9600,
        ("titles", "test"): 10_000,
        ("lcqmc", "test"): 12_500,
        ("afqmc", "train"): 34_334,
        ("sts-b", "train"): 5231,
        ("tnews", "test"): 2010,
        ("iflytek", "train"): 3024,
    }
    for (name, part), size in sizes.items():
        found = labelled_texts(Path(os.environ["BLOGCORE_DATA"]), name, part)
        assert len(found.first) == len(found.labels) == size
        assert all(found.first)
