"""ONNX files, open in onnxruntime. Light to import: a process that tries a file needs no more than this."""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

import numpy as np
import onnx

from edge_agent.errors import InputError
from edge_convert.wording import first_line

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import
import onnxruntime

#: Rows that a file is asked about at once, at the most.
CHUNK: Final = 1 << 15
#: So many numbers may a constant of the file come to when each row is compared with it.
_MEMORY: Final = 1 << 26


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    return str(onnxruntime.__version__)


class Opened(NamedTuple):
    """An open file, and how many rows it is asked about at once."""

    session: Any
    chunk: int


def open_any(content: bytes) -> Opened:
    """Open an ONNX file for comparing, whatever it takes. Raises `InputError` if onnxruntime does not take it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums in one order
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"the model file does not open in onnxruntime: {first_line(error)}") from error
    # A model that compares each row with rows that it keeps holds as many numbers for each. A power of two, so that those who ask in
    # chunks of the largest size ask about the same rows at once: a product of matrices may depend on that in its last bit.
    widest = max(
        (np.prod(one.dims, dtype=np.int64) for one in onnx.load_from_string(content).graph.initializer), default=1
    )
    most = int(np.clip(_MEMORY // max(1, widest), 1 << 8, CHUNK))
    return Opened(session, 1 << (most.bit_length() - 1))


def open_session(content: bytes) -> Opened:
    """Open a model file for comparing. Raises `InputError` if onnxruntime does not take it, or it does not have one input."""
    opened = open_any(content)
    if len(opened.session.get_inputs()) != 1:
        raise InputError("the model file does not have one input")
    return opened
