"""`python -m training.worlds export --scenes N --size S --out FOLDER`: captioned scenes as `captions.json` and PNGs."""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from training.worlds import SPLITS, scenes, seeded


def export(folder: Path, n: int, size: int, split: str) -> None:
    """Writes `images/<i>.png` and `captions.json`, a list of {"image", "captions"}; the order is the seeds'."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in tqdm(range(n), desc="scenes", mininterval=5):
        scene = scenes.draw_scene(seeded(split, "export", i), size)
        name = f"images/{i}.png"
        scene.image.save(folder / name)
        rows.append({"image": name, "captions": scenes.captions(scene)})
    (folder / "captions.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.worlds", description=__doc__)
    parser.add_argument("command", choices=["export"])
    parser.add_argument("--scenes", type=int, required=True, help="how many scenes to draw")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.out, arguments.scenes, arguments.size, arguments.split)


if __name__ == "__main__":
    main()
