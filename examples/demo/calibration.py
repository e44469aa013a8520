"""Writes scenes that the demo was not tested on, with questions, for `paddlemix-qwenvl quantize --calibration`.

python calibration.py outputs/calibration
"""

import argparse
import json
from pathlib import Path

import scenes


def conversations(folder: Path, count: int) -> list[dict]:
    """So many conversations of each task, whose pictures are written into the folder."""
    found = []
    for task in scenes.TASKS:
        for number in range(count):
            drawn, question, answer = scenes.example(task, f"calibration {number}", scenes.SHAPES)
            names = [f"{task}-{number}-{place}.png" for place in range(len(drawn))]
            for name, scene in zip(names, drawn, strict=True):
                scene.image.save(folder / name)
            content = [*({"type": "image", "image": name} for name in names), {"type": "text", "text": question}]
            found.append({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=16, help="conversations a task")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each, ensure_ascii=False) for each in conversations(arguments.folder, arguments.count)]
    (arguments.folder / "conversations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
