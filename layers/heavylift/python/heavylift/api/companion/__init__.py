"""The routes of Companion's S3 contract: an unmodified Uppy uploads through them, with a ticket in place of a token.

Shapes: @uppy/companion 6.2, ``server/controllers/s3``. What Uppy calls ``uploadId`` is our file id; tenant and user
come from the ticket, key and S3's upload id from the record, never from the query.
"""
