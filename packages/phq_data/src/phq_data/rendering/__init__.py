"""Images of meshes."""
