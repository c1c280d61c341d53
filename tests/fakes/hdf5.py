"""`Hdf5Reader` without a process of its own, for HDF5 that our own tests made and that does nothing to the library."""

from io import BytesIO
from typing import BinaryIO

from shared.adapters.hdf5_process import contents_of
from shared.keras_files import Hdf5Contents


class Hdf5InProcess:
    """Looks with the same code as the process apart."""

    def contents(self, file: BinaryIO, start: int, n_bytes: int) -> Hdf5Contents:
        file.seek(start)
        return contents_of(BytesIO(file.read(n_bytes)), n_bytes)
