"""Named arrays as a safetensors file: written whole, read as views of a map."""

import json
import math
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

    Raises:
        ValueError: the header is none, or tells of arrays that are not there.

    Source:
        https://github.com/huggingface/safetensors#format; its own readers copy.
    """
    content = np.memmap(path, np.uint8, "r").data
    begin = 8 + int.from_bytes(content[:8], "little")
    if not 8 < begin <= len(content):
        raise ValueError(f"its header would end at byte {begin:,} of {len(content):,}")
    try:
        header: dict[str, Any] = json.loads(bytes(content[8:begin]))
        _require_whole(header, len(content) - begin)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its header is not that of its arrays ({error!r})") from error
    # Each a root of its own: of what is a slice of a much longer array, SciPy makes copies.
    return {
        name: np.ndarray(entry["shape"], _DTYPES[entry["dtype"]], content, begin + entry["data_offsets"][0])
        for name, entry in header.items()
    }


def _require_whole(header: Mapping[str, Any], size: int) -> None:
    """Raise unless the arrays lie one behind the other and fill all bytes, as the format demands."""
    at = 0
    for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        length = np.dtype(_DTYPES[entry["dtype"]]).itemsize * math.prod(entry["shape"])
        numbers = (*entry["shape"], begin, end)
        if any(type(n) is not int or n < 0 for n in numbers) or (begin, end) != (at, at + length):
            raise ValueError(f"{name!r} does not lie where it should")
        at = end
    if at != size:
        raise ValueError(f"{size:,} bytes hold {at:,} bytes of arrays")
