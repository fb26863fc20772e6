"""Ray Serve: one proxy and one replica."""

import signal
import sys
from typing import Any

import ray
from plain_mlp import served
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Predictor:
    """The plain function as a deployment."""

    def __init__(self) -> None:
        self.model = served()

    async def __call__(self, request: Request) -> list[dict[str, Any]]:
        """Ten cards; nothing to whoever only looks whether it is there."""
        if request.method == "GET":
            return []
        asked = await request.json()
        return self.model.recommend(asked["rating"], asked["popularity"], asked["watch_seconds"])


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Predictor.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
