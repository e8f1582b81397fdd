"""The machines of large runs never wait for the device inside a training step.

On the meta device there are no values, so that whatever would wait for one raises. To
bring a tensor from the CPU waits as well, and does not raise: it is looked for. What is
drawn there comes from torch's global stream: a meta device has no generators.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blogcore import (
    elbo,
    finetuning,
    images,
    likelihoods,
    networks,
    objectives,
    theseus,
    training,
    vae,
)
from blogcore.blocks import EncoderConfig, Stack
from blogcore.cloze import Cloze, token_prediction
from blogcore.data import Examples
from blogcore.encoder import bert, classifier, tta
from blogcore.hierarchies import NVAE_CELLS
from blogcore.runtime import stream
from blogcore.tokens import Texts

META = torch.device("meta")
LAWS = [
    likelihoods.Bernoulli(),
    likelihoods.LogisticMixture(likelihoods.exact_bins(256), 5, 3),
]
Case = tuple[nn.Module, Callable[[int], object], objectives.Objective]


def resnet() -> Case:
    model = networks.resnet18(10, 4).to(memory_format=torch.channels_last)
    inputs, labels = torch.zeros(6, 3, 32, 32), torch.zeros(6, dtype=torch.int64)
    batch = Examples(inputs, labels).to(META)
    asked = objectives.flood(objectives.classification, 0.5)  # no autocast on meta
    return model, lambda step: batch, asked


def text_autoencoder() -> Case:
    config = EncoderConfig(25, 16, 2, 2, 32, 8, dropout=0.0, segments=0)
    ids = torch.zeros(6, 8, dtype=torch.int64, device=META)
    places = torch.arange(48, device=META)
    batch = Cloze(ids, None, places, ids.flatten())
    model = tta(config, stream(0, "init"), start=3)
    return model, lambda step: batch, token_prediction


def classifier_of_texts() -> Case:
    """As in fine-tuning, padding and dropout and all."""
    config = EncoderConfig(25, 16, 2, 2, 32, 8, segments=0)
    ids = torch.zeros(6, 8, dtype=torch.int64, device=META)
    texts = Texts(ids, torch.ones(6, 8, dtype=torch.bool, device=META))
    batch = Examples(texts, torch.zeros(6, dtype=torch.int64, device=META))
    model = classifier(bert(config, stream(0, "init")), config, 3, stream(0, "head"))
    return model, lambda step: finetuning._trimmed(batch), objectives.classification


def ship_of_theseus() -> Case:
    """Blocks that a coin swaps, learning from their predecessor's answers as well."""
    whole, batches, _ = classifier_of_texts()
    ship = copy.deepcopy(whole)
    blocks = ship.encoder.blocks
    places = theseus.compress(blocks, blocks[:1], torch.zeros(1, 2, 16))
    ship.encoder.blocks = Stack(places)
    asked = theseus.swapping(theseus.distil(whole.to(META), 2.0, 0.5))
    plan = theseus.coins(theseus.constant(1.0), len(places), 0)
    return ship, theseus.planned(batches, plan), asked


def hierarchy(law: likelihoods.Likelihood) -> Case:
    colours = {"outputs": law.outputs, "channels": law.channels, "groups": (1, 2, 0)}
    shape = vae.Hierarchy(**colours, width=8, latent_channels=2, **NVAE_CELLS)
    shown = torch.zeros(6, law.channels, shape.size, shape.size, dtype=torch.uint8)
    whole = Examples(shown, torch.zeros(6)).to(META)
    batches = elbo.noisy(lambda step: whole, 0, elbo.warm_up(2))
    batches = elbo.drawn(batches, shape)
    asked = elbo.negative_elbo(law, elbo.balanced(shape))
    return vae.HierarchicalVAE(shape, stream(0, "init")), batches, asked


CASES: list[Callable[[], Case]] = [
    resnet,
    text_autoencoder,
    classifier_of_texts,
    ship_of_theseus,
]
CASES += [lambda law=law: hierarchy(law) for law in LAWS]
NAMES = ["ResNet", "T-TA", "fine-tuning", "Theseus", "bits", "colours"]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_training_step_never_waits_for_the_device(case):
    model, batches, asked = case()
    model = model.to(META)
    optimizer = torch.optim.AdamW(model.parameters())
    history = training.train(model, batches, asked, optimizer, 3)
    assert history["loss"].shape == (3,)


class Brought(TorchDispatchMode):
    """Raises where a tensor comes from the CPU to the device."""

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        result = operation(*arguments, **(more or {}))
        given = [t for t in tree_leaves((arguments, more)) if torch.is_tensor(t)]
        here = any(tensor.is_cpu for tensor in given)
        there = [t for t in [*given, *tree_leaves(result)] if torch.is_tensor(t)]
        if here and any(tensor.is_meta for tensor in there):
            raise RuntimeError(f"{operation} brings a tensor from the CPU to the meta")
        return result


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_nothing_is_brought_to_the_device_after_the_first_step(case):
    model, batches, asked = case()
    model, shown = model.to(META), [batches(step) for step in range(3)]
    asked(model, shown[0])  # tables that stay where they are brought to
    with Brought():
        for batch in shown[1:]:
            loss, _ = asked(model, batch)
            loss.sum().backward()
            assert loss.is_meta


def test_what_is_brought_is_found():
    """Levels are that differ from member to member: such networks train on the CPU."""
    model, batches, asked = resnet()
    levels = objectives.flood(lambda *given: _stacked(*asked(*given)), torch.ones(1))
    with Brought(), pytest.raises(RuntimeError, match="brings a tensor"):
        levels(model.to(META), batches(0))


def _stacked(loss, parts):
    return loss[None], parts


def test_a_wait_is_found():
    def looks(model, batch):
        loss, parts = objectives.classification(model, batch)
        return loss / loss.item(), parts

    model, batches, _ = resnet()
    model = model.to(META)
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        training.train(model, batches, looks, optimizer, 1)


def test_pixels_are_drawn_without_a_look_at_their_values_on_a_device():
    shown = torch.zeros(2, 1, 4, 4, dtype=torch.uint8, device=META)
    assert images.binary(shown, 256, stream(0, "pixels")).device == META
