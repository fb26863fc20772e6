from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Histories, Interactions
from marquee.errors import IncompatibleBundleError
from marquee.models import Popularity
from marquee.store import bundles, formats
from marquee.store.bundles import BundleRef
from marquee.store.formats import Contents
from marquee.store.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def publish(store: ObjectStore) -> BundleRef:
    model = Popularity().fit(Interactions.of([1, 1, 2, 3], [603, 604, 603, 862], [1, 2, 3, 4]))
    return bundles.publish(
        store,
        model.state(),
        model="popularity",
        cards=pa.table({"item_id": [603, 604, 862], "title": ["The Matrix", "Reloaded", "Toy Story"]}),
        metrics={},
        snapshot="abc",
        code_version="0.1.0",
    )


@pytest.fixture
def published(store: ObjectStore) -> BundleRef:
    """A bundle of format 1."""
    return publish(store)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This Marquee reads format 3, with titles in capitals and more in the meta; what was converted."""
    done = []

    def to_two(contents: Contents) -> Contents:
        done.append(1)
        return replace(contents, arrays={name: array.copy() for name, array in contents.arrays.items()})

    def to_three(contents: Contents) -> Contents:
        done.append(2)
        assert contents.manifest["format_version"] == 2
        titles = pa.array([title.upper() for title in contents.cards["title"].to_pylist()])
        cards = contents.cards.set_column(1, "title", titles)
        manifest = {**contents.manifest, "meta": {**contents.manifest["meta"], "more": True}}
        return replace(contents, cards=cards, manifest=manifest)

    monkeypatch.setattr(formats, "FORMAT_VERSION", 3)
    monkeypatch.setitem(formats.CONVERTERS, 1, to_two)
    monkeypatch.setitem(formats.CONVERTERS, 2, to_three)
    return done


def test_older_bundle_is_converted_step_by_step_once_and_the_published_one_stays(
    store: ObjectStore, cache: Path, published: BundleRef, conversions: list[int]
):
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    for _ in range(2):
        bundle = bundles.load(store, published, cache)
        assert bundle.ref == published
        assert bundle.manifest["format_version"] == 3
        assert bundle.manifest["meta"]["more"]
        assert bundle.cards["title"].to_pylist() == ["THE MATRIX", "RELOADED", "TOY STORY"]
        assert bundle.recommender().recommend(Histories.of_items([603], []), 1).item_ids[0, 0] == 604
    assert conversions == [1, 2]
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_what_is_published_now_needs_no_conversion(store: ObjectStore, cache: Path, conversions: list[int]):
    bundle = bundles.load(store, publish(store), cache)
    assert bundle.manifest["format_version"] == 3
    assert conversions == []


@pytest.mark.parametrize("name", ["arrays.safetensors", "cards.arrow", "manifest.json"])
def test_damaged_conversion_is_made_again(
    store: ObjectStore, cache: Path, published: BundleRef, conversions: list[int], name: str
):
    expected = {key: np.array(value) for key, value in bundles.load(store, published, cache).arrays.items()}
    (cache / f"{published.key.rpartition('/')[2][:64]}.format-3" / name).write_bytes(b"damaged")
    bundle = bundles.load(store, published, cache)
    assert conversions == [1, 2, 1, 2]
    for key, value in expected.items():
        np.testing.assert_array_equal(bundle.arrays[key], value)


def test_damaged_original_is_refused_before_it_is_converted(
    store: ObjectStore, cache: Path, published: BundleRef, conversions: list[int]
):
    bundles.load(store, published, cache)
    (cache / published.key.rpartition("/")[2][:64] / "cards.arrow").write_bytes(b"damaged")
    with pytest.raises(IncompatibleBundleError, match=r"cards\.arrow"):
        bundles.load(store, published, cache)


def test_older_bundle_that_nothing_converts_is_refused(
    store: ObjectStore, published: BundleRef, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(formats, "FORMAT_VERSION", 2)
    with pytest.raises(IncompatibleBundleError, match=r"format version 1, and Marquee .* reads 2"):
        bundles.read_manifest(store, published.key)


@pytest.mark.parametrize(
    ("manifest", "readable"),
    [
        ({"format_version": 1}, True),
        ({"format_version": 0}, False),
        ({"format_version": 2}, False),
        ({"format_version": 2, "minimum_reader": 1}, True),
        ({"format_version": 3, "minimum_reader": 2}, False),
        ({"format_version": 2, "minimum_reader": "1"}, False),
        ({"format_version": True}, False),
        ({"format_version": "1"}, False),
    ],
)
def test_newer_format_is_read_if_it_says_that_this_reader_may(manifest: dict[str, object], readable: bool):
    assert formats.readable(manifest) == readable
