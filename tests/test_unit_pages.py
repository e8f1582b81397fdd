"""The units of the book's own pages: whole by themselves, and each of them runs."""

import ast
import builtins
import symtable
import time
from math import isfinite
from pathlib import Path

import measures
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blogcore.contents import chapters
from blogcore.freshness import PARAMETERS
from blogcore.unitfiles import checked, recorded
from blogcore.units import Page, Unit, paged, tagged

ROOT = Path(__file__).parents[1]
PAGES = list(paged(ROOT, chapters(ROOT)))
EXPERIMENTS = [(slug, name) for slug in PAGES for name in Page(ROOT, slug).experiments]
ROUNDED = [e for e in EXPERIMENTS if e[0] not in ("nvae_audit", "word_dimension_audit")]
aten = torch.ops.aten
PRODUCTS = aten.convolution.default, aten.mm.default, aten.addmm.default


def free_names(cells: list[str]) -> set[str]:
    """The names that cells read and that neither they nor Python define."""
    given, read = set(dir(builtins)) | set(PARAMETERS), set()
    for cell in cells:
        assigned, reads = measures.names(cell)
        symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
        given |= assigned | {s.get_name() for s in symbols if s.is_imported()}
        read |= reads
    return read - given


@pytest.mark.parametrize("page", PAGES)
def test_every_free_name_is_defined_in_the_tagged_cells(page):
    assert free_names(tagged(ROOT, page)) == set()


def test_a_free_name_is_found():
    cells = [
        "import math\nTWO = 2",
        "def f(x):\n    return [math.pi * TWO * y * z for z in x]",
    ]
    assert free_names(cells) == {"y"}


@pytest.mark.parametrize("page", PAGES)
def test_recorded_rows_are_whole_and_of_experiments_that_there_are(page):
    names = Page(ROOT, page).experiments
    for row in recorded(ROOT / "data", page):
        assert row["page"] == page
        assert row["experiment"] in names


@pytest.mark.slow
@pytest.mark.parametrize(("slug", "name"), EXPERIMENTS)
def test_a_tiny_unit_runs_on_drawn_data_and_repeats(slug, name):
    """In ten seconds of one core, twice alike, under the settings for tests."""
    page, found = Page(ROOT, slug, device="cpu"), []
    torch.set_num_threads(1)
    for loader in page.loaders():
        loader.draw()
    experiment = page.experiments[name]
    assert experiment.tiny, "no settings for a test"
    for _ in range(2):
        begin = time.process_time()
        result = experiment(**experiment.tiny)
        assert time.process_time() - begin < 10
        found.append(checked(Unit(slug, experiment, {}, {}), result))
    assert found[0] == found[1]
    assert all(isfinite(v) for row in found[0].values() for v in row.values())


class Products(TorchDispatchMode):
    """The precision of products, and the layout of filters, while something learns."""

    def __init__(self):
        super().__init__()
        self.kinds, self.last = set(), set()

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        result = operation(*arguments, **(more or {}))
        if torch.is_grad_enabled() and operation in PRODUCTS:
            self.kinds.add(result.dtype)
            if operation is PRODUCTS[0]:
                last = {"memory_format": torch.channels_last}
                self.last.add(arguments[1].is_contiguous(**last))
        return result


@pytest.mark.slow
@pytest.mark.parametrize(("slug", "name"), ROUNDED)
def test_encoders_and_images_learn_in_the_form_that_cards_like(slug, name):
    page, seen = Page(ROOT, slug, device="cpu"), Products()
    for loader in page.loaders():
        loader.draw()
    experiment = page.experiments[name]
    with seen:
        experiment(**experiment.tiny)
    assert torch.bfloat16 in seen.kinds
    assert torch.float32 not in seen.kinds
    assert seen.last <= {True}


@pytest.mark.parametrize("page", PAGES)
def test_adam_w_updates_in_one_operation(page):
    for node in ast.walk(ast.parse("\n".join(tagged(ROOT, page)))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("AdamW"):
            assert "fused" in {keyword.arg for keyword in node.keywords}


@pytest.mark.slow
def test_a_handful_of_judged_pairs_is_no_score():
    """Of the 512 commonest words of the real texts one pair is judged: NaN."""
    page = Page(ROOT, "word_dimension_audit", device="cpu")
    for loader in page.loaders():
        loader.draw()
    unit = page.experiments["running_text"]
    few, more = (unit(**unit.tiny | {"size": size}) for size in (5, 10))
    lists = {"wordsim-240", "wordsim-296"}
    assert not lists & few.keys()
    assert lists <= more.keys()
