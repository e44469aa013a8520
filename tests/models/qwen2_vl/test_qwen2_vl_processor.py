"""The processor: videos without seconds, answers with the tags of their boxes, and whose a folder is."""

import hub_model
import numpy as np
import pytest

from paddlemix_qwenvl.models.family import family_of, identity_of

IDS = hub_model.IDS


def test_videos_have_no_seconds(its_processor):
    film = np.zeros((4, 56, 84, 3), np.uint8)
    inputs = its_processor(
        text="<|vision_start|><|video_pad|><|vision_end|>", videos=[film], fps=3.0, return_tensors="np"
    )
    assert "video_grid_thw" in inputs and "second_per_grid_ts" not in inputs
    assert "second_per_grid_ts" not in its_processor.model_input_names


def test_answers_keep_the_tags_of_their_boxes_and_no_other(its_processor):
    text = "<|object_ref_start|>the man<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>"
    ids = its_processor(text=f"<|im_start|>{text}<|im_end|><|endoftext|>", return_tensors="np")["input_ids"]
    assert its_processor.post_process(ids) == [text]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"model_type": "qwen2_vl"}, "qwen2_vl"),
        ({"architectures": ["Qwen2VLForConditionalGeneration"]}, "qwen2_vl"),
        ({"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"}, "qwen2_vl"),
        ({"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}, "qwen2_5_vl"),
    ],
)
def test_whose_a_folder_is(content, name):
    assert family_of(content).name == name


def test_a_saved_processor_is_of_its_family(its_processor, tmp_path):
    its_processor.save_pretrained(tmp_path)
    assert family_of(identity_of(tmp_path)).name == "qwen2_vl"
