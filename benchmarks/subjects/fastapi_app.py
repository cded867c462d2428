"""The article's FastAPI service, as the tutorials write it: a BaseModel in, a dict out.

`async def`: with a plain `def`, FastAPI hands every request to a thread, which costs more than the tree.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from benchmarks.subjects.features import Features
from benchmarks.subjects.tree import Model

app = FastAPI()
model = Model()


@app.post("/predict")
async def predict(features: Features) -> dict[str, Any]:
    """Answer one row."""
    return model.predict([features])[0]


@app.post("/predict/batch")
async def predict_batch(batch: list[Features]) -> list[dict[str, Any]]:
    """Answer each row."""
    return model.predict(batch)
