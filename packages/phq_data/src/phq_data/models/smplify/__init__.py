"""SMPLify: fit the free body and a full-perspective camera to 2D keypoints, many people at once.

After Bogo et al., "Keep it SMPL" (ECCV 2016): minimise a robust reprojection error plus priors. Ours differs:
portraits show head and shoulders, so nine keypoints and the joints between them are all that is fitted; all
people of a batch and all yaw starts of a person are solved in one vectorised Levenberg-Marquardt.
"""

from phq_data.models.smplify.fitter import SmplifyFitter
from phq_data.models.smplify.settings import Smplify2Config, SmplifyConfig

__all__ = ["Smplify2Config", "SmplifyConfig", "SmplifyFitter"]
