"""The local stack: a strict S3, a small Lambda runtime and an API gateway on the loopback interface."""
