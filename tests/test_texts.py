"""Real texts and judgements are read whole and once, or refused by file and line."""

import io
import json
import os
from collections import Counter
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from blogcore import tables, texts
from blogcore.texts import (
    analogies,
    chinese_text,
    lines,
    passages,
    similar_pairs,
    similarity_tests,
)

needs_data = pytest.mark.skipif(
    "BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA not set"
)


def placed(folder: Path, files: dict[str, str | bytes]) -> Path:
    """The folder, with these files in it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def zipped(content: str | bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr("read_me.txt", b"\xff")
        archive.writestr(name, content)
    return buffer.getvalue()


def test_passages_end_with_sentences_where_they_can():
    assert passages(["一二三四。六七八九", "短"], 6) == ["一二三四。", "六七八九", "短"]
    assert passages(["一。三四五六七八九"], 6) == ["一。三四五六", "七八九"]
    assert passages(["一二三四五。七"], 6) == ["一二三四五。", "七"]
    assert passages(["一二三四五六"], 6) == ["一二三四五六"]
    assert passages(["一二三。五！七八"], 6) == ["一二三。五！", "七八"]
    assert passages([], 6) == []


TRAIN = 'label\ttext_a\n1\t"一"甲\n0\t二\n'
HOTEL = '\ufefflabel,review\r\n1,"三,""乙"""\r\n0,二\r\n1, \r\n'
SHOP = 'cat,label,review\n书,1,"四\n丙"\n\n'
COLLECTIONS = {
    "text_zh/prose/hf_course_zh.txt": "五\r\n\r\n 六 \n五",
    "text_zh/prose/d2l_zh.txt": "\ufeff零\n",
    "text_zh/chnsenticorp/train.tsv": TRAIN,
    "text_zh/sophonplus/ChnSentiCorp_htl_all.csv": HOTEL,
    "text_zh/sophonplus/online_shopping_10_cats.zip": zipped(SHOP, "shop.csv"),
}


@pytest.fixture
def collections(tmp_path):
    """Any texts in the layout of the real collections."""
    return placed(tmp_path, COLLECTIONS)


def test_chinese_text_is_read_from_every_format_once(collections):
    expected = ["零", "五", "六", '"一"甲', "二", '三,"乙"', "四\n丙"]
    assert chinese_text(collections) == expected


def test_chinese_text_takes_what_there_is(collections):
    for name in (
        "prose/hf_course_zh.txt",
        "sophonplus/online_shopping_10_cats.zip",
        "chnsenticorp/train.tsv",
    ):
        (collections / "text_zh" / name).unlink()
    assert chinese_text(collections) == ["零", '三,"乙"', "二"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"folder: .* has none of text_zh/prose"
    ):
        chinese_text(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("prose/d2l_zh.txt", b"ab\nc\xff", "d2l_zh.txt, line 2: not UTF-8"),
        ("chnsenticorp/train.tsv", b"", "train.tsv, line 1: no column text_a"),
        ("chnsenticorp/train.tsv", b"label\n1", "train.tsv, line 1: no column"),
        (
            "chnsenticorp/train.tsv",
            b"label\ttext_a\n1\ta\n1\tb\tc",
            "train.tsv, line 3: 3",
        ),
        (
            "sophonplus/ChnSentiCorp_htl_all.csv",
            b"label,review\n1,a\n1\n",
            "ChnSentiCorp_htl_all.csv, line 3: 1 fields",
        ),
        (
            "sophonplus/ChnSentiCorp_htl_all.csv",
            b'label,review\n1,"a\n',
            "ChnSentiCorp_htl_all.csv, line 2: ",
        ),
        (
            "sophonplus/ChnSentiCorp_htl_all.csv",
            b'label,review\n1,"a"b\n',
            "ChnSentiCorp_htl_all.csv, line 2: ",
        ),
        (
            "sophonplus/online_shopping_10_cats.zip",
            zipped(b"a\xff", "shop.csv"),
            "shop.csv, line 1: not UTF-8",
        ),
        (
            "sophonplus/online_shopping_10_cats.zip",
            zipped("label,review\n1", "shop.csv"),
            "shop.csv, line 2: 1",
        ),
    ],
)
def test_damaged_text_is_refused_by_file_and_line(collections, name, content, words):
    (collections / "text_zh" / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        chinese_text(collections)
    assert words in str(caught.value)


def test_a_damaged_archive_is_refused_wherever_it_is_cut(collections):
    path = collections / "text_zh/sophonplus/online_shopping_10_cats.zip"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"10_cats\.zip: damaged"):
            chinese_text(collections)


def test_flipped_bits_in_an_archive_are_refused_or_do_no_harm(tmp_path):
    path, whole = (
        tmp_path / "shop.zip",
        COLLECTIONS["text_zh/sophonplus/online_shopping_10_cats.zip"],
    )
    refusals = []
    for place in range(0, 8 * len(whole), 3):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            # Without the text if it hits the name, but never another text.
            assert list(tables.column(path, "review")) in (["四\n丙"], [])
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > len(whole) / 2
    assert {refusal[:17] for refusal in refusals} == {"shop.zip: damaged"}


SOURCES = {
    f"text_zh/prose/{name}.txt": f" 第一行\t还是 \n\n{name}\n"
    for name in ("d2l_zh", "hf_course_zh", "quantecon_zh")
}
SOURCES |= {
    "text_zh/thucnews_titles/dev.txt": "\ufeff标题甲\t3\n标题乙\t0\n",
    "text_zh/thucnews_titles/test.txt": "标题丙\t9\n标题甲\t3\n",
    "text_zh/sophonplus/ChnSentiCorp_htl_all.csv": (
        'label,review\n1,"好,""很""好"\n0,不好\n'
    ),
    "text_zh/sophonplus/waimai_10k.csv": "\ufefflabel,review\n1,快\n0,不好\n",
    "text_zh/sophonplus/online_shopping_10_cats.zip": zipped(
        "cat,label,review\n书,1,厚\n", "online_shopping_10_cats.csv"
    ),
    "text_zh/csts/Chinese-STS-B/sts-b-dev.txt": "甲。\t乙。\t5\n丙\t丁\t0\n",
    "text_zh/csts/LCQMC/test.txt": "甲\t乙\t1\n丙\t丁\t0\n",
}
SOURCES |= {
    f"text_zh/fewclue/{name}/unlabeled.json": "\n".join(
        json.dumps({"sentence": sentence, "id": 0}) for sentence in (name, " 句\t子 ")
    )
    for name in ("tnews", "eprstmt")
}


@pytest.fixture
def sources(tmp_path):
    """A folder in the layout of the real sets, with a few lines of our own."""
    return placed(tmp_path, SOURCES)


def test_every_source_is_read_in_order_and_once(sources):
    prose = ["第一行\t还是", "d2l_zh", "hf_course_zh", "quantecon_zh"]
    assert lines(sources, "prose") == prose
    titles = ["标题甲", "标题乙", "标题丙", "tnews", "句\t子"]
    assert lines(sources, "titles") == titles
    reviews = ['好,"很"好', "不好", "快", "厚", "eprstmt", "句\t子"]
    assert lines(sources, "reviews") == reviews


def test_real_pairs_are_read_with_their_grades(sources):
    pairs = similar_pairs(sources, "sts-b", "dev")
    assert pairs.first == ["甲。", "丙"]
    assert pairs.second == ["乙。", "丁"]
    assert pairs.similarity.tolist() == [5, 0]
    assert pairs.similarity.dtype == torch.float64
    assert similar_pairs(sources, "lcqmc").similarity.tolist() == [1, 0]
    with pytest.raises(FileNotFoundError, match=r"folder: .*LCQMC.train\.txt"):
        similar_pairs(sources, "lcqmc", "train")


@pytest.mark.parametrize(
    ("name", "content", "source", "message"),
    [
        ("prose/d2l_zh.txt", None, "prose", r"folder: .*d2l_zh\.txt is not there"),
        (
            "prose/d2l_zh.txt",
            "的".encode("gb18030"),
            "prose",
            "d2l_zh.txt, line 1: not UTF-8",
        ),
        (
            "sophonplus/waimai_10k.csv",
            b"label,text\n1,x\n",
            "reviews",
            "waimai.*line 1: no column review",
        ),
        (
            "sophonplus/waimai_10k.csv",
            b"label,review\n1\n",
            "reviews",
            "waimai.*line 2: 1 fields",
        ),
        ("sophonplus/waimai_10k.csv", b"label,review\n", "reviews", "waimai.*no text"),
        ("sophonplus/online_shopping_10_cats.zip", b"PK", "reviews", "online.*damaged"),
        (
            "sophonplus/online_shopping_10_cats.zip",
            zipped("label,review\n1,a\n", "reviews.txt"),
            "reviews",
            "online.*holds no text",
        ),
        ("fewclue/tnews/unlabeled.json", b"{]\n", "titles", "unlabeled.json, line 1"),
        (
            "fewclue/tnews/unlabeled.json",
            b'{"sentence": "a"}\n\n[1]\n',
            "titles",
            "unlabeled.json, line 3",
        ),
        (
            "fewclue/tnews/unlabeled.json",
            b'{"sentence": 7}\n',
            "titles",
            "unlabeled.json, line 1: 7 is not a text",
        ),
        (
            "fewclue/tnews/unlabeled.json",
            b'{"label": "a"}\n',
            "titles",
            "unlabeled.json, line 1: .*sentence",
        ),
        ("csts/LCQMC/test.txt", b"a\tb\t1\na\tb\n", "lcqmc", "test.txt, line 2: "),
        ("csts/LCQMC/test.txt", b"a\tb\t2\n", "lcqmc", "line 1: grade '2' is not"),
        ("csts/LCQMC/test.txt", b"a\t\t1\n", "lcqmc", "test.txt, line 1: "),
        ("csts/LCQMC/test.txt", b"", "lcqmc", "test.txt, line 1: the file is blank"),
    ],
)
def test_a_damaged_set_is_refused_with_its_name(
    sources, name, content, source, message
):
    path = sources / "text_zh" / name
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        similar_pairs(sources, source) if source == "lcqmc" else lines(sources, source)


JUDGED = {
    "wordsim/zh_cwe/240.txt": "\ufeff李白\t诗\t9.2\r\n日本\t书\t0\r\n",
    "wordsim/zh_cwe/297.txt": " 钱\t 现金\t4.58\nOPEC\t石油\t2.67\n\n老虎\t虎\t5",
    "wordsim/zh_ca8/morphological.txt": ": A\r\n避 避一避 补 补一补\r\n",
    "wordsim/zh_ca8/semantic.txt": (": a\n甲 乙 丙 丁\n: b\n一 二 三 四\n五 六 七 八"),
    "wordsim/zh_cwe/analogy.txt": ": a\n甲\t乙 丙  丁 \n",
}


@pytest.fixture
def judged(tmp_path):
    return placed(tmp_path, JUDGED)


def test_similarity_tests_are_read(judged):
    found = similarity_tests(judged)
    assert list(found) == ["wordsim-240", "wordsim-296"]
    assert found["wordsim-240"].pairs == (("李白", "诗"), ("日本", "书"))
    assert found["wordsim-296"].pairs == (("钱", "现金"), ("老虎", "虎"))
    expected = torch.tensor([4.58, 5], dtype=torch.float64)
    assert torch.equal(found["wordsim-296"].scores, expected)


def test_analogies_are_read(judged):
    assert analogies(judged) == {
        "morphological/A": [("避", "避一避", "补", "补一补")],
        "semantic/a": [("甲", "乙", "丙", "丁")],
        "semantic/b": [("一", "二", "三", "四"), ("五", "六", "七", "八")],
        "analogy/a": [("甲", "乙", "丙", "丁")],
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("zh_cwe/240.txt", b"a\tb\t1\nc\td\n", r"240.txt, line 2: 'c\td' is not 3 f"),
        ("zh_cwe/240.txt", b"a\tb\t1\t2", "240.txt, line 1: "),
        ("zh_cwe/240.txt", b"a\t\t1", "240.txt, line 1: "),
        ("zh_cwe/297.txt", b"\na\tb\tx", "297.txt, line 2: score 'x' is no number"),
        ("zh_cwe/297.txt", b"a\tb\tnan", "297.txt, line 1: score 'nan'"),
        ("zh_cwe/297.txt", b"a\tb\t1\n\xff\tb\t1", "297.txt, line 2: not UTF-8"),
        ("zh_ca8/semantic.txt", b": a\nb c d", "line 2: 'b c d' is not 4 fields"),
        ("zh_ca8/semantic.txt", b"a b c d\n: a", "line 1: words before the first"),
        ("zh_ca8/semantic.txt", b": a b\n", "line 1: ': a b' is not 2 fields"),
        ("zh_cwe/analogy.txt", b": a\n: b\nc d e f g", "analogy.txt, line 3: "),
    ],
)
def test_a_damaged_list_is_refused_by_file_and_line(judged, name, content, words):
    (judged / "wordsim" / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        (similarity_tests if name[-7:-4].isdigit() else analogies)(judged)
    assert words in str(caught.value)


def test_an_absent_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"240\.txt"):
        similarity_tests(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"morphological\.txt"):
        analogies(tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: passages(["abc"], 1), "longest: 1"),
        (lambda: lines(Path(), "poems"), "source: 'poems' is not one of"),
        (lambda: similar_pairs(Path(), "afqmc"), "name: 'afqmc' is not one of"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@needs_data
def test_the_real_text_is_read():
    found = chinese_text(Path(os.environ["BLOGCORE_DATA"]))
    assert len(found) == len({*found}) == 109_293
    characters = Counter("".join(found))
    assert sum(characters.values()) == 5_759_303
    assert sum(n for c, n in characters.items() if "一" <= c <= "鿿") == 4_813_864
    assert all(text == text.strip() != "" for text in found)


@needs_data
def test_the_real_sources_and_pairs_are_read():
    folder = Path(os.environ["BLOGCORE_DATA"])
    sizes = {source: len(lines(folder, source)) for source in texts.SOURCES}
    assert sizes == {"prose": 30_983, "titles": 39_974, "reviews": 95_624}
    for name, part, size in (("sts-b", "dev", 1458), ("lcqmc", "test", 12_500)):
        assert len(similar_pairs(folder, name, part).first) == size


@needs_data
def test_the_real_judgements_are_read():
    folder = Path(os.environ["BLOGCORE_DATA"])
    tests = similarity_tests(folder)
    assert [len(test.pairs) for test in tests.values()] == [240, 296]
    assert [test.scores.max().item() for test in tests.values()] == [9.2, 4.98]
    assert sum(pair == ("钱", "现金") for pair in tests["wordsim-296"].pairs) == 2
    sections = analogies(folder)
    sizes = Counter()
    for name, rows in sections.items():
        sizes[name.partition("/")[0]] += len(rows)
    assert sizes == {"morphological": 10_177, "semantic": 7_636, "analogy": 953}
    assert len(sections) == 11
