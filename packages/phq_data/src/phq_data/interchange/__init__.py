"""Portraits in the formats of the reference tools: zip pairs that EG3D, PanoHead and 3DPortraitGAN train on,
and folders of the authors' own pipeline.

`eg3d` reads and writes zip pairs, `reference` reads folders, `tables` brings either into a workspace and out.
"""
