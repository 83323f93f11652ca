"""The edge towards HTTP: who calls, what a body must look like, what an answer looks like. No I/O here."""
