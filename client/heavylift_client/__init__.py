"""The Python client of heavylift: uploads, downloads and the ``heavylift`` command."""
