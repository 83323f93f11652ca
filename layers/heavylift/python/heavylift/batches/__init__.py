"""Batches: many files under one id, with a manifest, exact progress and one end.

All items of a batch lie in one partition, ``T#<tenant>#B#<batch_id>``, so that they can be read with strong
consistency: ``B`` the batch, ``M#<hundred>`` the manifest, ``C#<hundred>`` the marks of what became of each member,
``X`` objects that were refused, ``F#<n>`` the records of members.
"""
