"""A processor without AVX-512 for libraries that obey no variable, on one that has it."""
