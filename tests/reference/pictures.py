"""One file for every kind of picture that people have, and the patches that transformers' slow processor cuts from it."""

from pathlib import Path

import numpy as np
from cases import draw
from PIL import Image
from transformers.image_utils import load_image

EXIF_ORIENTATION = 0x0112


def grey(width: int, height: int, seed: int) -> Image.Image:
    return draw(width, height, seed).convert("L")


def with_alpha(picture: Image.Image) -> Image.Image:
    """The picture with an alpha channel that falls from the left to the right."""
    ramp = np.linspace(255, 0, picture.width).astype(np.uint8)
    picture.putalpha(Image.fromarray(np.tile(ramp, (picture.height, 1))))
    return picture


def save_all_kinds(folder: Path) -> list[str]:
    """Write the files and return their names. Sizes are odd, so that every one is resized."""
    size = (93, 71)
    plain = draw(*size, 200)
    frames = [draw(*size, seed) for seed in (201, 202, 203)]
    exif = Image.Exif()
    sixteen_bit = np.asarray(grey(*size, 204)).astype(np.uint16) * 257
    plain.save(folder / "rgb.png")
    plain.save(folder / "rgb.webp", lossless=True)
    plain.save(folder / "rgb.bmp")
    plain.save(folder / "baseline.jpg", quality=85)
    plain.save(folder / "progressive.jpg", quality=60, progressive=True)
    plain.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    plain.convert("CMYK").save(folder / "cmyk.tiff")
    plain.quantize(32).save(folder / "palette.png")
    plain.quantize(16).save(folder / "palette_transparent.png", transparency=3)
    plain.convert("1").save(folder / "bilevel.png")
    grey(*size, 205).save(folder / "grey.png")
    with_alpha(grey(*size, 206)).save(folder / "grey_alpha.png")
    with_alpha(plain.copy()).save(folder / "rgba.png")
    Image.fromarray(sixteen_bit).save(folder / "sixteen_bit.png")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
    for orientation in range(2, 9):
        exif[EXIF_ORIENTATION] = orientation
        plain.save(folder / f"exif_{orientation}.jpg", quality=95, exif=exif)
    return sorted(path.name for path in folder.iterdir())


def opened(path: Path) -> Image.Image:
    """As transformers opens a file (`load_image`): turned as its EXIF tag says, first frame, to RGB; but first transparency is
    laid on white and 16 bits are scaled to 8, where transformers shows colours nobody sees and cuts at 255."""
    picture = Image.open(path)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB")
    return load_image(str(path))


def write_pictures(image_processor, folder: Path) -> dict:
    """Write the files and pictures.npz with `NAME/pixel_values` and `NAME/image_grid_thw` for each, `opened`."""
    folder.mkdir()
    arrays = {}
    names = save_all_kinds(folder)
    for name in names:
        patches = image_processor(images=[opened(folder / name)], return_tensors="np")
        arrays |= {f"{name}/{key}": value for key, value in patches.items()}
    np.savez_compressed(folder / "pictures.npz", **arrays)
    return {"folder": "pictures", "file": "pictures/pictures.npz", "names": names}
