"""What moves parameters: SGD and Adam as formulas, two kinds of decay, the step size.

A rule moves one parameter θ along its gradient g. Weight decay wraps a rule, and the
place where it enters is the difference between L2 regularisation and AdamW:
``l2(adam)`` lets Adam rescale λθ together with the gradient, ``decoupled(adam)`` does
not. For plain SGD the two are one. torch's own optimizers are these, and faster.
"""

from collections.abc import Callable, Iterable

import torch

from blogcore.checks import check_integer, check_number

Rule = Callable[[torch.Tensor, torch.Tensor, dict, dict], None]
Schedule = Callable[..., None]  # of the step; what follows it is not read


class Optimizer(torch.optim.Optimizer):
    """Moves each parameter by a rule: ``rule(θ, g, state, settings)``, in place.

    ``parameters`` may be groups with settings of their own, as for torch's optimizers.
    ``lr`` η is for every rule, ``momentum`` for ``sgd``, ``betas`` and ``eps`` for
    ``adam``, ``weight_decay`` λ for ``l2`` and ``decoupled``. A parameter without a
    gradient (None) stays as it is. Raises ValueError for a setting below 0, a momentum
    or β of 1 or more, and for λ > 0 where the rule has no decay.
    """

    def __init__(
        self,
        parameters: Iterable,
        rule: Rule,
        *,
        lr: float,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        settings = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(parameters, settings | {"weight_decay": weight_decay})
        self.rule = rule
        for group in self.param_groups:
            _check(rule, group)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], torch.Tensor] | None = None
    ) -> torch.Tensor | None:
        """Move every parameter that has a gradient; the loss, if a closure gives one.

        As for torch's optimizers, the closure computes loss and gradients first.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    self.rule(parameter, parameter.grad, state, group)
        return loss


def sgd(theta: torch.Tensor, g: torch.Tensor, state: dict, settings: dict) -> None:
    """v ← μ v + g, then θ ← θ − η v; momentum μ, v = g at first.

    As in ``torch.optim.SGD``, η stands outside of v.
    """
    if "v" in state:
        state["v"].mul_(settings["momentum"]).add_(g)
    else:
        state["v"] = g.clone()
    theta -= settings["lr"] * state["v"]


def adam(theta: torch.Tensor, g: torch.Tensor, state: dict, settings: dict) -> None:
    """θ ← θ − η m̂ / (√v̂ + ε), entry by entry.

    m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g² start from 0, which m̂ = m/(1 − β₁ᵗ)
    and v̂ = v/(1 − β₂ᵗ) correct at step t. Source: Kingma and Ba (2015), algorithm 1.
    """
    first, second = settings["betas"]
    if not state:
        state |= {"t": 0, "m": torch.zeros_like(theta), "v": torch.zeros_like(theta)}
    state["t"] += 1
    state["m"] += (1 - first) * (g - state["m"])
    state["v"] += (1 - second) * (g.square() - state["v"])
    mean = state["m"] / (1 - first ** state["t"])
    spread = (state["v"] / (1 - second ** state["t"])).sqrt()
    theta -= settings["lr"] * mean / (spread + settings["eps"])


def l2(rule: Rule) -> Rule:
    """Decay in the gradient: g + λθ in place of g, the gradient of L + λ/2 ‖θ‖².

    With ``adam`` this is torch's ``Adam(weight_decay=λ)``.
    """

    def penalised(theta, g, state, settings):
        rule(theta, g + settings["weight_decay"] * theta, state, settings)

    return penalised


def decoupled(rule: Rule) -> Rule:
    """Decay beside the gradient: θ ← (1 − ηλ) θ, then the rule with g alone.

    With ``adam`` this is AdamW. Source: Loshchilov and Hutter (2019), algorithm 2, with
    the decay times η as in torch.
    """

    def shrunk(theta, g, state, settings):
        theta *= 1 - settings["lr"] * settings["weight_decay"]
        rule(theta, g, state, settings)

    return shrunk


def warm_up(optimizer: torch.optim.Optimizer, steps: int) -> Schedule:
    """Up in equal steps for ``steps`` steps, none of them at 0, then the whole rate.

    Step t has the share (t + 1) / (steps + 1). An ``on_step`` of ``training.train``.
    """
    check_integer("steps", steps, 0)
    return _scheduled(optimizer, lambda step: min(1, (step + 1) / (steps + 1)))


def linear_decay(
    optimizer: torch.optim.Optimizer, steps: int, warm_up: int = 0
) -> Schedule:
    """Up as in ``warm_up``, then linearly down to zero, which step ``steps`` would get.

    The whole rate is that of step ``warm_up``. Raises ValueError for a warm-up of all
    steps. Source: Devlin et al. (2019), appendix A.2.
    """
    check_integer("steps", steps, 1)
    check_integer("warm_up", warm_up, 0)
    if warm_up >= steps:
        raise ValueError(f"warm_up: {warm_up} leaves none of {steps} steps to decay")

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return 1 - (step - warm_up) / (steps - warm_up)

    return _scheduled(optimizer, share)


def _scheduled(
    optimizer: torch.optim.Optimizer, share: Callable[[int], float]
) -> Schedule:
    """Sets every group's learning rate to its share of what it is now."""
    whole = [group["lr"] for group in optimizer.param_groups]

    def schedule(step: int, parts: object = None) -> None:
        for group, rate in zip(optimizer.param_groups, whole, strict=True):
            group["lr"] = rate * share(step)

    return schedule


def _check(rule: Rule, group: dict) -> None:
    for name in ("lr", "eps", "weight_decay"):
        check_number(name, group[name], 0)
    for name, shares in (("momentum", [group["momentum"]]), ("betas", group["betas"])):
        for share in shares:
            check_number(name, share, 0, 1)
            if share == 1:
                raise ValueError(f"{name}: {share!r} would never forget")
    if rule in (sgd, adam) and group["weight_decay"]:
        raise ValueError(
            f"weight_decay: {group['weight_decay']!r}, but {rule.__name__} does not "
            f"decay; l2({rule.__name__}) and decoupled({rule.__name__}) do"
        )
