"""Labelled texts: real sets of a folder, jieba's words, pairs of sentences, facts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from blogcore.checks import check_integer
from blogcore.data import Examples
from blogcore.lexicon import embedding, tagged_words
from blogcore.tables import Row, named, split
from blogcore.tokens import BertTokenizer, Texts

PARTS = {"train": "train_few_all", "dev": "dev_few_all", "test": "test_public"}
TNEWS = {
    "100": "story",
    "101": "culture",
    "102": "entertainment",
    "103": "sports",
    "104": "finance",
    "106": "house",
    "107": "car",
    "108": "edu",
    "109": "tech",
    "110": "military",
    "112": "travel",
    "113": "world",
    "114": "stock",
    "115": "agriculture",
    "116": "game",
}
SIGN = {"0": "negative", "1": "positive"}
ALIKE = {"0": "different", "1": "same"}
MNLI = {name: name for name in ("entailment", "neutral", "contradiction")}
TITLES = {
    "0": "finance",
    "1": "realty",
    "2": "stocks",
    "3": "education",
    "4": "science",
    "5": "society",
    "6": "politics",
    "7": "sports",
    "8": "game",
    "9": "entertainment",
}


class Source(NamedTuple):
    """Where a set lies, its columns (label last), and its labels with their names.

    Of ``files`` the first that is there is read. ``columns`` are names, or how many
    fields a line without heads has.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...] | int
    labels: dict[str, str]


def _clue(name: str) -> tuple[str, ...]:
    return (
        f"text_zh/clue/{name}/{{part}}.json",
        f"text_zh/fewclue/{name}/{{few}}.json",
    )


PAIR = ("sentence1", "sentence2", "label")
SETS = {
    "chnsenticorp": Source(
        ("text_zh/chnsenticorp/{part}.tsv",), ("text_a", "label"), SIGN
    ),
    "titles": Source(("text_zh/thucnews_titles/{part}.txt",), 2, TITLES),
    "tnews": Source(_clue("tnews"), ("sentence", "label"), TNEWS),
    "iflytek": Source(
        _clue("iflytek"), ("sentence", "label"), {str(k): str(k) for k in range(119)}
    ),
    "eprstmt": Source(
        _clue("eprstmt"),
        ("sentence", "label"),
        {"Negative": "negative", "Positive": "positive"},
    ),
    "lcqmc": Source(("text_zh/csts/LCQMC/{part}.txt",), 3, ALIKE),
    "afqmc": Source(("text_zh/csts/AFQMC/{part}.txt",), 3, ALIKE),
    "sts-b": Source(
        ("text_zh/csts/Chinese-STS-B/sts-b-{part}.txt",),
        3,
        {grade: grade for grade in "012345"},
    ),
    "cmnli": Source(("text_zh/csts/Chinese-MNLI/{part}.txt",), 3, MNLI),
    "paws-x": Source(
        ("text_zh/csts/PAWS-X/{part}.tsv", "text_zh/csts/PAWS-X/{part}_2k.tsv"),
        PAIR,
        ALIKE,
    ),
    "sst2": Source(("text_en/sst2/{part}.tsv",), 2, SIGN),
}


class LabelledTexts(NamedTuple):
    """Texts, or pairs of them, and the number of the class of each: labels (N,)."""

    first: list[str]
    second: list[str] | None
    labels: torch.Tensor
    classes: tuple[str, ...]

    def encoded(self, tokenizer: BertTokenizer, length: int | None = None) -> Examples:
        """What a model learns from: inputs are ``Texts`` of at most ``length`` ids."""
        inputs = tokenizer.batch(self.first, self.second, length=length)
        return Examples(inputs, self.labels)


class SpelledWords(NamedTuple):
    """Words as ids of characters, their parts of speech, and the characters' vectors.

    ``examples`` hold ``Texts`` without marks: id 0 is padding, 1 a character without a
    vector, both zero rows of ``vectors`` (characters + 2, 128). Frozen vectors of the
    words are ``vectors[examples.inputs.ids]`` (N, T, 128).
    """

    words: list[str]
    examples: Examples
    vectors: torch.Tensor
    classes: tuple[str, ...]


def labelled_texts(folder: Path, name: str, part: str = "train") -> LabelledTexts:
    """A part (train, dev, test) of a real set, as it is commonly distributed.

    ``SETS`` says which there are and where ``folder`` has them: texts (chnsenticorp,
    titles, tnews, iflytek, eprstmt, sst2) and pairs (lcqmc, afqmc, sts-b with its
    grades 0 … 5, cmnli, paws-x). Raises FileNotFoundError for a missing file, and
    ValueError, naming file and line, for one in another format or without labels.
    """
    for argument, value, known in (("name", name, SETS), ("part", part, PARTS)):
        if value not in known:
            raise ValueError(f"{argument}: {value!r} is not one of {list(known)}")
    source = SETS[name]
    place = {label: number for number, label in enumerate(source.labels)}
    texts, labels = [], []
    for where, (*fields, label) in _rows(Path(folder), source, part):
        if label not in place:
            raise ValueError(f"{where}: label {label!r} is not one of {list(place)}")
        texts.append(fields)
        labels.append(place[label])
    first, *second = (list(column) for column in zip(*texts, strict=True))
    classes = tuple(source.labels.values())
    return LabelledTexts(
        first, second[0] if second else None, torch.tensor(labels), classes
    )


def parts_of_speech(
    classes: int = 12, shortest: int = 2, longest: int = 4
) -> SpelledWords:
    """jieba's words of 2 to 4 characters, and which part of speech each is.

    317,685 words by falling count, 12 classes, the largest with .365 of them. See
    ``lexicon.tagged_words`` and ``lexicon.embedding``.
    """
    words, labels, names = tagged_words(classes, shortest, longest)
    characters, vectors = embedding()
    place = {character: row for row, character in enumerate(characters, start=2)}
    spelled = [[place.get(c, 1) for c in word] for word in words]
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in spelled])
    table = torch.cat([torch.zeros(2, vectors.shape[1]), vectors])
    return SpelledWords(words, Examples(Texts(ids, ids > 0), labels), table, names)


def sentence_order(
    first: Sequence[str], second: Sequence[str], generator: torch.Generator
) -> LabelledTexts:
    """Neighbouring passages, half of them swapped: which comes first?

    ``second[i]`` follows ``first[i]`` in its text. Exactly ⌊n/2⌋ drawn pairs are
    swapped, label 1. Source: Lan et al. (2020), 3.1; the public code also takes
    passages of other texts as swapped ones, where a text has one passage only.
    """
    _check_pairs(first, second)
    swapped = _half(len(first), generator)
    pairs = zip(first, second, swapped.tolist(), strict=True)
    ordered = [(b, a) if swap else (a, b) for a, b, swap in pairs]
    ones, others = (list(column) for column in zip(*ordered, strict=True))
    return LabelledTexts(ones, others, swapped.long(), ("in order", "swapped"))


def next_sentence(
    first: Sequence[str], second: Sequence[str], generator: torch.Generator
) -> LabelledTexts:
    """Passages and what follows, or, for half of them, what follows another: label 1.

    The drawn ⌊n/2⌋ pairs change partners in a circle, so that none keeps its own; at
    least four pairs are needed. Source: Devlin et al. (2019), 3.1.
    """
    _check_pairs(first, second)
    check_integer("first", len(first), 4)
    strangers = _half(len(first), generator)
    rows = strangers.nonzero()[:, 0]
    place = torch.arange(len(first))
    place[rows] = rows.roll(1)
    others = [second[row] for row in place.tolist()]
    return LabelledTexts(
        list(first), others, strangers.long(), ("next", "of another text")
    )


def random_facts(symbols: int, count: int, generator: torch.Generator) -> Examples:
    """``count`` facts (a, b) → c over so many symbols: nothing but memory helps.

    Pairs are drawn without repetition, answers uniformly: log₂(symbols) bits a fact.
    Inputs are ``Texts`` (count, 2), labels (count,). Raises ValueError for more facts
    than pairs.
    """
    check_integer("symbols", symbols, 2)
    check_integer("count", count, 1)
    if count > symbols**2:
        raise ValueError(f"count: {count} facts exceed {symbols}² pairs")
    pairs = torch.randperm(symbols**2, generator=generator)[:count]
    ids = torch.stack([pairs // symbols, pairs % symbols], 1)
    labels = torch.randint(symbols, (count,), generator=generator)
    return Examples(Texts(ids, torch.ones_like(ids, dtype=torch.bool)), labels)


def _half(count: int, generator: torch.Generator) -> torch.Tensor:
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=generator)[: count // 2]] = True
    return chosen


def _check_pairs(first, second) -> None:
    for name, texts in (("first", first), ("second", second)):
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
            raise ValueError(f"{name}: {texts!r} is not a list of at least one text")
    if len(first) != len(second):
        raise ValueError(f"second: {len(second)} texts for {len(first)} first ones")


def files(name: str) -> tuple[str, ...]:
    """What ``labelled_texts`` reads of a set, by part: “a or b”, the first there is."""
    return tuple(" or ".join(_files(SETS[name], part)) for part in PARTS)


def _files(source: Source, part: str) -> list[str]:
    return [each.format(part=part, few=PARTS[part]) for each in source.files]


def _rows(folder: Path, source: Source, part: str) -> list[Row]:
    files = [folder / name for name in _files(source, part)]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"folder: none of {[str(f) for f in files]} is there")
    if isinstance(source.columns, int):
        rows = [*split(path, "\t", source.columns)]
    else:
        rows = [*named(path, source.columns)]
    if not rows:
        raise ValueError(f"{path.name}: holds no text")
    return rows
