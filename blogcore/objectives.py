"""What is asked of a machine: objectives, and functions from objective to objective.

An objective takes (model, batch) and returns (loss, parts): see ``asking``. A
regulariser wraps an objective, so the order of composition can be read:
``flood(gradient_penalty(f, 1), b)`` is not ``gradient_penalty(flood(f, b), 1)``.
"""

from collections.abc import Callable, Sequence
from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from blogcore.asking import Objective, Parts, at
from blogcore.checks import check_number
from blogcore.data import Batches, Examples
from blogcore.tokens import Texts

Penalty = Callable[[nn.Module], torch.Tensor]
Number = float | torch.Tensor  # one for all, or (S,), one a member
NO_LABEL = torch.iinfo(torch.int64).min


def example_losses(model: nn.Module, batch: Examples) -> torch.Tensor:
    """Cross-entropy of every example, −log softmax(model(x))_y, in nats.

    Logits (…, N, classes), labels (…, N) or (N,) shared by all members → losses (…, N).
    Raises TypeError for labels that are not int64, ValueError for other shapes and for
    labels outside the classes.
    """
    return cross_entropy(predicted(model, batch.inputs), batch.labels)


def classification(model: nn.Module, batch: Examples) -> tuple[torch.Tensor, Parts]:
    """Mean cross-entropy L over the batch; parts: loss (nats) and accuracy (0 … 1)."""
    logits = predicted(model, batch.inputs)
    loss = cross_entropy(logits, batch.labels).mean(-1)
    hits = (logits.argmax(-1) == batch.labels).float().mean(-1)
    return loss, {"loss": loss.detach(), "accuracy": hits}


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, reduction: str = "none"
) -> torch.Tensor:
    """−log softmax(logits)_y in nats: of every example, or torch's "mean" of them.

    Logits (…, N, classes), labels (…, N) or (N,); losses (…, N), or (). Raises
    TypeError and ValueError as ``example_losses``: no label is skipped.
    """
    _check_labels(logits, labels)
    flat = labels.expand(logits.shape[:-1]).reshape(-1)
    how = {"reduction": reduction, "ignore_index": NO_LABEL}  # torch's would skip −100
    try:
        losses = F.cross_entropy(logits.flatten(0, -2), flat, **how)
    except IndexError as error:  # on a GPU an assertion of torch's
        found = f"{labels.min()} … {labels.max()}"
        allowed = f"0 … {logits.shape[-1] - 1}"
        raise ValueError(f"labels: {found} are not all in {allowed}") from error
    return losses.view(logits.shape[:-1]) if losses.ndim else losses


def predicted(model: nn.Module, inputs: torch.Tensor | Texts) -> torch.Tensor:
    """Logits: of a network its outputs, of an encoder what its ``head`` makes of them.

    The model is called with a tensor, or with the ids, valid, segments of ``Texts``.
    """
    if isinstance(inputs, Texts):
        outputs = model(inputs.ids, inputs.valid, inputs.segments)
    else:
        outputs = model(inputs)
    return model.head(outputs) if hasattr(model, "head") else outputs


def joint_softmax(model: nn.Module, joint: torch.Tensor) -> tuple[torch.Tensor, Parts]:
    """Cross-entropy −Σ p̃(i,j) log p(i,j) of all word pairs at once, in nats.

    ``model()`` gives the energies (S, N, N), log p = energies − log Σ e^energies over
    all N² of them; joint p̃ (S, N, N), or (N, N) shared, sums to one.
    """
    energies = model()
    partition = energies.flatten(1).logsumexp(1)
    loss = partition - (joint * energies).sum((-2, -1))
    return loss, {"loss": loss.detach()}


def negative_sampling(count: float) -> Objective:
    """Skip-gram with k negative samples, in expectation: no pair is ever drawn.

    −Σ p̃(i,j) log σ(s_ij) − k Σ p̃(i) p̃(j) log σ(−s_ij), s the energies ``model()``
    (S, N, N), p̃ (S, N, N) or (N, N) the batch, which sums to one. Its unrestricted
    minimum is s = PMI − log k. Raises ValueError unless k > 0.
    Source: Mikolov et al. (2013), eq. 4; Levy and Goldberg (2014), eq. 4.
    """
    check_number("count", count, 0)
    if count == 0:
        raise ValueError("count: 0 negative samples leave nothing to tell apart")

    def objective(model, joint):
        scores = model()
        rows, columns = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
        positive = joint * F.logsigmoid(scores)
        negative = count * rows * columns * F.logsigmoid(-scores)
        loss = -(positive + negative).sum((-2, -1))
        return loss, {"loss": loss.detach()}

    return objective


def flood(objective: Objective, level: Number) -> Objective:
    """L̃ = |L − b| + b: descent while L > b, ascent while L < b.

    ``level`` b ≥ 0 in nats: one number, or (S,), one a member. L is the batch mean, and
    the parts keep the raw L. Raises ValueError for a negative or non-finite level.
    Source: Ishida et al. (2020).
    """
    level = _checked("level", level)

    def flooded(model, batch):
        loss, parts = objective(model, batch)
        b = _matched("level", level, loss)
        return (loss - b).abs() + b, parts

    return flooded


def iflood(level: Number) -> Objective:
    """Flooding example by example: mean of |ℓᵢ − b| + b over the batch.

    Source: Xie et al. (2022); equals ``flood`` for batches of one example.
    """
    level = _checked("level", level)

    def flooded(model, batch):
        losses = example_losses(model, batch)
        b = _matched("level", level, losses, inner=1)
        mirrored = (losses - b).abs() + b
        return mirrored.mean(-1), {"loss": losses.detach().mean(-1)}

    return flooded


def penalised(objective: Objective, strength: Number, penalty: Penalty) -> Objective:
    """L + λ R(model): whatever the batch is, the penalty R looks at the model alone.

    ``penalty(model)`` has the shape of the loss, (S,) or (), and ``strength`` λ ≥ 0 is
    one number, or (S,). Adds the part ``penalty``, which is R. Raises ValueError for a
    negative or non-finite strength, or another shape.
    """
    strength = _checked("strength", strength)

    def with_penalty(model, batch):
        loss, parts = objective(model, batch)
        extra = penalty(model)
        if extra.shape != loss.shape:
            raise ValueError(
                f"penalty: shape {tuple(extra.shape)} is not the loss's "
                f"{tuple(loss.shape)}"
            )
        total = loss + _matched("strength", strength, loss) * extra
        return total, parts | {"penalty": extra.detach()}

    return with_penalty


def gradient_penalty(objective: Objective, strength: Number) -> Objective:
    """L + λ ‖∇L‖², its gradient g + 2λ H g by differentiating twice.

    The norm runs over all trainable parameters of a member that the loss reaches; λ ≥ 0
    is one number, or (S,). Adds the part ``gradient_norm²``. Raises ValueError for a
    negative or non-finite strength.
    Source: Su (2020); Zhao et al. (2022), there ‖∇L‖ without the square.
    """
    strength = _checked("strength", strength)

    def with_penalty(model, batch):
        # torch's fused attention has no second derivative, the plain formula has.
        with sdpa_kernel(SDPBackend.MATH):
            loss, parts = objective(model, batch)
        slopes = _slopes(loss, model, create_graph=True)
        none = torch.zeros_like(loss)
        squared = squared_norm(list(slopes.values()), loss.ndim) if slopes else none
        total = loss + _matched("strength", strength, loss) * squared
        return total, parts | {"gradient_norm²": squared.detach()}

    return with_penalty


def finite_difference_penalty(
    objective: Objective, strength: Number, distance: float
) -> Objective:
    """The gradient of L + λ ‖∇L‖² without differentiating twice.

    L(θ) + (2λ/ε) (L(θ + εg) − L(θ)) with g held constant has the gradient
    g + 2λ (g(θ + εg) − g(θ))/ε = g + 2λ H g + O(ε). Its *value* is no penalty, only its
    gradient is. Both losses see the same draws and the same running statistics. Raises
    ValueError for λ < 0 or ε ≤ 0. Source: Karakida et al. (2023).
    """
    strength = _checked("strength", strength)
    check_number("distance", distance, 0)
    if distance == 0:
        raise ValueError(f"distance: {distance!r} is not > 0")

    def with_penalty(model, batch):
        # Forked, so that the second loss draws the same dropout as the first.
        with torch.random.fork_rng(graphics_cards(model)):
            before = {name: buffer.clone() for name, buffer in model.named_buffers()}
            loss, parts = objective(model, batch)
        slopes = _slopes(loss, model, retain_graph=True)
        named = dict(model.named_parameters())
        moved = {name: named[name] + distance * slope for name, slope in slopes.items()}
        ahead, _ = at(model, before | moved, objective, batch)
        factor = _matched("strength", 2 * strength / distance, loss)
        return loss + factor * (ahead - loss), parts

    return with_penalty


def scaled(objective: Objective) -> Objective:
    """s · L for batches that come with a step size s: a signed step of plain SGD.

    With SGD at learning rate 1 and no momentum, the update is θ ← θ − s ∇L(θ): descent
    for s > 0, ascent for s < 0. See ``signed`` for the batches.
    """

    def stepped(model, batch):
        examples, size = batch
        loss, parts = objective(model, examples)
        return size * loss, parts

    return stepped


def signed(batches: Batches, sizes: Sequence[Number], *, same_batch: bool) -> Callable:
    """Batches paired with a repeating pattern of signed step sizes.

    ``sizes`` = (ε₁, −ε₂) is descent then ascent; an entry of shape (S,) gives every
    member its own. ``same_batch`` keeps the examples for the whole pattern.
    """
    period = len(sizes)
    if not (period and all(torch.as_tensor(s).isfinite().all() for s in sizes)):
        raise ValueError(f"sizes: {sizes!r} must be one or more finite step sizes")

    def batch(step: int):
        index = step // period if same_batch else step
        return batches(index), sizes[step % period]

    return batch


def bfloat16(objective: Objective) -> Objective:
    """The same objective with matrix products in bfloat16; losses stay in float32."""

    def rounded(model, batch):
        with torch.autocast(batch.inputs.device.type, torch.bfloat16):
            return objective(model, batch)

    return rounded


def graphics_cards(model: nn.Module) -> list[torch.device]:
    """The CUDA devices that the model's parameters are on, as ``fork_rng`` wants."""
    used = {parameter.device for parameter in model.parameters()}
    return [device for device in used if device.type == "cuda"]


def squared_norm(tensors: Sequence[torch.Tensor], member_axes: int) -> torch.Tensor:
    """Σ t² over all entries but the first ``member_axes`` axes: (), or (S,)."""
    members = tensors[0].shape[:member_axes]
    return sum(t.reshape(*members, -1).square().sum(-1) for t in tensors)


def _slopes(loss: torch.Tensor, model: nn.Module, **how) -> dict[str, torch.Tensor]:
    """∂L/∂θ by name, of the trainable parameters that the loss reaches."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not loss.requires_grad:
        return {}
    slopes = torch.autograd.grad(
        loss.sum(), list(named.values()), allow_unused=True, **how
    )
    found = zip(named, slopes, strict=True)
    return {name: slope for name, slope in found if slope is not None}


def _check_labels(logits: torch.Tensor, labels: torch.Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: {labels.dtype} is not torch.int64")
    examples = logits.shape[:-1]
    if not labels.ndim or labels.shape != examples[-labels.ndim :]:
        raise ValueError(
            f"labels: shape {tuple(labels.shape)} is neither {tuple(examples)}, as the "
            f"logits', nor {tuple(examples[-1:])}"
        )


def _checked(name: str, value: Number) -> Number:
    if not isinstance(value, Real | torch.Tensor):
        raise ValueError(f"{name}: {value!r} is neither a number nor a tensor")
    # float64: as float32, 0.1 would no longer be the level that was asked for.
    value = torch.as_tensor(value, dtype=torch.float64)
    if not (torch.isfinite(value).all() and (value >= 0).all()):
        raise ValueError(f"{name}: {value.tolist()} must be finite and ≥ 0")
    return value if value.ndim else value.item()


def _matched(name: str, value: Number, loss: torch.Tensor, inner: int = 0) -> Number:
    """A number for each member, to broadcast over the ``inner`` last dimensions."""
    if isinstance(value, float):  # on a GPU it travels with the operation: no wait
        return value
    members = loss.shape[: loss.ndim - inner]
    if value.shape != members:
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} is neither () nor the loss's "
            f"{tuple(members)}"
        )
    return value.to(loss)[(..., *[None] * inner)]
