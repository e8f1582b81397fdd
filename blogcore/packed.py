"""Texts to learn from as one tensor: packed into rows without padding, where they lie.

Texts of a row see each other. That is the price of rows that are all full: a batch of
single texts is padding for two thirds.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from blogcore.asking import Objective
from blogcore.checkpoint import Checkpoint, History
from blogcore.checks import check_integer, check_number
from blogcore.cloze import Cloze, hide_tokens
from blogcore.data import Examples
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.tasks import LabelledTexts, files, labelled_texts
from blogcore.texts import SOURCES, lines
from blogcore.tokens import BertTokenizer, Texts, Vocabulary, character_vocabulary
from blogcore.training import seeded, train

Arrays = dict[str, object]
PARTS = ("train", "dev", "test")
# The files that ``written`` reads, as ``prepared`` wants them.
FILES = tuple(file for source in SOURCES.values() for file in source)


def packed(texts: Iterable[str], tokenizer: BertTokenizer, length: int) -> torch.Tensor:
    """Rows [CLS] … [SEP] of ``length`` ids, int64 (N, length), without padding.

    The texts stand one after the other, [SEP] between them, cut wherever a row ends;
    what does not fill a row is left out. Raises ValueError if nothing fills one.
    """
    check_integer("length", length, 3)
    _, _, first, last, _ = tokenizer.vocabulary.specials
    flat: list[int] = []
    for text in texts:
        flat += tokenizer.encode(text)[1:]  # its own [SEP] at the end
    count = len(flat) // (length - 2)
    if not count:
        raise ValueError(f"texts: {len(flat)} ids do not fill a row of {length}")
    inner = torch.tensor(flat[: count * (length - 2)]).view(count, length - 2)
    ends = [torch.full((count, 1), mark) for mark in (first, last)]
    return torch.cat([ends[0], inner, ends[1]], 1)


def questions(
    rows: torch.Tensor, vocabulary: Vocabulary, size: int, rate: float, seed: int
) -> Callable[[int], Cloze]:
    """Cloze questions about ``size`` drawn rows a step, made where the rows lie.

    A share ``rate`` of a row's places between its ends is asked about, the same number
    in every row. A step draws from ``stream(seed, "questions/step")``. Raises
    ValueError if a row has fewer ordinary tokens than that.
    """
    check_number("rate", rate, 0, 1)
    check_integer("size", size, 1)
    pad, _, first, last, mask = vocabulary.specials
    others = {pad, first, last, mask}
    special = torch.tensor(sorted(others), device=rows.device)
    ordinary = [word for word in range(len(vocabulary)) if word not in others]
    words = torch.tensor(ordinary, device=rows.device)
    count = max(1, round(rate * (rows.shape[1] - 2)))
    fewest = int((~torch.isin(rows, special)).sum(1).min())
    if fewest < count:
        raise ValueError(f"rate: {rate} asks {count} of a row, one has only {fewest}")

    def batch(step: int) -> Cloze:
        dice = stream(seed, f"questions/{step}", rows.device)
        drawn = torch.randint(len(rows), (size,), generator=dice, device=rows.device)
        return hide_tokens(rows[drawn].long(), count, mask, words, special, dice)

    return batch


def pretrain(
    model: nn.Module,
    batches: Callable[[int], object],
    objective: Objective,
    steps: int,
    seed: int,
    rate: float = 3e-4,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train an encoder: AdamW, a tenth of warm-up, then linearly down; bfloat16.

    The optimizer's update is one operation on a GPU. Dropout draws below the seed.
    A ``checkpoint`` saves it on its way, and resumes it.
    """
    where = next(model.parameters()).device.type
    adam = torch.optim.AdamW(model.parameters(), rate, fused=where == "cuda")
    falling = linear_decay(adam, steps, steps // 10)

    def rounded(model: nn.Module, batch: object):
        with torch.autocast(where, torch.bfloat16):
            return objective(model, batch)

    asked = seeded(batches, seed)
    return train(model, asked, rounded, adam, steps, [falling], checkpoint)


def needed(names: Iterable[str]) -> tuple[str, ...]:
    """The files that ``chinese`` reads, as ``prepared`` wants them."""
    return (*FILES, *(file for name in names for file in files(name)))


def chinese(folder: Path, names: Iterable[str], length: int) -> Arrays:
    """Chinese texts as arrays: packed rows, vocabulary, labelled sets by name and part.

    Reads ``FILES`` and the sets ``names`` (see ``tasks.SETS``) of the folder. Their
    texts, of all parts, may stand in the rows as well, without labels: for every model
    alike.
    """
    sets = {
        f"{name} {part}": labelled_texts(folder, name, part)
        for name in names
        for part in PARTS
    }
    return arrays(written(folder), sets, length)


def written(folder: Path) -> list[str]:
    """The texts of ``FILES``: prose, titles, reviews."""
    return [text for source in SOURCES for text in lines(folder, source)]


def made_up(names: Iterable[str], length: int = 12) -> Arrays:
    """What a test takes instead: ``invented`` texts, in the same form."""
    return arrays(*invented(names), length)


def invented(names: Iterable[str]) -> tuple[list[str], dict[str, LabelledTexts]]:
    """Short texts of a few characters, and labelled sets of them by name and part."""
    places = torch.randint(10, (160, 9), generator=stream(0, "made up")).tolist()
    texts = ["".join("天地人山水火木金土日"[k] for k in row) for row in places]
    labels = torch.tensor([int("山" in text) for text in texts])
    drawn = LabelledTexts(texts[:80], None, labels[:80], ("without", "with"))
    return texts, {f"{name} {part}": drawn for name in names for part in PARTS}


def characters(texts: list[str]) -> BertTokenizer:
    """A tokenizer of the characters that occur, rare ones of many texts left out."""
    least = min(5, 1 + len(texts) // 1000)
    return BertTokenizer(character_vocabulary(texts, least))


def arrays(
    texts: list[str],
    sets: Mapping[str, LabelledTexts],
    length: int,
    tokenizer: BertTokenizer | None = None,
) -> Arrays:
    """Plain arrays of texts and labelled sets, cut by one tokenizer.

    That of the texts' characters by default. Ids are int16, so that they take little
    room: a vocabulary of more than 32,767 tokens is a ValueError.
    """
    tokenizer = tokenizer or characters(texts)
    tokens = list(tokenizer.vocabulary.ids)
    if len(tokens) > torch.iinfo(torch.int16).max:
        raise ValueError(f"tokenizer: {len(tokens)} tokens are more than int16 holds")
    found: Arrays = {
        "rows": packed(texts, tokenizer, length).to(torch.int16),
        "vocabulary": tokens,
    }
    for name, part in sets.items():
        encoded = part.encoded(tokenizer, length)
        found[f"{name} ids"] = encoded.inputs.ids.to(torch.int16)
        found[f"{name} valid"] = encoded.inputs.valid
        found[f"{name} labels"] = encoded.labels
        found[f"{name} classes"] = torch.tensor(len(part.classes))
    return found


def examples(
    found: Mapping[str, torch.Tensor], name: str, device: torch.device
) -> tuple[list[Examples], int]:
    """The parts of a labelled set, on a device, and the number of its classes."""
    parts = [
        Examples(
            Texts(found[f"{name} {part} ids"].long(), found[f"{name} {part} valid"]),
            found[f"{name} {part} labels"],
        ).to(device)
        for part in PARTS
    ]
    return parts, int(found[f"{name} {PARTS[0]} classes"])
