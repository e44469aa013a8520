"""Colours of a screenshot."""

import io

import numpy as np
from PIL import Image


def screenshot(page) -> np.ndarray:
    """RGB [height, width, 3] of what the window shows."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def rgb(page, selector: str, name: str) -> tuple[int, int, int]:
    """A colour that an element is shown in; `name` is that of a CSS property."""
    text = page.locator(selector).first.evaluate(f"node => getComputedStyle(node).getPropertyValue('{name}')")
    red, green, blue, *_ = (float(value) for value in text[text.index("(") + 1 : -1].replace(",", " ").split())
    return round(red), round(green), round(blue)


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance. Source: WCAG 2.2."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Ratio of contrast, 1 to 21. Source: WCAG 2.2."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def extent_of(picture: np.ndarray, is_it) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) around the pixels whose (red, green, blue) satisfy `is_it`."""
    rows, columns = np.nonzero(is_it(*picture.transpose(2, 0, 1)))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
