"""Using a trained generator: pictures, films, meshes, poses, inversion, the viewer."""
