"""What is odd about DICOM files that are stored all the same, in words. Pure."""

from __future__ import annotations

from typing import Final

WORDS: Final = {
    "bad_number": "An attribute that must be a number is none; it is left out of the index.",
    "burned_in": "The pixels may show who the patient is; they are kept as they are.",
    "character_set_unknown": "The file's character set is not known; text is read as Latin.",
    "command_set": "The file begins with a command set of the network protocol.",
    "encoding_differs": "The data are encoded otherwise than the transfer syntax says; the data are believed.",
    "implicit_within_explicit": "Parts of the data have no value representations.",
    "meta_without_vr": "The file meta information is not encoded as it must be.",
    "other_patient": "Another patient ID was stored with this study before; the first one is shown.",
    "preamble_missing": "The file has no preamble.",
    "preamble_executable": "The preamble makes the file a program or document too; it is served as an attachment only.",
    "repeated_element": "An attribute appears twice, or out of order; the last one counts.",
    "replaced_another": "It has taken the place of a file with the same UIDs and other bytes.",
    "trailing_bytes": "Zeros follow the data.",
    "transfer_syntax_missing": "The file does not say how it is encoded.",
    "truncated": "The file ends inside of an element.",
    "undecodable_text": "Some text is not in the file's character set.",
    "unknown_vr": "A value representation is not known.",
    "value_too_long": "An attribute is too long for the index; it is left out.",
}


def warning_in_words(code: str) -> str:
    """A sentence for people; of a code that has none here, a general one."""
    return WORDS.get(code, "The file is odd, but can be used.")
