"""Fine-tuning: the whole ViT with a new head; from `random:ARCH` it is training from scratch."""

from micl_bench.tasks import Task
from micl_bench.tasks._accuracies import TOP_1, TOP_5

TASK = Task(
    name="finetune",
    title="Fine-tuning",
    short="fine-tuning",
    place=50,
    metrics=(TOP_1, TOP_5),
    resumes=True,
    leaves="classifier.pt",
)
