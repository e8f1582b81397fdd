"""The scales of a network's layers: what may move while the function stays the same.

In a chain of linear maps and positively homogeneous activations, φ(cx) = cφ(x) for
c > 0, a layer can be multiplied by what another is divided by. Everything here is a
function of the model: of one network a number, of a population (``networks``) one a
member, shape (S,). Weights are those of linear and convolutional layers; biases and the
gains of normalising layers are left out, and norms are Frobenius norms.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from blogcore.networks import Linear

LINEAR = (Linear, nn.Linear, nn.Conv1d, nn.Conv2d)
# What commutes with a positive factor.
HOMOGENEOUS = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Flatten,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)
LEAST_NORM = 1e-12
PRODUCT_OFF = 1e-9


def layers(model: nn.Module) -> list[nn.Module]:
    """The linear and convolutional layers in the order of definition.

    Raises ValueError if there is none.
    """
    found = [module for module in model.modules() if isinstance(module, LINEAR)]
    if not found:
        raise ValueError(f"model: {type(model).__name__} has no linear layer")
    return found


def squared_norms(model: nn.Module) -> torch.Tensor:
    """‖W_l‖² of every layer: (L, S), or (L,) for one network."""
    return torch.stack([_flat(layer).square().sum(-1) for layer in layers(model)])


def l2(model: nn.Module) -> torch.Tensor:
    """½ Σ ‖W_l‖², whose gradient is W_l: strength λ is what torch calls weight decay λ.

    (For plain SGD, and but for the biases, which torch shrinks as well.)
    """
    return squared_norms(model).sum(0) / 2


def log_norm(model: nn.Module) -> torch.Tensor:
    """WEISSI: Σ log ‖W_l‖, whose gradient is W_l/‖W_l‖²; ``shift`` does not change it.

    It has no lower bound. Raises ValueError, naming the layer, where a norm is below
    1e-12, looked for on the CPU only. Source: Liu, Cui and Chan (2020).
    """
    return _positive(squared_norms(model)).log().sum(0) / 2


def direction(model: nn.Module) -> torch.Tensor:
    """Σ ‖W_l/‖W_l‖‖₁: how far the layers are from sparse, whatever their scale.

    Each summand lies between 1, for a single entry that is not zero, and the square
    root of the number of entries. Raises ValueError for a layer of norm zero.
    Source: Liu, Cui and Chan (2020), their second term.
    """
    norms = _positive(squared_norms(model)).sqrt()
    sums = torch.stack([_flat(layer).abs().sum(-1) for layer in layers(model)])
    return (sums / norms).sum(0)


def intrinsic(model: nn.Module) -> torch.Tensor:
    """L P^(2/L) with P = ∏ ‖W_l‖: the least Σ ‖W_l‖² within reach of ``shift``.

    Raises ValueError for a layer of norm zero.
    """
    count = len(layers(model))
    return count * torch.exp(2 / count * log_norm(model))


def excess(model: nn.Module) -> torch.Tensor:
    """Σ ‖W_l‖² − L P^(2/L) ≥ 0: what balancing the layers would save."""
    return squared_norms(model).sum(0) - intrinsic(model)


def path_norm(model: nn.Module) -> torch.Tensor:
    """Σ over all paths from inputs to outputs of ∏ w²; ``rescale_units`` leaves it.

    Computed by sending ones through the squared weights. Raises TypeError unless the
    model is a chain of fully connected layers. Source: Neyshabur et al. (2015).
    """
    first, *others = [_rows_in(layer).square() for layer in _dense(model)]
    reached = first.sum(-2, keepdim=True)
    for squares in others:
        reached = reached @ squares
    return reached.sum((-2, -1))


def shift(model: nn.Module, factors: Sequence | torch.Tensor) -> nn.Module:
    """A copy with the weights γ_l W_l and the same function, for ∏ γ_l = 1.

    The bias of layer l is added to what has passed the layers 1 … l, so it becomes
    γ_1 ⋯ γ_l b_l. ``factors`` (L,), or (L, S) with each member's own. Raises ValueError
    unless they are finite, > 0 and of product one, TypeError unless the model is a
    chain of linear maps and homogeneous activations.
    Source: Oh et al. (2025), theorem 1.
    """
    gamma = _factors(model, factors)
    return _multiplied(model, gamma, gamma.cumprod(0))


def post_shift(model: nn.Module, factors: Sequence | torch.Tensor) -> nn.Module:
    """The counter-example: weights *and* biases of layer l times γ_l, as in the post.

    Another function than the model's, unless the biases behind the first layer vanish.
    Errors as for ``shift``. Source: Su (2020).
    """
    gamma = _factors(model, factors)
    return _multiplied(model, gamma, gamma)


def balanced(model: nn.Module) -> nn.Module:
    """The same function with layers of equal norm P^(1/L): the end of all shifting.

    Raises ValueError for a layer of norm zero, TypeError as ``shift``.
    """
    logs = _positive(squared_norms(model)).detach().double().log() / 2
    return shift(model, (logs.mean(0) - logs).exp())


def rescale_units(model: nn.Module, scales: Sequence) -> nn.Module:
    """The same function with hidden unit j of layer l made c_lj times as large.

    What leads into the unit is multiplied, what leads out of it divided. ``scales``:
    for each hidden layer (width,), or (S, width), finite and > 0. Raises ValueError for
    others, TypeError unless the model is a chain of fully connected layers.
    """
    twin = copy.deepcopy(model)
    dense = _dense(twin)
    if len(scales) != len(dense) - 1:
        raise ValueError(f"scales: {len(scales)} for {len(dense) - 1} hidden layers")
    with torch.no_grad():
        for into, out_of, scale in zip(dense, dense[1:], scales, strict=False):
            scale = _above_zero("scales", scale).to(into.weight)
            _rows_in(into).mul_(scale.unsqueeze(-2))
            _rows_in(out_of).div_(scale.unsqueeze(-1))
            if into.bias is not None:
                own = isinstance(into, Linear)
                into.bias.mul_(scale.unsqueeze(-2) if own else scale)
    return twin


def _flat(layer: nn.Module) -> torch.Tensor:
    """The entries of the weight, behind the axis of members if there is one."""
    return layer.weight.flatten(1 if isinstance(layer, Linear) else 0)


def _rows_in(layer: nn.Module) -> torch.Tensor:
    """The weight as (…, fan_in, fan_out), a view."""
    return layer.weight if isinstance(layer, Linear) else layer.weight.mT


def _chain(model: nn.Module) -> list[nn.Module]:
    """What the model does, step by step; TypeError for what does not scale along."""
    if type(model) is nn.Sequential:
        return [step for part in model for step in _chain(part)]
    if not isinstance(model, LINEAR + HOMOGENEOUS):
        raise TypeError(
            f"model: {type(model).__name__} is neither linear nor known to be "
            "positively homogeneous, or not a step of a chain"
        )
    return [model]


def _dense(model: nn.Module) -> list[nn.Module]:
    steps = _chain(model)
    found = [step for step in steps if isinstance(step, Linear | nn.Linear)]
    others = [s for s in steps if not isinstance(s, Linear | nn.Linear | nn.ReLU)]
    if others or not found:
        names = [type(step).__name__ for step in steps]
        raise TypeError(f"model: {names} is no chain of fully connected layers, ReLU")
    return found


def _multiplied(model, weight_factors, bias_factors) -> nn.Module:
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for layer, w, b in zip(layers(twin), weight_factors, bias_factors, strict=True):
            # (S,) has to meet (S, fan_in, fan_out).
            w, b = (f[:, None, None] if f.ndim else f for f in (w, b))
            layer.weight.mul_(w.to(layer.weight))
            if layer.bias is not None:
                layer.bias.mul_(b.to(layer.bias))
    return twin


def _factors(model: nn.Module, factors: Sequence | torch.Tensor) -> torch.Tensor:
    _chain(model)
    gamma, norms = _above_zero("factors", factors), squared_norms(model)
    if gamma.shape not in (norms.shape[:1], norms.shape):
        shape, allowed = tuple(gamma.shape), tuple(norms.shape)
        raise ValueError(f"factors: shape {shape}, not {allowed[:1]} or {allowed}")
    if (gamma.log().sum(0).abs() > PRODUCT_OFF).any():
        raise ValueError(f"factors: the product {gamma.prod(0).tolist()} is not 1")
    return gamma


def _above_zero(name: str, values: Sequence | torch.Tensor) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    if not (values.isfinite().all() and (values > 0).all()):
        raise ValueError(f"{name}: {values.tolist()} must be finite and > 0")
    return values


def _positive(squares: torch.Tensor) -> torch.Tensor:
    small = squares < LEAST_NORM**2
    if squares.is_cpu and small.any():  # elsewhere a look would wait for the device
        layer, *member = small.nonzero()[0].tolist()
        where = f"layer {layer}" + "".join(f" of member {m}" for m in member)
        raise ValueError(f"model: {where} has norm {squares[small][0].sqrt():.1g}")
    return squares
