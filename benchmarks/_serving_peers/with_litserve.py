"""LitServe: one API process and one inference worker."""

import sys
from typing import Any

import litserve
from plain_mlp import PlainMlp, served


class Predictor(litserve.LitAPI):
    """The plain function behind LitServe's interface."""

    model: PlainMlp

    def setup(self, device: str) -> None:
        """Load once per worker."""
        self.model = served()

    def predict(self, x: dict[str, float]) -> dict[str, Any]:
        """Ten cards."""
        cards = self.model.recommend(x["rating"], x["popularity"], x["watch_seconds"])
        return {"recommendations": cards}


if __name__ == "__main__":
    server = litserve.LitServer(Predictor(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
