"""What full_size.py calls the same (README.md)."""

LOGITS_LIMIT, GRADIENT_LIMIT, FLOOR = 1e-4, 1e-3, 1e-3
MARGIN = 0.01  # of ReLU inputs of size 4: thousands of times their rounding in float32
FIRST_STEPS, FIRST_LIMIT, PERMUTED_FACTOR, SMALL_LR_LIMIT = 3, 1e-4, 3.0, 1e-3
