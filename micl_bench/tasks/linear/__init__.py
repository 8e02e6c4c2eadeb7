"""Linear probe: linear classifiers on frozen features, MAE's protocol or DINOv2's grid."""

from micl_bench.tasks import TOP_1, TOP_5, Task

TASK = Task(
    name="linear",
    title="Linear probe",
    short="linear probe",
    place=30,
    metrics=(TOP_1, TOP_5),
    resumes=True,
    leaves="classifier.pt",
    shares_features=True,
)
