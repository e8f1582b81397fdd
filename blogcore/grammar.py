"""Sentences whose meaning is known: one idea a slot, and free choice of words."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import torch

from blogcore.checks import check_number
from blogcore.corpus import HiddenMarkov, random_markov
from blogcore.texts import Pairs

TEMPLATES = (
    "{who}{when}在{where}{act}。",
    "{when}，{who}在{where}{act}。",
    "在{where}，{who}{when}{act}。",
    "{when}在{where}{act}的是{who}。",
)
SLOTS = {
    "who": "爸爸 父亲|医生 大夫|孩子 小朋友|妻子 太太|警察 公安|厨师 大厨",
    "when": "早上 清晨|晚上 夜里|周末 礼拜天|刚才 方才|现在 此刻|明天 次日",
    "where": "家里 屋内|学校 校园|医院 诊所|商店 铺子|路边 街头|河畔 水滨",
    "act": "吃饭 用餐|睡觉 入眠|看书 阅读|聊天 谈话|跑步 锻炼|唱歌 演出",
}
TRADES = {
    "who": "cook chef|nurse doctor|child kid|farmer peasant|teacher tutor|"
    "sailor captain",
    "act": "bakes fries|heals helps|plays jumps|ploughs sows|writes reads|rows sails",
    "where": "kitchen bakery|hospital clinic|garden park|field barn|school library|"
    "harbour port",
    "when": "dawn sunrise|midnight night|noon midday|daybreak nightfall|"
    "lunchtime teatime|dusk sunset",
}


@dataclass(frozen=True, eq=False)
class TemplateGrammar:
    """Sentences with known meaning: one idea a slot; template and synonyms are free.

    The ideas of a sentence are the states of a Markov chain along the slots, so they
    depend on each other; synonyms, drawn uniformly, keep the same company. Sentences
    whose ideas all agree are paraphrases. Raises ValueError if a template does not hold
    each slot once, a slot's ideas are not the chain's, or a word stands for two ideas.
    """

    templates: tuple[str, ...]
    slots: Mapping[str, tuple[tuple[str, ...], ...]]
    chain: HiddenMarkov

    def __post_init__(self):
        for template in self.templates or ("",):
            if sorted(re.findall(r"{(.*?)}", template)) != sorted(self.slots):
                raise ValueError(
                    f"templates: {template!r} does not hold each of {list(self.slots)}"
                )
        for slot, ideas in self.slots.items():
            if len(ideas) != len(self.chain.start) or not all(ideas):
                raise ValueError(
                    f"slots: {slot!r} has {[len(i) for i in ideas]} words an idea, not "
                    f"at least one for each of the chain's {len(self.chain.start)}"
                )
        counts = Counter(chain(*chain(*self.slots.values())))
        twice = [word for word, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"slots: {twice} stand for more than one idea")

    def meanings(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Drawn meanings, an idea's number for each slot: (N, slots)."""
        return self.chain.sample(count, len(self.slots), generator).states

    def express(self, meanings: torch.Tensor, generator: torch.Generator) -> list[str]:
        """A sentence for each meaning (N, slots): template and synonyms are drawn."""
        width, ideas = len(self.slots), len(self.chain.start)
        fits = meanings.ndim == 2 and meanings.shape[1] == width
        if not (fits and ((meanings >= 0) & (meanings < ideas)).all()):
            raise ValueError(
                f"meanings: shape {tuple(meanings.shape)}, not (N, {width}) with ideas "
                f"in 0 … {ideas - 1}"
            )
        dice = torch.rand(len(meanings), 1 + width, generator=generator).tolist()
        sentences = []
        for meaning, (first, *others) in zip(meanings.tolist(), dice, strict=True):
            rows = zip(self.slots.items(), meaning, others, strict=True)
            chosen = {slot: _pick(all_[idea], die) for (slot, all_), idea, die in rows}
            sentences.append(_pick(self.templates, first).format(**chosen))
        return sentences

    def pairs(self, count: int, generator: torch.Generator) -> Pairs:
        """Pairs that share none, one, … all ideas equally often, as a share of them.

        Ideas that are not shared are drawn uniformly among the others of their slot.
        """
        first = self.meanings(count, generator)
        width, ideas = len(self.slots), len(self.chain.start)
        shared = torch.randint(width + 1, (count, 1), generator=generator)
        rank = torch.rand(first.shape, generator=generator).argsort(1)
        shift = torch.randint(1, ideas, first.shape, generator=generator)
        second = (first + shift.where(rank >= shared, 0)) % ideas
        alike = (first == second).double().mean(1)
        return Pairs(
            self.express(first, generator), self.express(second, generator), alike
        )


def everyday_grammar(generator: torch.Generator) -> TemplateGrammar:
    """Small Chinese sentences: who, when, where and what, in four orders of words.

    Six ideas a slot, two synonyms an idea: 1,296 meanings of 64 sentences each. Which
    ideas go together is drawn: rows of the chain ~ Dirichlet(0.3, …).
    """
    slots = _slots(SLOTS)
    ideas = random_markov(len(slots["who"]), 1, generator, 0.3)
    return TemplateGrammar(TEMPLATES, slots, ideas)


def trades_grammar(own: float = 0.7) -> TemplateGrammar:
    """Small English sentences, “the cook bakes in the kitchen at dawn .”, word by word.

    Who, act, where and when follow each other in a chain of six trades: the next idea
    is of the same trade with probability ``own``, else one of the five others. The
    chain names its states, so that its cloze distributions are those of the ideas.
    """
    check_number("own", own, 0, 1)
    table = torch.full((6, 6), (1 - own) / 5, dtype=torch.float64)
    table.fill_diagonal_(own)
    even = torch.full((6,), 1 / 6, dtype=torch.float64)
    ideas = HiddenMarkov(even, table, torch.eye(6, dtype=torch.float64))
    sentence = "the {who} {act} in the {where} at {when} ."
    return TemplateGrammar((sentence,), _slots(TRADES), ideas)


def _slots(written: Mapping[str, str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {
        slot: tuple(tuple(idea.split()) for idea in ideas.split("|"))
        for slot, ideas in written.items()
    }


def _pick(choices: tuple[str, ...], die: float) -> str:
    return choices[int(die * len(choices))]
