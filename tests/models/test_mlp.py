from marquee.models.mlp import Mlp, MlpConfig
from marquee.testing import RecommenderConformance


class TestMlp(RecommenderConformance):
    def make(self) -> Mlp:
        return Mlp(MlpConfig(hidden=(16, 16), max_epochs=4))
