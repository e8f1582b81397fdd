"""What people wrote and judged: Chinese texts, and how alike sentences and words are.

All but ``tagged_words`` is read from a folder that the reader names, BLOGCORE_DATA.
Errors name file and line.
"""

import csv
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import torch

from blogcore.checks import check_integer
from blogcore.lexicon import dictionary

# files: the column that is the text (None: the whole line).
EVERYTHING = {
    "text_zh/prose/*.txt": None,
    "text_zh/chnsenticorp/*.tsv": "text_a",
    "text_zh/sophonplus/*.csv": "review",
    "text_zh/sophonplus/*.zip": "review",
}
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
IDEOGRAPHS = re.compile("[\u4e00-\u9fff]{2,4}")


class Pairs(NamedTuple):
    """Two sentences each, and how alike they are in meaning: (N,), more is closer."""

    first: list[str]
    second: list[str]
    similarity: torch.Tensor


class Similarities(NamedTuple):
    """Pairs of words, and how similar people find each: (pairs,) float64."""

    pairs: tuple[tuple[str, str], ...]
    scores: torch.Tensor


class TaggedWords(NamedTuple):
    """Words of 2 to 4 characters, and the class of each: labels (N,)."""

    words: list[str]
    labels: torch.Tensor
    classes: tuple[str, ...]


def chinese_text(folder: Path) -> list[str]:
    """Chinese documents: paragraphs of prose, then reviews, each text only once.

    Reads what ``folder`` holds of text_zh/prose/*.txt (a paragraph a line),
    text_zh/chnsenticorp/*.tsv (the column text_a), text_zh/sophonplus/*.csv and the
    .csv files in text_zh/sophonplus/*.zip (the column review). Blank ones are left out,
    and repeated ones: the collections share reviews (94,527 listed, 78,311 distinct).
    Raises FileNotFoundError if there is no such file, ValueError for a damaged one.
    """
    files = [
        (path, column)
        for places, column in EVERYTHING.items()
        for path in sorted(Path(folder).glob(places))
    ]
    if not files:
        raise FileNotFoundError(f"folder: {folder} has none of {', '.join(EVERYTHING)}")
    return _distinct(chain.from_iterable(_column(*file) for file in files))


def lines(folder: Path, source: str) -> list[str]:
    """The texts of one source of real Chinese, in order, each once, none empty.

    ``source`` is "prose" (of three textbooks), "titles" (of news) or "reviews". Raises
    FileNotFoundError for a missing file, ValueError for one in another format.
    """
    if source not in SOURCES:
        raise ValueError(f"source: {source!r} is not one of {list(SOURCES)}")
    found: list[str] = []
    for name, column in SOURCES[source].items():
        texts = [*_column(Path(folder) / name, column)]
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
    for where, (one, other, grade) in _split(path, "\t", 3):
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
            for where, (first, second, score) in _split(Path(folder) / place, "\t", 3)
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
        for where, words in _split(path, None, 4, heads=":"):
            if words[0] == ":":
                rows = sections.setdefault(f"{path.stem}/{words[1]}", [])
            elif rows is None:
                raise ValueError(f"{where}: words before the first «: section»")
            else:
                rows.append(tuple(words))
    return sections


def tagged_words(classes: int = 12) -> TaggedWords:
    """jieba's words of 2 to 4 ideographs with one of the most frequent tags.

    With 12 classes, 317,685 words, by falling count; classes come in falling order of
    their size. Raises RuntimeError if the installed jieba is not the expected one.
    """
    check_integer("classes", classes, 2)
    words, _, tags = dictionary(least=1)  # placeholder counts do not matter here
    rows = [
        row for row in zip(words, tags, strict=True) if IDEOGRAPHS.fullmatch(row[0])
    ]
    sizes = Counter(tag for _, tag in rows)
    if len(sizes) < classes:
        raise ValueError(f"classes: {classes} exceed {len(sizes)}, the number of tags")
    place = {tag: label for label, (tag, _) in enumerate(sizes.most_common(classes))}
    rows = [(word, place[tag]) for word, tag in rows if tag in place]
    labels = torch.tensor([label for _, label in rows])
    return TaggedWords([word for word, _ in rows], labels, tuple(place))


def _distinct(texts: Iterable[str]) -> list[str]:
    """The texts without white space at their ends, each once, none empty."""
    return [text for text in dict.fromkeys(map(str.strip, texts)) if text]


def _column(path: Path, column: str | int | None) -> Iterator[str]:
    """The texts in one column of a file, or of the tables in an archive."""
    for name, text in _opened(path).items():
        if column is None:
            yield from text.split("\n")
        elif isinstance(column, int):
            yield from (line.split("\t")[column] for line in text.split("\n"))
        else:
            read = _objects if path.suffix == ".json" else _table
            yield from read(text, name, column)


def _opened(path: Path) -> dict[str, str]:
    """The text of a file, or of each .csv in an archive, by name."""
    if not path.is_file():
        raise FileNotFoundError(f"folder: {path} is not there")
    if path.suffix != ".zip":
        return {path.name: _decoded(path.read_bytes(), path.name)}
    try:
        with ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".csv"))
            tables = {f"{path.name}/{name}": archive.read(name) for name in names}
    except (BadZipFile, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error
    return {name: _decoded(content, name) for name, content in tables.items()}


def _decoded(content: bytes, name: str) -> str:
    """The text in a file's content, less a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: not UTF-8 ({error.reason})") from error


def _table(text: str, name: str, column: str) -> Iterator[str]:
    """One column of a table: tab-separated without quotes, or comma-separated."""
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    form = tabs if name.endswith(".tsv") else {"strict": True}
    table = csv.reader(io.StringIO(text), **form)
    try:
        head = next(table, [])
        if column not in head:
            raise csv.Error(f"no column {column}")
        for row in table:
            if row and len(row) != len(head):
                raise csv.Error(f"{len(row)} fields, expected {len(head)}")
            if row:
                yield row[head.index(column)]
    except csv.Error as error:
        where = max(1, table.line_num)
        raise ValueError(f"{name}, line {where}: {error}") from error


def _objects(text: str, name: str, column: str) -> Iterator[str]:
    """One entry of the JSON objects in a text, an object a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line:
            try:
                found = json.loads(line)[column]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{name}, line {number}: {error!r}") from error
            if not isinstance(found, str):
                raise ValueError(f"{name}, line {number}: {found!r} is not a text")
            yield found


def _split(path: Path, separator: str | None, parts: int, heads: str | None = None):
    """(file and line, the parts of the line), less blank lines; at least one."""
    text = _opened(path)[path.name]
    if not text.strip():
        raise ValueError(f"{path.name}, line 1: the file is blank")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            fields = [field.strip() for field in line.split(separator)]
            where = f"{path.name}, line {number}"
            expected = 2 if fields[0] == heads else parts
            if len(fields) != expected or not all(fields):
                raise ValueError(f"{where}: {line.strip()!r} is not {expected} fields")
            yield where, fields


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not isfinite(score):
        raise ValueError(f"{where}: score {text!r} is no number")
    return score
