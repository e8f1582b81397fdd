"""What an encoder costs: arithmetic, and the memory of a training step, by formula."""

from typing import NamedTuple

from blogcore.blocks import EncoderConfig
from blogcore.checks import check_integer

FLOAT = 4  # bytes of a float32


class Work(NamedTuple):
    """Floating-point operations of a forward pass: multiplications and additions.

    Those of matrix products alone; the rest is less than a hundredth of them.
    """

    blocks: int
    embedding: int
    head: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def forward_work(
    config: EncoderConfig,
    texts: int,
    length: int,
    narrow: int | None = None,
    asked: int = 0,
) -> Work:
    """The work of a batch (texts, length) with ``asked`` questions to a language head.

    Sharing blocks changes nothing. A token costs 2 (4 d² + 2 d d′) + 4 T d in a layer,
    2 E d behind tables of width E, and a question 2 (d E + E V). A backward pass costs
    twice as much again.
    """
    for name, value in (("texts", texts), ("length", length)):
        check_integer(name, value, 1)
    check_integer("asked", asked, 0)
    width, inner = config.width, config.inner
    tokens, table = texts * length, narrow or width
    products = 2 * (4 * width**2 + 2 * width * inner) + 4 * length * width
    return Work(
        tokens * config.layers * products,
        0 if table == width else tokens * 2 * table * width,
        asked * 2 * (width * table + table * config.vocabulary),
    )


def training_bytes(
    config: EncoderConfig, texts: int, length: int, parameters: int
) -> dict[str, int]:
    """Bytes of a training step in float32 with Adam, without the language head.

    A parameter has 4 bytes, its gradient 4, Adam's two averages 8. What a layer keeps
    for its backward pass is never shared: 2 (34 T d + 5 a T²) bytes a text, with a
    heads, where dropout is on and attention writes its scores out. Source: Korthikanti
    et al. (2022), eq. 2, there in float16, every byte doubled. That counts the masks of
    dropout, one byte an entry there, as two: with one-byte masks 34 and 5, doubled 68
    and 10, would be 66 and 9; a CPU keeps them as four bytes.
    """
    for name, value in (("texts", texts), ("length", length)):
        check_integer(name, value, 1)
    check_integer("parameters", parameters, 0)
    width, heads = config.width, config.heads
    layer = 34 * length * texts * width + 5 * heads * length**2 * texts
    return {
        "parameters": FLOAT * parameters,
        "gradients": FLOAT * parameters,
        "optimizer": 2 * FLOAT * parameters,
        "activations": 2 * config.layers * layer,
    }
