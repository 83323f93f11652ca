"""A strict, streaming S3 for one machine: what it does it does as S3 does, what it does not know it answers 501.

`python -m heavylift_local.s3 --config FILE` serves; `S3Server(config).start()` serves inside a process.
"""

from heavylift_local.s3.config import BucketConfig, Caller, Config, CorsRule, Statement
from heavylift_local.s3.server import S3Server

__all__ = ["BucketConfig", "Caller", "Config", "CorsRule", "S3Server", "Statement"]
