"""The command line `otmix-jax`: what parses is free of JAX, which loads with a command's work."""
