"""What jieba brings is read as it is, and what is not jieba 0.42.1 is refused."""

import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jieba
import numpy as np
import pytest
import torch

from blogcore import lexicon
from blogcore.lexicon import (
    dictionary,
    embedding,
    segment,
    tagged_words,
)

JIEBA = Path(jieba.__file__).parent
CACHED = ("_dictionary", "_embedding", "_cutter")


def forget():
    for name in CACHED:
        getattr(lexicon, name).cache_clear()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder in which the lexicon looks for jieba's files instead."""
    monkeypatch.setattr(lexicon, "_folder", lambda: tmp_path)
    forget()
    yield tmp_path
    forget()


def lines_of(name: str) -> list[str]:
    return (JIEBA / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")


def test_dictionary_is_the_file_sorted_by_falling_count():
    lines = lines_of("dict.txt")
    assert len(lines) == 349_046
    (twice,) = (line for line, n in Counter(lines).items() if n > 1)
    # The second of the two goes.
    assert lines[1] == lines.pop(lines.index(twice, 2)) == "B超 3 n"
    lines.sort(key=lambda line: int(line.split(" ")[1]), reverse=True)
    words, counts, tags = dictionary(least=1)
    rows = zip(words, counts.tolist(), tags, strict=True)
    assert [f"{word} {count} {tag}" for word, count, tag in rows] == lines
    assert len({*words}) == len(words)
    assert counts.dtype == torch.int64
    assert counts.sum() == 60_101_964
    assert len({*tags}) == 55


def test_the_cut_drops_the_placeholders_and_nothing_else():
    everything, found = dictionary(least=1), dictionary()
    assert found.counts.min() == 4
    assert len(found.words) == len(found.counts) == len(found.tags) == 149_226
    assert found.counts.sum() == 59_543_009
    counts = everything.counts.bincount(minlength=5)[:5].tolist()
    assert counts == [0, 0, 40_502, 159_317, 12_679]
    assert everything.words[:149_226] == found.words
    assert dictionary(883_634).words == ("了",)
    assert found.words.index("的") == 8
    assert (found.counts[8], found.tags[8]) == (318_825, "uj")
    place = everything.words.index("AT&T")
    assert (everything.counts[place], everything.tags[place]) == (3, "nz")


def test_a_result_can_be_altered_without_altering_the_next():
    for read in (dictionary, embedding):
        read()[1].zero_()
        assert read()[1][0].any()


def test_jiebas_words_make_a_task_of_known_size():
    found = tagged_words()
    assert len(found.words) == len(set(found.words)) == len(found.labels) == 317_685
    assert " ".join(found.classes) == "n nr v i l ns m nz nrt a vn z"
    sizes = torch.bincount(found.labels)
    assert (sizes.sort(descending=True).values == sizes).all()
    assert sizes[0] == 115_922
    assert round(sizes[0].item() / 317_685, 3) == 0.365
    assert {len(word) for word in found.words} == {2, 3, 4}
    tag = dict(zip(found.words, found.labels.tolist(), strict=True))
    assert found.classes[tag["苹果"]] == "n"
    assert found.classes[tag["北京"]] == "ns"


def test_words_of_other_lengths_are_a_task_too():
    found = tagged_words(8, 4, None)
    assert len(found.words) == 85_323
    assert " ".join(found.classes) == "n i l nr m ns nz nt"
    assert min(map(len, found.words)) == 4 < max(map(len, found.words))
    assert {len(word) for word in tagged_words(2, 1, 1).words} == {1}


def test_embedding_rows_are_those_of_the_file():
    words, vectors = embedding()
    assert vectors.shape == (len(words), 128) == (16_033, 128)
    assert vectors.dtype == torch.float32
    assert len({*words}) == len(words)
    assert all(len(word) == 1 for word in words)
    content = (JIEBA / "lac_small/model_baseline/word_emb").read_bytes()
    pairs = (line.split("\t") for line in lines_of("lac_small/word.dic"))
    rows = {word: int(row) for row, word in pairs}
    for word in (words[0], "李", "大", words[-1]):
        row = np.frombuffer(content, "<f4", 128, 29 + 512 * rows[word])
        assert vectors[words.index(word)].tolist() == row.tolist(), word


def test_untrained_rows_are_left_out():
    content = (JIEBA / "lac_small/model_baseline/word_emb").read_bytes()
    largest = np.abs(np.frombuffer(content, "<f4", offset=29).reshape(-1, 128)).max(1)
    assert len(largest) == 20_941
    assert (largest <= 0.1).sum() == 4_907
    assert not ((largest > 0.1) & (largest < 0.15)).any()
    assert embedding().vectors.abs().amax(1).min() > 0.15


def test_neighbours_in_the_embedding_mean_something():
    words, vectors = embedding()
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    for word, kin in (("三", "二五四"), ("大", "小"), ("狗", "猫")):
        similar = (unit @ unit[words.index(word)]).topk(len(kin) + 1).indices[1:]
        assert {words[row] for row in similar} == {*kin}


SENTENCES = [
    "我来到北京清华大学，他来到了网易杭研大厦。",
    "乌鸦坐飞机\n  小明硕士毕业于中国科学院计算所, 后在日本京都大学深造",
    "T恤 and 3.14％ of 卡拉OK！？\t",
    "",
]


def test_segment_cuts_as_jieba_does(tmp_path):
    reference = jieba.Tokenizer()
    reference.tmp_dir = str(tmp_path)
    for text in SENTENCES:
        assert segment(text) == reference.lcut(text)
        assert "".join(segment(text)) == text


def test_segment_is_private():
    assert lexicon._cutter() is not jieba.dt
    segment("结巴")
    assert not jieba.dt.initialized


@pytest.mark.slow
def test_segment_says_nothing_and_leaves_nothing_behind(tmp_path):
    code = "from blogcore.lexicon import segment; print(*segment('研究生命起源'))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUTF8": "1"},
    )
    assert done.stdout == "研究 生命 起源\n"
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("dict.txt", dictionary),
        ("dict.txt", lambda: segment("结巴")),
        ("lac_small/word.dic", embedding),
        ("lac_small/model_baseline/word_emb", embedding),
    ],
)
def test_another_file_than_that_of_this_version_is_refused(elsewhere, name, read):
    for needed in lexicon.SHA256:
        (elsewhere / needed).parent.mkdir(parents=True, exist_ok=True)
        if needed != name:
            (elsewhere / needed).symlink_to(JIEBA / needed)
    content = bytearray((JIEBA / name).read_bytes())
    content[-2] ^= 1
    (elsewhere / name).write_bytes(content)
    with pytest.raises(RuntimeError) as caught:
        read()
    words = str(caught.value)
    assert words.startswith(f"{name}: sha256 ")
    assert f"is not {lexicon.SHA256[name]} (jieba 0.42.1's copy)" in words


def test_another_version_or_none_is_refused(tmp_path, monkeypatch):
    # As jieba's own source does where it is compiled, this one warns.
    other = "import warnings; warnings.warn('escape'); __version__ = '0.43'"
    (tmp_path / "jieba.py").write_text(other, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jieba")
    forget()
    with pytest.raises(RuntimeError, match=r"jieba: 0\.43 is not 0\.42\.1"):
        segment("结巴")
    monkeypatch.setattr(lexicon, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"jieba: not installed, .* 0\.42\.1"):
        dictionary()


def test_a_wrong_call_is_refused_by_name():
    for least in (0, -1, 4.0, True, "4"):
        with pytest.raises(ValueError, match=f"least: {least!r} is not an integer ≥ 1"):
            dictionary(least)
    with pytest.raises(ValueError, match="least: 883635 exceeds 883634"):
        dictionary(883_635)
    for settings, message in (
        ((1,), "classes: 1"),
        ((99,), "classes: 99 exceed 38"),
        ((12, 0), "shortest: 0"),
        ((12, 3, 2), "longest: 2 is not an integer ≥ 3"),
    ):
        with pytest.raises(ValueError, match=message):
            tagged_words(*settings)
    with pytest.raises(TypeError, match="text: b'x' is not a text"):
        segment(b"x")


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number % 128 + 128]), number // 128
    return out + bytes([number])


def paddle_file(array: np.ndarray, kind=5, versions=(0, 0, 0)) -> bytes:
    dims = b"".join(b"\x10" + varint(extent) for extent in array.shape)
    header = struct.pack("<IQI", *versions)
    description = b"\x08" + varint(kind) + dims
    return header + struct.pack("<i", len(description)) + description + array.tobytes()


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 127), (128, 2), (20_000, 1, 3)])
def test_a_paddle_tensor_is_read_back(shape):
    array = np.random.default_rng(0).normal(size=shape).astype("<f4")
    found = lexicon._paddle_tensor(paddle_file(array))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)


def test_a_damaged_paddle_tensor_is_refused():
    array = np.ones((2, 3), "<f4")
    whole = paddle_file(array)
    wrong = [paddle_file(array, kind=6), whole + b"\0", whole[:-1]]
    wrong += [paddle_file(array, versions=v) for v in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    wrong += [whole[:length] for length in range(len(whole))]
    wrong += [whole[:16] + struct.pack("<i", -1) + whole[20:]]
    for content in wrong:
        with pytest.raises(ValueError, match="content: "):
            lexicon._paddle_tensor(content)
