"""The baseline: a bare endpoint that answers ten cards, without a model, a database or a check."""

import json
import os
import sys
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CARDS = json.loads((Path(os.environ["SERVED_FOLDER"]) / "cards.json").read_text())[:10]


async def predict(request: Request) -> Response:
    """The same ten cards to everyone."""
    asked = orjson.loads(await request.body())
    body = orjson.dumps({"user_id": asked["user_id"], "recommendations": CARDS})
    return Response(body, media_type="application/json")


if __name__ == "__main__":
    application = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    uvicorn.run(application, port=int(sys.argv[1]), log_level="error", access_log=False)
