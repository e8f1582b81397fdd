"""A folder of weights is read whole and strictly, or not at all."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_encoder_references import V, texts, theirs
from torch import nn

from blogcore.encoder import MaskedLanguageHead, Pooler
from blogcore.pretrained import load_albert, load_bert, load_electra

WORDS = "embeddings.word_embeddings.weight"


class Folder:
    """A checkpoint folder that can be spoilt."""

    def __init__(self, path, kind, **settings):
        self.path = path
        theirs(kind, torch.float32, **settings).save_pretrained(path)

    def tensors(self, change) -> "Folder":
        """Rewrite the tensors: ``change`` edits the dict in place."""
        file = self.path / "model.safetensors"
        tensors = {name: value.clone() for name, value in load_file(file).items()}
        change(tensors)
        save_file({n: v.contiguous().clone() for n, v in tensors.items()}, file)
        return self

    def settings(self, **changes) -> "Folder":
        """Change config.json; a setting that becomes ``...`` is left out."""
        file = self.path / "config.json"
        settings = json.loads(file.read_text(encoding="utf-8")) | changes
        kept = {name: value for name, value in settings.items() if value is not ...}
        file.write_text(json.dumps(kept), encoding="utf-8")
        return self

    def refusal(self, kind=ValueError, **options) -> str:
        """The message with which the folder is refused."""
        with pytest.raises(kind) as error:
            load_bert(self.path, **options)
        return str(error.value)


@pytest.fixture
def language(tmp_path) -> Folder:
    return Folder(tmp_path / "language", "BertForMaskedLM")


@pytest.fixture
def encoder(tmp_path) -> Folder:
    return Folder(tmp_path / "encoder", "BertModel")


def logits(folder: Folder, **options) -> torch.Tensor:
    model = load_bert(folder.path, **options)
    ids, segments, valid = texts()
    return model.head(model(ids, valid, segments))


@pytest.mark.slow
def test_every_single_tensor_is_needed_and_read(language):
    """Without any one of them the folder is refused; changed, the logits change."""
    file = language.path / "model.safetensors"
    stored, expected = load_file(file), logits(language)
    for name in stored:
        save_file({n: v for n, v in stored.items() if n != name}, file)
        assert f"missing tensors ['{name.removeprefix('bert.')}']" in language.refusal()
        changed = {
            n: v + 0.5 * torch.rand_like(v) * (n == name) for n, v in stored.items()
        }
        save_file(changed, file)
        # A key's bias moves all scores of a query alike.
        if not name.endswith("self.key.bias"):
            assert not torch.equal(logits(language), expected), name


def test_surplus_and_misshapen_tensors_are_named(language):
    language.tensors(lambda t: t.update(stray=torch.zeros(1)))
    assert "surplus ['stray']" in language.refusal()
    language.tensors(
        lambda t: (
            t.pop("stray"),
            t.update({"bert.pooler.x": t.pop("cls.predictions.bias")}),
        )
    )
    message = language.refusal()
    assert "missing tensors ['cls.predictions.bias'], surplus ['pooler.x']" in message


def test_a_shape_that_config_does_not_say_is_refused(language):
    language.settings(vocab_size=V + 1)
    message = language.refusal()
    assert WORDS in message
    assert "(97, 32)" in message
    assert "(98, 32)" in message


def test_more_or_fewer_layers_than_config_says_are_refused(encoder):
    encoder.settings(num_hidden_layers=2)
    assert "surplus ['encoder.layer.2.attention" in encoder.refusal()
    encoder.settings(num_hidden_layers=4)
    assert "missing tensors ['encoder.layer.3.attention" in encoder.refusal()


def test_known_buffers_old_names_and_second_copies_change_nothing(language):
    expected = logits(language)

    def age(tensors):
        tensors["bert.embeddings.position_ids"] = torch.arange(16)[None]
        tensors["cls.predictions.decoder.weight"] = tensors[f"bert.{WORDS}"]
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    assert torch.equal(logits(language.tensors(age)), expected)


def test_weights_that_are_not_tied_are_refused(language):
    decoder = torch.zeros(V, 32)
    language.tensors(lambda t: t.update({"cls.predictions.decoder.weight": decoder}))
    assert "cls.predictions.decoder.weight differs from" in language.refusal()


def test_a_decoder_is_surplus_where_there_is_no_language_head(encoder):
    encoder.tensors(lambda t: t.update({"cls.predictions.decoder.weight": t[WORDS]}))
    assert "surplus ['cls.predictions.decoder.weight']" in encoder.refusal()


def test_parts_are_left_out_by_name(language, encoder):
    expected = logits(language)

    def enrich(tensors):
        tensors["bert.pooler.dense.weight"] = torch.zeros(32, 32)
        tensors["cls.seq_relationship.bias"] = torch.zeros(2)

    language.tensors(enrich).settings(architectures=["BertForPreTraining"])
    message = language.refusal()
    assert "surplus ['cls.seq_relationship.bias', 'pooler.dense.weight']" in message
    found = logits(language, without=["pooler.", "cls.seq_relationship."])
    assert torch.equal(found, expected)
    assert isinstance(load_bert(encoder.path).head, Pooler)
    assert isinstance(load_bert(encoder.path, ["pooler."]).head, nn.Identity)
    pooled = load_bert(encoder.path)
    ids, _, _ = texts()
    assert torch.equal(load_bert(encoder.path, ["pooler."])(ids), pooled(ids))


def test_a_loaded_model_is_whole_in_eval_mode_and_its_own(language):
    model = load_bert(language.path)
    assert not model.training
    assert isinstance(model.head, MaskedLanguageHead)
    assert model.head.tokens is model.embedding.tokens
    before = (language.path / "model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad
            assert parameter.device.type == "cpu"
            parameter.zero_()
    assert (language.path / "model.safetensors").read_bytes() == before
    assert not torch.equal(logits(language), torch.zeros(6, 16, V))


def test_a_loaded_model_does_not_change_with_its_file(language):
    file, expected = language.path / "model.safetensors", logits(language)
    model, (ids, segments, valid) = load_bert(language.path), texts()
    with open(file, "r+b") as opened:  # in place: the same file, other numbers
        opened.seek(-(16 * 1024), 2)
        opened.write(bytes(16 * 1024))
    assert torch.equal(model.head(model(ids, valid, segments)), expected)
    assert not torch.equal(logits(language), expected)


REFUSED = {
    "hidden_act": "gelu_new",
    "position_embedding_type": "relative_key",
    "is_decoder": True,
    "add_cross_attention": True,
    "tie_word_embeddings": False,
    "attention_probs_dropout_prob": 0.3,
    "architectures": ["RobertaForMaskedLM"],
    "vocab_size": ...,
    "hidden_size": 33,
    "num_attention_heads": 0,
    "layer_norm_eps": "small",
}
SAID = {
    "architectures": "architecture 'RobertaForMaskedLM' is not one of",
    "hidden_size": "width: 33 is no multiple",
    "num_attention_heads": "heads: 0",
    "layer_norm_eps": "epsilon: 'small'",
    "vocab_size": "does not say ['vocab_size']",
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_no_bert_here_has_are_refused(language, name):
    language.settings(**{name: REFUSED[name]})
    assert SAID.get(name, f"{name} is {REFUSED[name]!r}, not ") in language.refusal()


def test_settings_that_may_be_left_out(language):
    expected = logits(language)
    language.settings(hidden_act=..., attention_probs_dropout_prob=...)
    language.settings(is_decoder=..., tie_word_embeddings=None, type_vocab_size=2)
    assert torch.equal(logits(language), expected)


def test_epsilon_and_dropout_are_read(language):
    language.settings(
        layer_norm_eps=0.5, hidden_dropout_prob=0.4, attention_probs_dropout_prob=0.4
    )
    model = load_bert(language.path)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {0.5}
    assert len(norms) == 1 + 2 * 3 + 1
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert {dropout.p for dropout in dropouts} == {0.4}


def test_damaged_sharded_and_absent_files_are_said_plainly(language, tmp_path):
    weights = language.path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is no intact file" in language.refusal()
    weights.write_bytes(b"")
    assert "model.safetensors is no intact file" in language.refusal()
    index = language.path / "model.safetensors.index.json"
    index.write_text("{}", encoding="utf-8")
    assert "says several files" in language.refusal()
    index.unlink()
    weights.unlink()
    assert "model.safetensors does not exist" in language.refusal(FileNotFoundError)
    (language.path / "config.json").write_text("{", encoding="utf-8")
    assert "config.json is no JSON" in language.refusal()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_bert(tmp_path / "nowhere")


def test_the_names_to_leave_out_are_a_list(encoder):
    assert "without: 'pooler.'" in encoder.refusal(TypeError, without="pooler.")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w.half(), "torch.float16, the others are torch.float32"),
        (
            lambda w: (100 * w).to(torch.int8),
            "torch.int8, the others are torch.float32",
        ),
        (lambda w: w.fill_(float("nan")), "holds numbers that are not finite"),
        (lambda w: w.view(-1)[:1].fill_(float("inf")).sum() * w, "not finite"),
    ],
)
def test_one_matrix_of_another_kind_is_refused_by_name(language, spoil, words):
    name = "bert.encoder.layer.1.attention.self.query.weight"

    def change(tensors):
        tensors[name] = spoil(tensors[name])

    refusal = language.tensors(change).refusal()
    assert "folder: encoder.layer.1.attention.self.query.weight" in refusal
    assert words in refusal


def test_a_folder_of_integers_is_refused(language):
    def change(tensors):
        for name in tensors:
            tensors[name] = tensors[name].to(torch.int8)

    assert "tensors are torch.int8" in language.tensors(change).refusal()


@pytest.mark.parametrize(
    ("kind", "load", "change", "words"),
    [
        ("albert", load_albert, {"inner_group_num": 2}, "inner_group_num is 2"),
        ("albert", load_albert, {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("albert", load_albert, {"num_hidden_groups": 2}, "groups: 2 do not divide 3"),
        (
            "albert",
            load_electra,
            {"hidden_act": "gelu"},
            "architecture 'AlbertForMaskedLM'",
        ),
        ("detection", load_electra, {"hidden_act": "gelu_new"}, "hidden_act is"),
        ("filling", load_electra, {"embedding_size": 16}, "has shape"),
        ("detection", load_bert, {}, "architecture 'ElectraForPreTraining'"),
    ],
)
def test_other_families_are_read_as_strictly(tmp_path, kind, load, change, words):
    folder = Folder(tmp_path, kind, embedding_size=8).settings(**change)
    with pytest.raises(ValueError) as error:
        load(folder.path)
    assert words in str(error.value)


def test_a_head_may_be_left_out_of_every_family(tmp_path):
    for kind, load, place in (
        ("albert", load_albert, "predictions."),
        ("detection", load_electra, "discriminator_predictions."),
        ("filling", load_electra, "generator_"),
    ):
        folder = Folder(tmp_path / kind, kind, embedding_size=8)
        model = load(folder.path, [place])
        assert isinstance(model.head, nn.Identity)
        ids, segments, valid = texts()
        whole = load(folder.path)
        assert torch.equal(model(ids, valid, segments), whole(ids, valid, segments))


def test_two_tensors_of_one_name_are_refused(language):
    language.tensors(lambda t: t.update({WORDS: t[f"bert.{WORDS}"]}))
    assert f"holds {WORDS} twice" in language.refusal()
