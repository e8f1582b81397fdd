"""What the steps of large runs need at least, counted on the meta device: no GPU.

A step's limit is its FLOPs at 40 % of an H100's measured matrix peak plus, for networks
of small operations, all bytes that operations read and write at its memory's pace.
"""

import re
import weakref
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from blogcore import elbo, hierarchies, likelihoods, networks, objectives, vae
from blogcore.blocks import EncoderConfig
from blogcore.cloze import Cloze, token_prediction
from blogcore.contents import chapters
from blogcore.costs import forward_work
from blogcore.data import Examples
from blogcore.encoder import bert, classifier, tta
from blogcore.runtime import stream
from blogcore.tokens import Texts
from blogcore.units import Page, paged
from blogcore.wordvec import SkipGram

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
META = torch.device("meta")
PEAK, SHARE, MEMORY = 790e12, 0.4, 2.7e12  # FLOP/s, of it, bytes/s
FLOAT = 50e12  # FLOP/s in float32
VISIT = 480  # seconds of a card that a page's units may take for three seeds
ROWS, LENGTH = 256, 128  # packed rows of a step, tokens of a row


class Traffic(TorchDispatchMode):
    """Counts what operations read and write, and how many launch something.

    ``peak`` are the most bytes that were there at once, of those that operations made.
    """

    def __init__(self):
        super().__init__()
        self.bytes = self.launches = self.peak = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        result = operation(*arguments, **(more or {}))
        aliases = [r.alias_info for r in operation._schema.returns if r.alias_info]
        view = any(not alias.is_write for alias in aliases)
        if not view and "empty" not in operation.name():
            leaves = tree_leaves((arguments, more, result))
            found = [leaf for leaf in leaves if torch.is_tensor(leaf)]
            self.bytes += sum(prod(t.shape) * t.element_size() for t in found)
            self.launches += 1
        self._note([leaf for leaf in tree_leaves(result) if torch.is_tensor(leaf)])
        return result

    def _note(self, made: list[torch.Tensor]) -> None:
        for store in (tensor.untyped_storage() for tensor in made):
            if store._cdata not in self.alive:
                self.alive[store._cdata] = store.nbytes()
                weakref.finalize(store, self.alive.pop, store._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))


class Counted:
    """A training step without its optimizer: FLOPs, bytes, launches.

    ``kept`` are the bytes that the forward pass leaves for the backward pass.
    """

    def __init__(self, model: nn.Module, asked, batch: object, kind=torch.float32):
        model, traffic = model.to(META, kind).train(), Traffic()
        asked(model, batch)  # tables that are brought once
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            asked(model, batch)
        self.kept = sum(t.untyped_storage().nbytes() for t in kept.values())
        with FlopCounterMode(display=False) as counter, traffic:
            asked(model, batch)[0].sum().backward()
        self.flops = counter.get_total_flops()
        self.bytes, self.launches = traffic.bytes, traffic.launches
        self.peak = traffic.peak

    @property
    def arithmetic(self) -> float:
        """Seconds that the FLOPs take."""
        return self.flops / (SHARE * PEAK)

    @property
    def limit(self) -> float:
        """Seconds for FLOPs and bytes, one after the other."""
        return self.arithmetic + self.bytes / MEMORY


def shape(layers: int, width: int, words=4_218) -> EncoderConfig:
    """Of an encoder that reads rows or texts."""
    return EncoderConfig(
        words, width, width // 64, layers, 4 * width, LENGTH, segments=0
    )


def encoder(make: Callable, layers: int, width: int, asked_share=0.15, words=4_218):
    """A step of an encoder on packed rows."""
    config = shape(layers, width, words)
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.int64, device=META)
    count = ROWS * round(asked_share * (LENGTH - 2))
    places = torch.arange(count, device=META)
    batch = Cloze(ids, None, places, places)
    return Counted(make(config, stream(0, "init")), token_prediction, batch)


def tuning(layers: int) -> Counted:
    """A step of fine-tuning on texts that are not packed."""
    config, ids = shape(layers, 256), torch.zeros(64, LENGTH, dtype=torch.int64)
    texts = Examples(Texts(ids, ids == 0), torch.zeros(64, dtype=torch.int64))
    model = classifier(bert(config, stream(0, "init")), config, 2, stream(0, "head"))
    return Counted(model, objectives.classification, texts.to(META))


def resnet(width: int, size: int = 500) -> Counted:
    """A step of the ResNet-18 of the pages on images."""
    model = networks.resnet18(10, width).to(memory_format=torch.channels_last)
    inputs = torch.zeros(size, 3, 32, 32, dtype=torch.bfloat16, device=META)
    labels = torch.zeros(size, dtype=torch.int64, device=META)
    asked, batch = objectives.classification, Examples(inputs, labels)
    return Counted(model, asked, batch, torch.bfloat16)


def hierarchy(law: likelihoods.Likelihood, groups=(5, 10, 0, 0), **more) -> Counted:
    """A step of NVAE's unit."""
    sizes = {"size": 32, "width": 16, "latent_channels": 20, "groups": groups} | more
    sizes |= {"outputs": law.outputs, "channels": law.channels}
    shape = vae.Hierarchy(**(sizes | hierarchies.NVAE_CELLS))
    pictures = torch.zeros(200, law.channels, 32, 32, dtype=torch.uint8, device=META)
    named = elbo.noisy(lambda step: Examples(pictures, None), 0, elbo.warm_up(2))
    asked = elbo.negative_elbo(law, elbo.balanced(shape))
    model = vae.HierarchicalVAE(shape, stream(0, "init"))
    return Counted(model, asked, elbo.drawn(named, shape)(0))


BITS = likelihoods.Bernoulli()
COLOURS = likelihoods.LogisticMixture(likelihoods.exact_bins(256), 5, 3)
TWO = {"groups": (1, 1, 0, 0), "cells": 8, "latent_channels": 180}
STEPS = {
    "T-TA, 3 layers of 512": lambda: encoder(tta, 3, 512, 1.0),
    "MLM 15 %, 3 layers of 512": lambda: encoder(bert, 3, 512),
    "MLM 40 %, 3 layers of 512": lambda: encoder(bert, 3, 512, 0.4),
    "BERT, 12 layers of 256": lambda: encoder(bert, 12, 256),
    "WoBERT, 6 layers of 256": lambda: encoder(bert, 6, 256, words=20_000),
    "fine-tuning, 12 layers of 256": lambda: tuning(12),
    "fine-tuning, 6 layers of 256": lambda: tuning(6),
    "fine-tuning, 3 layers of 256": lambda: tuning(3),
    "ResNet-18, width 64": lambda: resnet(64),
    "ResNet-18, width 32": lambda: resnet(32),
    "hierarchy, 15 groups, MNIST": lambda: hierarchy(BITS),
    "hierarchy, 15 groups, CIFAR-10": lambda: hierarchy(COLOURS),
    "hierarchy, 2 groups, MNIST": lambda: hierarchy(BITS, **TWO),
}


def stated() -> dict[str, list[float]]:
    """The table of what large runs take: GFLOP, ms, GB, ms, launches."""
    text = (ROOT / "data" / "large_runs.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^\| ([^|]+?) \|((?: [\d,.]+ \|){5})$", text)
    return {
        name: [float(cell.replace(",", "")) for cell in cells.strip(" |").split("|")]
        for name, cells in found
    }


def test_the_table_has_every_step():
    assert stated().keys() == STEPS.keys()


@pytest.mark.parametrize("name", STEPS)
def test_the_limits_are_what_is_stated(name):
    found, told = STEPS[name](), stated()[name]
    milli = [1e3 * found.arithmetic, 1e3 * found.limit]
    assert found.flops / 1e9 == pytest.approx(told[0], rel=0.01)
    assert milli[0] == pytest.approx(told[1], abs=0.06)
    # Which operations a machine consists of depends a little on torch's version.
    assert found.bytes / 1e9 == pytest.approx(told[2], rel=0.1)
    assert milli[1] == pytest.approx(told[3], rel=0.1)
    assert found.launches == pytest.approx(told[4], rel=0.1)


@pytest.mark.parametrize("name", STEPS)
def test_no_step_needs_a_large_card(name):
    """What data/large_runs.md says of memory."""
    small = name.startswith(("ResNet", "hierarchy"))
    found = STEPS[name]()
    assert found.kept < found.peak * 1.02
    assert found.peak < (2.6e9 if small else 10.2e9)


def test_an_encoder_needs_three_times_its_forward_pass_by_formula():
    config = shape(12, 256)
    asked = ROWS * round(0.15 * (LENGTH - 2))
    forward = forward_work(config, ROWS, LENGTH, asked=asked).total
    assert encoder(bert, 12, 256).flops == pytest.approx(3 * forward, rel=0.002)


def test_targets_that_arithmetic_allows():
    assert hierarchy(COLOURS).limit < 0.020
    assert 100 * resnet(64).arithmetic < 0.8  # an epoch of 50,000


def words(width: int, count: int = 8192) -> float:
    """Seconds of a step of word vectors, whose products are in float32."""
    even = torch.full((count,), 1 / count)
    model = SkipGram(even, even, width, [stream(0, "init")])
    pairs = torch.zeros(count, count, device=META)
    found = Counted(model, objectives.joint_softmax, pairs)
    return found.flops / FLOAT + found.bytes / MEMORY


def all_widths() -> float:
    """Seconds of a step at each of the widths: what it costs is linear in the width."""
    narrow, wide = words(8), words(1024)
    widths = [2 ** (half / 2) for half in range(6, 21)]
    return sum(narrow + (wide - narrow) * (w - 8) / (1024 - 8) for w in widths)


PAGES = list(paged(ROOT, chapters(ROOT)))
# What the longest unit trains, without its scores.
TRAININGS = {
    ("nvae_audit", "deep_hierarchy"): lambda: 1000 * hierarchy(COLOURS).limit,
    ("word_dimension_audit", "running_text"): lambda: 300 * all_widths(),
    ("faster_mlm_audit", "read_chinese"): lambda: (
        1300 * encoder(tta, 3, 512, 1.0).limit
    ),
    ("albert_electra_audit", "equal_arithmetic"): lambda: (
        1000 * encoder(bert, 12, 256).limit + 2 * 500 * tuning(12).limit
    ),
    ("theseus_audit", "compression"): lambda: (
        1000 * encoder(bert, 12, 256).limit
        + 2 * 450 * tuning(12).limit
        + 2 * 450 * 4 * (tuning(6).limit + tuning(3).limit)
    ),
    ("wobert_audit", "continued"): lambda: (
        4000 * encoder(bert, 6, 256, words=20_000).limit + 3 * 600 * tuning(6).limit
    ),
    ("flooding_audit", "cifar_run"): lambda: 3000 * resnet(32).limit,
    ("weight_scale_audit", "cifar_run"): lambda: 1500 * resnet(32).limit,
}


def for_three_seeds(experiment) -> float:
    """The seconds planned for three of an experiment's seeds."""
    seeds = {row["seed"] for row in experiment.table}
    rows = len(experiment.table) * min(3, len(seeds)) / len(seeds)
    return experiment.seconds * rows


@pytest.mark.parametrize("slug", PAGES)
def test_a_pages_units_are_planned_for_one_visit_to_a_card(slug):
    found = Page(ROOT, slug).experiments
    assert sum(map(for_three_seeds, found.values())) <= VISIT
    for name, experiment in found.items():
        assert TRAININGS[slug, name]() < experiment.seconds, "no plan below its limit"
