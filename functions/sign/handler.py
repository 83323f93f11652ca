"""Lambda entry point: sign. Presigned part URLs; stdlib and heavylift only."""

from heavylift.api.sign import handle


def handler(event, context):
    return handle(event, context)
