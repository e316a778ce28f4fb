"""Rendered people whose camera and pose are known: the benchmark of the whole pipeline.

`people` decides who stands there and how, `figure` builds and poses them, `wardrobe` (cut from `surfaces`)
adds hair, hats and clothes, `paint` colors them, `draw` lights and draws them, `backdrop` makes what is
behind and in front, `photograph` chooses the camera and takes the image, `truth` writes down what was true.
"""
