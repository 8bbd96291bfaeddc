"""Methods compared at equal budgets, the paper's analyses, and the benchmarks it used."""
