"""The shared package of heavylift's Lambda functions; this folder is the layer.

Code here that decides does no I/O. Only ``s3``, ``dynamo`` and ``queue`` talk to AWS.
"""

__version__ = "0.1.0"
