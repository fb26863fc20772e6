"""Named arrays as a safetensors file: written whole, read as views of a map."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

__all__ = ["map_arrays", "write_arrays"]

_DTYPES = {
    "BOOL": "?", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "<u1", "U16": "<u2",
    "U32": "<u4", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """
    Write named arrays as a safetensors file.

    Raises:
        ValueError: an array has a dtype that safetensors does not know.
    """
    known = {np.dtype(code) for code in _DTYPES.values()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in known:
            raise ValueError(f"the array {name!r} has the dtype {array.dtype}, which a bundle cannot hold")
    # safetensors writes the memory as it lies; ascontiguousarray alone would give 0-d arrays a dimension.
    save_file({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}, path)


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """
    The arrays of a verified safetensors file, as views of one read-only map.

    Source:
        https://github.com/huggingface/safetensors#format; its own readers copy.
    """
    content = np.memmap(path, np.uint8, "r").data
    begin = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(bytes(content[8:begin]))
    # Each a root of its own: of what is a slice of a much longer array, SciPy makes copies.
    return {
        name: np.ndarray(entry["shape"], _DTYPES[entry["dtype"]], content, begin + entry["data_offsets"][0])
        for name, entry in header.items()
    }
