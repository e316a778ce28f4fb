"""Orientation priors: where the camera stands, from keypoints or from the image."""
