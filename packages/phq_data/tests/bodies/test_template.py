import os
from pathlib import Path

import numpy as np

from phq_data.bodies import JOINT_NAMES, SMPL_JOINT_INDEX
from phq_data.bodies.template import template_joints

GOLDEN = Path(os.environ.get("PHQ_GOLDEN", Path(__file__).parents[4] / "tests" / "golden"))


def test_template_golden_smpl_joints():
    reference = np.load(GOLDEN / "golden_phq_align.npz")["template_joints_neck_origin"]
    rows = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
    np.testing.assert_allclose(template_joints("smpl"), reference[rows], atol=6e-6)
