"""Docker Compose files and Kubernetes manifests: the server or the training that a container starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.launchfiles import Launch, read_launch
from planner.launchfiles.containers import MOST_CONTAINERS, container_gpus, container_script, containers, replicas

H100 = {"accelerator": "h100-sxm5-80gb"}
ARGS = '["--model", "Qwen/Qwen2.5-7B-Instruct", "--tensor-parallel-size", "2", "--max-num-seqs", "16"]'
COMPOSE = """
services:
  database:
    image: postgres:15
    command: ["-c", "shared_buffers=1GB"]
  server:
    image: vllm/vllm-openai:v0.11.0
    environment: {0}
    command: {1}
"""
POD = """
apiVersion: v1
kind: PersistentVolumeClaim
---
apiVersion: apps/v1
kind: Deployment
spec:
  replicas: 3
  template:
    spec:
      containers:
        - name: server
          image: vllm/vllm-openai@sha256:0123
          env: [{name: MODEL, value: Qwen/Qwen2.5-7B-Instruct}, {name: KEY, valueFrom: {secretKeyRef: {name: a, key: b}}}]
"""


def read(tmp_path: Path, text: str) -> Launch:
    (tmp_path / "server.yaml").write_text(text)
    return read_launch([tmp_path / "server.yaml"], cluster=H100)


@pytest.mark.parametrize(
    "text",
    [
        COMPOSE.format("{}", ARGS),
        COMPOSE.format(
            "{TP: 2}",
            ">\n      --model ${MODEL:-Qwen/Qwen2.5-7B-Instruct}\n      --tensor-parallel-size ${TP} --max-num-seqs 16\n",
        ),
        COMPOSE.format("[TP=2]", '"--model Qwen/Qwen2.5-7B-Instruct --tensor-parallel-size $TP --max-num-seqs 16"'),
        f"{POD}          args: {ARGS}\n",
        f'{POD}          args: ["--model=$(MODEL)", "--tensor-parallel-size=2", "--max-num-seqs=16"]\n',
        f'{POD}          command: ["vllm", "serve"]\n'
        '          args: [Qwen/Qwen2.5-7B-Instruct, --tensor-parallel-size, 2, --max-num-seqs, "16"]\n',
        f'{POD}          command: ["/bin/sh", "-c"]\n'
        '          args: ["vllm serve ${MODEL} --tensor-parallel-size 2 --max-num-seqs 16"]\n',
        f"{POD}          command: [python3, -m, vllm.entrypoints.openai.api_server, --model, $(MODEL), --tensor-parallel-size, 2,"
        " --max-num-seqs, 16]\n",
    ],
)
def test_every_way_to_write_a_container_is_one_question(text: str, tmp_path: Path) -> None:
    found = read(tmp_path, text)
    assert found.serves
    assert found.tables["model"] == {"name": "qwen2.5-7b"}
    assert found.tables["cluster"] == {**H100, "num_gpus": 2}
    assert (found.tables["serving"]["tp"], found.tables["serving"]["max_batch"]) == (2, 16)
    assert found.not_understood == ()
    copies = [note for note in found.notes if "replicas = 3" in note]
    assert len(copies) == text.count("replicas: 3")


def test_a_training_in_a_pod(tmp_path: Path) -> None:
    text = f"{POD}          command: [torchrun, --nproc_per_node, 8, pretrain_gpt.py]\n          args: "
    text += "[--num-layers=2, --hidden-size=512, --num-attention-heads=8, --seq-length=512, --max-position-embeddings=512,"
    text += " --micro-batch-size=1, --global-batch-size=16, --vocab-size=1024]\n"
    found = read(tmp_path, text)
    assert not found.serves
    assert found.tables["job"]["global_batch_size"] == 16


def test_a_file_whose_containers_start_nothing_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no supported tool is started"):
        read(tmp_path, "services:\n  a:\n    image: postgres\n    command: [x]\n")


def test_containers_are_found_wherever_they_stand() -> None:
    one = {"image": "a", "args": ["b"]}
    assert list(containers({"x": [{"y": {"containers": [one]}}], "image": 1})) == [one]
    assert replicas({"spec": {"replicas": 2, "inner": [{"replicas": 5}]}}) == 5
    deep: dict[str, object] = {}
    for _ in range(1000):
        deep = {"a": deep}
    assert list(containers(deep)) == []
    assert replicas(deep) == 1


def test_a_word_of_a_list_stays_one_word() -> None:
    assert container_script({"image": "a", "entrypoint": ["b"], "command": ['c "d" `e`']}) == '"b" "c \\"d\\" \\`e\\`"\n'


@pytest.mark.parametrize(
    "gpus",
    [
        "resources: {limits: {nvidia.com/gpu: 4}}",
        'resources: {requests: {cpu: 8, amd.com/gpu: "4"}}',
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 4, capabilities: [gpu]}]}}}",
        'deploy: {resources: {reservations: {devices: [{device_ids: ["0", "1", "2", "3"], capabilities: [gpu]}]}}}',
        "gpus: 4",
        "gpus: [{driver: nvidia, count: 4}]",
    ],
)
def test_the_gpus_of_a_container_are_those_of_its_run(gpus: str, tmp_path: Path) -> None:
    """A training takes what its options leave open; a server spreads as its options say, and the rest is told."""
    size = "--num-layers 2 --hidden-size 512 --num-attention-heads 8 --seq-length 512 --max-position-embeddings 512"
    words = f"{size} --micro-batch-size 1 --vocab-size 1024".replace(" ", ", ")
    train = f"a:\n  image: own\n  {gpus}\n  command: [START, pretrain_gpt.py, {words}]\n"
    assert read(tmp_path, train.replace("START", "python")).tables["cluster"]["num_gpus"] == 4
    assert read(tmp_path, train.replace("START", "torchrun, --nproc-per-node, 2")).tables["cluster"]["num_gpus"] == 2
    serve = f"a:\n  image: vllm/vllm-openai\n  {gpus}\n  command: [--model, Qwen/Qwen2.5-7B-Instruct, -tp, RANKS]\n"
    for ranks in (1, 4):
        found = read(tmp_path, serve.replace("RANKS", str(ranks)))
        assert found.tables["cluster"]["num_gpus"] == ranks
        assert any("the container has 4 GPUs" in note for note in found.notes) == (ranks == 1)
        assert not found.not_understood
    rows = f"a:\n  image: x\n  {gpus}\n  command: [llama-server, -hf, bartowski/Llama-3.2-3B-Instruct-GGUF]\n"
    assert read(tmp_path, rows).tables["cluster"]["num_gpus"] == 4


def test_gpus_of_no_known_program_are_no_launch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no supported tool is started"):
        read(tmp_path, "a:\n  image: postgres\n  command: [x]\n  resources: {limits: {nvidia.com/gpu: 4}}\n")


def test_devices_that_are_no_gpus_are_none() -> None:
    device = {"driver": "cdi", "count": 1, "capabilities": ["tpm"]}
    assert list(container_gpus({"deploy": {"resources": {"reservations": {"devices": [device, "x"]}}}, "gpus": "all"})) == [
        ("gpus", "all")
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"a": [{"image": "a", "command": ["x"]}] * (MOST_CONTAINERS + 1)},
        {"image": "a", "command": ["x"] * 3000},
        {"image": "a", "command": ["x"], "b": [0] * 3000},
    ],
)
def test_what_is_too_long_is_refused_not_cut(data: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at most 2,000 are|holds over 100 containers"):
        read(tmp_path, json.dumps(data))
