"""Words as tokens: the cut, the vocabulary, the means, on any text that there is."""

import random

import pytest
import torch
from transformers import BertTokenizer as Reference

from blogcore.blocks import EncoderConfig
from blogcore.encoder import bert, grown
from blogcore.lexicon import dictionary, embedding, segment
from blogcore.runtime import stream
from blogcore.tokens import SPECIALS, UNK, BertTokenizer, Vocabulary
from blogcore.tokens import words as separated
from blogcore.words import (
    PathCut,
    WordTokenizer,
    averaging,
    dictionary_cut,
    word_vocabulary,
)

LETTERS = [
    c
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789"
    for c in (letter, "##" + letter)
]
STRANGE = [
    "",
    " \t\n\u3000",
    "😂是笑哭👨‍👩‍👧",
    "\ud83d\ude00 孤立的\ud800代理",
    "１２３号，ＡＢＣ",
    "語言模型提速不少，臺灣",
    "Café naïve İstanbul ŒUVRE",
    "привет 世界 שלום",
    "a\u0301\u0301\u0301的\u0301",
    "[MASK]语言[SEP][UNK]模型",
    "[MASKED] [mask] ##的##",
    "\x00\ufffd\u200b\ue000中国",
    "𠮷野家 㐀 豈",
    "12月30日3.14%C++",
]


@pytest.fixture(scope="module")
def base() -> Vocabulary:
    ideographs = [c for c in embedding().words if "一" <= c <= "龥"]
    signs = ",.!?，。！？：“”%+#[]"
    return Vocabulary([*SPECIALS, *signs, *LETTERS, *ideographs, "##的", "[unused1]"])


@pytest.fixture(scope="module")
def vocabulary(base) -> Vocabulary:
    return word_vocabulary(base, long_words(), 20_000)


def long_words():
    return [word for word in dictionary(1).words if len(word) > 1]


@pytest.fixture(scope="module")
def tokenizer(vocabulary) -> WordTokenizer:
    return WordTokenizer(vocabulary)


class TestTokenizer:
    """Words first, then BERT; joined tokens are the text."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("语言模型提速不少", "语言 模型 提 速 不少"),
            ("苏剑林训练新模型", "苏 剑 林 训练 新 模型"),
            ("今天天气非常好", "今 天 天 气 非常 好"),
            ("他在图书馆读散文", "他 在 图书馆 读 散文"),
            ("[MASK]语言[SEP]", "[MASK] 语言 [SEP]"),
        ],
    )
    def test_cuts_the_examples_of_the_chapter(self, tokenizer, text, expected):
        assert tokenizer.tokenize(text) == expected.split(" ")

    @pytest.mark.parametrize("text", STRANGE)
    def test_loses_nothing_of_any_text(self, tokenizer, text):
        found = tokenizer.tokenize(text)
        plain = "".join(separated(text))
        if UNK in found:
            assert len(found) <= len(BertTokenizer(tokenizer.vocabulary).tokenize(text))
        else:
            joined = "".join(t.removeprefix("##") if len(t) > 2 else t for t in found)
            assert joined == plain
        assert len(tokenizer.encode(text)) == len(found) + 2

    def test_takes_a_hundred_thousand_characters(self, tokenizer):
        text = "语言模型提速不少" * 12_500
        assert tokenizer.tokenize(text) == ["语言", "模型", "提", "速", "不少"] * 12_500

    @pytest.mark.parametrize("text", ["Unhappily naïve: 3 plays", "привет мир", "１２"])
    def test_is_bert_where_there_is_no_chinese(self, tokenizer, vocabulary, text):
        assert tokenizer.tokenize(text) == BertTokenizer(vocabulary).tokenize(text)

    def test_falls_back_as_hugging_face_cuts(self, tokenizer, vocabulary, tmp_path):
        path = tmp_path / "vocab.txt"
        path.write_text("\n".join(vocabulary.tokens), encoding="utf-8")
        theirs = Reference(str(path))
        text = "提速abc的１２ 飞桨Café"
        assert "提速" not in vocabulary
        assert tokenizer.tokenize(text) == theirs.tokenize(text)

    def test_batches_and_reads_back(self, tokenizer):
        batch = tokenizer.batch(["语言模型", "提速"])
        assert batch.ids.shape == (2, 4)
        assert tokenizer.decode(batch.ids[0]) == "语言模型"

    def test_agrees_with_the_fast_cutter_where_there_is_one(self, vocabulary):
        rjieba = pytest.importorskip("rjieba")
        for text in [
            "语言模型提速不少",
            "B超和T恤",
            "他来到了网易杭研大厦",
            "".join(long_words()[::97]),
        ]:
            assert rjieba.cut(text, hmm=False) == dictionary_cut(text)

    def test_refuses_a_cutter_that_changes_the_text(self, vocabulary):
        for wrong in (str.upper, lambda t: t.replace("言", ""), lambda t: [t, t]):
            broken = WordTokenizer(vocabulary, cut=wrong)
            with pytest.raises(ValueError, match="its words are not the text"):
                broken.tokenize("a语言模型")

    def test_refuses_what_is_no_text(self, tokenizer):
        with pytest.raises(TypeError, match="text: 7"):
            tokenizer.tokenize(7)


class TestCut:
    """The most probable path, as jieba finds it."""

    def test_is_jieba_on_ideographs(self):
        words, counts, _ = dictionary(least=1)
        cut = PathCut(dict(zip(words, counts.tolist(), strict=True)), 60_101_967)
        source = random.Random(0)
        for _ in range(300):
            text = "".join(source.choices(words[:60_000], k=source.randint(1, 8)))
            text = "".join(c for c in text if "\u4e00" <= c <= "\u9fa5")
            assert cut(text) == segment(text, hmm=False)

    def test_prefers_the_product_then_the_longer_word(self):
        assert PathCut({"ab": 4, "a": 4, "b": 2}, 10)("ab") == ["ab"]
        assert PathCut({"ab": 1, "a": 5, "b": 4}, 10)("ab") == ["a", "b"]
        assert PathCut({"ab": 1, "bc": 1}, 10)("abc") == ["ab", "c"]
        assert PathCut({"ab": 1}, 10)("") == []

    def test_names_what_is_wrong(self):
        for counts, said in (({}, "no word"), ({"": 1}, "empty"), ({"a": 0}, "'a'")):
            with pytest.raises(ValueError, match=said):
                PathCut(counts)

    def test_without_hidden_markov_model_knows_the_dictionary_alone(self):
        assert segment("苏剑林训练", hmm=True) == ["苏剑林", "训练"]
        assert segment("苏剑林训练", hmm=False) == ["苏", "剑", "林", "训练"]


class TestVocabulary:
    """The post's recipe."""

    def test_drops_what_no_text_yields_and_adds_the_most_frequent(
        self, base, vocabulary
    ):
        assert len(vocabulary) == len(base) - 2 + 20_000
        assert set(base.tokens) - set(vocabulary.tokens) == {"##的", "[unused1]"}
        added = vocabulary.tokens[-20_000:]
        assert added[:3] == ("一个", "中国", "我们")
        assert set(added).isdisjoint(base.tokens)

    def test_skips_what_is_known_already(self, base):
        assert word_vocabulary(base, ["的", "中国", "中国"], 1).tokens[-1] == "中国"

    @pytest.mark.parametrize(
        ("size", "said"), [(2, "exceeds 1, the number"), (-1, "-1"), (1.5, "1.5")]
    )
    def test_names_what_is_wrong(self, base, size, said):
        with pytest.raises(ValueError, match=said):
            word_vocabulary(base, ["的", "中国", "中国"], size)


class TestMeans:
    """New rows are means of old ones, in the table and in the output's bias."""

    def test_rows_are_the_means_of_their_characters(self, base, vocabulary):
        matrix = averaging(vocabulary, base)
        assert matrix.shape == (len(vocabulary), len(base))
        vectors = torch.randn(len(base), 3, generator=stream(0, "x")).double()
        means = matrix @ vectors
        for word in ("语言", "图书馆", "妈妈", "的"):
            expected = vectors[[base.ids[c] for c in word]].mean(0)
            row = means[vocabulary.ids[word]]
            assert torch.allclose(row, expected, rtol=0, atol=1e-12)
        assert torch.equal(means[:5], vectors[:5])

    def test_unknown_characters_are_the_unknown_token(self):
        base = Vocabulary([*SPECIALS, "语"])
        matrix = averaging(Vocabulary([*SPECIALS, "语言"]), base).to_dense()
        assert matrix[5].tolist() == [0, 0.5, 0, 0, 0, 0.5]

    def test_capitals_do_not_count(self):
        base = Vocabulary([*SPECIALS, "A", "##B", "a", "##b"])
        lowered = averaging(Vocabulary([*SPECIALS, "AB"]), base).to_dense()[5]
        assert lowered.tolist() == [0] * 5 + [0, 0, 0.5, 0.5]

    def test_a_word_of_nothing_is_refused(self, base):
        with pytest.raises(ValueError, match="nothing is left of"):
            averaging(Vocabulary([*SPECIALS, "\u200b"]), base)

    def test_a_grown_encoder_keeps_its_wiring(self, base):
        small = Vocabulary([*SPECIALS, *"语言模型提速"])
        large = word_vocabulary(small, ["语言", "模型"], 2)
        config = EncoderConfig(len(small), 8, 2, 1, 16, 16, dropout=0.0)
        model = bert(config, stream(0, "init"))
        torch.nn.init.normal_(model.head.bias, generator=stream(0, "bias"))
        before = {k: v.clone() for k, v in model.state_dict().items()}
        new = grown(model, averaging(large, small))
        assert new.head.tokens is new.embedding.tokens
        assert new.embedding.tokens.num_embeddings == len(large)
        ids = torch.tensor([[2, 5, 6, 3]])
        assert torch.allclose(new(ids), model(ids))
        old, logits = model.head(model(ids)), new.head(model(ids))
        assert torch.allclose(logits[..., : len(small)], old, atol=1e-6)
        assert torch.allclose(logits[..., -2], old[..., 5:7].mean(-1), atol=1e-6)
        assert (logits[..., -2:].amax(-1) <= old.amax(-1) + 1e-6).all()
        assert new(torch.tensor([[len(large) - 1]])).isfinite().all()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    @pytest.mark.parametrize(
        ("matrix", "said"),
        [
            (torch.ones(3), "shape"),
            (torch.eye(7), r"\(7, 7\)"),
            (2 * torch.eye(5), "row 0 sums to 2"),
        ],
    )
    def test_a_matrix_that_does_not_fit_is_refused(self, matrix, said):
        config = EncoderConfig(5, 8, 2, 1, 16, 16)
        with pytest.raises(ValueError, match=said):
            grown(bert(config, stream(0, "init")), matrix)
