"""The Lambda runtime: awslambdaric children, one Runtime API endpoint each, memory, storage and time as hard limits.

What differs from Lambda, and which test shows each trait, is the table ``realism.REALISM``.
"""
