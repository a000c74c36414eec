"""What every frontend shares: enum values, the environment, and finding the libraries. No torch, no jax."""
