"""The vote: its texts, its one question, and models that answer it."""

import pytest
import torch

from blogcore import contest, voting
from blogcore.blocks import EncoderConfig
from blogcore.encoder import bert, tta
from blogcore.runtime import stream

SMALL = EncoderConfig(5, 16, 1, 2, 32, 4, 0, 0.0)  # three voters, four words


MAKERS = {f.__name__: f for f in (bert, tta, contest.deepened, contest.deepened_bert)}


@pytest.mark.parametrize("name", MAKERS)
def test_the_last_token_alone_is_the_last_of_all(name):
    model = MAKERS[name](SMALL, stream(0, "x")).double().eval()
    ids = torch.randint(4, (3, 4), generator=stream(0, "ids"))
    alone = voting.LastToken(model)
    assert torch.allclose(alone(ids), model(ids)[:, -1:], rtol=0, atol=1e-12)
    assert len([*alone.parameters()]) == len([*model.parameters()])


def test_outcomes_follow_the_tables():
    tables = voting.tables_of(1, 2, 3)
    ids, log_p = voting.votes(20_000, tables, stream(1, "votes"))
    assert ids.shape == (20_000, 3)
    expected = (tables[0, ids[:, 0]] + tables[1, ids[:, 1]]).log_softmax(1)
    assert torch.allclose(log_p, expected)
    same = (ids[:, 0] == 0) & (ids[:, 1] == 1)
    found = torch.bincount(ids[same, 2], minlength=3) / same.sum()
    assert torch.allclose(found, log_p[same][0].exp(), atol=0.05)


def test_the_one_question_hides_the_outcome_and_nothing_else():
    ids = torch.tensor([[1, 2, 3, 0], [0, 0, 1, 2]])
    asked = voting.last_token(ids, 4)
    assert asked.inputs.tolist() == [[1, 2, 3, 4], [0, 0, 1, 4]]
    assert asked.targets.tolist() == [0, 2]
    assert asked.positions.tolist() == [0, 1]  # of LastToken's two outputs


def test_a_poll_is_the_same_again_and_learns():
    found = voting.poll(0, bert, SMALL, 150, 50)
    assert found == voting.poll(0, bert, SMALL, 150, 50)
    assert len(found.curve) == 4
    assert found.curve[-1] < 0.7 * found.curve[0]
    size = sum(p.numel() for p in bert(SMALL, stream(0, "x")).parameters())
    assert found.parameters == size


def test_equal_seeds_vote_equally_whatever_the_model():
    one, other = (voting.tables_of(3) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == (voting.VOTERS, voting.WORDS, voting.WORDS)
    with pytest.raises(ValueError, match="voters: 0"):
        voting.tables_of(3, 0)
    with pytest.raises(ValueError, match="words: 1"):
        voting.tables_of(3, 2, 1)


def test_padding_is_refused():
    alone = voting.LastToken(bert(SMALL, stream(0, "x")))
    ids = torch.zeros(3, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"valid: a mask \(3, 4\) is not None"):
        alone(ids, torch.ones(3, 4, dtype=torch.bool))
