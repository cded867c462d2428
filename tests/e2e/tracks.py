"""The article's two example tracks, and one that can't be."""

from __future__ import annotations

from typing import Final

HIP_HOP: Final = {
    "acousticness": 0.344719513,
    "danceability": 0.758067547,
    "energy": 0.323318405,
    "instrumentalness": 0.0166768347,
    "liveness": 0.0856723112,
    "speechiness": 0.0306624283,
    "tempo": 101.993,
    "valence": 0.443876228,
}
ROCK: Final = dict(
    zip(
        HIP_HOP,
        (0.362731324, 0.383351767, 0.586098673, 0.375382953, 0.275548126, 0.028725005, 113.747, 0.286459198),
        strict=True,
    )
)
IMPOSSIBLE: Final = {**ROCK, "energy": 1.7}
