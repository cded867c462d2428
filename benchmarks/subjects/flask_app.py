"""The article's Flask service: JSON in, JSON out, checked by the same BaseModel."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request
from pydantic import TypeAdapter, ValidationError

from benchmarks.subjects.features import Features
from benchmarks.subjects.tree import Model

app = Flask(__name__)
model = Model()
rows = TypeAdapter(list[Features])


@app.post("/predict")
def predict() -> Any:
    """Answer one row."""
    return jsonify(model.predict([Features.model_validate_json(request.get_data())])[0])


@app.post("/predict/batch")
def predict_batch() -> Any:
    """Answer each row."""
    return jsonify(model.predict(rows.validate_json(request.get_data())))


@app.errorhandler(ValidationError)
def invalid(error: ValidationError) -> Any:
    """Answer what is wrong."""
    return jsonify(error="invalid_features", detail=error.errors(include_url=False)), 422
