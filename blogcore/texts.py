"""Sentences and words: with meanings that are known, with labels, or as people wrote.

The real sets are read from a folder that the reader names; data/README.md says whence.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import torch

from blogcore.checks import check_integer
from blogcore.corpus import HiddenMarkov, random_markov
from blogcore.lexicon import dictionary

TEMPLATES = (
    "{who}{when}在{where}{act}。",
    "{when}，{who}在{where}{act}。",
    "在{where}，{who}{when}{act}。",
    "{when}在{where}{act}的是{who}。",
)
SLOTS = {
    "who": "爸爸 父亲|医生 大夫|孩子 小朋友|妻子 太太|警察 公安|厨师 大厨",
    "when": "早上 清晨|晚上 夜里|周末 礼拜天|刚才 方才|现在 此刻|明天 次日",
    "where": "家里 屋内|学校 校园|医院 诊所|商店 铺子|路边 街头|河畔 水滨",
    "act": "吃饭 用餐|睡觉 入眠|看书 阅读|聊天 谈话|跑步 锻炼|唱歌 演出",
}
# source: the files, and the column that is the text (None: the whole line).
SOURCES = {
    "prose": (
        ("prose/d2l_zh.txt", None),
        ("prose/hf_course_zh.txt", None),
        ("prose/quantecon_zh.txt", None),
    ),
    "titles": (
        ("thucnews_titles/dev.txt", 0),
        ("thucnews_titles/test.txt", 0),
        ("fewclue/tnews/unlabeled.json", "sentence"),
    ),
    "reviews": (
        ("sophonplus/ChnSentiCorp_htl_all.csv", "review"),
        ("sophonplus/waimai_10k.csv", "review"),
        ("sophonplus/online_shopping_10_cats.zip", "review"),
        ("fewclue/eprstmt/unlabeled.json", "sentence"),
    ),
}
# set: its files, and the largest similarity.
PAIRS = {
    "sts-b": ("csts/Chinese-STS-B/sts-b-{part}.txt", 5),
    "lcqmc": ("csts/LCQMC/{part}.txt", 1),
}
STOPS = "。！？；!?;…"


class Pairs(NamedTuple):
    """Two sentences each, and how alike they are in meaning: (N,), more is closer."""

    first: list[str]
    second: list[str]
    similarity: torch.Tensor


class TaggedWords(NamedTuple):
    """Words of 2 to 4 characters, and the class of each: labels (N,)."""

    words: list[str]
    labels: torch.Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TemplateGrammar:
    """Sentences with known meaning: one idea a slot; template and synonyms are free.

    The ideas of a sentence are the states of a Markov chain along the slots, so they
    depend on each other; synonyms, drawn uniformly, keep the same company. Sentences
    whose ideas all agree are paraphrases. Raises ValueError if a template does not hold
    each slot once, a slot's ideas are not the chain's, or a word stands for two ideas.
    """

    templates: tuple[str, ...]
    slots: Mapping[str, tuple[tuple[str, ...], ...]]
    chain: HiddenMarkov

    def __post_init__(self):
        for template in self.templates or ("",):
            if sorted(re.findall(r"{(.*?)}", template)) != sorted(self.slots):
                raise ValueError(
                    f"templates: {template!r} does not hold each of {list(self.slots)}"
                )
        for slot, ideas in self.slots.items():
            if len(ideas) != len(self.chain.start) or not all(ideas):
                raise ValueError(
                    f"slots: {slot!r} has {[len(i) for i in ideas]} words an idea, not "
                    f"at least one for each of the chain's {len(self.chain.start)}"
                )
        counts = Counter(chain(*chain(*self.slots.values())))
        twice = [word for word, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"slots: {twice} stand for more than one idea")

    def meanings(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Drawn meanings, an idea's number for each slot: (N, slots)."""
        return self.chain.sample(count, len(self.slots), generator).states

    def express(self, meanings: torch.Tensor, generator: torch.Generator) -> list[str]:
        """A sentence for each meaning (N, slots): template and synonyms are drawn."""
        width, ideas = len(self.slots), len(self.chain.start)
        fits = meanings.ndim == 2 and meanings.shape[1] == width
        if not (fits and ((meanings >= 0) & (meanings < ideas)).all()):
            raise ValueError(
                f"meanings: shape {tuple(meanings.shape)}, not (N, {width}) with ideas "
                f"in 0 … {ideas - 1}"
            )
        dice = torch.rand(len(meanings), 1 + width, generator=generator).tolist()
        sentences = []
        for meaning, (first, *others) in zip(meanings.tolist(), dice, strict=True):
            rows = zip(self.slots.items(), meaning, others, strict=True)
            chosen = {slot: _pick(all_[idea], die) for (slot, all_), idea, die in rows}
            sentences.append(_pick(self.templates, first).format(**chosen))
        return sentences

    def pairs(self, count: int, generator: torch.Generator) -> Pairs:
        """Pairs that share none, one, … all ideas equally often, as a share of them.

        Ideas that are not shared are drawn uniformly among the others of their slot.
        """
        first = self.meanings(count, generator)
        width, ideas = len(self.slots), len(self.chain.start)
        shared = torch.randint(width + 1, (count, 1), generator=generator)
        rank = torch.rand(first.shape, generator=generator).argsort(1)
        shift = torch.randint(1, ideas, first.shape, generator=generator)
        second = (first + shift.where(rank >= shared, 0)) % ideas
        alike = (first == second).double().mean(1)
        return Pairs(
            self.express(first, generator), self.express(second, generator), alike
        )


def everyday_grammar(
    generator: torch.Generator, concentration: float = 0.3
) -> TemplateGrammar:
    """Small Chinese sentences: who, when, where and what, in four orders of words.

    Six ideas a slot, two synonyms an idea: 1,296 meanings of 64 sentences each. Which
    ideas go together is drawn: rows of the chain ~ Dirichlet(concentration).
    """
    slots = {
        name: tuple(tuple(idea.split()) for idea in ideas.split("|"))
        for name, ideas in SLOTS.items()
    }
    ideas = random_markov(len(slots["who"]), 1, generator, concentration)
    return TemplateGrammar(TEMPLATES, slots, ideas)


def tagged_words(classes: int = 12) -> TaggedWords:
    """jieba's words of 2 to 4 ideographs with one of the most frequent tags.

    With 12 classes, 317,685 words; classes come in falling order of their size. Raises
    RuntimeError if the installed jieba is not the expected one.
    """
    check_integer("classes", classes, 2)
    table = dictionary()
    table = table[table["word"].str.fullmatch("[\u4e00-\u9fff]{2,4}")]
    kept = tuple(table["tag"].value_counts().index[:classes])
    if len(kept) < classes:
        raise ValueError(f"classes: {classes} exceed {len(kept)}, the number of tags")
    table = table[table["tag"].isin(kept)]
    labels = torch.tensor([kept.index(tag) for tag in table["tag"]])
    return TaggedWords(table["word"].tolist(), labels, kept)


def lines(folder: Path, source: str) -> list[str]:
    """The texts of one source of real Chinese, in order, each once, none empty.

    ``source`` is "prose" (of three textbooks), "titles" (of news) or "reviews". Raises
    FileNotFoundError for a missing file, ValueError for one in another format.
    """
    if source not in SOURCES:
        raise ValueError(f"source: {source!r} is not one of {list(SOURCES)}")
    found: dict[str, None] = {}
    for name, column in SOURCES[source]:
        texts = _column(Path(folder) / "text_zh" / name, column)
        found |= dict.fromkeys(text.strip() for text in texts)
    found.pop("", None)
    return list(found)


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

    Raises FileNotFoundError for a missing file, ValueError for a damaged line.
    """
    if name not in PAIRS:
        raise ValueError(f"name: {name!r} is not one of {list(PAIRS)}")
    pattern, most = PAIRS[name]
    path = Path(folder) / "text_zh" / pattern.format(part=part)
    rows = [line.split("\t") for line in _text(path).removesuffix("\n").split("\n")]
    grades = {str(grade): float(grade) for grade in range(most + 1)}
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not all(row) or row[2] not in grades:
            raise ValueError(
                f"{path.name}: line {number} is {row}, not two and a grade"
            )
    first, second, graded = (list(column) for column in zip(*rows, strict=True))
    similarity = torch.tensor([grades[grade] for grade in graded], dtype=torch.float64)
    return Pairs(first, second, similarity)


def _pick(choices: tuple[str, ...], die: float) -> str:
    return choices[int(die * len(choices))]


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"folder: {path} is not there")
    try:
        if path.suffix != ".zip":
            return path.read_text(encoding="utf-8-sig")
        with ZipFile(path) as archive:
            return archive.read(f"{path.stem}.csv").decode("utf-8-sig")
    except (BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error


def _column(path: Path, column: str | int | None) -> list[str]:
    text = _text(path)
    try:
        if column is None:
            return text.split("\n")
        if path.suffix == ".json":
            rows = [json.loads(line) for line in text.split("\n") if line]
        elif path.suffix == ".txt":
            rows = [line.split("\t") for line in text.split("\n")]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        texts = [row[column] for row in rows]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a row is too short, or holds no text")
        return texts
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path.name}: damaged column {column!r} ({error})") from error
