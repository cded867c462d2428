"""What every subject asks of a row: the model's eight features within their bounds, and the two keys to echo."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

#: Names the file of scikit-learn's tree to the two HTTP applications, which have no command line of their own.
VARIABLE: Final = "BENCH_TREE"

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Features(BaseModel):
    """One row."""

    acousticness: Share
    danceability: Share
    energy: Share
    instrumentalness: Share
    liveness: Share
    speechiness: Share
    tempo: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
    valence: Share
    id: Any = None
    time: Any = None

    def row(self) -> list[float]:
        """Return the features in the order of the model."""
        return [
            self.acousticness,
            self.danceability,
            self.energy,
            self.instrumentalness,
            self.liveness,
            self.speechiness,
            self.tempo,
            self.valence,
        ]


def prediction(features: Features, label: str, probabilities: dict[str, float]) -> dict[str, Any]:
    """Return the answer to one row, as docs/messages.md has it."""
    answer = {
        "label": label,
        "confidence": probabilities[label],
        "probabilities": probabilities,
        "model": "genre",
        "version": "1.0.0",
    }
    if features.id is not None:
        answer["id"] = features.id
    if features.time is not None:
        answer["time"] = features.time
    return answer
