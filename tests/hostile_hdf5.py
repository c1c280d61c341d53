"""HDF5 that must not be loaded, each with the code and the place of what is found in it."""

import h5py
import numpy as np


def plain(file):
    file.create_dataset("layers/dense/vars/0", data=np.ones((3, 4), "f4"))


def external(file):
    file.create_dataset("x", (8,), "u1", external=[("/etc/passwd", 0, 8)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hosts", "x", (4,))
    file.create_virtual_dataset("x", layout)


def soft_link(file):
    plain(file)
    file["y"] = h5py.SoftLink("/layers")


def external_link(file):
    file["y"] = h5py.ExternalLink("/etc/passwd", "/")


def loop(file):
    plain(file)
    file["layers/again"] = file["/"]


def same_array_twice(file):
    plain(file)
    file["layers/other"] = file["layers/dense/vars/0"]


def claims_a_terabyte(file):
    file.create_dataset("x", (1 << 40,), "u1", chunks=(1 << 20,))


def odd_filter(file):
    # A filter of a plugin, which the library would look for among programs; that there is none matters to writers only.
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4,))
    settings.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), settings)


def packed_zeros(file):
    file.create_dataset("x", data=np.zeros(8 << 20, "u1"), compression="gzip", compression_opts=9)


def texts(file):
    file.create_dataset("x", data=["a"], dtype=h5py.string_dtype())


def named_type(file):
    file["t"] = np.dtype("f4")


# [(what builds it, code, place)]
HOSTILE = [
    (external, "external_dataset", "/x"),
    (virtual, "virtual_dataset", "/x"),
    (soft_link, "link", "/y"),
    (external_link, "link", "/y"),
    (loop, "link", "/layers/again"),
    (same_array_twice, "link", "/layers/other"),
    (claims_a_terabyte, "too_large", "/x"),
    (odd_filter, "filter", "/x"),
    (packed_zeros, "too_large", "/x"),
    (texts, "members", "/x"),
    (named_type, "members", "/t"),
]
