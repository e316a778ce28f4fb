"""portraitgan: a released portrait dataset to a 3D portrait generator.

What "spec section N" and "QN" in docstrings mean: docs/references.md.
"""
