"""Sphinx extension: a search that finds English words and Chinese terms alike.

Chinese is written without spaces. The index therefore holds every pair of
neighbours, and a query is cut into the same pairs: 梯度惩罚 → 梯度 度惩 惩罚. Sphinx's
own Chinese search segments the page but not the query, and finds a fifth of the terms.
"""

import re
from itertools import pairwise

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKEN = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")
HAN_RUN = re.compile(rf"[{HAN}]+")


def tokens(text: str) -> list[str]:
    """Words as they are; a run of Chinese characters as its characters and pairs."""
    found = []
    for run in TOKEN.findall(text):
        if HAN_RUN.fullmatch(run):
            found += [*run, *(a + b for a, b in pairwise(run))]
        else:
            found.append(run)
    return found


class BilingualSearch(SearchEnglish):
    """English stemming and stop words, with the splitter above.

    It takes the place of Sphinx's “en”, so that the pages stay English ones.
    """

    # A query needs the single characters only where it has no pair.
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[HAN]+|(?:(?![HAN])[\p{L}\p{N}_])+/gu) ?? []).flatMap((run) =>
    /^[HAN]{2,}$/u.test(run)
      ? Array.from({length: run.length - 1}, (_, i) => run.slice(i, i + 2))
      : [run]);
""".replace("HAN", HAN)

    def split(self, text: str) -> list[str]:
        """Tokens of the index."""
        return tokens(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the search in place of the English one."""
    app.add_search_language(BilingualSearch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
