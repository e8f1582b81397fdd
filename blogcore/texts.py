"""What people wrote and judged: Chinese texts, and how alike sentences and words are.

All is read from a folder that the reader names, BLOGCORE_DATA. Errors name file and
line.
"""

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import torch

from blogcore.checks import check_integer
from blogcore.tables import column, split

# file: the column that is the text (None: the whole line).
SOURCES = {
    "prose": {
        "text_zh/prose/d2l_zh.txt": None,
        "text_zh/prose/hf_course_zh.txt": None,
        "text_zh/prose/quantecon_zh.txt": None,
    },
    "titles": {
        "text_zh/thucnews_titles/dev.txt": 0,
        "text_zh/thucnews_titles/test.txt": 0,
        "text_zh/fewclue/tnews/unlabeled.json": "sentence",
    },
    "reviews": {
        "text_zh/sophonplus/ChnSentiCorp_htl_all.csv": "review",
        "text_zh/sophonplus/waimai_10k.csv": "review",
        "text_zh/sophonplus/online_shopping_10_cats.zip": "review",
        "text_zh/fewclue/eprstmt/unlabeled.json": "sentence",
    },
}
EVERYTHING = {
    **SOURCES["prose"],
    "text_zh/chnsenticorp/dev.tsv": "text_a",
    "text_zh/chnsenticorp/test.tsv": "text_a",
    "text_zh/chnsenticorp/train.tsv": "text_a",
    "text_zh/sophonplus/ChnSentiCorp_htl_all.csv": "review",
    "text_zh/sophonplus/waimai_10k.csv": "review",
    "text_zh/sophonplus/online_shopping_10_cats.zip": "review",
}
# set: its files, and the largest similarity.
PAIRS = {
    "sts-b": ("text_zh/csts/Chinese-STS-B/sts-b-{part}.txt", 5),
    "lcqmc": ("text_zh/csts/LCQMC/{part}.txt", 1),
}
SIMILARITY = {
    "wordsim-240": "wordsim/zh_cwe/240.txt",
    "wordsim-296": "wordsim/zh_cwe/297.txt",
}
ANALOGIES = (
    "wordsim/zh_ca8/morphological.txt",
    "wordsim/zh_ca8/semantic.txt",
    "wordsim/zh_cwe/analogy.txt",
)
# The file of wordsim-296 has 297 rows; those who distribute it leave this one out.
NOT_JUDGED = ("OPEC", "石油")
STOPS = "。！？；!?;…"


class Pairs(NamedTuple):
    """Two sentences each, and how alike they are in meaning: (N,), more is closer."""

    first: list[str]
    second: list[str]
    similarity: torch.Tensor


class Similarities(NamedTuple):
    """Pairs of words, and how similar people find each: (pairs,) float64."""

    pairs: tuple[tuple[str, str], ...]
    scores: torch.Tensor


def chinese_text(folder: Path) -> list[str]:
    """Chinese documents: paragraphs of prose, then reviews, each text only once.

    Reads what ``folder`` holds of ``EVERYTHING``. Blank ones are left out, and repeated
    ones: the collections share reviews (94,527 listed, 78,311 distinct). Raises
    FileNotFoundError if there is none of them, ValueError for a damaged one.
    """
    named = [(Path(folder) / name, place) for name, place in EVERYTHING.items()]
    files = [(path, place) for path, place in named if path.exists()]
    if not files:
        raise FileNotFoundError(f"folder: {folder} has none of {', '.join(EVERYTHING)}")
    return _distinct(chain.from_iterable(column(*file) for file in files))


def lines(folder: Path, source: str) -> list[str]:
    """The texts of one source of real Chinese, in order, each once, none empty.

    ``source`` is "prose" (of three textbooks), "titles" (of news) or "reviews". Raises
    FileNotFoundError for a missing file, ValueError for one in another format.
    """
    if source not in SOURCES:
        raise ValueError(f"source: {source!r} is not one of {list(SOURCES)}")
    found: list[str] = []
    for name, place in SOURCES[source].items():
        texts = [*column(Path(folder) / name, place)]
        if not texts:
            raise ValueError(f"{name}: holds no text")
        found += texts
    return _distinct(found)


def passages(texts: Iterable[str], longest: int) -> list[str]:
    """The texts, cut where they exceed ``longest`` characters.

    After the last full stop of the later half, or else wherever the limit falls.
    """
    check_integer("longest", longest, 2)
    found = []
    for text in texts:
        while len(text) > longest:
            stops = [text.rfind(stop, longest // 2, longest) for stop in STOPS]
            cut = max(stops) + 1 or longest
            found.append(text[:cut])
            text = text[cut:]
        found.append(text)
    return found


def similar_pairs(folder: Path, name: str, part: str = "test") -> Pairs:
    """Real pairs: "sts-b" (similarity 0 … 5) or "lcqmc" (1: the same question, or 0).

    Raises FileNotFoundError for a missing file, ValueError for a damaged one.
    """
    if name not in PAIRS:
        raise ValueError(f"name: {name!r} is not one of {list(PAIRS)}")
    pattern, most = PAIRS[name]
    path = Path(folder) / pattern.format(part=part)
    grades = {str(grade): float(grade) for grade in range(most + 1)}
    first, second, similarity = [], [], []
    for where, (one, other, grade) in split(path, "\t", 3):
        if grade not in grades:
            raise ValueError(f"{where}: grade {grade!r} is not one of {list(grades)}")
        first.append(one)
        second.append(other)
        similarity.append(grades[grade])
    return Pairs(first, second, torch.tensor(similarity, dtype=torch.float64))


def similarity_tests(folder: Path) -> dict[str, Similarities]:
    """The judged pairs of words of wordsim-240 (scores 0 … 10) and -296 (0 … 5).

    Reads wordsim/zh_cwe/240.txt and 297.txt: word, tab, word, tab, score. OPEC–石油 is
    left out, as by those who distribute the file. Raises FileNotFoundError if one is
    absent, ValueError for a damaged one.
    """
    tests = {}
    for name, place in SIMILARITY.items():
        rows = [
            (first, second, _score(score, where))
            for where, (first, second, score) in split(Path(folder) / place, "\t", 3)
            if (first, second) != NOT_JUDGED
        ]
        scores = torch.tensor([row[2] for row in rows], dtype=torch.float64)
        tests[name] = Similarities(tuple(row[:2] for row in rows), scores)
    return tests


def analogies(folder: Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """Questions «a is to b as c is to d», by section, named like semantic/geography.

    Reads the two files of CA8 and analogy.txt of CWE: «: section», then four words a
    line. Raises FileNotFoundError if one is absent, ValueError for a damaged one.
    """
    sections = {}
    for path in (Path(folder) / place for place in ANALOGIES):
        rows = None
        for where, words in split(path, None, 4, heads=":"):
            if words[0] == ":":
                rows = sections.setdefault(f"{path.stem}/{words[1]}", [])
            elif rows is None:
                raise ValueError(f"{where}: words before the first «: section»")
            else:
                rows.append(tuple(words))
    return sections


def _distinct(texts: Iterable[str]) -> list[str]:
    """The texts without white space at their ends, each once, none empty."""
    return [text for text in dict.fromkeys(map(str.strip, texts)) if text]


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not isfinite(score):
        raise ValueError(f"{where}: score {text!r} is no number")
    return score
