"""One protocol to compare recommenders with, and the means to choose, compare and report them."""

from marquee.evaluation.compare import Bootstrap, Interval
from marquee.evaluation.offline import WindowModel, evaluate
from marquee.evaluation.results import Evaluation, ModelResult

__all__ = ["Bootstrap", "Evaluation", "Interval", "ModelResult", "WindowModel", "evaluate"]
