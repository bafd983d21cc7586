"""`handler.py` of a folder, loaded and called as the toolkit of Inference Endpoints does, where `ram_hf` is not."""

import base64
import io
import json
import os
import subprocess
import sys

from PIL import Image

CODE = """
import sys
sys.modules["ram_hf"] = None
import importlib.util, io, json, base64
from PIL import Image
folder, content = sys.argv[1:]
spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
sys.path.insert(0, folder)
module = importlib.util.module_from_spec(spec)
sys.modules["handler"] = module
spec.loader.exec_module(module)
handler = module.EndpointHandler(folder)
parameters = {"candidate_labels": ["dog", "red car"]}
raw = base64.b64decode(content)
image = Image.open(io.BytesIO(raw)).convert("RGB")
for inputs in (content, f"data:image/png;base64,{content}", raw, image, [content, raw]):
    print(json.dumps(handler({"inputs": inputs, "parameters": parameters})))
print(json.dumps(handler({"inputs": {"image": content, "candidate_labels": "dog,red car"}})))
print(json.dumps(handler({"inputs": content, "parameters": {**parameters, "return_regions": True, "top_k": 1}})))
for data in ({}, {"inputs": "https://example.org/a.png", "parameters": parameters}, {"inputs": "/etc/passwd",
             "parameters": parameters}, {"inputs": content}, {"inputs": content, "parameters": {"top": 1}}):
    try:
        handler(data)
        print("taken")
    except (ValueError, TypeError) as error:
        print(error)
"""


def test_as_the_toolkit_calls_it(trained, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (20, 30), "seagreen").save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    environment = {**os.environ, "PYTHONPATH": "", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(trained), content],
        **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    *answers, regions = map(json.loads, done.stdout.splitlines()[:7])
    errors = done.stdout.splitlines()[7:]
    assert [tag["label"] for tag in answers[0]] in (["dog", "red car"], ["red car", "dog"])
    assert abs(sum(tag["score"] for tag in answers[0]) - 1) < 1e-5
    assert answers[0] == answers[1] == answers[2] == answers[3] == answers[5]
    assert len(answers[4]) == 2
    assert len(regions) == 1
    assert {"heat_map", "peak", "box"} <= set(regions[0])
    messages = ("There is no image", "not followed", "not followed", "candidate_labels", "no argument 'top'")
    for error, message in zip(errors, messages, strict=True):
        assert message in error
