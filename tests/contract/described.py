"""The models that the contract tests' agents serve, as the document has them."""

from __future__ import annotations

from functools import cache

from edge_agent.config.models import library
from edge_agent.config.settings import Settings
from edge_agent.docs.served import Served


@cache
def bundled() -> Served:
    """The model `genre`."""
    predictor = library(Settings()).load("genre")
    return Served(predictor.card, predictor.sha256)
