"""The same perceptron behind other servers, and a bare endpoint: each pinned and asked like Marquee."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from _serving_home import SMALL_VOCABULARY, Home
from _serving_load import Load, Outcome, Server, Wrk
from marquee.models.mlp import Mlp
from marquee.store import bundles
from start import free_port

__all__ = ["PEERS", "Peer", "bare", "measure_peer", "shared_folder"]

SCRIPTS = Path(__file__).parent / "_serving_peers"
POSTER = "https://image.tmdb.org/t/p/w500"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "PYTHONPATH": str(SCRIPTS),
}
"""No peer may tell anybody anything."""

NUMBERS = "chosen(100) / 10, chosen(1000) / 10, 60 + chosen(9000)"
PLAIN = """string.format('{"rating": %.1f, "popularity": %.1f, "watch_seconds": %d}', NUMBERS)"""
TABLE = """string.format('{"dataframe_split": {"columns": ["rating", "popularity", "watch_seconds"], \
"data": [[%.1f, %.1f, %d]]}}', NUMBERS)"""


@dataclass(frozen=True)
class Peer:
    """
    Another server.

    Attributes:
        name: as its makers write it.
        package: what must be importable.
        script: of `_serving_peers`, called with the port.
        path: that answers.
        ready: the path that answers 200 when it is ready.
        body: a Lua expression.
    """

    name: str
    package: str
    script: str
    path: str
    ready: str
    body: str = PLAIN

    @property
    def load(self) -> Load:
        """Different numbers each time."""
        return Load(self.path, self.body.replace("NUMBERS", NUMBERS))


PEERS = (
    Peer("mlflow models serve", "mlflow", "with_mlflow.py", "/invocations", "/ping", TABLE),
    Peer("BentoML", "bentoml", "with_bentoml.py", "/predict", "/readyz"),
    Peer("LitServe", "litserve", "with_litserve.py", "/predict", "/health"),
    Peer("Ray Serve", "ray.serve", "with_ray.py", "/predict", "/predict"),
)

BARE = Load(
    "/predict",
    """string.format('{"user_id": %d, "content_id": %d, "rating": %.1f, "popularity": %.1f, \
"watch_seconds": %d}', chosen(100000), chosen(500), NUMBERS)""".replace("NUMBERS", NUMBERS),
)


@contextmanager
def shared_folder(home: Home) -> Iterator[Path]:
    """A folder with what all of them serve: the perceptron of 500 films and the cards."""
    bundle = bundles.load(home.objects, home.bundles[f"mlp {SMALL_VOCABULARY}"], home.settings.paths.bundles)
    model = bundle.recommender()
    assert isinstance(model, Mlp)
    known = {row["item_id"]: row for row in bundle.cards.to_pylist()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "mlp.npz", allow_pickle=False, **model.state().arrays)
        cards = [
            {
                "content_id": film,
                "title": known[film]["title"],
                "poster_url": POSTER + known[film]["poster_path"],
                "overview": known[film]["overview"],
            }
            for film in model.items.ids.tolist()
        ]
        (folder / "cards.json").write_text(json.dumps(cards))
        _check_equal(folder, model)
        yield folder


def bare(folder: Path, seconds: float) -> Outcome:
    """The endpoint of Starlette and orjson alone."""
    with _served(sys.executable, "with_starlette.py", folder, "/predict", 405) as server:
        wrk = Wrk(server.port)
        wrk.run(BARE, 1.0)
        return wrk.run(BARE, seconds, server=server)


def measure_peer(peer: Peer, python: str, folder: Path, seconds: float) -> Outcome | str:
    """What a peer reaches, or why it was not measured."""
    found = subprocess.run(
        [python, "-c", f"import {peer.package}"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return (found.stderr.strip().splitlines() or ["no such Python"])[-1]
    try:
        with _served(python, peer.script, folder, peer.ready, 200) as server:
            wrk = Wrk(server.port)
            wrk.run(peer.load, 2.0)
            return wrk.run(peer.load, seconds, server=server)
    except RuntimeError as error:
        return str(error)


@contextmanager
def _served(python: str, script: str, folder: Path, ready: str, status: int) -> Iterator[Server]:
    port = free_port()
    # mlflow starts its server by the name of a program.
    programs = f"{Path(python).absolute().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**QUIET, "SERVED_FOLDER": str(folder), "PATH": programs}
    command = [python, str(SCRIPTS / script), str(port)]
    with contextlib.closing(Server(command, port, environment, ready=ready, status=status)) as server:
        yield server


def _check_equal(folder: Path, model: Mlp) -> None:
    """The peers must do the same work: their function gives the lists of the perceptron."""
    sys.path.insert(0, str(SCRIPTS))
    from plain_mlp import PlainMlp

    plain, rng = PlainMlp(folder), np.random.default_rng(0)
    for _ in range(50):
        rating, popularity, watched = (float(x) for x in rng.random(3) * (10.0, 100.0, 9_000.0))
        cards = plain.recommend(rating, popularity, watched)
        answer = model.predict(rating=rating, popularity=popularity, watch_seconds=watched)[0]
        best = model.items.ids[np.argsort(-answer)[:10]].tolist()
        assert {card["content_id"] for card in cards} == set(best), "the plain function errs"
