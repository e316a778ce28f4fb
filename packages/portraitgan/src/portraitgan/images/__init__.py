"""Generated tensors as images: drawn, arranged in sheets, written to files."""
