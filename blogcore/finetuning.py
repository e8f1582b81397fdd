"""Fine-tuning: train on labels, keep the best by validation, and say how good it is.

A score compares predicted with true labels, both integers (N,).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.asking import Objective, Parts, in_eval_mode
from blogcore.checkpoint import History
from blogcore.checks import check_integer
from blogcore.data import Examples, shuffled
from blogcore.objectives import classification, graphics_cards, predicted
from blogcore.tokens import Texts
from blogcore.training import OnStep, seeded, train

IGNORED = -100  # the label of a token that is not asked about, as in torch
Score = Callable[[torch.Tensor, torch.Tensor], float]


def accuracy(found: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of labels that were found: 0 … 1."""
    _check_labels(found, labels)
    return (found == labels).double().mean().item()


def predictions(model: nn.Module, inputs, rows: int = 256) -> torch.Tensor:
    """The most probable class of each example, in eval mode: (N,), or (N, T).

    As many examples at once as ``rows``, without the padding that all of them have.
    """
    with in_eval_mode(model), torch.no_grad():
        starts = range(0, len(inputs), rows)
        parts = [inputs[start : start + rows] for start in starts]
        return torch.cat([_classes(model, part) for part in parts])


def token_classification(
    model: nn.Module, batch: Examples
) -> tuple[torch.Tensor, Parts]:
    """Mean cross-entropy, in nats, over the tokens whose label is not ``IGNORED``.

    Labels (N, T), logits (N, T, classes). Parts: loss and accuracy (0 … 1).
    """
    asked = batch.labels != IGNORED
    if not asked.any():
        raise ValueError(f"labels: all {batch.labels.numel()} are {IGNORED}: not asked")
    logits, labels = predicted(model, batch.inputs)[asked], batch.labels[asked]
    loss = F.cross_entropy(logits, labels)
    hits = (logits.argmax(-1) == labels).float().mean()
    return loss, {"loss": loss.detach(), "accuracy": hits}


class Best:
    """An ``on_step`` that keeps the model as it was when ``measure()`` was highest.

    It measures every so many updates; ``scores`` and ``steps`` list what it found, and
    after how many updates. ``restore()`` puts the best state back, ties: the first.
    """

    def __init__(self, model: nn.Module, every: int, measure: Callable[[], float]):
        check_integer("every", every, 1)
        self.model, self.every, self.measure = model, every, measure
        self.steps: list[int] = []
        self.scores: list[float] = []
        self._kept: dict[str, torch.Tensor] = {}

    def __call__(self, step: int, parts: Parts) -> None:
        if step and step % self.every == 0:
            self.look(step)

    def look(self, step: int) -> None:
        """Measure now, after this many updates."""
        score = self.measure()
        if not self.scores or score > max(self.scores):
            self._kept = copy.deepcopy(self.model.state_dict())
        self.scores.append(score)
        self.steps.append(step)

    def restore(self) -> float:
        """Put the best model back; its score. Raises ValueError before any look."""
        if not self.scores:
            raise ValueError("restore: nothing was measured yet")
        self.model.load_state_dict(self._kept)
        return max(self.scores)


@dataclass(frozen=True)
class Settings:
    """How to fine-tune: ``steps`` of ``size`` examples, measured ``every`` so many.

    ``score`` (found, labels) is what should be high on the validation examples.
    """

    steps: int
    size: int
    every: int
    score: Score = accuracy
    objective: Objective = classification

    def __post_init__(self):
        for name in ("steps", "size", "every"):
            check_integer(name, getattr(self, name), 1)


def finetune(
    model: nn.Module,
    examples: Examples,
    validation: Examples,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    seed: int,
    on_step: Sequence[OnStep] = (),
) -> tuple[History, Best]:
    """Train, and leave the model as it scored best on the validation examples.

    Batches come from ``stream(seed, "batches/…")``, dropout from ``stream(seed,
    "dropout/…")``; it is measured at the end too. Returns the history of the training,
    and what was measured.
    """
    drawn = shuffled(examples, settings.size, seed)
    best = Best(
        model, settings.every, lambda: _score(model, validation, settings.score)
    )
    with torch.random.fork_rng(graphics_cards(model)):
        history = train(
            model,
            seeded(lambda step: _trimmed(drawn(step)), seed),
            settings.objective,
            optimizer,
            settings.steps,
            on_step=(*on_step, best),
        )
    best.look(settings.steps)
    best.restore()
    return history, best


def _score(model: nn.Module, examples: Examples, score: Score) -> float:
    found, asked = predictions(model, examples.inputs), examples.labels != IGNORED
    return score(found[asked], examples.labels[asked])


def _classes(model: nn.Module, inputs) -> torch.Tensor:
    if not isinstance(inputs, Texts):
        return predicted(model, inputs).argmax(-1)
    found = predicted(model, inputs.trimmed()).argmax(-1)
    missing = inputs.ids.shape[1] - found.shape[1] if found.ndim == 2 else 0
    return F.pad(found, (0, missing))


def _trimmed(batch: Examples) -> Examples:
    """The batch without padding that all its texts have; labels of tokens likewise.

    On a device it stays whole: to look how long texts are would be a wait in each step.
    """
    inputs, labels = batch
    if not isinstance(inputs, Texts) or not inputs.ids.is_cpu:
        return batch
    inputs = inputs.trimmed()
    return Examples(
        inputs, labels[..., : inputs.ids.shape[1]] if labels.ndim == 2 else labels
    )


def _check_labels(found: torch.Tensor, labels: torch.Tensor) -> None:
    for name, tensor in (("found", found), ("labels", labels)):
        if tensor.is_floating_point() or tensor.ndim != 1 or not len(tensor):
            raise ValueError(
                f"{name}: {tensor.dtype} of shape {tuple(tensor.shape)}, not integers "
                "(N,)"
            )
    if len(found) != len(labels):
        raise ValueError(f"found: {len(found)} for {len(labels)} labels")
