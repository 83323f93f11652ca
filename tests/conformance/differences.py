"""Where LocalStack 4.13.1 answers otherwise than this suite wants (which follows AWS): case -> reason."""

LOCALSTACK: dict[str, str] = {}
