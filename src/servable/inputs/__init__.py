"""Pictures, sounds and texts as tensors: pure functions from bytes to arrays, one file for each kind.

Serving and training call the same functions with the same records of ``artifact.preparation``. The
libraries (Pillow, soundfile, tokenizers) are imported when the first file of their kind is prepared;
without one the error names the extra.
"""
