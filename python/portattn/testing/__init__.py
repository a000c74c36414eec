"""What tests, benchmarks and examples share: the float64 oracle, random cases and direct access to the C API."""
