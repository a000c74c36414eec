"""The parts of the benchmark: cases, implementations, timing, reference check, report and plots."""
