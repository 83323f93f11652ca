"""Lambda entry point: validate. What is it really, may it stay, then into the store; and pieces of large tables."""

from heavylift.messages import serve
from heavylift.piecework import shared
from heavylift.validation import take

handler = serve("validate", shared(take))
