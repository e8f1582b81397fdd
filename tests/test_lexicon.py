"""jieba's files are read as they are, and only from the release that was looked at."""

import math
import runpy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from blogcore import lexicon

(FOLDER,) = find_spec("jieba").submodule_search_locations


@pytest.fixture(scope="module")
def model():
    return lexicon.tagging_model()


def shipped(name: str) -> dict:
    return runpy.run_path(str(Path(FOLDER) / "posseg" / f"prob_{name}.py"))["P"]


def test_the_dictionary_is_jiebas():
    table = lexicon.dictionary()
    assert list(table.columns) == ["word", "count", "tag"]
    assert len(table) == 349_046
    assert table["count"].sum() == 60_101_967
    rows = table.set_index("word")
    assert rows.loc["AT&T"].tolist() == [3, "nz"]
    assert rows.loc["的"].tolist() == [318_825, "uj"]
    assert not table.isna().any().any()
    assert table["tag"].nunique() == 55


def test_the_tagging_model_has_jiebas_numbers(model):
    start, transition, emission = map(shipped, ("start", "trans", "emit"))
    assert len(model.states) == len(set(model.states)) == 163
    assert len(model.characters) == len(set(model.characters)) == 8870
    place = {state: index for index, state in enumerate(model.states)}
    column = {c: index for index, c in enumerate(model.characters)}
    for state, row in place.items():
        assert abs(model.start[row] - math.exp(start[state])) < 1e-15
        for table, found, names in [
            (transition, model.transition, place),
            (emission, model.emission, column),
        ]:
            assert (found[row] > 0).sum() == len(table[state])
            for name, logarithm in table[state].items():
                assert abs(found[row, names[name]] - math.exp(logarithm)) < 1e-15


def test_the_tagging_model_is_nearly_a_hidden_markov_model(model):
    np.testing.assert_allclose(model.start.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(model.transition.sum(1), 1, rtol=1e-12)
    sums = model.emission.sum(1)
    assert abs(sums.min() - 1) < 1e-12
    assert abs(sums.max() - 2) < 1e-12
    assert abs(sums[model.states.index(("B", "n"))] - 1.356) < 1e-3


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(lexicon, "version", lambda name: "0.39")
    with pytest.raises(RuntimeError, match=r"jieba: version 0\.39 is not 0\.42\.1"):
        lexicon.dictionary()


@pytest.mark.parametrize("name", sorted(lexicon.SHA256))
def test_an_altered_file_is_refused_by_name(name, monkeypatch, tmp_path):
    content = (Path(FOLDER) / name).read_bytes()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content[:-1] + b"x")
    for other in set(lexicon.SHA256) - {name}:
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).symlink_to(Path(FOLDER) / other)

    class Elsewhere:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(lexicon, "find_spec", lambda package: Elsewhere)
    call = lexicon.dictionary if name == "dict.txt" else lexicon.tagging_model
    with pytest.raises(RuntimeError, match=f"{name}: sha256 .* is not .*jieba 0.42.1"):
        call()
