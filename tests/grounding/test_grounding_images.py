"""Which picture of several each shape of an answer lies in."""

import pytest
from test_grounding_parse import BOX, qwen2_vl_tags

from paddlemix_qwenvl.grounding import parse


@pytest.mark.parametrize(
    ("text", "images"),
    [
        (f"Picture 1: {BOX} Picture 2: {BOX} {BOX}", [0, 1, 1]),
        (f"In the second image: {BOX} and in the first image: {BOX}", [1, 0]),
        (f"图2：{BOX} 第一张图片 {BOX} 在Picture 3中 {BOX}", [1, 0, 2]),
        (f'{{"Picture 1": [{BOX}], "Picture 3": {BOX}}}', [0, 2]),
        ('[{"image": 2, "bbox_2d": [1,2,3,4]}, {"image": 1, "bbox_2d": [1,2,3,4]}]', [1, 0]),
        ('[{"image_index": 0, "bbox_2d": [1,2,3,4]}, {"image_index": 2, "bbox_2d": [1,2,3,4]}]', [0, 2]),
        (f'[{{"picture": "Picture 2", "objects": [{BOX}, {BOX}]}}]', [1, 1]),
        (f"```json\n[{BOX}]\n```\n```json\n[{BOX}, {BOX}]\n```\n```json\n[{BOX}]\n```", [0, 1, 1, 2]),
        (f"```json\n[{BOX}]\n```\n```json\n[{BOX}]\n```", [0, 0]),
        (f"```json\n[{BOX},\n```\n```json\n[{BOX}\n```\n```json\n[{BOX}]\n```", [0, 1, 2]),
        ("Picture 2: <ref>dog</ref><box>(1,2),(3,4)</box>", [1]),
        (qwen2_vl_tags("图3：<ref>Picture 2</ref><box>(1,2),(3,4)</box> 图1 <box>(1,2),(3,4)</box>"), [2, 0]),
        (f"{BOX} as in Picture 2", [0]),
        (f"[{BOX}] [{BOX}] [{BOX}] are not in Picture 2", [0, 0, 0]),
        (f"Image 1024x768 {BOX}", [0]),
        (f'{{"image": 9, "bbox_2d": [1,2,3,4]}} {BOX}', [0]),
        (f'[{{"label": "Picture 2", "bbox_2d": [1,2,3,4]}}, {BOX}]', [0, 0]),
    ],
)
def test_each_box_knows_its_picture(text, images):
    sizes = [(100, 100), (200, 200), (300, 300)]
    items = parse(text, sizes, [(100, 100)] * 3)
    assert [item.image for item in items] == images
    scale = 10 if "(1,2)" in text else 1
    assert all(item.coords[2] == 3 * (item.image + 1) / scale for item in items)


@pytest.mark.parametrize(
    ("text", "images"),
    [
        (BOX, [1]),
        (f"[{BOX}] [{BOX}, {BOX}]", [1, 2, 2]),
        (f"[{BOX}] [{BOX}] [{BOX}]", [1, 1, 1]),
        (f"Picture 1: {BOX} Picture 3: {BOX}", [0, 2]),
    ],
)
def test_pictures_of_this_question_come_before_those_of_earlier_ones(text, images):
    sizes = [(10, 10)] * 3
    assert [item.image for item in parse(text, sizes, sizes, first=1)] == images


def test_with_one_picture_its_number_does_not_matter():
    assert [item.image for item in parse(f'Picture 7: {{"image": 3, "objects": [{BOX}]}}', [(9, 9)], [(9, 9)])] == [0]
