"""DICOM files read from a few ranges of their bytes: header, frames, pixels, DICOM JSON, de-identified copies.

Format readers (generators) and pure functions; what fetches and what stores is elsewhere. The standard is cited as
PS3.n with section or table.
"""
