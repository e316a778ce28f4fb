"""portraitgan: a released portrait dataset to a 3D portrait generator."""
