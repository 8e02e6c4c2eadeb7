"""Fine-tuning: the whole ViT with a new head; from `random:ARCH` it is training from scratch."""

from micl_bench.tasks import TOP_1, TOP_5, Task

TASK = Task(
    name="finetune",
    title="Fine-tuning",
    short="fine-tuning",
    place=50,
    metrics=(TOP_1, TOP_5),
    resumes=True,
    leaves="classifier.pt",
)
