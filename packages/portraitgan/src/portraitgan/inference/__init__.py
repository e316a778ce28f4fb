"""Using a trained generator: images, videos, meshes, poses, inversion, the viewer."""
