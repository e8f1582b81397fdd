"""Strips are text in boxes; the chooser holds every frame and shows one."""

import pytest

from blogcore import strips


@pytest.fixture
def shown(monkeypatch):
    """Calls a function and returns the page that it displays."""
    pages = []
    monkeypatch.setattr(strips, "display", lambda page: pages.append(page.data))
    return lambda call, *arguments: call(*arguments) or pages.pop()


def test_tokens_are_escaped_text_with_their_kind(shown):
    page = shown(strips.show, [("words", [("语言", "word"), ("<", "fallback")])])
    assert '<b class="word" title="a word">语言</b>' in page
    assert ">&lt;</b>" in page
    assert 'lang="zh"' in page
    with pytest.raises(ValueError, match="kind 'odd'"):
        strips.show([("", [("a", "odd")])])


def test_chooser_shows_one_frame_of_all(shown):
    frames = {(t, n): ([(t, "word")], f"{n} words") for t in "ab" for n in (1, 2000)}
    page = shown(strips.chooser, "ab", (1, 2000), frames, 2000)
    assert page.count("data-frame=") == 4
    assert page.count(" hidden>") == 3
    assert '<div data-frame="0-1">' in page
    assert "2,000</output>" in page
    del frames["a", 1]
    for start in (1, 7):
        with pytest.raises(ValueError, match="frames, start"):
            strips.chooser("ab", (1, 2000), frames, start)
