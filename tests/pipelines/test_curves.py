"""Learning curves stay short, whatever a training reports."""

import json
import math

from marquee.pipelines.curves import MOST_POINTS, Curves


def test_points_are_those_of_the_steps():
    curves = Curves()
    curves.step({"loss": 3.0})
    curves.step(None)
    curves.step({"loss": 2.0, "accuracy": 0.5})
    assert curves.to_list() == [
        {"name": "loss", "steps": [1, 3], "values": [3.0, 2.0]},
        {"name": "accuracy", "steps": [3], "values": [0.5]},
    ]


def test_values_that_are_not_finite_are_left_out():
    curves = Curves()
    for loss in (math.inf, 2.0, math.nan):
        curves.step({"loss": loss})
    assert json.dumps(curves.to_list(), allow_nan=False)
    assert curves.to_list()[0]["steps"] == [2]


def test_long_training_is_thinned_evenly():
    curves = Curves()
    for step in range(10 * MOST_POINTS):
        curves.step({"loss": float(step)})
    (curve,) = curves.to_list()
    assert MOST_POINTS / 2 <= len(curve["steps"]) <= MOST_POINTS
    apart = {after - before for before, after in zip(curve["steps"], curve["steps"][1:], strict=False)}
    assert len(apart) == 1
    assert curve["values"] == [step - 1 for step in curve["steps"]]
