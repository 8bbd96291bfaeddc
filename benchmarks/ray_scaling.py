"""Throughput of `--engine ray` on two nodes against one, when the reward model computes on CPUs.

Both clusters are real and local: a head without CPUs and nodes of one CPU, each with one actor of
the reward model (a Llama classifier of random weights, one thread). The policy's server answers at
once. The rate is counted over the last two thirds of the queries, when all actors are loaded. Each
node needs a core, and server and worker a part of one more: on a machine of two cores the ratio
stays below what two machines give.

    python -m benchmarks.ray_scaling [--queries 60] [--rounds 1] [--layers 6]
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from tpo_graph import TPOContext
from tpo_graph.batch.engine import Job
from tpo_graph.batch.ray_cluster import Cluster
from tpo_graph.batch.ray_engine import RayEngine
from tpo_graph.conversation import Turn

TOKENIZER = Path(__file__).parent.parent / "examples" / "offline" / "models" / "reward-warm"
MEMORY = 80 * 2**20
WIDTH = 5


def save_classifier(folder: Path, layers: int) -> None:
    """A one-label classifier of random weights, with the tokenizer of the offline example."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(TOKENIZER)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def server() -> Iterator[str]:
    """The instant server, on whatever core is free; its base URL."""
    command = [sys.executable, "-m", "benchmarks.instant_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """A cluster of so many nodes of one CPU."""
    import ray
    from ray.cluster_utils import Cluster as LocalCluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
    made = LocalCluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            made.add_node(num_cpus=1, object_store_memory=MEMORY)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def jobs(count: int, label: str) -> list[Job]:
    """Best-of-5 of so many questions: what scoring costs, and little else."""
    settings = TPOContext(width=WIDTH, depth=0).model_dump(mode="json")
    return [
        Job(n, f"{label}-{n}", [Turn(role="user", content=f"Question {n}: why?")], settings)
        for n in range(count)
    ]


async def rate(engine: RayEngine, asked: Sequence[Job]) -> tuple[float, float]:
    """Over the last two thirds: queries per second, and CPU seconds of this process per query."""
    ended: list[tuple[float, float]] = []
    async for one in engine.run(asked, control=RunControl()):
        if one.error is not None:
            raise RuntimeError(one.error)
        ended.append((time.perf_counter(), time.process_time()))
    late = ended[len(ended) // 3 :]
    (began, used_before), (end, used) = late[0], late[-1]
    return (len(late) - 1) / (end - began), (used - used_before) / (len(late) - 1)


def measure(count: int, queries: int, folder: Path) -> tuple[float, float]:
    """`rate` on so many nodes."""
    cluster = Cluster(workers=1, worker_cpus=0.0, reward_actors=count, reward_cpus=1.0)
    engine = RayEngine(
        f"sqlite:///{folder / f'{time.time_ns()}.db'}",
        model="openai:instant",
        reward_model=f"local:{folder / 'classifier'}",
        width=WIDTH,
        max_in_flight=16,
        cluster=cluster,
    )
    with nodes(count):
        return asyncio.run(rate(engine, jobs(queries, f"nodes-{count}")))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tpo-bench-") as name, server() as url:
        folder = Path(name)
        os.environ |= {
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "none",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        save_classifier(folder / "classifier", options.layers)
        ratios: list[float] = []
        for _ in range(options.rounds):
            (one, _), (two, driver) = (measure(n, options.queries, folder) for n in (1, 2))
            ratios.append(two / one)
            print(
                f"1 node {one:6.2f} queries/s   2 nodes {two:6.2f} queries/s   "
                f"driver {1000 * driver:.1f} ms of CPU per query",
                flush=True,
            )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"2 nodes against 1: {statistics.median(ratios):.2f} (this machine has {cores} cores)")


if __name__ == "__main__":
    main()
