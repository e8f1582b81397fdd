"""Sentences mean what the grammar says."""

from collections import Counter

import pytest
import torch

from blogcore.corpus import random_markov
from blogcore.grammar import TemplateGrammar, everyday_grammar, trades_grammar
from blogcore.runtime import stream

SLOTS = {"who": (("a", "b"), ("c",)), "what": (("x",), ("y", "z", "w"))}
CHAIN = random_markov(2, 1, stream(0, "chain"))
TINY = TemplateGrammar(("{who} {what}", "{what} by {who}"), SLOTS, CHAIN)
GRAMMAR = everyday_grammar(stream(0, "grammar"))


def understood(sentence: str) -> list[int]:
    """The idea of each slot, read off the words of a sentence."""
    return [
        next(
            i for i, idea in enumerate(ideas) if any(word in sentence for word in idea)
        )
        for ideas in GRAMMAR.slots.values()
    ]


def test_a_sentence_says_what_it_means():
    meanings = GRAMMAR.meanings(500, stream(0, "meanings"))
    assert (meanings.shape, meanings.dtype) == ((500, 4), torch.int64)
    sentences = GRAMMAR.express(meanings, stream(0, "words"))
    assert [understood(sentence) for sentence in sentences] == meanings.tolist()


def test_every_wording_is_equally_likely():
    meaning = torch.tensor([[0, 1]]).expand(6000, -1)
    counts = Counter(TINY.express(meaning, stream(0, "words")))
    assert len(counts) == 12
    assert min(counts) == "a w"
    assert all(abs(count - 500) < 5 * 500**0.5 for count in counts.values())
    one = torch.tensor([[0, 0, 0, 0]]).expand(4000, -1)
    assert len(set(GRAMMAR.express(one, stream(0, "words")))) == 64


def test_ideas_keep_company_as_the_chain_says():
    meanings = GRAMMAR.meanings(30_000, stream(0, "meanings"))
    pairs = torch.stack([meanings[:, :-1].flatten(), meanings[:, 1:].flatten()])
    counts = torch.zeros(6, 6).index_put_(tuple(pairs), torch.tensor(1.0), True)
    found = counts / counts.sum(1, keepdim=True)
    assert (found - GRAMMAR.chain.transition).abs().max() < 0.03
    assert GRAMMAR.chain.transition.max() > 0.5, "ideas would be independent"


def test_pairs_are_as_alike_as_they_say():
    pairs = GRAMMAR.pairs(3000, stream(0, "pairs"))
    first, second = (torch.tensor([understood(s) for s in side]) for side in pairs[:2])
    assert torch.equal((first == second).double().mean(1), pairs.similarity)
    shares = torch.bincount((pairs.similarity * 4).long(), minlength=5) / 3000
    assert (shares - 0.2).abs().max() < 0.04
    kept = (first == second)[pairs.similarity == 0.25].double().mean(0)
    assert (kept - 0.25).abs().max() < 0.1, "each slot is as often the shared one"
    moved = (second - first)[first != second] % 6
    assert (torch.bincount(moved) / len(moved) - 0.2)[1:].abs().max() < 0.02


def test_a_grammar_repeats_and_depends_on_its_stream():
    drawn = [GRAMMAR.pairs(20, stream(seed, "pairs")) for seed in (0, 0, 1)]
    assert drawn[0].first == drawn[1].first != drawn[2].first
    other = everyday_grammar(stream(1, "grammar"))
    assert not torch.equal(other.chain.transition, GRAMMAR.chain.transition)
    assert (
        sum(1 for _ in {s for i in GRAMMAR.slots.values() for j in i for s in j}) == 48
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TemplateGrammar((), SLOTS, CHAIN), "templates: ''"),
        (lambda: TemplateGrammar(("{who}",), SLOTS, CHAIN), "templates: '{who}'"),
        (lambda: TemplateGrammar(("{who}{what}{who}",), SLOTS, CHAIN), "does not hold"),
        (lambda: TemplateGrammar(("{who}{what}{how}",), SLOTS, CHAIN), "does not hold"),
        (
            lambda: TemplateGrammar(
                TINY.templates, SLOTS, random_markov(3, 1, stream(0, "x"))
            ),
            r"slots: 'who' has \[2, 1\] words an idea.* chain's 3",
        ),
        (
            lambda: TemplateGrammar(
                TINY.templates, SLOTS | {"who": (("a",), ())}, CHAIN
            ),
            r"slots: 'who' has \[1, 0\]",
        ),
        (
            lambda: TemplateGrammar(
                TINY.templates, SLOTS | {"who": (("a",), ("z",))}, CHAIN
            ),
            r"slots: \['z'\] stand for more than one",
        ),
        (lambda: TINY.meanings(0, stream(0, "x")), "count: 0"),
        (lambda: TINY.pairs(-1, stream(0, "x")), "count: -1"),
        (lambda: TINY.express(torch.tensor([[0, 2]]), stream(0, "x")), "0 … 1"),
        (lambda: TINY.express(torch.tensor([[-1, 0]]), stream(0, "x")), "meanings: "),
        (lambda: TINY.express(torch.tensor([[0]]), stream(0, "x")), r"shape \(1, 1\)"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_trades_speak_english_and_their_chain_names_the_ideas():
    grammar = trades_grammar(0.7)
    meanings = torch.zeros(200, 4, dtype=torch.int64)
    said = set(grammar.express(meanings, stream(0, "words")))
    assert "the cook bakes in the kitchen at dawn ." in said
    assert len(said) == 16  # two words for each of four ideas
    answers = grammar.chain.cloze(meanings[:1]).exp()[0]
    ends, middle = 0.7 / (0.7 + 5 * 0.06), 0.49 / (0.49 + 5 * 0.06**2)
    expected = torch.tensor([ends, middle, middle, ends]).double()
    assert torch.allclose(answers[:, 0], expected)
    with pytest.raises(ValueError, match="own"):
        trades_grammar(1.5)
