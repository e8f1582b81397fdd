"""Worlds of word pairs: what is planted, what is fitted, and what a fit costs."""

import pandas as pd
import pytest
import torch

from blogcore import cooccurrence, evidence
from blogcore.worlds import SPREAD, Worlds, information, parameters

WORLDS = Worlds((3, 4), updates=200)
EASY = {"size": 12, "rank": 2, "pairs": 200_000}


def test_a_planted_world_has_its_rank_up_to_a_constant_for_each_word():
    logs = WORLDS.truth(12, 2).log()
    centred = logs - logs.mean(1, keepdim=True) - logs.mean(2, keepdim=True)
    centred = centred + logs.mean((1, 2), keepdim=True)
    values = torch.linalg.svdvals(centred)
    assert (values[:, 1] > 1e-3).all()
    assert (values[:, 2] < 1e-9).all()
    zipf = torch.arange(1, 13, dtype=torch.float64).log()
    planted = logs + zipf[:, None] + zipf
    torch.testing.assert_close(
        planted.flatten(1).std(1, correction=0), torch.tensor([SPREAD] * 2).double()
    )


def test_each_seed_has_its_own_world_and_text_and_the_real_one_is_shared():
    truth, text = WORLDS.truth(12, 2), WORLDS.text(12, 2, 1000)
    assert not torch.equal(truth[0], truth[1])
    assert not torch.equal(text[0], text[1])
    other = Worlds((4, 5))
    assert torch.equal(other.truth(12, 2)[0], truth[1])
    assert torch.equal(other.text(12, 2, 1000)[0], text[1])
    assert WORLDS.truth(12, 0).shape == (1, 12, 12)
    torch.testing.assert_close(text.sum((1, 2)), torch.ones(2).double())


def test_the_excess_is_the_divergence_of_the_model_from_the_truth():
    fit = WORLDS.fit(**EASY, n=2)
    logs = fit.model.log_joint().detach().double()
    truth = WORLDS.truth(12, 2)
    told = (truth * (truth.log() - logs)).sum((1, 2))
    torch.testing.assert_close(fit.excess[-1].double(), told, rtol=0, atol=1e-6)


def test_the_entropy_of_a_fitted_model_is_its_loss_on_the_text():
    fit, text = WORLDS.fit(**EASY, n=2), WORLDS.text(12, 2, EASY["pairs"])
    loss = -(text * fit.model.log_joint().detach().double()).sum((1, 2))
    torch.testing.assert_close(fit.entropy(), loss, rtol=0, atol=1e-3)


def test_at_the_rank_the_excess_is_about_parameters_over_twice_the_text():
    fit = Worlds(tuple(range(12)), updates=200).fit(**EASY, n=2)
    told = parameters(12, 2) / (2 * EASY["pairs"])
    assert 0.8 < fit.excess[-1].mean() / told < 1.2


def test_a_sweep_gives_a_row_its_numbers():
    table = evidence.sweep(
        WORLDS.sweep, size=[12], rank=[2], pairs=[1000], n=[1, 2], seed=WORLDS.members
    )
    fit = WORLDS.fit(12, 2, 1000, 2)
    row = evidence.where(table, {"n": 2})
    torch.testing.assert_close(
        torch.tensor(row["end"].to_numpy()).float(), fit.excess[-1]
    )
    over = fit.entropy() - cooccurrence.entropy(WORLDS.truth(12, 2))
    torch.testing.assert_close(torch.tensor(row["entropy"].to_numpy()), over)
    assert (table["best"] <= table["end"]).all()
    assert (table["length"] > 0).all()


def test_parameters_are_counted_as_by_hand_and_by_the_rank_of_the_gradient():
    assert parameters(2, 0) == 2
    size, n = 5, 2
    shapes = [(size, n), (size, n), (size,), (size,)]
    generator = torch.Generator().manual_seed(1)
    given = tuple(torch.randn(s, generator=generator).double() for s in shapes)

    def log_joint(u, v, a, b):
        energies = u @ v.T + a[:, None] + b
        return (energies - energies.flatten().logsumexp(0)).flatten()

    parts = torch.autograd.functional.jacobian(log_joint, given)
    matrix = torch.cat([part.flatten(1) for part in parts], 1)
    assert torch.linalg.matrix_rank(matrix) == parameters(size, n)


def test_information_is_zero_for_independent_words_and_log_n_for_copies():
    assert information(torch.full((4, 4), 1 / 16).double()) == pytest.approx(0)
    copies = torch.eye(4).double() / 4
    assert information(copies) == pytest.approx(torch.tensor(4.0).log().item())


def test_what_is_not_allowed_is_said():
    with pytest.raises(ValueError, match="members"):
        Worlds((1,))
    with pytest.raises(ValueError, match="updates"):
        Worlds((1, 2), updates=0)
    with pytest.raises(ValueError, match="n: 5"):
        parameters(5, 5)
    row = {"size": [12], "rank": [2], "pairs": [100], "n": [1], "seed": [9]}
    with pytest.raises(ValueError, match="seed"):
        WORLDS.sweep(pd.DataFrame(row))
