import json
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import safe_open

from marquee.data import Catalog
from marquee.models import model_class, model_names
from marquee.models.base import ModelState, Recommender
from marquee.testing import planted_tastes

TWO_STAGE = {
    "sources": ("ease", "item_knn", "content"),
    "windows": 4,
    "trees": 20,
    "depth": 30,
    "min_pairs": 50,
}
SMALL = {
    "ials": {"factors": 8, "iterations": 8},
    "linear_stack": TWO_STAGE,
    "mlp": {"hidden": (16, 16), "max_epochs": 6},
    "two_stage": TWO_STAGE,
}
"""Sizes that suit a few hundred rows; models that are not here do with their defaults."""
EXPORTED = {"sasrec": Path(__file__).parents[1] / "models" / "data" / "sasrec.safetensors"}
"""Models whose training needs a library of its own, trained on planted tastes."""


@cache
def fitted(name: str) -> Recommender:
    kind = model_class(name)
    if name in EXPORTED:
        with safe_open(EXPORTED[name], "np") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return kind.from_state(ModelState(arrays, {"config": json.loads(file.metadata()["config"])}))
    tastes = planted_tastes()
    return kind(kind.Config.from_dict(SMALL.get(name, {}))).fit(tastes.interactions, tastes.catalog)


@pytest.fixture(params=model_names())
def model(request) -> Recommender:
    """Each registered model, fitted on planted tastes."""
    return fitted(request.param)


@pytest.fixture(scope="session")
def load() -> Callable[[str], Recommender]:
    """A model by name, fitted on planted tastes."""
    return fitted


@pytest.fixture
def ease() -> Recommender:
    """A personal model, fitted on planted tastes."""
    return fitted("ease")


@pytest.fixture(scope="session")
def tastes():
    return planted_tastes()


@pytest.fixture(scope="session")
def varied_catalog(tastes) -> Catalog:
    """The planted films with years, languages, gaps and adult films; two are gone, five are new."""
    films = tastes.catalog.table.to_pylist()[2:]
    films += [{**films[i], "item_id": 5000 + i, "title": f"New {i}"} for i in range(5)]
    for i, film in enumerate(films):
        film["release_date"] = None if i % 7 == 0 else date(1950 + i, 1, 1)
        film["original_language"] = None if i % 11 == 0 else ("en", "ko")[i % 2]
        film["adult"] = None if i % 5 == 0 else i % 6 == 0
        film["runtime_minutes"] = None if i % 9 == 0 else film["runtime_minutes"]
        film["genres"] = None if i % 13 == 0 else film["genres"]
    return Catalog(pa.Table.from_pylist(films, schema=tastes.catalog.table.schema))
