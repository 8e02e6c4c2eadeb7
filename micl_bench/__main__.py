"""`python -m micl_bench` is `micl-bench`."""

from micl_bench.cli.app import main

main()
