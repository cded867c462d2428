"""The page of `edge-agent docs --out`: what scripts/console built from console/, with a document in it.

The built page has a place for a document, as data that no browser runs; its policy names its script by a hash, which stays as
it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_agent.errors import InputError

#: Built, not written, and so not in a clone; wheel and Debian package carry it.
BUILT: Final = Path(__file__).with_name("docs") / "page.html"
_PLACE: Final = b'<script type="application/json" id="document">%s</script>'


def page(document: bytes | None = None, built: Path = BUILT) -> bytes:
    """Return the page with a document (AsyncAPI as JSON), or without one: it learns then from the broker which nodes are there.

    Raises `InputError` where the page was not built, or is of another version.
    """
    try:
        empty = built.read_bytes()
    except FileNotFoundError:
        raise InputError(
            "the page is not part of this installation; ./scripts/console in the clone builds it, and what is installed from there afterwards has it"
        ) from None
    except OSError as error:
        raise InputError(f"{built}: {error.strerror}") from error
    place = _PLACE % b"null"
    if empty.count(place) != 1:
        raise InputError(f"{built}: has no place for a document; ./scripts/console in the clone builds it anew")
    # A script element ends at "</script", and "<!--" changes how; JSON has another way to write the sign.
    data = (document or b"null").strip().replace(b"<", rb"\u003c")
    return empty.replace(place, _PLACE % data)
