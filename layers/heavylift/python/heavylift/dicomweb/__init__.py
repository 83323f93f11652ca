"""DICOMweb: searches (QIDO-RS), retrievals (WADO-RS) and storage (STOW-RS) over the index and the store. PS3.18.

``routing`` takes a call apart and ``exchange`` is what it becomes; each resource has a module of its own.
"""
