"""Images and videos in: fetching, decoding, resizing, frame sampling, cutting into patches. Knows no model."""

from .images import load_image
from .patches import preprocess_images, preprocess_videos
from .resize import smart_resize

__all__ = ["load_image", "preprocess_images", "preprocess_videos", "smart_resize"]
