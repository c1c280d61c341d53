"""The Python client of Trainshed: upload data sets, train models on them, publish models of your own, download them."""

from trainshed.auth import PasswordSignIn
from trainshed.client import Client
from trainshed.errors import TrainshedError
from trainshed.settings import connect
from trainshed.upload import upload_file

__all__ = ["Client", "PasswordSignIn", "TrainshedError", "connect", "upload_file"]
