"""What a unit keeps: its way, taken up after a kill by itself alone; its pictures."""

import io
import json
import os
import signal
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_unit_pages import EXPERIMENTS, PAGES, ROOT
from test_units import IMPORTS, TIDES, Small, finish, start, wait_for

from blogcore import full, gallery, keeping, unitfiles, unitpictures, worker
from blogcore.keeping import Hand, in_hand
from blogcore.runtime import stream
from blogcore.units import Page

WALK = '''\
import torch
from blogcore import keeping
from blogcore.runtime import stream
from blogcore.training import train


def say(what):
    with open(LOG, "a", encoding="utf-8") as file:
        file.write(f"{what}\\n")


def score(model):
    say("score")
    return {"norm": model.weight.norm().item()}


@experiment(seconds=100, seed=[0], tiny={"seed": 0, "steps": 4})
def walk(seed, steps=40):
    """Forty steps of Adam, then a score; it can be stopped on the way."""
    model = torch.nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, 3, generator=stream(seed, "init")))
        model.bias.zero_()

    def batches(step):
        say(step)
        if step == 35 and not LOG.with_name("go").exists():
            time.sleep(300)
        return torch.randn(8, 3, generator=stream(seed, f"batch/{step}"))

    def asked(model, batch):
        loss = (model(batch) - batch.sum(1, keepdim=True) - 1).square().mean()
        return loss, {"loss": loss.detach()}

    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    part = keeping.checkpoint("walk", steps)
    history = train(model, batches, asked, adam, steps, checkpoint=part)
    found = keeping.kept("score", lambda: score(model))
    if not LOG.with_name("end").exists():
        raise KeyboardInterrupt  # as if it were ended here
    return found | {"last": history["loss"][-1].item(), "n": len(history["loss"])}
'''


@pytest.fixture
def small(tmp_path, monkeypatch) -> Small:
    """A book with one long unit that lets itself be stopped."""
    monkeypatch.setenv("BLOGCORE_DATA", str(tmp_path / "real"))
    book = Small(tmp_path)
    book.write(IMPORTS.format(log=str(book.log)), TIDES, WALK)
    return book


def let(small: Small, *words: str) -> None:
    """Let the unit go on where it stops."""
    for word in words:
        (small.root / word).touch()


def ways(small: Small) -> list[Path]:
    """What lies on the way."""
    return sorted((small.units / keeping.WAY).glob("*"))


def values(small: Small) -> dict:
    (row,) = small.folder.rows()
    return row["values"][""]


def uninterrupted(folder: Path) -> dict:
    """What the unit gives in one go."""
    (folder / "other").mkdir()
    other = Small(folder / "other")
    other.write(IMPORTS.format(log=str(other.log)), TIDES, WALK)
    let(other, "go", "end")
    assert other.go() == 0
    assert not ways(other)
    return values(other)


def steps(small: Small) -> list[int]:
    return [int(word) for word in small.begun() if word.isdigit()]


class TestWay:
    @pytest.mark.slow
    def test_a_killed_unit_goes_on_and_gives_what_it_gives_in_one_go(
        self, small, tmp_path
    ):
        """``kill -9`` in step 35 costs what came after the checkpoint at 30."""
        process = start(small, "tide", "--workers", "1")
        wait_for(lambda: small.begun()[-1:] == ["35"])
        (lock,) = small.units.glob(".*.lock")
        os.kill(int(lock.read_text(encoding="utf-8").split()[1]), signal.SIGKILL)
        said = finish(process)
        assert process.returncode == 1, said
        assert len(ways(small)) == 1
        let(small, "go", "end")
        assert small.go() == 0
        assert steps(small) == [*range(36), *range(30, 40)]
        assert not ways(small), "the way goes when the row is there"
        assert values(small) == uninterrupted(tmp_path)

    def test_parts_that_are_made_are_not_made_again(self, small, tmp_path):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        assert small.begun()[-1] == "score"
        let(small, "end")
        assert small.go() == 0
        assert small.begun().count("score") == 1
        assert steps(small) == [*range(40)]
        assert values(small) == uninterrupted(tmp_path)

    def test_a_row_has_the_seconds_of_all_attempts(self, small, capsys):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        (clock,) = small.units.glob(f"{keeping.WAY}/*/{keeping.CLOCK}")
        clock.write_text("70.5", encoding="ascii")
        let(small, "end")
        small.go()
        (row,) = small.folder.rows()
        assert 70.5 <= row["seconds"] < 100
        assert "70.5 s of them earlier" in capsys.readouterr().out

    @pytest.mark.parametrize("change", ["code", "settings", "device", "data"])
    def test_the_way_of_another_run_is_never_taken_up(self, small, change, monkeypatch):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        let(small, "end")
        small.log.unlink()
        if change == "code":
            small.change("- 1).square()", "- 2).square()")
        elif change == "settings":
            small.change("seed=[0]", "seed=[1]")
        elif change == "device":
            monkeypatch.setattr(worker, "name_of_device", lambda device: "H100")
        else:
            monkeypatch.setattr(worker.Work, "settle", lambda self: Other())
        assert small.go() == 0
        assert steps(small) == [*range(40)]
        assert small.begun().count("score") == 1

    @pytest.mark.parametrize("part", ["training walk", "score"])
    @pytest.mark.parametrize("half", [0.5, 0.0])
    def test_a_part_that_is_cut_is_made_anew(self, small, tmp_path, part, half):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        unit = small.work().units[0]
        hand = Hand(small.folder.row(unit), ways(small)[0].name.rpartition("-")[2])
        path = hand.file(part)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * half)])
        let(small, "end")
        with pytest.warns(UserWarning, match="anew"):
            assert small.go() == 0
        assert values(small) == uninterrupted(tmp_path)

    def test_list_tells_what_has_come_part_of_its_way(self, small, capsys):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        fixed = ["--units", str(small.units), "--root", str(small.root)]
        assert full.main(["tide", *fixed, "--list", "--device", "cpu"]) == 0
        told = "tide walk: 1 units: 1 open, 1 of them part of their way, about 100 s"
        assert told in capsys.readouterr().out

    def test_a_way_whose_row_is_there_is_swept(self, small):
        let(small, "go")
        with pytest.raises(KeyboardInterrupt):
            small.go()
        (way,) = ways(small)
        row = small.units / f"{way.name.rpartition('-')[0]}.json"
        keeping.sweep(small.units)
        assert ways(small) == [way], "an open unit's stays"
        row.touch()
        keeping.sweep(small.units)
        assert not ways(small)

    def test_outside_of_a_unit_nothing_is_kept(self):
        made = []
        assert keeping.checkpoint("walk", 40) is None
        for _ in range(2):
            assert keeping.kept("score", lambda: made.append(1) or 3.0) == 3.0
        assert len(made) == 2


class Other(dict):
    """Other data for every experiment."""

    def __missing__(self, key):
        return "0" * 16


LONG = [
    (slug, name)
    for slug, name in EXPERIMENTS
    if Page(ROOT, slug).experiments[name].seconds > 60
]


class Ended(BaseException):
    """A unit is ended, by nothing that it could catch."""


@pytest.mark.slow
@pytest.mark.parametrize(("slug", "name"), LONG)
def test_long_units_of_the_book_go_on_after_every_third_part(
    slug, name, tmp_path, monkeypatch
):
    """Ended again and again they give what they give in one go, in as few parts."""
    torch.set_num_threads(1)
    page = Page(ROOT, slug, device="cpu")
    for loader in page.loaders():
        loader.draw()
    experiment = page.experiments[name]
    expected = experiment(**experiment.tiny)
    hand, marks, mark = Hand(tmp_path / "unit.json", "0"), [0], Hand.mark

    def ending(self):
        mark(self)
        marks[0] += 1
        if marks[0] % 3 == 0:
            raise Ended

    monkeypatch.setattr(Hand, "mark", ending)
    found = None
    while found is None:
        with in_hand(hand), suppress(Ended):
            found = experiment(**experiment.tiny)
    assert found == expected
    assert marks[0] > 6, "it keeps its way"
    whole = marks[0]
    with in_hand(hand):
        assert experiment(**experiment.tiny) == expected
    assert marks[0] == whole, "nothing was made twice"


def levels(count: int, channels: int, size: int = 32) -> torch.Tensor:
    shape = (count, channels, size, size)
    drawn = torch.randint(256, shape, generator=stream(0, "levels"))
    return drawn.to(torch.uint8)


class TestPictures:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_picture_is_a_grid_of_the_images(self, channels):
        images = levels(7, channels)
        shown = np.asarray(Image.open(io.BytesIO(keeping.png(images))))
        assert shown.shape[:2] == (96, 96)
        last = shown[64:, :32].reshape(32, 32, channels)
        assert (last == images[6].permute(1, 2, 0).numpy()).all()
        assert not shown[64:, 32:].any()

    def test_noise_of_the_units_size_is_small_enough(self):
        """Nothing that they draw is larger."""
        assert len(keeping.png(levels(16, 3))) <= keeping.LARGEST

    @pytest.mark.parametrize(
        ("images", "says"),
        [
            (levels(20, 3, 64), "drawn: [0-9]+ bytes are more than 60000"),
            (levels(4, 2), "levels: torch.uint8 of shape"),
            (levels(4, 1).float(), "levels: torch.float32 of shape"),
            (levels(4, 1)[:0], "levels: torch.uint8 of shape"),
        ],
    )
    def test_what_is_no_picture_is_told(self, images, says):
        with pytest.raises(ValueError, match=says):
            keeping.picture("drawn", images)


DRAWN = '''\
import torch
from blogcore import keeping


@experiment(seconds=1, level=[1, 2], seed=[0, 1])
def moon(level, seed):
    """A number, and for seed 0 a picture."""
    if seed == 0:
        keeping.picture("full & new", torch.full((4, 1, 8, 8), level).to(torch.uint8))
    return {"height": level + 0.1 * seed}
'''


@pytest.fixture
def drawing(small) -> Small:
    """A book whose units have drawn."""
    small.write(IMPORTS.format(log=str(small.log)), TIDES, DRAWN)
    assert small.go() == 0
    return small


def merged(book: Small) -> int:
    fixed = ["--units", str(book.units), "--root", str(book.root)]
    return full.main(["tide", *fixed, "--merge"])


class TestRows:
    @pytest.fixture
    def shown(self, monkeypatch):
        """What a page would show."""
        found = []
        monkeypatch.setattr(gallery, "display", lambda thing: found.append(thing.data))

        def show(book: Small) -> str:
            found.clear()
            page = Page(book.root, "tide")
            monkeypatch.setattr(gallery, "DATA", book.root / "data")
            gallery.show(page.experiments["moon"], "tide")
            return "".join(found)

        return show

    def test_a_page_shows_what_is_recorded_and_nothing_before(self, drawing, shown):
        assert shown(drawing) == ""
        assert len([*drawing.units.glob("*.png")]) == 2
        assert merged(drawing) == 0
        text = shown(drawing)
        assert text.count("<img alt=") == text.count("<figure>") == 2
        assert "level 1, seed 0. In this order: full &amp; new." in text
        assert 'src="data:image/png;base64,iVBOR' in text

    def test_rows_without_pictures_show_none(self, drawing, shown):
        drawing.change("if seed == 0", "if seed == 9")
        assert drawing.go() == 0
        assert merged(drawing) == 0
        assert shown(drawing) == ""
        assert not [*(drawing.root / "data" / "units").glob("tide/*.png")]

    @pytest.mark.parametrize(("cut", "what"), [(9, "cut or altered"), (0, "missing")])
    def test_a_torn_picture_is_told_and_nothing_recorded(
        self, drawing, capsys, cut, what
    ):
        path = sorted(drawing.units.glob("*.png"))[0]
        path.write_bytes(path.read_bytes()[:cut])
        assert merged(drawing) == 1
        said = capsys.readouterr().err
        assert f"pictures: {path}, full & new of tide-moon" in said
        assert f"is {what}; put it back, or delete that row" in said
        assert not unitfiles.recorded(drawing.root / "data", "tide")

    @pytest.mark.parametrize(("cut", "what"), [(9, "cut or altered"), (0, "missing")])
    def test_a_page_tells_a_recorded_picture_that_is_torn(
        self, drawing, shown, cut, what
    ):
        merged(drawing)
        path = sorted(drawing.root.glob("data/units/tide/*.png"))[0]
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=f"pictures: .*{path.name}.* is {what}"):
            shown(drawing)
        assert merged(drawing) == 0, "merged again, it is whole again"
        assert path.read_bytes() == whole

    def test_of_two_rows_of_a_unit_the_older_keeps_its_picture(self, drawing):
        merged(drawing)
        (kept, _) = sorted(drawing.root.glob("data/units/tide/*.png"))
        before, other = kept.read_bytes(), keeping.png(levels(4, 1))
        path = drawing.units / f"{kept.stem.rpartition('-')[0]}.json"
        row = json.loads(path.read_text(encoding="utf-8"))
        row |= {"date": "2099-01-01T00:00:00+00:00"}
        row |= {"pictures": {"full & new": sha256(other).hexdigest()}}
        path.write_text(json.dumps(row), encoding="utf-8")
        (drawing.units / kept.name).write_bytes(other)
        assert merged(drawing) == 0
        assert kept.read_bytes() == before

    def test_pictures_of_earlier_code_go_with_their_rows(self, drawing):
        merged(drawing)
        before = {path.name for path in drawing.root.glob("data/units/tide/*.png")}
        drawing.change("8, 8), level", "8, 8), level + 1")
        drawing.go()
        merged(drawing)
        after = {path.name for path in drawing.root.glob("data/units/tide/*.png")}
        assert len(after) == len(before) == 2
        assert before.isdisjoint(after)


@pytest.mark.parametrize("page", PAGES)
def test_the_pictures_of_the_book_are_whole_small_and_of_its_rows(page):
    folder, named = ROOT / "data" / "units" / page, set()
    for row in unitfiles.recorded(ROOT / "data", page):
        unitpictures.contents(folder, row)
        stem = unitfiles.name_of(row)
        named |= {keeping.picture_file(stem, n) for n in row.get("pictures", {})}
    found = {path.name: path.stat().st_size for path in folder.glob("*")}
    assert found.keys() == named
    assert all(size <= keeping.LARGEST for size in found.values())
