"""
Recommenders, and how they are found by name.

Built-in models are imported on first use, so that serving one does not pay for the others. A model of
another package is named by the entry point group `marquee.models` or as `package.module:Class`.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from marquee.models.base import ModelConfig, ModelState, Recommender, tunable

if TYPE_CHECKING:
    from marquee.models.content import Content
    from marquee.models.ease import Ease
    from marquee.models.ials import Ials
    from marquee.models.item_knn import ItemKnn
    from marquee.models.markov import Markov
    from marquee.models.mlp import Mlp
    from marquee.models.mlp_next import MlpNext
    from marquee.models.popularity import Popularity
    from marquee.models.sasrec import Sasrec

__all__ = [
    "Content",
    "Ease",
    "Ials",
    "ItemKnn",
    "Markov",
    "Mlp",
    "MlpNext",
    "ModelConfig",
    "ModelState",
    "Popularity",
    "Recommender",
    "Sasrec",
    "model_class",
    "model_names",
    "trainable_models",
    "tunable",
]

_BUILT_IN = {
    "content": "marquee.models.content:Content",
    "ease": "marquee.models.ease:Ease",
    "ials": "marquee.models.ials:Ials",
    "item_knn": "marquee.models.item_knn:ItemKnn",
    "linear_stack": "marquee.recommend.two_stage:LinearStack",
    "markov": "marquee.models.markov:Markov",
    "mlp": "marquee.models.mlp:Mlp",
    "mlp_next": "marquee.models.mlp_next:MlpNext",
    "popularity": "marquee.models.popularity:Popularity",
    "sasrec": "marquee.models.sasrec:Sasrec",
    "two_stage": "marquee.recommend.two_stage:TwoStage",
}
_GROUP = "marquee.models"


def model_names() -> list[str]:
    """The names that `model_class` knows without a module path: built in, then installed plug-ins."""
    installed = {point.name for point in entry_points(group=_GROUP)}
    return [*_BUILT_IN, *sorted(installed - _BUILT_IN.keys())]


def trainable_models() -> list[str]:
    """The names of the models that can be fitted here."""
    return [name for name in model_names() if model_class(name).trainable()]


def model_class(name: str) -> type[Recommender]:
    """
    The class of a model.

    Args:
        name: a built-in name, the name of an entry point of the group `marquee.models`, or
            `package.module:Class`.

    Raises:
        ValueError: no such model, or what was found is not a `Recommender`.
    """
    path = _BUILT_IN.get(name)
    if path is None and ":" in name:
        path = name
    if path is None:
        path = next((point.value for point in entry_points(group=_GROUP) if point.name == name), None)
    if path is None:
        raise ValueError(
            f"Unknown model {name!r}; known: {', '.join(model_names())}, or package.module:Class"
        )
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The model {name!r} cannot be imported from {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Recommender)):
        raise ValueError(f"{path!r} is not a Recommender")
    return found


def __getattr__(name: str) -> Any:
    for path in _BUILT_IN.values():
        module, _, attribute = path.partition(":")
        if attribute == name:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
