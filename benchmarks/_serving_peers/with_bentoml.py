"""BentoML: a service of one worker."""

import os
import sys
from typing import Any

import bentoml
from plain_mlp import served


@bentoml.service(workers=1)
class Predictor:
    """The plain function as a service."""

    def __init__(self) -> None:
        self.model = served()

    @bentoml.api
    async def predict(self, rating: float, popularity: float, watch_seconds: float) -> list[dict[str, Any]]:
        """Ten cards; on the event loop, where so short a call is cheapest."""
        return self.model.recommend(rating, popularity, watch_seconds)


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "with_bentoml:Predictor"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", sys.argv[1]])
