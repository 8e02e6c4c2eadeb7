"""Checks that find what would spoil a run, in an installation, a machine or a data folder, with fixes.

Every check works where the thing that it checks is broken or missing: it imports late and never raises.
"""

from micl_bench.doctor._data import check_data, check_for_recipe
from micl_bench.doctor._finding import Finding
from micl_bench.doctor._installation import check_installation
from micl_bench.doctor._machine import check_machine

__all__ = ["Finding", "check_data", "check_for_recipe", "check_installation", "check_machine"]
