"""The encoders against transformers, torch's own layers, and the published formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import erf
from test_blocks import check_close, shaken, vectors
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
)

from blogcore.blocks import Attention, Block, EncoderConfig, not_self, shared
from blogcore.electra import Corrupted, DetectionHead, replaced_token_detection
from blogcore.embeddings import Embedding, from_table
from blogcore.encoder import (
    Bert,
    Classifier,
    MaskedLanguageHead,
    Pooler,
    TokenClassifier,
    masked_language_bert,
    tta,
)
from blogcore.pretrained import load_albert, load_bert, load_electra
from blogcore.runtime import stream

ATOL = {torch.float32: 1e-5, torch.float64: 1e-12}
KINDS = {
    "BertModel": BertModel,
    "BertForMaskedLM": BertForMaskedLM,
    "texts": BertForSequenceClassification,
    "tokens": BertForTokenClassification,
    "albert": AlbertForMaskedLM,
    "albert alone": AlbertModel,
    "detection": ElectraForPreTraining,
    "filling": ElectraForMaskedLM,
}
CONFIGS = {"albert": AlbertConfig, "albert alone": AlbertConfig}
CONFIGS |= {"detection": ElectraConfig, "filling": ElectraConfig}
V, T = 97, 16


def theirs(kind, dtype, heads=4, **settings):
    """A random model of transformers with every bias and norm off its default."""
    config = CONFIGS.get(kind, BertConfig)(
        vocab_size=V,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=heads,
        intermediate_size=80,
        max_position_embeddings=T,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = KINDS[kind](config).to(dtype).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def texts(length=T, count=6):
    """Ids, segments, and padding of the usual kind, on the left, with a hole."""
    generator = stream(0, "texts")
    ids = torch.randint(V, (count, length), generator=generator)
    segments = torch.randint(2, (count, length), generator=generator)
    valid = torch.arange(length) < torch.arange(1, count + 1)[:, None] * length // 6
    valid[1] = valid[1].flip(0)
    valid[4, length // 2] = length == 1
    valid[:, 0] |= ~valid.any(1)
    return ids, segments, valid


@pytest.mark.parametrize("dtype", ATOL, ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
@pytest.mark.parametrize("length", [1, T])
@pytest.mark.parametrize("heads", [1, 4])
def test_a_loaded_bert_computes_what_transformers_computes(
    tmp_path, kind, dtype, length, heads
):
    model = theirs(kind, dtype, heads)
    model.save_pretrained(tmp_path)
    ours = load_bert(tmp_path)
    ids, segments, valid = texts(length)
    for given in ({}, {"segments": segments}, {"valid": valid, "segments": segments}):
        names = {"segments": "token_type_ids", "valid": "attention_mask"}
        asked = {names[name]: value.long() for name, value in given.items()}
        with torch.no_grad():
            expected = model(ids, **asked)
            hidden = ours(ids, **given)
            if kind == "BertModel":
                check_close(hidden, expected.last_hidden_state, ATOL[dtype])
                check_close(ours.head(hidden), expected.pooler_output, ATOL[dtype])
            else:
                check_close(ours.head(hidden), expected.logits, ATOL[dtype])
    assert hidden.dtype == dtype


def test_loss_and_gradients_are_those_of_transformers(tmp_path):
    model = theirs("BertForMaskedLM", torch.float64)
    model.save_pretrained(tmp_path)
    ours = load_bert(tmp_path)
    ids, segments, valid = texts()
    asked = valid & (torch.rand(ids.shape, generator=stream(0, "asked")) < 0.3)
    labels = torch.where(asked, ids, -100)
    expected = model(ids, valid.long(), segments, labels=labels).loss
    found = F.cross_entropy(ours.head(ours(ids, valid, segments)[asked]), ids[asked])
    check_close(found, expected)
    expected.backward()
    found.backward()
    pairs = [
        (ours.embedding.tokens, model.bert.embeddings.word_embeddings),
        (ours.embedding.positions, model.bert.embeddings.position_embeddings),
        (ours.embedding.segments, model.bert.embeddings.token_type_embeddings),
        (ours.blocks[0].attention.key, model.bert.encoder.layer[0].attention.self.key),
        (
            ours.blocks[2].feed_forward.inner,
            model.bert.encoder.layer[2].intermediate.dense,
        ),
        (ours.head.dense, model.cls.predictions.transform.dense),
    ]
    for own, other in pairs:
        slope = other.weight.grad.clone()
        if own is ours.embedding.tokens:  # transformers gives id 0 no gradient as input
            slope[0] = own.weight.grad[0]
        check_close(own.weight.grad, slope)


@pytest.mark.parametrize("dtype", ATOL, ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["texts", "tokens"])
def test_classifiers_are_those_of_transformers(kind, dtype, tmp_path):
    model = theirs(kind, dtype, num_labels=5)
    model.bert.save_pretrained(tmp_path)
    encoder = load_bert(tmp_path, () if kind == "texts" else ("pooler.",))
    if kind == "texts":
        ours = Classifier(encoder, encoder.head, 5)
    else:
        ours = TokenClassifier(encoder, 32, 5)
    ours.to(dtype).output.load_state_dict(model.classifier.state_dict())
    ids, segments, valid = texts()
    with torch.no_grad():
        expected = model(ids, valid.long(), segments).logits
        found = ours.eval()(ids, valid, segments)
    check_close(found, expected, ATOL[dtype])


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("vocabulary", [30_522, 21_128])
def test_bert_base_has_as_many_parameters_as_transformers_gives_it(vocabulary):
    config, wide = EncoderConfig(vocabulary), BertConfig(vocab_size=vocabulary)
    with torch.device("meta"):
        ours = masked_language_bert(config)
        pooled = Bert(ours.embedding, ours.blocks, Pooler(config))
        model, language = BertModel(wide), BertForMaskedLM(wide)
    assert count(pooled) == count(model)
    assert count(ours) == count(language)
    known = {30_522: (109_482_240, 109_514_298), 21_128: (102_267_648, 102_290_312)}
    assert (count(pooled), count(ours)) == known[vocabulary]


ALBERTS = {  # heads, layers, width: parameters as published, with E = 128
    (12, 12, 768): 11_683_584,
    (16, 24, 1024): 17_683_968,
    (16, 24, 2048): 58_724_864,
    (64, 12, 4096): 222_595_584,
}


@pytest.mark.parametrize(("heads", "layers", "width"), ALBERTS)
def test_alberts_have_as_many_parameters_as_published(heads, layers, width):
    config = EncoderConfig(30_000, width, heads, layers, 4 * width)
    wide = AlbertConfig(
        vocab_size=30_000,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=4 * width,
    )
    with torch.device("meta"):
        ours, model = masked_language_bert(config, 128, "all"), AlbertModel(wide)
        pooled = Bert(ours.embedding, ours.blocks, Pooler(config))
        language = AlbertForMaskedLM(wide)
    assert count(pooled) == count(model) == ALBERTS[heads, layers, width]
    assert count(ours) == count(language)


# Lan et al. (2020), table 4: millions of parameters of ALBERT-base, by what is shared.
@pytest.mark.parametrize(
    ("narrow", "share", "millions"),
    [
        (768, "all", 31),
        (768, "attention", 83),
        (768, "feed_forward", 57),
        (768, "none", 108),
        (128, "all", 12),
        (128, "attention", 64),
        (128, "feed_forward", 38),
        (128, "none", 89),
    ],
)
def test_sharing_parts_gives_the_published_sizes(narrow, share, millions):
    config = EncoderConfig(30_000)
    with torch.device("meta"):
        model = masked_language_bert(config, narrow, share)
        pooled = Bert(model.embedding, model.blocks, Pooler(config))
    assert abs(count(pooled) / 1e6 - millions) < 1.1


@pytest.mark.parametrize("dtype", ATOL, ids=["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 3])
def test_albert_computes_what_transformers_computes(dtype, groups, tmp_path):
    settings = {"embedding_size": 8, "num_hidden_groups": groups}
    model = theirs("albert", dtype, **settings)
    model.save_pretrained(tmp_path)
    ours = load_albert(tmp_path)
    assert len({id(block) for block in ours.blocks}) == groups
    ids, segments, valid = texts()
    with torch.no_grad():
        expected = model(ids, valid.long(), segments).logits
        check_close(ours.head(ours(ids, valid, segments)), expected, ATOL[dtype])
    model = theirs("albert alone", dtype, **settings)
    model.save_pretrained(tmp_path / "alone")
    bare = load_albert(tmp_path / "alone")
    assert isinstance(bare.head, Pooler)
    with torch.no_grad():
        expected = model(ids, valid.long(), segments)
        hidden = bare(ids, valid, segments)
    check_close(hidden, expected.last_hidden_state, ATOL[dtype])
    check_close(bare.head(hidden), expected.pooler_output, ATOL[dtype])


@pytest.mark.parametrize("dtype", ATOL, ids=["float32", "float64"])
@pytest.mark.parametrize("narrow", [8, 32, 40])
@pytest.mark.parametrize("kind", ["detection", "filling"])
def test_electra_computes_what_transformers_computes(kind, narrow, dtype, tmp_path):
    model = theirs(kind, dtype, embedding_size=narrow)
    model.save_pretrained(tmp_path)
    ours = load_electra(tmp_path)
    ids, segments, valid = texts()
    with torch.no_grad():
        expected = model(ids, valid.long(), segments).logits
        check_close(ours.head(ours(ids, valid, segments)), expected, ATOL[dtype])


def test_replaced_token_detection_is_transformers_loss(tmp_path):
    model = theirs("detection", torch.float32, embedding_size=8)
    model.save_pretrained(tmp_path)
    ours = load_electra(tmp_path)
    ids, _, valid = texts()
    changed = torch.rand(ids.shape, generator=stream(0, "changed")) < 0.3
    expected = model(ids, valid.long(), labels=changed.long()).loss
    batch = Corrupted(ids, valid, changed, changed)
    check_close(replaced_token_detection()(ours, batch)[0], expected, 1e-6)


ELECTRAS = {  # narrow; width, heads, inner of both players: parameters of each
    "small": (128, (256, 4, 1024), (64, 1, 256), 13_549_057, 4_620_026),
    "base": (768, (768, 12, 3072), (256, 4, 1024), 109_483_009, 33_740_602),
}


@pytest.mark.parametrize("size", ELECTRAS)
def test_electras_have_as_many_parameters_as_published(size):
    narrow, wide, small, detects, fills = ELECTRAS[size]
    configs = [
        EncoderConfig(30_522, width, heads, 12, inner)
        for width, heads, inner in (wide, small)
    ]
    with torch.device("meta"):
        table = Embedding(replace(configs[0], width=narrow, heads=1))
        made = [
            Bert(from_table(table, config.width), shared(config, "none"), head)
            for config, head in zip(
                configs,
                (
                    DetectionHead(configs[0]),
                    MaskedLanguageHead(configs[1], table.tokens),
                ),
                strict=True,
            )
        ]
        references = [
            kind(
                ElectraConfig(
                    embedding_size=narrow,
                    hidden_size=shape[0],
                    num_attention_heads=shape[1],
                    intermediate_size=shape[2],
                )
            )
            for kind, shape in ((KINDS["detection"], wide), (KINDS["filling"], small))
        ]
    assert [count(model) for model in made] == [detects, fills]
    assert [count(model) for model in references] == [detects, fills]
    both = nn.ModuleList(made)  # what is shared counts once
    assert count(both) == detects + fills - count(table)


def torchs_attention(attention: Attention) -> nn.MultiheadAttention:
    """The same numbers in torch's own layer."""
    three = (attention.query, attention.key, attention.value)
    same = nn.MultiheadAttention(8, attention.heads, batch_first=True).double()
    same.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in three]).detach(),
            "in_proj_bias": torch.cat([part.bias for part in three]).detach(),
            "out_proj.weight": attention.output.weight.detach(),
            "out_proj.bias": attention.output.bias.detach(),
        }
    )
    return same.eval()


SMALL = EncoderConfig(11, 8, heads=2, layers=3, inner=12, positions=9)


def test_a_block_is_torchs_encoder_layer():
    block, x = shaken(Block(SMALL)), vectors(3, 6, 8)
    net = block.feed_forward
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).double()
    layer.self_attn = torchs_attention(block.attention)
    layer.linear1, layer.linear2 = net.inner, net.output
    layer.norm1, layer.norm2 = block.attention.norm, net.norm
    check_close(block(x), layer.eval()(x))
    check_close(block(x, None, not_self(6)), layer(x, src_mask=~not_self(6)))


def test_self_masked_attention_is_torchs_with_the_diagonal_banned():
    attention = shaken(Attention(SMALL))
    q, memory = vectors(3, 6, 8), vectors(3, 6, 8, seed=1)
    read, shares = torchs_attention(attention)(
        q,
        memory,
        memory,
        attn_mask=torch.eye(6, dtype=torch.bool),  # True: blocked
        average_attn_weights=False,
    )
    check_close(attention(q, memory, not_self(6)), attention.norm(q + read))
    check_close(attention.weights(q, memory, not_self(6)), shares)


class Published:
    """T-TA in NumPy after the released code (joongbo/tta): one method a formula.

    The code adds −10000 to forbidden scores; in float64 their weight is exactly 0 where
    anything else is allowed.
    """

    def __init__(self, model):
        self.state = {n: v.detach().numpy() for n, v in model.state_dict().items()}
        self.layers, self.heads = len(model.blocks), model.blocks[0].attention.heads

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + 1e-12)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def gelu(self, x):
        return x * 0.5 * (1.0 + erf(x / np.sqrt(2.0)))

    def split(self, x):
        batch, length, width = x.shape
        shape = batch, length, self.heads, width // self.heads
        return x.reshape(shape).transpose(0, 2, 1, 3)

    def attention(self, q, kv, mask, name):
        Q = self.split(self.linear(q, f"{name}.query"))
        K = self.split(self.linear(kv, f"{name}.key"))
        V = self.split(self.linear(kv, f"{name}.value"))
        scores = Q @ K.transpose(0, 1, 3, 2) / np.sqrt(Q.shape[-1])
        scores = scores + (1.0 - mask[:, None]) * -10000.0
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        read = shares / shares.sum(-1, keepdims=True) @ V
        joined = read.transpose(0, 2, 1, 3).reshape(q.shape)
        return self.norm(q + self.linear(joined, f"{name}.output"), f"{name}.norm")

    def layer(self, q, kv, mask, name):
        h = self.attention(q, kv, mask, f"{name}.attention")
        inner = self.gelu(self.linear(h, f"{name}.feed_forward.inner"))
        change = self.linear(inner, f"{name}.feed_forward.output")
        return self.norm(h + change, f"{name}.feed_forward.norm")

    def forward(self, ids, valid, q0):
        E, P = (self.state[f"embedding.{n}.weight"] for n in ("tokens", "positions"))
        P = P[: ids.shape[1]]
        kv = self.norm(E[ids] + P, "embedding.norm")
        q = self.norm(np.broadcast_to(q0 + P, kv.shape), "embedding.norm")
        mask = valid[:, None, :] * (1.0 - np.eye(ids.shape[1]))
        for number in range(self.layers):
            q = self.layer(q, kv, mask, f"blocks.{number}")
        return q

    def logits(self, hidden):
        found = self.norm(self.gelu(self.linear(hidden, "head.dense")), "head.norm")
        return found @ self.state["embedding.tokens.weight"].T + self.state["head.bias"]


@pytest.mark.parametrize("start", [None, 4])
def test_tta_is_the_published_model(start):
    model = shaken(tta(replace(SMALL, segments=0), stream(0, "init"), start))
    published = Published(model)
    ids = torch.randint(11, (4, 9), generator=stream(0, "ids"))
    valid = torch.arange(9) < torch.tensor([[9], [6], [2], [8]])
    E = published.state["embedding.tokens.weight"]
    q0 = np.zeros(8) if start is None else E[start]
    expected = published.forward(ids.numpy(), valid.numpy(), q0)
    found = model(ids, valid)
    check_close(found, torch.from_numpy(expected), atol=1e-10)
    logits = torch.from_numpy(published.logits(expected))
    check_close(model.head(found), logits, atol=1e-10)
    assert expected.std() > 0.5
