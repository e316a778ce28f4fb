"""Pose networks that users bring: any ONNX file with a SimCC or a heatmap head finds the keypoints."""
