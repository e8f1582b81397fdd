"""BERT's tokenizer here is Hugging Face's, id by id; vocabularies say what is wrong."""

import random
import unicodedata

import pytest
import torch
from transformers import BertTokenizer as Reference

from blogcore.tokens import (
    SPECIALS,
    BertTokenizer,
    Texts,
    Vocabulary,
    character_vocabulary,
    pieces,
    read_vocabulary,
    words,
)

TORTURE = [
    "",
    "   ",
    "\t\n\r",
    "科学空间 Scientific Spaces",
    "今天天气不错，wifi信号unaffable！",
    "Ünïcödé naïve café, İstanbul STRASSE straße ΑΣ ΌΔΟΣ ﬁn Ǆ",
    "e\u0301te\u0301 \u0301 a\u0323\u0301",
    "nul\x00 bell\x07 del\x7f nel\x85 zwsp\u200b bom\ufeff bad\ufffd soft\u00adhyphen",
    "nbsp\u00a0thin\u2009ideo\u3000line\u2028para\u2029ogham\u1680vt\x0bff\x0cus\x1fend",
    "emoji 😀😀 👩‍👩‍👧 ❤️ 🇨🇳 1️⃣ x😀y",
    "𠀀𠀁a𪜀b𫝀丽 㐀㐁 豈更 〇 々 ㈱",
    "한국어 ひらがな カタカナ ｶﾞ ภาษาไทย हिन्दी עִבְרִית العَرَبِيَّة",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " " + "é" * 100 + " " + "é" * 101,
    "a+b=c^2 $5.00 `tick` ~tilde |pipe| <tag/> «quote» “curly” …—–",
    "[MASK] x[MASK]y [mask] [ MASK ] [[MASK]] [MASK][SEP][CLS][PAD][UNK] 我[MASK]你",
    "##ing ## # ##",
    "private\ue000use\U000f0000 tag\U000e0041",
]
# Letters, signs and traps from which random texts are drawn.
RANGES = [
    (0x00, 0x7F),
    (0x80, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0x97F),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x3000, 0x30FF),
    (0x4E00, 0x4EFF),
    (0xAC00, 0xACFF),
    (0xF900, 0xF9FF),
    (0xFF00, 0xFFEF),
    (0x1F600, 0x1F64F),
    (0x20000, 0x200FF),
]


def stable(code: int) -> bool:
    """Whether Unicode 3.2 and today's table agree on what the character is."""
    if 0xD800 <= code < 0xE000:
        return False
    old = unicodedata.ucd_3_2_0.category(chr(code))
    return old == unicodedata.category(chr(code)) != "Cn"


LETTERS = [
    chr(c) for first, last in RANGES for c in range(first, last + 1) if stable(c)
]


def random_text(dice: random.Random) -> str:
    """Characters of one to three neighbourhoods, with spaces and specials between."""
    parts = []
    for _ in range(dice.randrange(12)):
        first = dice.randrange(len(LETTERS))
        near = LETTERS[first : first + dice.choice([3, 30, 300])]
        parts.append("".join(dice.choices(near, k=dice.randrange(1, 9))))
        parts.append(dice.choice(["", "", " ", "\n", *SPECIALS]))
    return "".join(parts)


@pytest.fixture(scope="module")
def vocabulary_file(tmp_path_factory):
    """Specials, most characters in both positions, and some longer pieces."""
    dice = random.Random(0)
    seen = {c: None for text in TORTURE for word in words(text) for c in word}
    seen |= {c: None for text in TORTURE for c in words(text, lowercase=False)}
    seen |= {c: None for letter in LETTERS for word in words(letter) for c in word}
    known = [c for c in seen if c not in SPECIALS and dice.random() < 0.9]
    known += ["".join(dice.choices(known, k=2)) for _ in range(200)]
    known += ["un", "aff", "able", "Scient", "ific", "xx", "xxxx", "naive", "na"]
    tokens = dict.fromkeys([*SPECIALS, *known, *("##" + piece for piece in known)])
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def both(request, vocabulary_file):
    """Our tokenizer and Hugging Face's, of one vocabulary."""
    ours = BertTokenizer(read_vocabulary(vocabulary_file), request.param)
    theirs = Reference(str(vocabulary_file), do_lower_case=request.param)
    assert len(theirs) == len(ours.vocabulary)
    return ours, theirs


def assert_equal(both, text):
    ours, theirs = both
    expected = theirs(text)["input_ids"]
    assert ours.encode(text) == expected, repr(text)
    assert theirs.convert_ids_to_tokens(expected)[1:-1] == ours.tokenize(text)


@pytest.mark.parametrize("text", TORTURE, ids=range(len(TORTURE)))
def test_torture_gives_hugging_faces_ids(both, text):
    assert_equal(both, text)


def test_random_texts_give_hugging_faces_ids(both):
    dice = random.Random(1)
    cut, unknown = 0, 0
    for _ in range(600):
        text = random_text(dice)
        assert_equal(both, text)
        found = both[0].tokenize(text)
        cut += any(piece.startswith("##") for piece in found)
        unknown += "[UNK]" in found
    assert min(cut, unknown) > 100, "the texts put nothing to the test"


def test_every_settled_character_is_treated_as_by_hugging_face(both):
    ours, theirs = both
    settled = [chr(code) for code in range(0x110000) if stable(code)]
    assert len(settled) > 200_000
    backend = theirs.backend_tokenizer
    for first in range(0, len(settled), 1000):
        text = "a".join(settled[first : first + 1000])
        expected = backend.pre_tokenizer.pre_tokenize_str(
            backend.normalizer.normalize_str(text)
        )
        assert words(text, ours.lowercase) == [word for word, _ in expected]


def test_one_block_of_ideographs_stands_apart_only_here(both):
    """Google's table has U+2B820 to U+2CEAF; Hugging Face's begins 256 later."""
    _, theirs = both
    normalize = theirs.backend_tokenizer.normalizer.normalize_str
    for code in (0x2B820, 0x2B91F):
        assert words(f"a{chr(code)}b") == ["a", chr(code), "b"]
        assert normalize(f"a{chr(code)}b") == f"a{chr(code)}b"
    assert normalize(f"a{chr(0x2B920)}b") == f"a {chr(0x2B920)} b"


def test_padded_batches_are_hugging_faces(both):
    ours, theirs = both
    expected = theirs(TORTURE, padding=True, return_tensors="pt")
    found = ours.batch(TORTURE)
    assert torch.equal(found.ids, expected["input_ids"])
    assert torch.equal(found.valid, expected["attention_mask"].bool())
    assert found.segments is None
    cut = theirs(TORTURE, padding=True, truncation=True, max_length=7)["input_ids"]
    assert ours.batch(TORTURE, length=7).ids.tolist() == cut
    assert ours.batch([""]).ids.tolist() == [[2, 3]]


@pytest.mark.parametrize("length", [None, 3, 4, 5, 8, 9, 30])
def test_pairs_are_hugging_faces_with_their_segments(both, length):
    ours, theirs = both
    # An empty second text is none to Hugging Face.
    first, second = TORTURE, [text for text in TORTURE[::-1] if text.strip()]
    first = first[-len(second) :]
    cut = {"truncation": True, "max_length": length} if length else {}
    expected = theirs(first, second, padding=True, return_tensors="pt", **cut)
    found = ours.batch(first, second, length=length)
    assert torch.equal(found.ids, expected["input_ids"])
    assert torch.equal(found.valid, expected["attention_mask"].bool())
    assert torch.equal(found.segments, expected["token_type_ids"])


@pytest.mark.parametrize("room", range(11))
def test_a_pair_shares_the_room_as_hugging_face_shares_it(both, room):
    ours, theirs = both
    for one in range(7):
        for other in range(1, 7):
            pair = (" ".join("我" * one), " ".join("!" * other))
            cut = theirs(*pair, truncation=True, max_length=room + 3)["input_ids"]
            assert ours.encode(*pair, length=room + 3) == cut


class TestTexts:
    texts = Texts(
        torch.arange(12).view(3, 4),
        torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]).bool(),
        torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]),
    )

    def rows(self, texts):
        return [texts.ids.tolist(), texts.valid.tolist(), texts.segments.tolist()]

    def test_rows_are_taken_in_all_parts_at_once(self):
        assert len(self.texts) == 3
        for rows in (slice(1, 3), [2, 0], torch.tensor([1, 1]), torch.tensor([0])):
            found = self.texts[rows]
            whole = (self.texts.ids, self.texts.valid, self.texts.segments)
            assert self.rows(found) == [part[rows].tolist() for part in whole]
        single = Texts(self.texts.ids, self.texts.valid)[:2]
        assert single.segments is None
        assert len(single) == 2

    def test_a_number_is_no_choice_of_rows_and_a_text_no_list(self):
        with pytest.raises(TypeError, match=r"rows: 1 is one text; \[1\]"):
            self.texts[1]
        with pytest.raises(TypeError, match="rows: 0"):
            list(self.texts)

    def test_trimmed_leaves_out_what_is_padding_in_all(self):
        assert self.texts.trimmed().ids.shape == (3, 3)
        assert self.texts[1:2].trimmed().ids.tolist() == [[4]]
        assert self.texts[:2].trimmed().segments.tolist() == [[0, 1], [0, 0]]
        empty = Texts(self.texts.ids, torch.zeros(3, 4).bool())
        assert empty.trimmed().ids.shape == (3, 1)
        hole = Texts(torch.zeros(1, 3).long(), torch.tensor([[True, False, True]]))
        assert hole.trimmed().ids.shape == (1, 3)

    def test_another_device_has_all_parts(self):
        moved = self.texts.to(torch.device("meta"))
        parts = (moved.ids, moved.valid, moved.segments)
        assert {part.device.type for part in parts} == {moved.device.type} == {"meta"}

    @pytest.mark.parametrize(
        ("parts", "kind", "message"),
        [
            (([[1]], None), TypeError, r"ids: \[\[1\]\] is no tensor of torch.int64"),
            ((torch.ones(1, 2), None), TypeError, "ids: .* torch.int64"),
            (
                (torch.ones(2).long(), torch.ones(2).bool()),
                ValueError,
                r"ids: .*\(2,\)",
            ),
            ((torch.ones(1, 2).long(), None), TypeError, "valid: None"),
            ((torch.ones(1, 2).long(),) * 2, TypeError, "valid: .*torch.bool"),
            (
                (torch.ones(1, 2).long(), torch.ones(2, 1).bool()),
                ValueError,
                r"valid: shape \(2, 1\) is not .*\(1, 2\)",
            ),
            (
                (torch.ones(1, 2).long(), torch.ones(1, 2).bool(), torch.ones(1, 2)),
                TypeError,
                "segments: ",
            ),
        ],
    )
    def test_parts_that_do_not_fit_are_named(self, parts, kind, message):
        with pytest.raises(kind, match=message):
            Texts(*parts)


def small(*tokens, lowercase=True) -> BertTokenizer:
    return BertTokenizer(Vocabulary([*SPECIALS, *tokens]), lowercase)


def test_pieces_are_the_longest_known_beginnings():
    vocabulary = Vocabulary([*SPECIALS, "a", "ab", "##b", "##bc", "##c", "##d"])
    assert pieces("abc", vocabulary) == ["ab", "##c"]
    assert pieces("abbc", vocabulary) == ["ab", "##bc"]
    assert pieces("abx", vocabulary) == ["[UNK]"]
    assert pieces("ab" + "d" * 98, vocabulary) == ["ab"] + ["##d"] * 98
    assert pieces("ab" + "d" * 99, vocabulary) == ["[UNK]"]


def test_length_cuts_the_text_and_keeps_both_ends():
    tokenizer = small("我", "你", "他")
    assert tokenizer.encode("我你他") == [2, 5, 6, 7, 3]
    assert tokenizer.encode("我你他", length=5) == [2, 5, 6, 7, 3]
    assert tokenizer.encode("我你他", length=4) == [2, 5, 6, 3]
    assert tokenizer.encode("我你他", length=2) == [2, 3]
    found = tokenizer.batch(["我你他", "", "你"], length=4)
    ids, valid = found.ids, found.valid
    assert ids.tolist() == [[2, 5, 6, 3], [2, 3, 0, 0], [2, 6, 3, 0]]
    assert valid.sum(1).tolist() == [4, 2, 3]
    assert (ids.dtype, valid.dtype) == (torch.int64, torch.bool)


def test_padding_takes_the_vocabularys_own_id():
    tokenizer = BertTokenizer(Vocabulary(["我", *SPECIALS[::-1]]))
    found = tokenizer.batch(["我我", ""])
    ids, valid = found.ids, found.valid
    assert tokenizer.vocabulary.specials == [5, 4, 3, 2, 1]
    assert ids.tolist() == [[3, 0, 0, 2], [3, 2, 5, 5]]
    assert valid.tolist() == [[True] * 4, [True, True, False, False]]


def test_decoding_reads_well():
    text = "hello, 世界! naive caf of wifi信号。 [MASK]"
    vocabulary = character_vocabulary([text])
    tokenizer = BertTokenizer(vocabulary)
    ids = tokenizer.batch([text, text + " !"]).ids[0]
    assert tokenizer.decode(ids) == "hello,世界! naive caf of wifi信号。[MASK]"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([2, 3, 0]) == ""
    assert small("##a").decode([5]) == "a"
    assert small("#", "##").decode([5, 6]) == "# ##"


def test_a_character_vocabulary_knows_every_character_of_its_texts():
    texts = ["我爱你 abca", "我 [MASK] ab", "Ä"]
    vocabulary = character_vocabulary(texts)
    expected = ("##b", "a", "我", "##a", "##c", "你", "爱")
    assert vocabulary.tokens == (*SPECIALS, "a", "##b", "我", *expected[3:])
    tokenizer = BertTokenizer(vocabulary)
    assert not any("[UNK]" in tokenizer.tokenize(text) for text in texts)
    assert character_vocabulary(texts, 2).tokens[5:] == ("a", "##b", "我")


def test_a_vocabulary_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "vocab.txt"
    for ending in ("", "\n"):
        path.write_text("\n".join([*SPECIALS, "\u2028", "的"]) + ending, "utf-8")
        assert read_vocabulary(path).tokens == (*SPECIALS, "\u2028", "的")
    path.write_text("\ufeff" + "\n".join(SPECIALS), "utf-8")  # a byte order mark
    assert read_vocabulary(path).tokens == SPECIALS
    path.write_bytes("\r\n".join([*SPECIALS, "的"]).encode())
    assert read_vocabulary(path).tokens == (*SPECIALS, "的")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "'' at 0 is no line"),
        (
            b"a\n",
            r"\['\[PAD\]', '\[UNK\]', '\[CLS\]', '\[SEP\]', '\[MASK\]'\] are miss",
        ),
        ("\n".join(SPECIALS[:4]).encode(), r"\['\[MASK\]'\] are missing among 4"),
        (
            "\n".join([*SPECIALS, "a", "b", "a"]).encode(),
            r"\['a'\] occur more than once",
        ),
        ("\n".join([*SPECIALS, "", "b"]).encode(), "'' at 5 is no line"),
        ("\n".join([*SPECIALS, "的"]).encode("gb18030"), "utf-8"),
        ("\n".join(SPECIALS).encode("utf-16"), "utf-8"),
    ],
    ids=["empty", "without", "without one", "twice", "a gap", "gb18030", "utf-16"],
)
def test_a_damaged_vocabulary_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "broken.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken.txt is no vocabulary .*{message}"):
        read_vocabulary(path)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Vocabulary([]), ValueError, "are missing among 0 tokens"),
        (lambda: Vocabulary([*SPECIALS, 7]), ValueError, "tokens: 7 at 5"),
        (lambda: Vocabulary([*SPECIALS, "a\nb"]), ValueError, r"'a\\nb' at 5"),
        (lambda: words(b"bytes"), TypeError, "text: b'bytes'"),
        (lambda: small().encode(None), TypeError, "text: None"),
        (lambda: small().encode("a", length=1), ValueError, "length: 1"),
        (lambda: small().batch("abc"), ValueError, "first: 'abc'"),
        (lambda: small().batch([]), ValueError, r"first: \[\]"),
        (lambda: small().batch(c for c in "ab"), ValueError, "first: <generator"),
        (lambda: small().batch(["a"], 7), ValueError, "second: 7"),
        (lambda: small().batch(["a"], ["a", "b"]), ValueError, "second: 2 texts for 1"),
        (lambda: small().batch(["a"], ["b"], length=2), ValueError, "length: 2"),
        (lambda: small().encode("a", 7), TypeError, "text: 7"),
        (lambda: small().decode([[5]]), ValueError, r"ids: \[5\] is not an integer"),
        (lambda: small().decode([1.5]), ValueError, "ids: 1.5"),
        (lambda: small().decode([5]), ValueError, r"ids: 5 is not in 0 … 4"),
        (lambda: small().decode([-1]), ValueError, "ids: -1"),
        (lambda: character_vocabulary([]), ValueError, "texts: no character"),
        (lambda: character_vocabulary(["ab"], 2), ValueError, "occurs 2 times"),
        (lambda: character_vocabulary(["ab"], 0), ValueError, "least: 0"),
    ],
)
def test_wrong_calls_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_lone_surrogate_vanishes_as_control_characters_do():
    assert words("a\ud800b") == ["ab"]
