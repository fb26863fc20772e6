"""Prints RecTools' metrics of given lists as JSON; run by the Python of the peers environment."""

import json
import sys
from pathlib import Path

import pandas as pd
from rectools import Columns
from rectools.metrics import MRR, NDCG, CatalogCoverage, HitRate, Recall

given = json.loads(Path(sys.argv[1]).read_text())
shown = pd.DataFrame(
    [
        {Columns.User: user, Columns.Item: item, Columns.Rank: rank}
        for user, items in enumerate(given["lists"])
        for rank, item in enumerate(items, start=1)
    ]
)
chosen = pd.DataFrame(
    [{Columns.User: user, Columns.Item: item} for user, items in enumerate(given["truth"]) for item in items]
)
metrics = {
    "ndcg": NDCG(k=10, divide_by_achievable=True),
    "recall": Recall(k=20),
    "hit_rate": HitRate(k=10),
    "mrr": MRR(k=10),
}
found = {name: metric.calc_per_user(shown, chosen).sort_index().tolist() for name, metric in metrics.items()}
found["coverage"] = CatalogCoverage(k=10, normalize=True).calc(shown, given["catalogue"])
sys.stdout.write(json.dumps(found))
