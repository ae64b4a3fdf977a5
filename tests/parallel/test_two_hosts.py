"""One run on two hosts, network namespaces of this machine joined by a cable that can be pulled."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from outrageous.training.checkpoints import read_checkpoint

SETTINGS = ["experiment=lm/moe_32", "model.moe.num_experts=6", "trainer.validate_every=5", "trainer.timeout=90"]
Host = tuple[str, str]  # namespace and the name of its end of the cable


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Two, with the addresses 10.77.0.1 and 10.77.0.2."""
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2, to make network namespaces")
    tag = uuid.uuid4().hex[:6]
    ends = [(f"outrageous-{tag}-{number}", f"o{tag}{number}") for number in (1, 2)]
    with ExitStack() as stack:
        try:
            for namespace, _ in ends:
                ip("netns", "add", namespace)
                stack.callback(ip, "netns", "delete", namespace)
            ip("link", "add", ends[0][1], "type", "veth", "peer", "name", ends[1][1])
            for number, (namespace, end) in enumerate(ends, start=1):
                ip("link", "set", end, "netns", namespace)
                ip("-n", namespace, "address", "add", f"10.77.0.{number}/24", "dev", end)
                ip("-n", namespace, "link", "set", "lo", "up")
                ip("-n", namespace, "link", "set", end, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        yield ends


def start(hosts: list[Host], settings: list[str], log: Path) -> list[subprocess.Popen[bytes]]:
    """One process on each host, as torchrun would start it."""
    log.mkdir()
    processes = []
    for rank, (namespace, end) in enumerate(hosts):
        surroundings = {
            "RANK": rank,
            "GROUP_RANK": rank,
            "LOCAL_RANK": 0,
            "WORLD_SIZE": 2,
            "LOCAL_WORLD_SIZE": 1,
            "MASTER_ADDR": "10.77.0.1",
            "MASTER_PORT": 29500,
            "TORCHELASTIC_RUN_ID": "hosts",
            "GLOO_SOCKET_IFNAME": end,
            "TORCHELASTIC_USE_AGENT_STORE": False,
        }
        command = [sys.executable, "-m", "outrageous.commands.train", *settings]
        with (log / f"{rank}.txt").open("wb") as output:
            processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", namespace, *command],
                    env=os.environ | {name: str(value) for name, value in surroundings.items()},
                    stdout=output,
                    stderr=output,
                )
            )
    return processes


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_on_two_hosts_ends_when_one_is_cut_off_and_goes_on_when_it_is_back(
    hosts: list[Host], tiny_corpus: list[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    several = ["trainer=expert_parallel", "trainer.num_nodes=2", "trainer.max_epochs=50"]
    settings = [*SETTINGS[:1], *tiny_corpus, *SETTINGS[1:], *several, f"paths.runs={runs}"]
    processes = start(hosts, settings, tmp_path / "cut")
    wait_for(lambda: any(runs.rglob("last.ckpt")), seconds=1500)
    namespace, end = hosts[1]
    ip("-n", namespace, "link", "set", end, "down")
    assert [process.wait(timeout=600) for process in processes] == [2, 2]
    for rank in range(2):
        log = (tmp_path / "cut" / f"{rank}.txt").read_text()
        assert "error: lost another process of this run, which has ended or does not answer" in log
        assert "the same command goes on from step" in log
    (checkpoint,) = runs.rglob("last.ckpt")
    step = read_checkpoint(checkpoint)["global_step"]

    ip("-n", namespace, "link", "set", end, "up")
    processes = start(hosts, settings, tmp_path / "back")
    wait_for(lambda: read_checkpoint(checkpoint)["global_step"] > step, seconds=1500)
    for process in processes:
        process.terminate()
    assert all(process.wait(timeout=600) for process in processes)
