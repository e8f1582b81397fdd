"""Sentences mean what the grammar says; real sets are read whole or refused by name."""

import json
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from blogcore import texts
from blogcore.corpus import random_markov
from blogcore.runtime import stream
from blogcore.texts import TemplateGrammar, lines, passages, similar_pairs

SLOTS = {"who": (("a", "b"), ("c",)), "what": (("x",), ("y", "z", "w"))}
CHAIN = random_markov(2, 1, stream(0, "chain"))
TINY = TemplateGrammar(("{who} {what}", "{what} by {who}"), SLOTS, CHAIN)
GRAMMAR = texts.everyday_grammar(stream(0, "grammar"))


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
    other = texts.everyday_grammar(stream(1, "grammar"))
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
        (lambda: texts.everyday_grammar(stream(0, "x"), 0.0), "transition: 0.0"),
        (lambda: texts.tagged_words(1), "classes: 1"),
        (lambda: texts.tagged_words(99), "classes: 99 exceed 38"),
        (lambda: passages(["abc"], 1), "longest: 1"),
        (lambda: lines(Path(), "poems"), "source: 'poems' is not one of"),
        (lambda: similar_pairs(Path(), "afqmc"), "name: 'afqmc' is not one of"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_jiebas_words_make_a_task_of_known_size():
    found = texts.tagged_words()
    assert len(found.words) == len(set(found.words)) == len(found.labels) == 317_685
    assert " ".join(found.classes) == "n nr v i l ns m nz nrt a vn z"
    sizes = torch.bincount(found.labels)
    assert (sizes.sort(descending=True).values == sizes).all()
    assert sizes[0] == 115_922
    assert round(sizes[0].item() / 317_685, 3) == 0.365
    assert {len(word) for word in found.words} == {2, 3, 4}
    tag = dict(zip(found.words, found.labels.tolist(), strict=True))
    assert found.classes[tag["苹果"]] == "n"
    assert found.classes[tag["北京"]] == "ns"


def test_passages_end_with_sentences_where_they_can():
    assert passages(["一二三四。六七八九", "短"], 6) == ["一二三四。", "六七八九", "短"]
    assert passages(["一。三四五六七八九"], 6) == ["一。三四五六", "七八九"]
    assert passages(["一二三四五。七"], 6) == ["一二三四五。", "七"]
    assert passages(["一二三四五六"], 6) == ["一二三四五六"]
    assert passages(["一二三。五！七八"], 6) == ["一二三。五！", "七八"]
    assert passages([], 6) == []


@pytest.fixture
def folder(tmp_path):
    """A folder in the layout of the real sets, with a few lines of our own."""

    def write(name: str, content: str):
        path = tmp_path / "text_zh" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    for name in ("d2l_zh", "hf_course_zh", "quantecon_zh"):
        write(f"prose/{name}.txt", f" 第一行\t还是 \n\n{name}\n")
    write("thucnews_titles/dev.txt", "\ufeff标题甲\t3\n标题乙\t0\n")
    write("thucnews_titles/test.txt", "标题丙\t9\n标题甲\t3\n")
    review = 'label,review\n1,"好,""很""好"\n0,不好\n'
    write("sophonplus/ChnSentiCorp_htl_all.csv", review)
    write("sophonplus/waimai_10k.csv", "\ufefflabel,review\n1,快\n0,不好\n")
    with ZipFile(tmp_path / "text_zh/sophonplus/online_shopping_10_cats.zip", "w") as z:
        z.writestr("online_shopping_10_cats.csv", "cat,label,review\n书,1,厚\n")
    for name in ("tnews", "eprstmt"):
        rows = [{"sentence": name, "id": 0}, {"sentence": " 句子 ", "id": 1}]
        write(f"fewclue/{name}/unlabeled.json", "\n".join(map(json.dumps, rows)))
    write("csts/Chinese-STS-B/sts-b-dev.txt", "甲。\t乙。\t5\n丙\t丁\t0\n")
    write("csts/LCQMC/test.txt", "甲\t乙\t1\n丙\t丁\t0\n")
    return tmp_path


def test_every_source_is_read_in_order_and_once(folder):
    prose = ["第一行\t还是", "d2l_zh", "hf_course_zh", "quantecon_zh"]
    assert lines(folder, "prose") == prose
    titles = ["标题甲", "标题乙", "标题丙", "tnews", "句子"]
    assert lines(folder, "titles") == titles
    reviews = ['好,"很"好', "不好", "快", "厚", "eprstmt", "句子"]
    assert lines(folder, "reviews") == reviews


def test_real_pairs_are_read_with_their_grades(folder):
    pairs = similar_pairs(folder, "sts-b", "dev")
    assert pairs.first == ["甲。", "丙"]
    assert pairs.second == ["乙。", "丁"]
    assert pairs.similarity.tolist() == [5, 0]
    assert similar_pairs(folder, "lcqmc").similarity.tolist() == [1, 0]
    with pytest.raises(FileNotFoundError, match=r"folder: .*LCQMC.train\.txt"):
        similar_pairs(folder, "lcqmc", "train")


@pytest.mark.parametrize(
    ("name", "content", "source", "message"),
    [
        ("prose/d2l_zh.txt", None, "prose", r"folder: .*d2l_zh\.txt is not there"),
        (
            "prose/d2l_zh.txt",
            "的".encode("gb18030"),
            "prose",
            "d2l_zh.txt: damaged .*utf",
        ),
        (
            "sophonplus/waimai_10k.csv",
            b"label,text\n1,x\n",
            "reviews",
            "waimai.*'review'",
        ),
        (
            "sophonplus/waimai_10k.csv",
            b"label,review\n1\n",
            "reviews",
            "waimai.*too short",
        ),
        ("sophonplus/online_shopping_10_cats.zip", b"PK", "reviews", "online.*damaged"),
        ("fewclue/tnews/unlabeled.json", b"{]\n", "titles", "unlabeled.json: damaged"),
        ("fewclue/tnews/unlabeled.json", b"[1]\n", "titles", "unlabeled.json: damaged"),
        ("csts/LCQMC/test.txt", b"a\tb\t1\na\tb\n", "lcqmc", "test.txt: line 2 is"),
        ("csts/LCQMC/test.txt", b"a\tb\t2\n", "lcqmc", "test.txt: line 1 is"),
        ("csts/LCQMC/test.txt", b"a\t\t1\n", "lcqmc", "test.txt: line 1 is"),
        ("csts/LCQMC/test.txt", b"", "lcqmc", "test.txt: line 1 is"),
    ],
)
def test_a_damaged_set_is_refused_with_its_name(folder, name, content, source, message):
    path = folder / "text_zh" / name
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        similar_pairs(folder, source) if source == "lcqmc" else lines(folder, source)
