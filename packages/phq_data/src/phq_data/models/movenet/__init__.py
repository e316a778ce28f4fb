"""MoveNet: MultiPose proposes people, Thunder finds their keypoints."""
