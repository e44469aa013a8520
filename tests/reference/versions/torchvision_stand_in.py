"""To import before transformers, where torchvision's operations do not load.

torchvision's build for CPUs is on no index; of the other one, whose operations do not load, the video processor needs none.
"""

import torch

STANDIN = torch.library.Library("torchvision", "DEF")
for operation in ("nms", "qnms"):
    STANDIN.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
