"""Proofs from outside: commands that are killed while they work, and what they made compared with an unbroken run's."""
