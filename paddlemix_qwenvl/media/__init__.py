"""Images and videos in: fetching, decoding, resizing, frame sampling, cutting into patches. Knows no model."""

from .content_cache import ContentCache, content_key
from .images import load_image
from .messages import process_vision_info
from .parts import check_parts
from .patches import preprocess_images, preprocess_videos
from .resize import smart_resize
from .video import Video, load_video

__all__ = [
    "ContentCache",
    "Video",
    "check_parts",
    "content_key",
    "load_image",
    "load_video",
    "preprocess_images",
    "preprocess_videos",
    "process_vision_info",
    "smart_resize",
]
