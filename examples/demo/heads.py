"""Heads that training asks about every patch (see patches.py), and their loss."""

import paddle.nn.functional as F
from paddle import nn
from patches import COORDINATES, DIGITS, FEATURE_LABELS, IGNORED, PLACES


class PatchHeads(nn.Layer):
    """Linear heads on the features and on the middle layer of a Qwen2.5-VL; listens to its forward passes."""

    def __init__(self, model):
        super().__init__()
        width = model.config.hidden_size
        self.sizes = [len(values) for values in FEATURE_LABELS.values()]
        self.on_features = nn.Linear(width, sum(self.sizes) + COORDINATES)
        self.on_hidden = nn.Linear(width, COORDINATES * PLACES * len(DIGITS))
        self.heard = {}
        model.visual.register_forward_post_hook(lambda layer, given, features: self.heard.update(features=features))
        middle = model.model.layers[len(model.model.layers) // 2]
        middle.register_forward_post_hook(lambda layer, given, output: self.heard.update(hidden=given[0].total()))

    def loss(self, image_places, patch_labels, patch_boxes):
        """Sum of the questions' mean losses, after a forward pass; `image_places` are the image tokens' among the packed."""
        *said, offsets = self.on_features(normalized(self.heard.pop("features"))).split([*self.sizes, COORDINATES], 1)
        total = sum(mean_loss(logits, patch_labels[:, column]) for column, logits in enumerate(said))
        digits = self.on_hidden(normalized(self.heard.pop("hidden").index_select(image_places)))
        expected = patch_labels[:, len(self.sizes) :]
        total += 3 * mean_loss(digits.reshape([-1, len(DIGITS)]), expected.flatten())
        on_shape = (expected[:, :1] != IGNORED).astype("float32")
        return total + 2 * ((offsets - patch_boxes).abs() * on_shape).sum() / (COORDINATES * on_shape.sum() + 1)


def normalized(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def mean_loss(logits, labels):
    """Mean cross entropy over the labels that are not IGNORED; zero if there are none."""
    counted = (labels != IGNORED).astype("float32")
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").flatten()
    return (losses * counted).sum() / (counted.sum() + 1e-6)
