"""FastAPI as the tutorials have it: a pydantic model of the row, an async route, a dict as the answer.

naive_app.py PORT
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import engine
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

_TYPES = {"float": float, "int": int}


def _row_model() -> type[BaseModel]:
    contract = json.loads((Path(os.environ["BENCH_MODEL"]) / "headrace/contract.json").read_text())
    fields: dict[str, Any] = {}
    for feature in contract["features"]:
        kind = _TYPES[feature["type"]]
        fields[feature["name"]] = (kind | None, None) if feature["missing"] else (kind, ...)
    return create_model("Row", **fields)


Row = _row_model()


class Question(BaseModel):
    """What is asked."""

    rows: list[Row]  # type: ignore[valid-type]


predict = engine.load()
app = FastAPI()


@app.post("/predict")
async def answer(question: Question) -> dict[str, list[float]]:
    """Predict."""
    return {"predictions": predict([list(row.model_dump().values()) for row in question.rows]).tolist()}


uvicorn.run(app, port=int(sys.argv[1]), access_log=False)
