"""`mlflow models serve` of a Python function, kept as code (nothing is pickled)."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from plain_mlp import PlainMlp, served


class Predictor(mlflow.pyfunc.PythonModel):
    """The plain function behind MLflow's interface."""

    model: PlainMlp

    def load_context(self, context: Any) -> None:
        """Load once."""
        self.model = served()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[Any]:
        """A list of cards per row."""
        columns = (model_input[name] for name in ("rating", "popularity", "watch_seconds"))
        return [self.model.recommend(*row) for row in zip(*columns, strict=True)]


mlflow.models.set_model(Predictor())

if __name__ == "__main__":
    saved = str(Path(tempfile.mkdtemp(dir=os.environ["SERVED_FOLDER"])) / "model")
    mlflow.pyfunc.save_model(saved, python_model=__file__, pip_requirements=[])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", saved]
    command += ["--env-manager", "local", "--port", sys.argv[1], "--workers", "1"]
    os.execv(sys.executable, command)
