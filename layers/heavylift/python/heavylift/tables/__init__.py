"""Tables and text: every defect named to the byte.

``validate_file(path, rules)`` is the validator for one file on this machine; ``run.Run`` is what it and the function
``validate`` both drive. Importing this package loads none of the libraries that the work needs.
"""

from __future__ import annotations

from typing import Any

__all__ = ["validate_file"]


def __getattr__(name: str) -> Any:
    if name == "validate_file":
        from heavylift.tables.local import validate_file

        return validate_file
    raise AttributeError(name)
