"""TIFF 6.0 and BigTIFF: directories, layout, bands. No I/O here; only ``tiff.reducer`` needs Pillow."""
