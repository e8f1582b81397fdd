"""The examples are what they claim to be, and batches are functions of the step."""

import io
import os
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from blogcore import data
from blogcore.data import (
    Examples,
    cifar10,
    digits,
    flip_labels,
    full_batch,
    shuffled,
    sinusoid,
    split,
    stack,
)
from blogcore.runtime import stream


def numbered(count: int, shift: int = 0) -> Examples:
    """Examples whose label is their own number, and their input too."""
    rows = torch.arange(shift, shift + count)
    return Examples(rows[:, None].float(), rows)


def test_sinusoid_is_uniform_in_the_disc_of_radius_two():
    x = sinusoid(20_000, stream(0, "data")).inputs.double()
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    assert x.shape == (20_000, 2)
    assert radius.max() <= 2
    assert stats.kstest((radius / 2) ** 2, "uniform").pvalue > 0.01
    assert stats.kstest(angle, "uniform", (-np.pi, 2 * np.pi)).pvalue > 0.01
    assert abs(stats.spearmanr(radius, angle).statistic) < 0.02


def test_sinusoid_labels_say_on_which_side_of_the_wave_a_point_lies():
    x, y = sinusoid(500, stream(0, "data"))
    expected = [1.5 * a + np.sin(1.5 * b) > 0 for a, b in x.double().tolist()]
    assert y.tolist() == expected
    assert y.dtype == torch.int64


def test_digits_are_the_known_1797():
    x, y = digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max(), x.dtype) == (0, 1, torch.float32)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert y.bincount().tolist() == counts


def test_altered_digits_are_refused(monkeypatch):
    from sklearn import datasets

    bunch = datasets.load_digits()
    bunch.data[17, 3] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda: bunch)
    with pytest.raises(RuntimeError, match=data.DIGITS_SHA256):
        digits()


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 7, 50, 100, 999])
def test_flip_labels_moves_exactly_the_floor_of_n_times_p(count, classes):
    labels = torch.randint(0, classes, (count,), generator=stream(0, "labels"))
    before = labels.clone()
    for percent in range(101):
        rate = percent / 100
        noisy = flip_labels(labels, rate, classes, stream(percent, "noise"))
        expected = floor(count * Fraction(percent, 100))
        assert (noisy != labels).sum() == expected, (count, rate)
        assert 0 <= noisy.min() <= noisy.max() < classes
    assert torch.equal(labels, before)


def test_flip_labels_is_uniform_over_places_and_over_other_classes():
    labels = torch.arange(4).repeat(10)
    noisy = torch.stack(
        [flip_labels(labels, 0.3, 4, stream(s, "noise")) for s in range(4000)]
    )
    moved = noisy != labels
    assert stats.chisquare(moved.sum(0)).pvalue > 0.01
    for old in range(4):
        shift = (noisy - labels)[:, labels == old][moved[:, labels == old]] % 4
        assert stats.chisquare(shift.bincount(minlength=4)[1:]).pvalue > 0.01


def test_split_gives_disjoint_parts_of_the_sizes_asked_for():
    parts = split(numbered(20), [7, 5, 3], stream(0, "split"))
    rows = torch.cat([part.labels for part in parts])
    assert [len(part.labels) for part in parts] == [7, 5, 3]
    assert len(rows.unique()) == 15
    assert all(torch.equal(p.inputs[:, 0].long(), p.labels) for p in parts)
    assert rows.tolist() != sorted(rows.tolist())
    again = split(numbered(20), [7, 5, 3], stream(1, "split"))
    assert not torch.equal(rows, torch.cat([part.labels for part in again]))


def test_stack_joins_members_along_a_new_first_axis():
    both = stack([numbered(5), numbered(5, shift=5)])
    assert both.inputs.shape == (2, 5, 1)
    assert both.labels.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_full_batch_is_the_same_at_every_step():
    examples = numbered(4)
    assert full_batch(examples)(0) is full_batch(examples)(17) is examples


@pytest.mark.parametrize(("count", "size"), [(12, 3), (13, 3), (5, 5), (6, 1)])
def test_shuffled_shows_each_example_at_most_once_an_epoch(count, size):
    batches, per_epoch = shuffled(numbered(count), size, seeds=[0, 1]), count // size
    epochs = []
    for epoch in range(4):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        shown = torch.cat([batches(step).labels for step in steps], dim=1)
        assert shown.shape == (2, per_epoch * size)
        assert all(len(member.unique()) == per_epoch * size for member in shown)
        epochs += shown.tolist()
    if count > 5:
        assert len(set(map(tuple, epochs))) == 8, "an order is used twice"


def test_a_shuffled_batch_is_a_function_of_the_step_and_of_the_seed_alone():
    ahead, random_access = (shuffled(numbered(10), 2, [4, 7]) for _ in range(2))
    in_order = [ahead(step).labels for step in range(15)]
    torch.rand(100)
    for step in (14, 3, 0, 9):
        assert torch.equal(random_access(step).labels, in_order[step])
        alone = shuffled(numbered(10), 2, [7])(step).labels
        assert torch.equal(alone[0], in_order[step][1])


def test_shuffled_takes_each_member_from_its_own_examples():
    members = stack([numbered(6), numbered(6, shift=6)])
    batch = shuffled(members, 4, [0, 1])(0)
    shared = shuffled(numbered(6), 4, [0, 1])(0)
    assert torch.equal(batch.labels[0], shared.labels[0])
    assert torch.equal(batch.labels[1], shared.labels[1] + 6)
    assert torch.equal(batch.inputs[..., 0].long(), batch.labels)


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (6, 3, 1, 1), dtype=np.uint8)
    return np.tile(colours, (1, 1, 32, 32)), np.array([0, 9, 3, 3, 1, 7], np.uint8)


def write_binary(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    content = np.resize(rows, (10_000, 3073)).tobytes()
    inside = folder / "cifar-10-batches-bin"
    inside.mkdir()
    for name in [*data.CIFAR_FILES["train"], *data.CIFAR_FILES["test"]]:
        (inside / name).write_bytes(content)
    return inside / "data_batch_3.bin"


def write_jpeg(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    coded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "jpeg", quality=100)
        coded.append(buffer.getvalue())
    parts = {}
    for part in ("train", "test"):
        parts[f"jpeg_{part}"] = np.frombuffer(b"".join(coded), np.uint8)
        parts[f"offsets_{part}"] = np.cumsum([0, *map(len, coded)])
        parts[f"y_{part}"] = labels
    path = folder / "images" / "cifar10_jpeg.npz"
    path.parent.mkdir()
    np.savez(path, **parts)
    return path


def standardised(images: np.ndarray) -> np.ndarray:
    mean, std = np.reshape([data.CIFAR_MEAN, data.CIFAR_STD], (2, 1, 3, 1, 1))
    return (images / 255 - mean) / std


@pytest.mark.slow
def test_cifar10_reads_the_binary_version(tmp_path, pictures, monkeypatch):
    write_binary(tmp_path, *pictures)
    assert len(data.CIFAR_FILES["train"]) == 5
    two = ["data_batch_1.bin", "data_batch_4.bin"]  # five take seconds
    monkeypatch.setitem(data.CIFAR_FILES, "train", two)
    train, test = cifar10(tmp_path)
    assert train.inputs.shape == (20_000, 3, 32, 32)
    assert len(test.labels) == 10_000
    assert test.labels[:6].tolist() == pictures[1].tolist()
    found = test.inputs[:6].numpy()
    np.testing.assert_allclose(found, standardised(pictures[0]), atol=1e-5)


def test_cifar10_reads_jpeg_bytes(tmp_path, pictures):
    write_jpeg(tmp_path, *pictures)
    train, test = cifar10(tmp_path)
    assert train.inputs.shape == test.inputs.shape == (6, 3, 32, 32)
    assert train.labels.tolist() == pictures[1].tolist()
    # One grey value of 255 is 0.016 after standardising; JPEG may be two off.
    found = train.inputs.numpy()
    np.testing.assert_allclose(found, standardised(pictures[0]), atol=0.05)


@pytest.mark.slow
def test_cifar10_refuses_a_truncated_or_mislabelled_binary_file(tmp_path, pictures):
    path = write_binary(tmp_path, *pictures)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: 30729999 bytes"):
        cifar10(tmp_path)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(ValueError, match="labels: 0 … 10"):
        cifar10(tmp_path)


def test_cifar10_refuses_a_damaged_archive_wherever_it_is_cut(tmp_path, pictures):
    path = write_jpeg(tmp_path, *pictures)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: damaged"):
            cifar10(tmp_path)


@pytest.mark.parametrize("key", ["jpeg_train", "offsets_test", "y_train"])
def test_cifar10_refuses_an_archive_that_does_not_fit_together(tmp_path, pictures, key):
    path = write_jpeg(tmp_path, *pictures)
    with np.load(path) as archive:
        parts = dict(archive)
    for changed in ({}, {key: parts[key][:-1]}):
        np.savez(path, **{k: v for k, v in parts.items() if k != key} | changed)
        with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: damaged"):
            cifar10(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif("BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA not set")
def test_cifar10_reads_the_real_data():
    train, test = cifar10(Path(os.environ["BLOGCORE_DATA"]))
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.inputs.mean((0, 2, 3)).abs().max() < 0.02
    assert (train.inputs.std((0, 2, 3)) - 1).abs().max() < 0.02


def test_noisy_digits_are_disjoint_parts_with_wrong_labels_in_the_first():
    train, test = data.noisy_digits((300, 1000), 0.3, [3, 4])
    clean, same = data.noisy_digits((300, 1000), 0.0, [3, 4])
    assert train.inputs.shape == (2, 300, 64)
    assert test.labels.shape == (2, 1000)
    assert torch.equal(train.inputs, clean.inputs)
    assert torch.equal(test.labels, same.labels)
    assert (train.labels != clean.labels).sum(1).tolist() == [90, 90]
    known = {(tuple(x.tolist()), int(y)) for x, y in zip(*data.digits(), strict=True)}
    found = zip(clean.inputs[1], clean.labels[1], strict=True)
    assert all((tuple(x.tolist()), int(y)) in known for x, y in found)
    one, _ = data.noisy_digits((300, 1000), 0.3, [4])
    assert torch.equal(one.labels[0], train.labels[1])
