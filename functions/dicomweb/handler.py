"""Lambda entry point: dicomweb. Searches, retrievals and storage as PS3.18 describes them."""

from heavylift.dicomweb.routing import handle as handler

__all__ = ["handler"]
