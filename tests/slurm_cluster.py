"""A real Slurm on this machine: munged, slurmctld and slurmd of a cluster with one node."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SlurmctldParameters=preempt_send_user_signal
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of Slurm that are not installed."""
    return [name for name in NEEDED if shutil.which(name, path=_path()) is None]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; gives the environment in which commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    # munged wants no folder above its socket that others may write to without a sticky bit.
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    controller_port, node_port = _free_ports()
    config.write_text(
        _CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            user=getpass.getuser(),
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(config)}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [
        f"--{option}={folder}/munge.{option.partition('-')[0]}"
        for option in ("socket", "pid-file", "log-file", "seed-file")
    ]
    with ExitStack() as stack:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            stack.enter_context(_running(command, environment, folder))
            time.sleep(0.5)
        end = time.monotonic() + 30
        while "idle" not in _said(["sinfo", "--noheader"], environment):
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield environment


@contextmanager
def _running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def _free_ports() -> list[int]:
    """Two ports that nothing listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _path() -> str:
    # Daemons are there, and not on everybody's path.
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
