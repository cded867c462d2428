"""What a document is made of besides the settings, and what it is on the wire."""

from __future__ import annotations

from typing import Final, NamedTuple

from edge_agent.contract.card import ModelCard

#: AsyncAPI's own (https://www.asyncapi.com/docs/reference/specification/v3.0.0#media-type).
CONTENT_TYPE: Final = "application/vnd.aai.asyncapi+json"


class Served(NamedTuple):
    """A model as it is served."""

    card: ModelCard
    sha256: str
