"""jieba's files, read as data: its words, and the model that tags unknown ones."""

import ast
import hashlib
import io
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

VERSION = "0.42.1"
SHA256 = {
    "dict.txt": "7197c3211ddd98962b036cdf40324d1ea2bfaa12bd028e68faa70111a88e12a8",
    "posseg/prob_start.py": (
        "b43aaebcd8b21c2d7e9f67efaeb22c26835e47083356cba0c23ef6d9a37eb8f2"
    ),
    "posseg/prob_trans.py": (
        "24328e8b81388f3b0eed6127f597cad8ef9f54cbd44efe1db486e0c2ddd0cbbc"
    ),
    "posseg/prob_emit.py": (
        "dd82a34938b4059be6026ffed621c3f7121013ae587038269ee8419bdaaada81"
    ),
}


class TaggingModel(NamedTuple):
    """A hidden Markov model whose states are (B, M, E or S; part of speech).

    Shapes: start (S,), transition (S, S), emission (S, V). The emissions are as jieba
    ships them: simplified and traditional form of a character share its probability
    without being halved, so that rows sum to 1 … 2.
    """

    states: tuple[tuple[str, str], ...]
    characters: tuple[str, ...]
    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray


def dictionary() -> pd.DataFrame:
    """jieba's 349,046 words: columns word, count, tag (part of speech).

    Raises RuntimeError if the installed jieba is not the expected one.
    """
    columns = ["word", "count", "tag"]
    return pd.read_csv(io.StringIO(_read("dict.txt")), sep=" ", names=columns)


def tagging_model() -> TaggingModel:
    """The model of jieba.posseg: the 163 of its 256 states that can occur.

    Raises RuntimeError if the installed jieba is not the expected one.
    """
    start, transition, emission = (
        ast.literal_eval(_read(f"posseg/prob_{name}.py").split("P=", 1)[1])
        for name in ("start", "trans", "emit")
    )
    states = tuple(sorted(state for state, row in emission.items() if row))
    characters = tuple(sorted({c for row in emission.values() for c in row}))
    return TaggingModel(
        states,
        characters,
        np.exp([start[state] for state in states]),
        _dense(transition, states, states),
        _dense(emission, states, characters),
    )


def _dense(table: dict, rows: tuple, columns: tuple) -> np.ndarray:
    """Probabilities from nested dicts of their logarithms; 0 for what is not there."""
    place = {column: index for index, column in enumerate(columns)}
    dense = np.zeros((len(rows), len(columns)))
    for row, name in zip(dense, rows, strict=True):
        logarithms = [*table[name].values()]
        row[[place[column] for column in table[name]]] = np.exp(logarithms)
    return dense


def _read(name: str) -> str:
    if version("jieba") != VERSION:
        raise RuntimeError(f"jieba: version {version('jieba')} is not {VERSION}")
    # The folder only: importing jieba would start its logger.
    (folder,) = find_spec("jieba").submodule_search_locations
    content = (Path(folder) / name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise RuntimeError(
            f"{name}: sha256 {found} is not {SHA256[name]} (jieba {VERSION})"
        )
    return content.decode("utf-8")
