"""The text of a table: whether it is compressed, which encoding it has, and what separates its columns. Training and `edge-agent try` read the same.

Plain Python, because a device has nothing else.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: What may separate columns; several blanks in a row are one separator. In the order in which they are believed: words and
#: decimal numbers have commas in them.
SEPARATORS: Final = ("\t", ";", ",", " ")
#: What stands for a missing value wherever it is found.
MISSING: Final = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "?"})
_SAMPLE: Final = 20
#: UTF-32 first: its mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL_COMMA: Final = re.compile(r"\s*[+-]?[0-9]*,[0-9]*([eE][+-]?[0-9]+)?\s*")
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_BLANKS: Final = re.compile(r'("(?:[^"]|"")*")|[ \t]+')


@dataclass(frozen=True)
class Dialect:
    """How to read text: what separates columns and how it is encoded (None: found out), and the decimal separator.

    Raises `ValueError` for what no reader takes.
    """

    separator: str | None = None
    decimal: str = "."
    encoding: str | None = None

    def __post_init__(self) -> None:
        """Take the names of separators that are hard to type."""
        named = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}
        object.__setattr__(self, "separator", named.get(self.separator or "", self.separator))
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise ValueError(f"--sep {self.separator!r}: a separator is one character (or tab, blank)")
        if self.decimal not in {".", ","}:
            raise ValueError(f"--decimal {self.decimal!r}: the decimal separator is . or ,")


def decompress(content: bytes) -> bytes:
    """Return the content of a file, which may be compressed (.gz). Raises `ValueError` if it is damaged."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"can't be decompressed: {error}") from None


def decode(content: bytes, encoding: str | None = None) -> str:
    """Return the text of a table: in `encoding`, or as its byte order mark says, or in UTF-8.

    Raises `ValueError` saying what is wrong.
    """
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    used = encoding or marked or "utf-8"
    try:
        text = content.decode(used).removeprefix("\ufeff")
    except LookupError:
        raise ValueError(f"{used!r} is not an encoding; those of tables are utf-8, utf-16, cp1252") from None
    except UnicodeDecodeError as error:
        if encoding is None and marked is None:
            raise ValueError(
                f"is not text in UTF-8 (byte {error.start}); name its encoding, such as --encoding cp1252 (Windows)"
            ) from None
        raise ValueError(f"is not text in {used} (byte {error.start})") from None
    if "\0" in text:
        hint = "" if encoding else "; if it is UTF-16, say --encoding utf-16"
        raise ValueError(f"is not text (a zero byte at character {text.index(chr(0))}){hint}")
    return text


def find_separator(text: str) -> str:
    """Return what separates the columns of a table: what splits its first rows into equally many cells, two or more.

    A comma is also the answer for a table of one column.
    """
    counts = {separator: [len(row) for row in _sample(text, separator)] for separator in SEPARATORS}
    fitting = {separator: found for separator, found in counts.items() if _is_even(found)}
    # Words and timestamps have blanks in them; so a blank separates only where nothing else does.
    for candidates in (fitting, counts):
        sharp = {separator: found[0] for separator, found in candidates.items() if separator != " " and found}
        best = max(sharp, key=lambda separator: sharp[separator], default="")
        if best and sharp[best] > 1:
            return best
        if " " in candidates and " " in fitting:
            return " "
    return ","


def records(text: str, dialect: Dialect) -> Iterator[dict[str, str]]:
    """Yield each row of a table as its cells by column, without those that are missing values.

    If the first row has a cell more than the header, all begin with a name, as R writes them; other cells that are missing, or too
    many, are passed over. A decimal comma becomes a point in cells that are numbers.
    """
    separator = dialect.separator or find_separator(text)
    if not dialect.separator and separator == dialect.decimal and separator not in text.partition("\n")[0]:
        separator = ";"  # one column, of numbers
    rows = csv.reader(_lines(single_blanks(text) if separator == " " else text), delimiter=separator)
    names = [name.strip() for name in next((row for row in rows if any(row)), [])]
    first = next(rows, [])
    if len(first) == len(names) + 1 and first[-1]:
        names = ["", *names]
    for row in itertools.chain([first], rows):
        if any(row):
            yield {
                n: _point(cell, dialect.decimal)
                for n, cell in zip(names, row, strict=False)
                if n and cell.strip() not in MISSING
            }


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with what ends them; str.splitlines() knows more ends than tables have."""
    return (found[0] for found in _LINE.finditer(text))


def _point(cell: str, decimal: str) -> str:
    return cell.replace(decimal, ".") if decimal != "." and _DECIMAL_COMMA.fullmatch(cell) else cell


def single_blanks(text: str) -> str:
    """Return a table whose columns are separated by any number of blanks, with exactly one between two cells."""
    lines = _BLANKS.sub(lambda found: found[1] or " ", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.strip(" ") for line in lines)


def _sample(text: str, separator: str) -> Iterator[list[str]]:
    start = text[: 1 << 16]
    whole = len(start) == len(text)
    if separator == " ":
        start = single_blanks(start)
    lines = list(_lines(start))[: None if whole else -1]
    try:
        yield from itertools.islice((row for row in csv.reader(lines, delimiter=separator) if row), _SAMPLE)
    except csv.Error:
        return


def _is_even(counts: list[int]) -> bool:
    """Tell whether the rows are equally long; the header may lack the cell above R's row names."""
    return len(counts) > 1 and counts[0] > 1 and set(counts[1:]) in ({counts[0]}, {counts[0] + 1})
