"""ZIP archives built inside S3: which bytes they have, and how S3 is made to join them.

``members`` what an archive is made of · ``zip_records`` headers and directory · ``layout`` where every byte lies and in
which parts · ``blocks`` archives of more than 10 000 parts · ``crc`` CRC-32 by combination · ``learning`` CRC-32s that
no record knows · ``parts`` one part made · ``building`` a job done, slice by slice · ``clearing`` nothing left over.
"""
