"""Replaced modules: equal to hand-made networks bit for bit, and to the formulas."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_blocks import vectors
from torch import nn
from transformers import BertConfig, BertModel

from blogcore import theseus, training
from blogcore.blocks import Block, EncoderConfig, FeedForward, Stack
from blogcore.checkpoint import Checkpoint, load_tree, save_tree
from blogcore.data import Examples
from blogcore.encoder import initialise
from blogcore.objectives import classification
from blogcore.pretrained import load_bert
from blogcore.runtime import stream

CONFIG = EncoderConfig(vocabulary=5, width=8, heads=2, inner=16, dropout=0.0)
X = torch.randn(7, 4, generator=stream(0, "x"))
BATCH = Examples(X, torch.randint(0, 3, (7,), generator=stream(0, "labels")))


def network(blocks=4, dropout=0.0):
    config = EncoderConfig(5, 8, 2, inner=16, dropout=dropout)
    body = nn.Sequential(*(FeedForward(config) for _ in range(blocks)))
    model = nn.Sequential(nn.Linear(4, 8), body, nn.Linear(8, 3))
    return shaken(initialise(model, stream(blocks, "initial")))


def shaken(model, name="init"):
    generator = stream(0, name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ship(model, new=None, form=theseus.Replaceable):
    """The model's two halves, replaceable by its first blocks (or others)."""
    first, blocks, last = copy.deepcopy(model)
    new = shaken(copy.deepcopy(blocks[:2]), "new") if new is None else new
    like = torch.zeros(2, 8)
    places = theseus.compress(blocks, new, like, form)
    return nn.Sequential(
        theseus.Frozen(first), nn.Sequential(*places), theseus.Frozen(last)
    )


class FirstOutput(nn.Module):
    """A layer of transformers, whose output may come in a tuple."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, *further):
        out = self.layer(x)
        return out[0] if isinstance(out, tuple) else out


def adam(model, rate=0.01, decay=0.1):
    chosen = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(chosen, rate, weight_decay=decay)


def learn(model, draw, steps=20, objective=classification):
    batches = training.seeded(theseus.planned(lambda step: BATCH, draw), seed=0)
    swapped = theseus.swapping(objective)
    return training.train(model, batches, swapped, adam(model), steps)


class TestOneOfTwo:
    """What runs, what trains, and what stays."""

    def test_ends_are_predecessor_and_successor_bit_for_bit(self):
        model = network()
        afloat = ship(model)
        with theseus.sailing(afloat, (0.0, 0.0)):
            assert torch.equal(afloat(X), model(X))
        assert torch.equal(afloat(X), theseus.successor(afloat)(X))
        assert not torch.equal(afloat(X), model(X))

    @pytest.mark.parametrize("form", [theseus.Replaceable, theseus.Masked])
    def test_every_plan_is_the_network_composed_by_hand(self, form):
        model = network()
        afloat = ship(model, form=form)
        first, body, last = model
        new = [place.new for place in theseus.places(afloat)]
        seen = []
        for plan, hybrid in theseus.hybrids(afloat):
            x = first(X)
            for place, share in enumerate(plan):
                run = new[place] if share else body[2 * place : 2 * place + 2]
                x = run(x)
            assert torch.equal(hybrid(X), last(x))
            with theseus.sailing(afloat, plan):
                assert torch.equal(afloat(X), last(x))
            seen.append(plan)
        assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]

    def test_mixture_lies_between(self):
        afloat = ship(network())
        place = theseus.places(afloat)[0]
        x = afloat[0](X)
        with theseus.sailing(afloat, (0.25, 1.0)):
            expected = 0.75 * place.old(x) + 0.25 * place.new(x)
            assert torch.equal(place(x), expected)

    def test_skips_the_other_module(self):
        afloat = ship(network())
        calls = []
        for place in theseus.places(afloat):
            for name, part in (("old", place.old), ("new", place.new)):
                part.register_forward_hook(lambda *_, name=name: calls.append(name))
        with theseus.sailing(afloat, (0.0, 1.0)):
            afloat(X)
        assert calls == ["old", "new"]

    def test_old_parts_stay_in_evaluation_and_as_they_are(self):
        model = network(dropout=0.5)
        before = copy.deepcopy(model.state_dict())
        afloat = ship(model)
        afloat.train()
        assert theseus.places(afloat)[0].new.training
        with theseus.sailing(afloat, (0.0, 0.0)):
            assert torch.equal(afloat(X), model(X)), "dropout is off in the old ones"
        frozen = copy.deepcopy(afloat[0].state_dict())
        learn(afloat, theseus.coins(theseus.constant(0.5), 2, seed=1))
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
        assert all(torch.equal(afloat[0].state_dict()[k], v) for k, v in frozen.items())
        with theseus.sailing(afloat, (0.0, 0.0)):
            assert torch.equal(afloat(X), model(X))

    def test_all_is_new_again_behind_a_step_that_fails(self):
        afloat = ship(network())

        def fails(model, batch):
            raise RuntimeError("sunk")

        with pytest.raises(RuntimeError, match="sunk"):
            theseus.swapping(fails)(afloat, theseus.Planned(BATCH, (0.0, 0.0)))
        assert [place.share for place in theseus.places(afloat)] == [1, 1]

    def test_successor_has_no_trace_of_the_old_one(self):
        afloat = ship(network())
        small = theseus.successor(afloat)
        kinds = {type(part).__name__ for part in small.modules()}
        assert kinds == {
            *("Sequential", "Linear", "FeedForward", "GELU"),
            *("LayerNorm", "Dropout"),
        }
        assert all(parameter.requires_grad for parameter in small.parameters())
        own = {id(parameter) for parameter in afloat.parameters()}
        assert not own & {id(parameter) for parameter in small.parameters()}
        assert sum(p.numel() for p in network(2).parameters()) == sum(
            p.numel() for p in small.parameters()
        )

    @pytest.mark.parametrize("mode", [True, False])
    @pytest.mark.parametrize("plan", [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    def test_a_hybrid_is_whole_in_the_mode_of_its_ship(self, plan, mode):
        """Unwrapped, frozen parts stayed in evaluation, without dropout, for good."""
        hybrid = theseus.hybrid(ship(network(dropout=0.5)).train(mode), plan)
        assert {part.training for part in hybrid.modules()} == {mode}

    def test_successor_saved_and_loaded_is_equal(self, tmp_path):
        small = theseus.successor(ship(network()))
        save_tree(tmp_path / "small", small.state_dict())
        other = network(2)
        other.load_state_dict(load_tree(tmp_path / "small"))
        assert torch.equal(small(X), other(X))

    def test_modules_of_an_encoder_see_their_mask(self):
        x, allowed = vectors(3, 5, 8).float(), torch.ones(5, 5, dtype=torch.bool).tril()
        old = initialise(Stack(Block(CONFIG) for _ in range(4)), stream(1, "old"))
        new = initialise(Stack(Block(CONFIG) for _ in range(2)), stream(1, "new"))
        afloat = Stack(theseus.compress(old, new, x))
        given = {*old.parameters(), *new.parameters()}
        assert not given & {*afloat.parameters()}, "all are copies"
        assert all(parameter.requires_grad for parameter in given)
        with theseus.sailing(afloat, (0.0, 0.0)):
            assert torch.equal(afloat(x, None, allowed), old(x, None, allowed))
        assert torch.equal(afloat(x, None, allowed), new(x, None, allowed))
        assert not torch.equal(afloat(x), new(x, None, allowed))

    def test_places_hold_the_layers_of_transformers(self):
        """All plans of 4 → 2, as BERT-of-Theseus' own encoder walks its layers."""
        config = BertConfig(
            **{"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2},
            **{"num_hidden_layers": 6, "intermediate_size": 16},
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [
                FirstOutput(layer) for layer in BertModel(config).eval().encoder.layer
            ]
        x = vectors(3, 5, 8).float()
        old, new = layers[:4], layers[4:]
        afloat = Stack(theseus.compress(old, new, x)).eval()
        for plan, hybrid in theseus.hybrids(afloat):
            expected = x
            for i, replaced in enumerate(plan):
                for layer in [new[i]] if replaced else old[2 * i : 2 * i + 2]:
                    expected = layer(expected)
            assert torch.equal(hybrid(x), expected)

    def test_a_checkpoint_of_transformers_is_compressed(self, tmp_path):
        """All old is the model in the folder, all new the one of its first layers."""
        sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
        config = BertConfig(vocab_size=20, num_hidden_layers=4, **sizes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            whole = BertModel(config).eval()
        whole.save_pretrained(tmp_path)
        cut = copy.deepcopy(whole)
        cut.encoder.layer = cut.encoder.layer[:2]
        afloat = load_bert(tmp_path, without=["pooler."])
        blocks = afloat.blocks
        like = torch.zeros(1, 5, 8)
        afloat.blocks = Stack(theseus.compress(blocks, blocks[:2], like)).eval()
        ids = torch.randint(1, 20, (3, 5), generator=stream(0, "ids"))
        ends = ((0.0, 0.0), whole), ((1.0, 1.0), cut)
        for plan, theirs in ends:
            with torch.no_grad():
                expected = theirs(ids).last_hidden_state
                found = theseus.hybrid(afloat, plan)(ids)
            torch.testing.assert_close(found, expected)


class TestTraining:
    """Skip and mask, the gradient in expectation, steps that change nothing."""

    def gradients(self, form, plan):
        afloat = ship(network(), form=form)
        swapped = theseus.swapping(classification)
        loss, _ = swapped(afloat, theseus.Planned(BATCH, plan))
        loss.backward()
        return [place.new.inner.weight.grad for place in theseus.places(afloat)]

    def test_skipped_is_none_and_masked_is_zero(self):
        skipped = self.gradients(theseus.Replaceable, (0.0, 1.0))
        masked = self.gradients(theseus.Masked, (0.0, 1.0))
        assert skipped[0] is None
        assert masked[0].abs().max() == 0
        assert torch.allclose(skipped[1], masked[1], atol=1e-7)

    def test_adam_moves_a_skipped_module_by_p_and_a_masked_one_by_root_p(self):
        ways = [(form, rate) for form in ("skip", "mask") for rate in (0.3, 0.8)]
        weights = [nn.Parameter(torch.zeros(())) for _ in ways]
        schedules = {rate: theseus.constant(rate) for _, rate in ways}
        coins = {r: theseus.coins(s, 1, seed=3) for r, s in schedules.items()}
        adam = torch.optim.Adam(weights, lr=1.0)
        for step in range(4000):
            shares = {rate: draw(step)[0] for rate, draw in coins.items()}
            for weight, (form, rate) in zip(weights, ways, strict=True):
                given = shares[rate] or form == "mask"
                weight.grad = torch.tensor(shares[rate]) if given else None
            adam.step()
        for weight, (form, rate) in zip(weights, ways, strict=True):
            expected = rate if form == "skip" else math.sqrt(rate)
            assert -weight.item() / 4000 == pytest.approx(expected, abs=0.02)

    def test_a_plan_of_old_modules_changes_nothing(self):
        afloat, states = ship(network()), []
        optimizer = adam(afloat)

        def keep(step, parts):
            states.append(str([afloat.state_dict(), optimizer.state_dict()]))

        shares = [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]
        batches = theseus.planned(lambda step: BATCH, lambda step: shares[step])
        swapped = theseus.swapping(classification)
        training.train(afloat, batches, swapped, optimizer, 5, [keep])
        assert states[2] == states[3] == states[4]
        assert len(set(states)) == 3

    def test_expected_gradient_is_the_sum_over_all_hybrids(self):
        afloat = ship(network()).double()
        batch = Examples(X.double(), BATCH.labels)
        swapped, rate = theseus.swapping(classification), 0.3
        weights = [p for p in afloat.parameters() if p.requires_grad]

        def slope(shares):
            loss, _ = swapped(afloat, theseus.Planned(batch, shares))
            if not loss.requires_grad:  # all old: nothing trains
                return torch.zeros(sum(w.numel() for w in weights))
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            flat = zip(found, weights, strict=True)
            return torch.cat(
                [(torch.zeros_like(w) if g is None else g).flatten() for g, w in flat]
            )

        expected = sum(
            rate ** sum(plan) * (1 - rate) ** (2 - sum(plan)) * slope(plan)
            for plan in theseus.plans(2)
        )
        each = {plan: slope(plan) for plan in theseus.plans(2)}
        coins = theseus.coins(theseus.constant(rate), 2, seed=5)
        draws = torch.stack([each[coins(step)] for step in range(4000)])
        error = (draws.mean(0) - expected).norm()
        assert error < 3 * (draws.var(0).sum() / 4000).sqrt()
        assert error < (each[1.0, 1.0] - expected).norm() / 10

    def test_chance_of_a_plan_is_the_share_of_its_steps(self):
        rate, count = 0.3, 4000
        draw = theseus.coins(theseus.constant(rate), 2, seed=5)
        thrown = [draw(step) for step in range(count)]
        chances = {plan: theseus.chance(plan, rate) for plan in theseus.plans(2)}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-15)
        assert theseus.chance((1.0, 0.0, 1.0), 0.2) == pytest.approx(0.2**2 * 0.8)
        for plan, chance in chances.items():
            found = thrown.count(plan) / count
            assert found == pytest.approx(chance, abs=0.03)
        assert [theseus.chance((0.0, 1.0), edge) for edge in (0, 1)] == [0, 0]

    @pytest.mark.parametrize(
        ("optimizer", "alike"),
        [
            (torch.optim.SGD, True),
            (partial(torch.optim.SGD, momentum=0.9), False),
            (torch.optim.Adam, False),
        ],
    )
    def test_skipping_and_masking_agree_under_plain_descent_only(
        self, optimizer, alike
    ):
        ends, coins = [], theseus.coins(theseus.constant(0.5), 2, seed=1)
        for form in (theseus.Replaceable, theseus.Masked):
            afloat = ship(network(), form=form).double()
            weights = [p for p in afloat.parameters() if p.requires_grad]
            batches = theseus.planned(
                lambda step: Examples(X.double(), BATCH.labels), coins
            )
            swapped = theseus.swapping(classification)
            training.train(afloat, batches, swapped, optimizer(weights, lr=0.01), 12)
            ends.append(nn.utils.parameters_to_vector(weights).detach())
        assert torch.allclose(*ends, rtol=0, atol=1e-12) == alike

    def test_successor_learns_while_it_is_swapped(self):
        afloat = ship(network())
        before = classification(theseus.successor(afloat), BATCH)[0]
        learn(afloat, theseus.coins(theseus.linear(0.3, 50), 2, seed=0), steps=100)
        assert classification(theseus.successor(afloat), BATCH)[0] < before / 2

    def test_resumed_run_throws_the_same_coins(self, tmp_path):
        coins = theseus.coins(theseus.linear(0.3, 10), 2, seed=0)
        batches = theseus.planned(lambda step: BATCH, coins)
        swapped, ends = theseus.swapping(classification), []
        for stops in ([12], [5, 12]):
            keep = Checkpoint(tmp_path / str(len(stops)), every=5, run="rookies")
            for steps in stops:
                afloat = ship(network())
                training.train(
                    afloat, batches, swapped, adam(afloat), steps, checkpoint=keep
                )
            ends.append(theseus.successor(afloat)(X))
        assert torch.equal(*ends)


class TestSchedules:
    """When modules are replaced."""

    def test_the_papers_schedule_reaches_one_when_its_code_does(self):
        # JetRunner's README: b = 0.3, k = 0.0006; the first forward pass uses b.
        schedule = theseus.linear(0.3, 1167)
        assert schedule(0) == 0.3
        assert schedule(1) - schedule(0) == pytest.approx(0.0006, rel=1e-3)
        assert schedule(1166) < 1 == schedule(1167) == schedule(10**6)

    def test_second_stage_is_all_new(self):
        schedule = theseus.in_two_stages(theseus.constant(0.25), 3)
        assert [schedule(step) for step in range(5)] == [0.25] * 3 + [1.0] * 2

    def test_coins_have_their_rate_and_are_independent(self):
        draw = theseus.coins(theseus.constant(0.3), 2, seed=1)
        thrown = torch.tensor([draw(step) for step in range(4000)])
        assert thrown.mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.03)
        assert abs(torch.corrcoef(thrown.T)[0, 1]) < 0.05
        assert draw(17) == theseus.coins(theseus.constant(0.3), 2, seed=1)(17)

    def test_certain_coins(self):
        never, ever = (theseus.coins(theseus.constant(p), 9, seed=0) for p in (0, 1))
        assert {never(step) for step in range(50)} == {(0.0,) * 9}
        assert {ever(step) for step in range(50)} == {(1.0,) * 9}

    def test_gliding_is_no_chance(self):
        draw = theseus.gliding(theseus.linear(0.0, 4), 2)
        assert [draw(step) for step in (0, 1, 4, 9)] == [
            *((0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.0, 1.0)),
        ]


class TestImitating:
    """Each new module against the outputs of its old one."""

    def test_is_the_error_of_each_place_on_what_the_old_network_passes(self):
        afloat = ship(network())
        x, errors = afloat[0](X), []
        for place in theseus.places(afloat):
            errors.append((place.new(x) - place.old(x)).square().mean())
            x = place.old(x)
        loss, parts = theseus.imitating(afloat, BATCH)
        assert loss.item() == pytest.approx(sum(errors).item(), rel=1e-6)
        assert parts["loss"] == loss
        assert not any(place._forward_hooks for place in theseus.places(afloat))

    def test_brings_the_modules_nearer_and_needs_no_labels(self):
        afloat, unlabelled = ship(network()), Examples(X, None)
        before = theseus.imitating(afloat, unlabelled)[0]
        batches = training.seeded(lambda step: unlabelled, seed=0)
        training.train(afloat, batches, theseus.imitating, adam(afloat), 50)
        assert theseus.imitating(afloat, unlabelled)[0] < before / 2
        assert all(w.grad is None for w in afloat.parameters() if not w.requires_grad)

    def test_leaves_no_hook_behind_an_error(self):
        afloat = ship(network())
        with pytest.raises(RuntimeError):
            theseus.imitating(afloat, Examples(X[:, :2], None))
        assert not any(place._forward_hooks for place in theseus.places(afloat))


class TestDistil:
    """Hinton's loss."""

    def test_is_the_formula(self):
        model, teacher, heat, share = network(2), network(), 2.0, 0.3
        loss, parts = theseus.distil(teacher, heat, share)(model, BATCH)
        p, q = ((net(X) / heat).softmax(-1) for net in (teacher, model))
        distance = (p * (p / q).log()).sum(-1).mean()
        hard = F.cross_entropy(model(X), BATCH.labels)
        expected = share * hard + (1 - share) * heat**2 * distance
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert parts["loss"].item() == pytest.approx(hard.item(), rel=1e-6)

    def test_teacher_has_no_distance_from_itself_and_no_gradient(self):
        teacher = network()
        _, parts = theseus.distil(teacher, 1.0, 0.0)(teacher, BATCH)
        assert abs(parts["distance"]) < 1e-6
        theseus.distil(teacher, 1.0, 0.0)(network(2), BATCH)[0].backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())


def wrong_head():
    model = nn.Sequential(*network()[:2], nn.Linear(8, 4))
    return theseus.distil(model, 2.0, 0.5)(network(), BATCH)


def small_head():
    """A predecessor that was never tuned to this task: its head has two classes."""
    model = nn.Sequential(*network()[:2], nn.Linear(8, 2))
    learn(ship(model), theseus.coins(theseus.constant(0.5), 2, seed=0))


def no_label():
    labels = torch.where(BATCH.labels == 1, -100, BATCH.labels)
    return theseus.distil(network(), 2.0, 0.5)(network(2), Examples(X, labels))


def odd(schedule):
    return theseus.coins(schedule, 2, seed=0)(3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theseus.constant(1.2), "rate: 1.2"),
        (lambda: theseus.constant(math.nan), "rate: nan"),
        (lambda: theseus.linear(-0.1, 5), "start: -0.1"),
        (lambda: theseus.linear(0.3, 0), "steps: 0"),
        (lambda: theseus.in_two_stages(theseus.constant(0.5), -1), "steps: -1"),
        (lambda: odd(lambda step: 1.5), "schedule(3): 1.5"),
        (lambda: odd(lambda step: None), "schedule(3): None"),
        (lambda: theseus.coins(theseus.constant(0.5), 0, seed=0), "count: 0"),
        (lambda: theseus.plans(0), "count: 0"),
        (lambda: theseus.places(network()), "no Replaceable"),
        (lambda: theseus.hybrid(ship(network()), (1.0,)), "shares: 1 of them for 2"),
        (lambda: theseus.hybrid(ship(network()), (0.5, 1.0)), "plan: (0.5, 1.0)"),
        (lambda: theseus.hybrid(ship(network()), (2.0, 1.0)), "shares: 2.0"),
        (lambda: ship(network(), network(3)[1]), "blocks: 4 of them"),
        (lambda: ship(network(), []), "blocks: 4 of them do not divide into 0"),
        (lambda: ship(network(), [nn.Linear(8, 6)] * 2), "new: module 0 gives (2, 6)"),
        (lambda: ship(network(), [nn.Linear(6, 8)] * 2), "new: module 0 gives no"),
        (lambda: theseus.distil(network(), 0, 0.5), "temperature: 0"),
        (lambda: theseus.distil(network(), 2.0, 1.5), "share: 1.5"),
        (lambda: theseus.chance((0.5, 1.0), 0.5), "plan: (0.5, 1.0)"),
        (lambda: theseus.chance((0.0, 1.0), 1.5), "rate: 1.5"),
        (small_head, "labels: 0 … 2 are not all in 0 … 1"),
        (no_label, "labels: -100 … 2 are not all in 0 … 2"),
        (wrong_head, "teacher: gives logits (7, 4), not (7, 3)"),
    ],
)
def test_wrong_calls_are_refused(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)
