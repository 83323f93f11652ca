"""The API gateway: an HTTP API with payload format 2.0, a JWT authorizer, the page, and the stack's own knobs."""
