"Memory map of the array in a NetCDF file, and batches of station-days from it. Used by `traffic.py`."

import mmap
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from stouter.data.labels import DIMS
from stouter.data.traffic import open_traffic


def madvise(
    values: np.ndarray,  # mapped, or not: then nothing happens
    first: list[int],  # bytes of the file where parts begin
    last: list[int],  # bytes where they end
    advice: str,  # name of a constant of `mmap`; systems that lack it get none
) -> None:
    "Advise the system how the pages of a map will be used."
    mapped_file = getattr(values, "_mmap", None)
    if hasattr(mmap, advice) and mapped_file is not None:
        for begin, end in zip(first, last):
            page = begin // mmap.PAGESIZE * mmap.PAGESIZE
            mapped_file.madvise(getattr(mmap, advice), page, end - page)


def map_volume(
    path: Path | str,  # a file that `save_traffic` wrote
) -> np.ndarray:  # (N, H, S) float32, read-only, NaN = missing; on the disk where that is possible
    "Volumes of a file without reading it. Raises what `open_traffic` raises."
    with open_traffic(path).dataset as dataset:
        shape = tuple(dataset.sizes[dim] for dim in DIMS)
    with h5py.File(path) as file:
        variable = file["volume"]
        offset = variable.id.get_offset()  # None if it is compressed or chunked
        if offset is None or variable.dtype != np.dtype("<f4"):
            values = variable[...].astype("float32")
            values.flags.writeable = False
            return values
    values = np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=shape)
    madvise(values, [0], [len(values._mmap)], "MADV_RANDOM")
    return values


def day_offsets(
    hours: pd.DatetimeIndex,  # (H,) local hours without gaps
) -> np.ndarray:  # (D,) int64 positions of the first hours of the complete days of 24 hours
    "Positions of local days on the axis of hours."
    local = hours.tz_localize(None)
    first = np.flatnonzero(local.hour == 0)
    first = first[first + 24 <= len(hours)]
    return first[local[first + 23] == local[first] + pd.Timedelta(hours=23)]


def gather_windows(
    values: np.ndarray,  # (N, H, S) in memory or mapped
    station: np.ndarray,  # (B,) rows of `values`
    start: np.ndarray,  # (B,) positions of the first hours
    length: int = 24,  # hours of a sample
) -> np.ndarray:  # (B, length, S) in memory
    "Gather windows, in any order. Raises `IndexError` for one that leaves the array."
    if isinstance(values, np.memmap):
        begin = (
            values.ctypes.data
            - np.frombuffer(values._mmap, "u1").ctypes.data
            + station * values.strides[0]
            + start * values.strides[1]
        )
        madvise(values, begin.tolist(), (begin + length * values.strides[1]).tolist(), "MADV_WILLNEED")
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)  # (N, H - length + 1, S, length), a view
    return np.asarray(np.moveaxis(windows[station, start], -1, 1))
