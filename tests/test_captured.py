"""A captured step is the plain one: the same where there is no GPU, compared where."""

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from blogcore import captured, elbo, training, vae
from blogcore.data import Examples, shuffled
from blogcore.hierarchies import NVAE_CELLS
from blogcore.likelihoods import LogisticMixture, exact_bins
from blogcore.runtime import stream

LAW = LogisticMixture(exact_bins(17), 1)
SHAPE = vae.Hierarchy(
    outputs=LAW.outputs, groups=(1, 2), width=8, latent_channels=2, **NVAE_CELLS
)


class Case:
    """A small hierarchy, its batches as tensors alone, and its objective."""

    def __init__(self, device: str = "cpu"):
        levels = torch.randint(17, (20, 1, 8, 8), generator=stream(0, "images"))
        known = Examples(levels.to(torch.uint8), torch.zeros(20)).to(
            torch.device(device)
        )
        self.model = vae.HierarchicalVAE(SHAPE, stream(0, "init")).to(device)
        named = elbo.noisy(shuffled(known, 6, [0]), 0, elbo.warm_up(3))
        self.batches = elbo.drawn(named, SHAPE)
        self.plain = elbo.negative_elbo(LAW, elbo.balanced(SHAPE))

    def captured(self, count: int = 2):
        """The captured objective."""
        examples = [self.batches(step) for step in range(count)]
        return captured.captured(self.model, self.plain, examples)

    def trained(self, asked, steps: int = 6) -> list[torch.Tensor]:
        """Losses, and all numbers of the model, after some steps."""
        adam = torch.optim.AdamW(self.model.parameters(), lr=0.01, fused=True)
        history = training.train(self.model, self.batches, asked, adam, steps)
        return [*history.values(), *self.model.state_dict().values()]


def replaying(forgets: bool = False, off: float = 1.0, turned: float = 1.0):
    """What stands in for a graph: fixed buffers, and its faults on demand."""

    def graphed(asked, example):
        held, form = tree_flatten(example)
        held = [tensor.clone() for tensor in held]
        for _ in range(3):  # it warms up
            asked(example)
        outputs = {}

        def run(batch):
            if not forgets:
                for tensor, new in zip(held, tree_flatten(batch)[0], strict=True):
                    tensor.copy_(new)
            loss, parts = asked(tree_unflatten(held, form))
            loss = off * (turned * loss + (1 - turned) * loss.detach())
            for name, part in parts.items():  # written over by the next replay
                outputs.setdefault(name, part.clone()).copy_(part)
            return loss, outputs

        return run

    return graphed


@pytest.fixture
def on_gpu(monkeypatch):
    """Take the CPU for a GPU whose graphs are ``graphed``."""

    def pretend(graphed) -> None:
        monkeypatch.setattr(captured, "_on_gpu", lambda batch: True)
        monkeypatch.setattr(captured, "_graphed", graphed)

    return pretend


def test_without_a_gpu_it_is_the_objective_itself():
    case = Case()
    assert case.captured() is case.plain


def test_a_replayed_training_is_the_plain_one_bit_for_bit(on_gpu):
    """Also what recording did to running averages is undone, and parts are copies."""
    case, other = Case(), Case()
    on_gpu(replaying())
    again = case.trained(case.captured())
    assert all(map(torch.equal, again, other.trained(other.plain)))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"forgets": True}, r"replaying batch 1 gives a loss off by"),
        ({"off": 1.001}, r"replaying batch 0 gives a loss off by"),
        ({"turned": 0.5}, r"a gradient off by 5.0e-01 of its norm"),
        ({"off": float("nan")}, r"loss off by nan"),
    ],
)
def test_a_replay_that_is_another_step_is_told_and_not_used(on_gpu, fault, says):
    """The plain step takes longer; a visit to a card is not lost for it."""
    case, other = Case(), Case()
    on_gpu(replaying(**fault))
    with pytest.warns(UserWarning, match=f"captured: .*{says}.*without graphs"):
        asked = case.captured()
    assert asked is case.plain
    assert all(map(torch.equal, case.trained(asked), other.trained(other.plain)))


def test_a_step_that_cannot_be_recorded_is_told_and_not_replayed(on_gpu):
    def graphed(asked, example):
        asked(example)  # it warms up
        raise RuntimeError("operation not permitted when stream is capturing")

    case, other = Case(), Case()
    on_gpu(graphed)
    with pytest.warns(UserWarning, match="not permitted when stream is capturing"):
        assert case.captured() is case.plain
    states = [c.model.state_dict().values() for c in (case, other)]
    assert all(map(torch.equal, *states))


def test_what_cannot_be_replayed_is_told(on_gpu):
    case = Case()
    with pytest.raises(ValueError, match="examples: 1 given, two are needed"):
        case.captured(1)
    on_gpu(replaying())
    asked, images = case.captured(), case.batches(0).images
    short = case.batches(0)._replace(images=images[:1])  # would be broadcast
    with pytest.raises(ValueError, match="are not the shapes recorded"):
        asked(case.model, short)


def test_in_eval_mode_the_plain_objective_is_asked(on_gpu):
    case = Case()
    on_gpu(replaying())
    asked, batch = case.captured(), case.batches(7)
    found = training.evaluate(case.model, asked, batch)
    expected = training.evaluate(case.model, case.plain, batch)
    assert torch.equal(found["loss"], expected["loss"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_fifty_captured_steps_are_fifty_plain_ones():
    case, other = Case("cuda"), Case("cuda")
    found, expected = case.trained(case.captured(), 50), other.trained(other.plain, 50)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-3)
