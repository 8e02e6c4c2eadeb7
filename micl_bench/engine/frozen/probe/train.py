"""Training a linear probe so that a kill at any moment loses no more than a few steps."""

import torch

from micl_bench.engine.frozen.probe.batches import FeatureBatches
from micl_bench.engine.frozen.probe.heads import Probe
from micl_bench.runs.loop import Loop, Training
from micl_bench.runs.run import Run


def train_probe(probe: Probe, batches: FeatureBatches, run: Run, *, device: torch.device) -> None:
    """Train to the end, from the last saved step on; every process does the same with the same batches.

    Raises:
        Stopped: a signal asked for it; the state is saved.
        InputError: every head diverged, an image cannot be read, the state does not fit, or another
            process trains into the same folder.
        OSError: the disk is full; what was saved before is whole.
    """
    training = Training(
        label="linear probe",
        numbers=("loss",),
        batches=batches,
        step=lambda batch, step, rate: probe.step(*batch, step=step),
        state=probe.state,
        load=probe.load,
        advice="lower probe.base_lrs",
        # A folder of several evaluations has the metrics of what trains a network.
        keeps_metrics=False,
    )
    loop = Loop(run, probe.plan, training, device=device)
    with run.alone(), loop.open():
        loop.train()
