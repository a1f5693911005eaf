"""The smallest submission: one text for every question, and a grey picture where a picture may be asked for."""

import json
from pathlib import Path

from PIL import Image

Path("output/images").mkdir(parents=True, exist_ok=True)
predictions = {}
for id, entries in json.loads(Path("../input/input.json").read_text("utf-8")).items():
    texts = [entry["content"] for entry in entries if entry["type"] == "text"]
    images = [Path("../input", entry["content"]) for entry in entries if entry["type"] == "image"]
    answers = [{"type": "text", "content": "да"}]  # here your model reads `texts` and `images`
    if not images:  # a text or a picture may be asked for: answer with both
        name = f"images/image_{id}.jpg"
        Image.new("RGB", (256, 256), "grey").save(Path("output", name))
        answers.append({"type": "image", "content": name})
    predictions[id] = answers
Path("output/predictions.json").write_text(json.dumps(predictions, ensure_ascii=False), "utf-8")
