"""What runs cost: money by a price table, and FLOPs by the paper's accounting or by real tokens."""
