"""T-TA cannot see the token it is asked about; BERT and T-TA hold the same parts."""

import copy
from dataclasses import replace

import pytest
import torch
from test_blocks import check_close, layer_norm, shaken, vectors
from torch import nn

from blogcore.blocks import (
    SHARED,
    Deepened,
    EncoderConfig,
    FeedForward,
    Stack,
    not_same_word,
    not_self,
)
from blogcore.checkpoint import load_tree, save_tree
from blogcore.embeddings import Embedding, Factorised
from blogcore.encoder import (
    Bert,
    Pooler,
    TextAutoencoder,
    albert,
    bert,
    tta,
    unshared,
)
from blogcore.runtime import stream

T, V = 5, 11
CONFIG = EncoderConfig(V, 8, heads=2, layers=3, inner=12, positions=9, dropout=0.0)
DEPTHS = [1, 2, 3, 6]
MODELS = {"bert": bert, "tta": tta}


def autoencoder(layers=3, start=None, dtype=torch.float64) -> TextAutoencoder:
    config = replace(CONFIG, layers=layers)
    return shaken(tta(config, stream(0, "init"), start)).to(dtype)


def sentences(length=T, count=3) -> torch.Tensor:
    return torch.randint(V, (count, length), generator=stream(0, "ids"))


def dependence(model, out) -> torch.Tensor:
    """max |∂out_i/∂E_j| as a T × T table; ``out(queries, memory)`` runs the blocks."""
    ids = sentences(count=1)

    def of_embeddings(E):
        queries = model.queries(ids)
        memory = model.embedding.placed(E)
        return out(queries, memory)[0]

    E = model.embedding.tokens(ids).detach()
    J = torch.autograd.functional.jacobian(of_embeddings, E)
    return J[:, :, 0].abs().amax((1, 3))


class TestNoLeak:
    """The theorem: queries without tokens, a constant memory, a mask without diagonal.

    Then output i does not depend on token i, at any depth; and each of the three is
    necessary.
    """

    @pytest.mark.parametrize("layers", DEPTHS)
    def test_output_i_depends_on_every_token_but_the_ith(self, layers):
        model = autoencoder(layers)
        table = dependence(model, lambda q, m: model.blocks(q, m, not_self(T)))
        assert (table.diagonal() == 0).all()
        assert (table[not_self(T)] > 1e-4).all()

    @pytest.mark.parametrize("layers", DEPTHS)
    def test_a_memory_updated_with_the_layers_leaks_from_the_second_on(self, layers):
        model = autoencoder(layers)

        def naive(x, memory):
            for block in model.blocks:
                x = memory = block(x, memory, not_self(T))
            return x

        diagonal = dependence(model, naive).diagonal()
        assert (diagonal == 0).all() if layers == 1 else (diagonal > 1e-4).all()

    @pytest.mark.parametrize("layers", DEPTHS)
    def test_a_token_in_the_queries_or_no_mask_leaks(self, layers):
        model = autoencoder(layers)
        token = dependence(model, lambda q, m: model.blocks(m, m, not_self(T)))
        unmasked = dependence(model, lambda q, m: model.blocks(q, m))
        assert (token.diagonal() > 1e-4).all()
        assert (unmasked.diagonal() > 1e-4).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("start", [None, 4])
    @pytest.mark.parametrize("training", [False, True])
    def test_replacing_token_i_moves_output_i_by_exactly_nothing(
        self, dtype, start, training
    ):
        model, ids = autoencoder(3, start, dtype).train(training), sentences()
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.3

        def run(ids):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return model(ids)

        before = run(ids)
        for i in range(T):
            for token in range(V):
                changed = ids.clone()
                changed[:, i] = token
                after = run(changed)
                assert torch.equal(before[:, i], after[:, i])

    def test_padding_is_not_read_and_a_token_alone_reads_nothing(self):
        model, ids = autoencoder(), sentences()
        valid = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
        out = model(ids, valid)
        changed = torch.where(valid, ids, (ids + 1) % V)
        assert torch.equal(out[valid], model(changed, valid)[valid])
        check_close(out[0, :4], model(ids[:1, :4])[0])
        changed = ids.clone()
        changed[2, 0] = (ids[2, 0] + 1) % V
        moved = (out != model(changed, valid)).any(-1)
        assert moved[2].tolist() == [False, True, True, True, True]
        assert not moved[:2].any()
        assert out.isfinite().all()

    def test_length_one_is_finite_the_same_for_all_tokens_and_can_be_trained(self):
        model = autoencoder()
        every = model(torch.arange(V)[:, None])
        assert every.isfinite().all()
        assert torch.equal(every, model(torch.arange(V).roll(1)[:, None]))
        check_close(every, every[:1].expand_as(every), atol=1e-14)
        model.head(every).logsumexp(-1).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad.isfinite().all()

    def test_whole_words_are_hidden_from_their_pieces(self):
        model, ids = autoencoder(), sentences()
        words = torch.tensor([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2], [0, 1, 2, 3, 4]])
        before = model(ids, allowed=not_same_word(words))
        check_close(before[2], model(ids)[2])
        for i in range(T):
            changed = ids.clone()
            changed[:, i] = (ids[:, i] + 1) % V
            moved = (before != model(changed, allowed=not_same_word(words))).any(-1)
            assert torch.equal(moved, words != words[:, i, None])

    def test_deepening_the_memory_token_by_token_hides_as_before(self):
        model = autoencoder()
        net = [shaken(FeedForward(CONFIG), seed) for seed in range(3)]
        pairs = zip(model.blocks, net, strict=True)
        deep = Stack(Deepened(block, own) for block, own in pairs)
        table = dependence(model, lambda q, m: deep(q, m, not_self(T)))
        assert (table.diagonal() == 0).all()
        assert (table[not_self(T)] > 1e-4).all()
        plain = model(sentences())
        model.blocks = deep
        assert (model(sentences()) != plain).all()

    def test_a_net_that_mixes_tokens_would_leak(self):
        model = autoencoder(1)
        leaky = Deepened(model.blocks[0], lambda m: (m + m.roll(1, 1)) / 2)
        table = dependence(model, lambda q, m: leaky(q, m, not_self(T)))
        assert (table.diagonal() > 1e-4).all()


def test_one_layer_with_uniform_attention_is_cbow():
    """W_Q = 0 and b_Q = 0: block(q_i, W_V · mean over j ≠ i of the memory + b_V)."""
    model, ids = autoencoder(1), sentences()
    (block,) = model.blocks
    nn.init.zeros_(block.attention.query.weight)
    nn.init.zeros_(block.attention.query.bias)
    memory, q = model.embedding(ids), model.queries(ids)
    others = (memory.sum(1, keepdim=True) - memory) / (T - 1)
    read = block.attention.output(block.attention.value(others))
    expected = block.feed_forward(layer_norm(q + read, block.attention.norm))
    check_close(model(ids), expected)


@pytest.mark.parametrize("start", [None, 0, 4])
def test_queries_are_the_norm_of_q0_and_position(start):
    model, ids = autoencoder(1, start), sentences()
    segments = sentences() % 2
    table = model.embedding
    q0 = 0 if start is None else table.tokens.weight[start]
    for given in (None, segments):
        S = table.segments.weight[torch.zeros_like(ids) if given is None else given]
        expected = layer_norm(q0 + table.positions.weight[:T] + S, table.norm)
        check_close(model.queries(ids, given), expected)
        total = table.tokens.weight[ids] + table.positions.weight[:T] + S
        check_close(table(ids, given), layer_norm(total, table.norm))


def test_embeddings_are_dropped_out_in_training_only():
    half = shaken(Embedding(replace(CONFIG, dropout=0.5)))
    whole = half(sentences())
    assert torch.equal(whole, shaken(Embedding(CONFIG))(sentences()))
    dropped = half.train()(sentences())
    kept = dropped != 0
    assert 0.3 < kept.double().mean() < 0.7
    check_close(dropped[kept], 2 * whole[kept])


def test_bert_is_its_stack_over_its_embeddings():
    model, ids = shaken(bert(CONFIG, stream(0, "init"))), sentences()
    segments, valid = sentences() % 2, torch.arange(T) < torch.tensor([[5], [3], [1]])
    x = model.embedding(ids, segments)
    assert torch.equal(model(ids, segments=segments), model.blocks(x))
    keys = valid[:, None, None]
    assert torch.equal(model(ids, valid, segments), model.blocks(x, None, keys))
    both = keys & not_self(T)
    found = model(ids, valid, segments, not_self(T))
    assert torch.equal(found, model.blocks(x, None, both))
    for row, length in enumerate((5, 3, 1)):
        alone = model(ids[row, None, :length], None, segments[row, None, :length])
        check_close(model(ids, valid, segments)[row, :length], alone[0])


@pytest.mark.parametrize("kind", MODELS)
def test_padding_alone_is_finite_with_finite_gradients(kind):
    model = shaken(MODELS[kind](CONFIG, stream(0, "init")))
    valid = torch.tensor([[True] * T, [False] * T, [True] * T])
    out = model(sentences(), valid)
    assert out.isfinite().all()
    out.square().sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)
    check_close(out[[0, 2]], model(sentences()[[0, 2]]))


@pytest.mark.parametrize("kind", MODELS)
class TestModels:
    """What both builders promise."""

    def build(self, kind, config=CONFIG, seed=0):
        return MODELS[kind](config, stream(seed, "init"))

    def test_start_from_the_generator_and_from_nothing_else(self, kind):
        state = torch.get_rng_state()
        one = self.build(kind)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(3)
        two, other = self.build(kind), self.build(kind, seed=1)
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name])
            if value.ndim == 2:
                assert not torch.equal(value, other.state_dict()[name])
        torch.set_rng_state(state)

    def test_start_with_small_matrices_unit_norms_and_no_biases(self, kind):
        wide = replace(CONFIG, vocabulary=500, width=64, inner=256, layers=2)
        for name, value in self.build(kind, wide).named_parameters():
            if value.ndim == 2:
                assert abs(value.std() - 0.02) < (0.006 if "seg" in name else 0.002)
                assert abs(value.mean()) < 0.006
            else:
                assert (value == float(name.endswith("norm.weight"))).all(), name

    def test_are_in_training_mode_on_the_cpu_in_float32(self, kind):
        model = self.build(kind)
        assert model.training
        for value in model.parameters():
            assert (value.dtype, value.device.type) == (torch.float32, "cpu")
            assert value.requires_grad

    def test_tie_the_head_to_the_embedding_for_good(self, kind, tmp_path):
        model = self.build(kind).double().eval()
        save_tree(tmp_path / "state", model.state_dict())
        again = self.build(kind, seed=1).double().eval()
        again.load_state_dict(load_tree(tmp_path / "state"))
        for twin in (model, copy.deepcopy(model), again):
            assert twin.head.tokens is twin.embedding.tokens
            hidden = twin(sentences())
            logits = twin.head(hidden)
            with torch.no_grad():
                twin.embedding.tokens.weight[3] += 1
            grown = twin.head(hidden) - logits
            assert (grown[..., [v for v in range(V) if v != 3]] == 0).all()
            assert (grown[..., 3] != 0).all()
        names = [name for name, _ in model.named_parameters()]
        assert len(names) == len(set(names)) == 5 + 16 * 3 + 5

    def test_ignore_dropout_in_eval(self, kind):
        wet = self.build(kind, replace(CONFIG, dropout=0.5))
        dry = self.build(kind)
        assert torch.equal(wet.eval()(sentences()), dry(sentences()))
        assert not torch.equal(wet.train()(sentences()), wet(sentences()))

    def test_need_no_segments(self, kind):
        model = shaken(self.build(kind))
        zeros = torch.zeros_like(sentences())
        assert torch.equal(model(sentences()), model(sentences(), segments=zeros))
        assert (model(sentences()) != model(sentences(), segments=zeros + 1)).any()
        without = shaken(self.build(kind, replace(CONFIG, segments=0)))
        assert without.embedding.segments is None
        assert without(sentences()).isfinite().all()

    def test_take_either_kind_of_integer_and_leave_it_as_it_is(self, kind):
        model, ids = shaken(self.build(kind)), sentences()
        kept = ids.clone()
        assert torch.equal(model(ids), model(ids.int()))
        assert torch.equal(ids, kept)


def test_the_two_models_hold_equal_parts():
    one = bert(CONFIG, stream(0, "init")).state_dict()
    two = tta(CONFIG, stream(0, "init"), start=4).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_without_its_diagonal_ban_tta_still_starts_from_positions():
    model, ids = autoencoder(), sentences()
    free = torch.ones(T, T, dtype=torch.bool)
    expected = model.blocks(model.queries(ids), model.embedding(ids))
    check_close(model(ids, allowed=free), expected)
    assert (model(ids) != expected).all()


def test_bert_layers_are_tta_layers_that_read_their_own_queries():
    """Queries = memory, no diagonal ban: the published layer becomes BERT's."""
    parts, ids = shaken(bert(CONFIG, stream(0, "init"))), sentences()
    x = parts.embedding(ids)
    for block in parts.blocks:
        x = block(x, x, torch.ones(T, T, dtype=torch.bool))
    check_close(parts(ids), x)


def test_the_head_is_its_formula_on_the_positions_asked():
    model, ids = shaken(bert(CONFIG, stream(0, "init"))), sentences()
    hidden, head = model(ids), model.head
    z = hidden @ head.dense.weight.T + head.dense.bias
    bent = z * (1 + torch.erf(z / 2**0.5)) / 2
    E = model.embedding.tokens.weight
    expected = layer_norm(bent, head.norm) @ E.T + head.bias
    check_close(head(hidden), expected)
    asked = torch.rand(ids.shape, generator=stream(0, "asked")) < 0.5
    check_close(head(hidden[asked]), expected[asked])
    assert head(hidden[asked]).shape == (asked.sum(), V)


def test_the_pooler_reads_the_first_position():
    pooler, hidden = shaken(Pooler(CONFIG)), vectors(3, T, 8)
    expected = (hidden[:, 0] @ pooler.dense.weight.T + pooler.dense.bias).tanh()
    check_close(pooler(hidden), expected)


class TestSharing:
    """One block several times; narrow tables; and what stops sharing."""

    config = replace(CONFIG, layers=4)

    def model(self, narrow=4, share="all", groups=1) -> Bert:
        made = albert(self.config, narrow, stream(0, "init"), share, groups)
        return shaken(made)

    def test_embeddings_are_factorised(self):
        narrow = shaken(Embedding(replace(CONFIG, width=4)))
        factorised = Factorised(narrow, 8).double()
        ids, segments = sentences(), torch.ones(3, T, dtype=torch.int64)
        expected = narrow(ids, segments) @ factorised.up.weight.T + factorised.up.bias
        check_close(factorised(ids, segments), expected)
        vectors_ = narrow.tokens(ids)
        check_close(factorised.placed(vectors_, segments), expected)
        assert factorised.tokens is narrow.tokens

    def test_the_head_is_tied_to_the_narrow_table(self):
        model = self.model()
        assert model.head.tokens is model.embedding.narrow.tokens
        logits = model.head(model(sentences()))
        assert logits.shape == (3, T, V)
        logits.logsumexp(-1).sum().backward()
        assert (model.embedding.tokens.weight.grad != 0).all()

    def test_a_model_of_full_width_is_not_factorised(self):
        assert isinstance(self.model(8).embedding, Embedding)
        assert torch.equal(
            self.model(8, "none")(sentences()),
            shaken(bert(self.config, stream(0, "init")))(sentences()),
        )

    def test_one_block_is_called_once_a_layer(self):
        model, ids = self.model(), sentences()
        assert len({id(block) for block in model.blocks}) == 1
        x = model.embedding(ids)
        for _ in range(4):
            x = model.blocks[0](x)
        assert torch.equal(model(ids), x)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    @pytest.mark.parametrize("share", SHARED)
    def test_what_is_shared_within_a_group(self, share, groups):
        blocks = self.model(share=share, groups=groups).blocks
        for part in ("attention", "feed_forward"):
            owners = [id(getattr(block, part)) for block in blocks]
            shares = part in SHARED[share]
            expected = groups if shares else 4
            assert len(set(owners)) == expected
            group = [0, 1, 2, 3] if not shares else [i * groups // 4 for i in range(4)]
            assert [owners.index(o) for o in owners] == [group.index(g) for g in group]

    @pytest.mark.parametrize("share", ["all", "attention", "feed_forward"])
    def test_unshared_is_the_same_function_with_own_parameters(self, share):
        model, ids = self.model(share=share), sentences()
        twin = unshared(model)
        check_close(twin(ids), model(ids))
        check_close(twin.head(twin(ids)), model.head(model(ids)))
        assert twin.head.tokens is twin.embedding.tokens
        own = {id(p) for p in twin.parameters()}
        assert not own & {id(p) for p in model.parameters()}
        block = sum(p.numel() for p in twin.blocks[0].parameters())
        assert sum(p.numel() for p in twin.blocks.parameters()) == 4 * block

    def test_a_shared_slope_is_the_sum_of_the_layers_slopes(self):
        model = self.model()
        twin = unshared(model)
        for each in (model, twin):
            each(sentences()).square().sum().backward()
        for name, parameter in model.blocks[0].named_parameters():
            own = [block.get_parameter(name).grad for block in twin.blocks]
            check_close(parameter.grad, sum(own), 1e-10)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"narrow": 0}, "narrow: 0"),
            ({"narrow": 9}, "narrow: 9 exceeds width: 8"),
            ({"share": "some"}, "what: 'some' is not one of ['none', 'attention'"),
            ({"groups": 3}, "groups: 3 do not divide 4 layers"),
            ({"groups": 0}, "groups: 0"),
        ],
    )
    def test_what_does_not_fit_is_named(self, settings, words):
        with pytest.raises(ValueError) as caught:
            self.model(**settings)
        assert words in str(caught.value)

    def test_an_unknown_gelu_is_named(self):
        with pytest.raises(ValueError, match="gelu: 'erf' is not one of"):
            replace(CONFIG, gelu="erf")


MODEL = autoencoder()
IDS = sentences()
TALL = torch.ones(3, T, dtype=torch.bool)


def segments(fill, shape=(3, T)):
    return MODEL(IDS, segments=torch.full(shape, fill))


WRONG = [
    (ValueError, lambda: MODEL(IDS + V), f"ids: {IDS.max() + V} is not in 0 … 10"),
    (ValueError, lambda: MODEL(IDS - V), f"ids: {IDS.min() - V} is not in 0 … 10"),
    (TypeError, lambda: MODEL(IDS.float()), "ids: torch.float32"),
    (TypeError, lambda: MODEL(IDS.bool()), "ids: torch.bool"),
    (TypeError, lambda: MODEL([[1, 2]]), "ids: list"),
    (ValueError, lambda: MODEL(IDS[0]), "ids: shape (5,)"),
    (ValueError, lambda: MODEL(IDS[:, :0]), "ids: shape (3, 0)"),
    (ValueError, lambda: MODEL(IDS[:0]), "ids: shape (0, 5)"),
    (ValueError, lambda: MODEL(IDS.repeat(1, 2)), "length of 1 … 9"),
    (ValueError, lambda: segments(2), "segments: 2 is not in 0 … 1"),
    (ValueError, lambda: segments(-1), "segments: -1"),
    (TypeError, lambda: segments(0.0), "segments: torch.float32"),
    (ValueError, lambda: segments(0, (3, 1)), "segments: shape (3, 1)"),
    (ValueError, lambda: MODEL(IDS, TALL.long()), "valid: torch.int64 of shape (3, 5)"),
    (ValueError, lambda: MODEL(IDS, TALL[:, :1]), "valid: torch.bool of shape (3, 1)"),
    (ValueError, lambda: MODEL(IDS, TALL[:1]), "valid: torch.bool of shape (1, 5)"),
    (ValueError, lambda: MODEL(IDS, allowed=TALL), "allowed: torch.bool of shape (3,"),
    (
        ValueError,
        lambda: MODEL(IDS, TALL, allowed=torch.ones(2, T, T).bool()),
        "allowed: torch.bool of shape (2, 5, 5)",
    ),
    (
        ValueError,
        lambda: MODEL(IDS, TALL, allowed=torch.ones(2, 1, T, T).bool()),
        "allowed: torch.bool of shape (2, 1, 5, 5)",
    ),
    (
        ValueError,
        lambda: MODEL(IDS, TALL, allowed=torch.ones(3, 7, T, T).bool()),
        "allowed: torch.bool of shape (3, 7, 5, 5)",
    ),
    (
        ValueError,
        lambda: MODEL(IDS, allowed=not_self(T).long()),
        "allowed: torch.int64",
    ),
    (ValueError, lambda: MODEL(IDS, allowed=not_self(T + 1)), "of shape (6, 6)"),
    (ValueError, lambda: tta(CONFIG, stream(0, "i"), V), "start: 11 is not in 0 … 10"),
    (ValueError, lambda: tta(CONFIG, stream(0, "i"), -1), "start: -1"),
    (ValueError, lambda: tta(CONFIG, stream(0, "i"), 1.0), "start: 1.0"),
]


@pytest.mark.parametrize(
    ("kind", "call", "words"), WRONG, ids=[words for *_, words in WRONG]
)
def test_wrong_calls_are_refused(kind, call, words):
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)


def test_segments_need_a_table():
    model = tta(replace(CONFIG, segments=0), stream(0, "init"))
    with pytest.raises(ValueError, match="segments: given, but"):
        model(IDS, segments=torch.zeros_like(IDS))
