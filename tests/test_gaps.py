"""Gaps against closed forms: normal data have none, one step gives back J."""

import math

import numpy as np
import pytest

from blogcore import gaps
from blogcore.runtime import stream

NORMAL = gaps.standardised([0.5, 0.5], [0, 0], [2, 2])
BIMODAL = gaps.standardised([0.5, 0.5], [-2, 2], [0.5, 0.5])


def test_laws_have_mean_0_and_variance_1():
    for law in (NORMAL, BIMODAL, gaps.two_bumps(stream(0, "law"))):
        p = law.density(gaps.LINE) * gaps.STEP
        assert math.isclose(p.sum(), 1, abs_tol=1e-9)
        assert math.isclose(p @ gaps.LINE, 0, abs_tol=1e-9)
        assert math.isclose(p @ gaps.LINE**2, 1, abs_tol=1e-6)


def test_normal_data_leave_no_gap():
    assert abs(gaps.negentropy(NORMAL)) < 1e-9
    assert abs(gaps.chain_gap(NORMAL, 8)).max() < 1e-9
    f = gaps.transport(NORMAL)
    z = np.linspace(-4, 4, 9)
    assert np.allclose(f(z), z, atol=1e-6)
    # A straight f with noise on top draws variance 1 + σ²: the gap is known.
    v = 1 + 0.25
    assert math.isclose(
        gaps.one_latent_gap(NORMAL, f, 0.5), (math.log(v) + 1 / v - 1) / 2, abs_tol=1e-5
    )


def test_one_step_gives_back_the_negentropy_and_many_steps_do_not():
    assert round(gaps.negentropy(BIMODAL), 4) == 0.7236
    assert abs(gaps.chain_gap(BIMODAL, 1) - gaps.negentropy(BIMODAL)).max() < 1e-6
    each, one = gaps.chain_gap(BIMODAL, 64)
    assert 0 < each < one < gaps.negentropy(BIMODAL)


def test_the_floor_is_below_what_one_latent_reaches():
    law = gaps.two_bumps(stream(0, "law"))
    f = gaps.transport(law)
    assert gaps.floor(law, 0.8, 50) < gaps.one_latent_gap(law, f, 0.8)
    assert gaps.floor(law, 1.0, 200) < gaps.negentropy(law)
    small = gaps.one_latent_gap(law, f, 0.01) / (gaps.constant(f) * 0.01**2)
    assert math.isclose(small, 1, abs_tol=0.01)


def test_the_way_back_is_nearly_normal_over_a_short_way():
    far, near = (
        gaps.reverse_conditional(BIMODAL, 0.5, after)[0] for after in (0.1, 0.499)
    )
    assert 0 <= near < 1e-3 < far


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "sigma", lambda: gaps.floor(BIMODAL, -1.0, 5)),
        (ValueError, "rounds", lambda: gaps.floor(BIMODAL, 1.0, 0)),
        (ValueError, "steps", lambda: gaps.chain_gap(BIMODAL, 0)),
    ],
)
def test_what_cannot_be_is_named(error, words, call):
    with pytest.raises(error, match=words):
        call()
