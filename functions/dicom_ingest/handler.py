"""Lambda entry point: dicom_ingest. Ten files at once: what they are, whether they are new, where they belong."""

from heavylift.dicom.ingest import take_all
from heavylift.messages import serve_together

handler = serve_together("dicom_ingest", take_all)
