"""Lambda entry point: validate. What is it really, may it stay, then into the store."""

from heavylift.messages import serve
from heavylift.validation import take

handler = serve("validate", take)
