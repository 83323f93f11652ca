"""The Lambda runtime: awslambdaric children, one Runtime API endpoint each, memory and time as hard limits."""
