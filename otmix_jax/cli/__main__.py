"""`python -m otmix_jax.cli`."""

from .main import main

if __name__ == "__main__":
    main()
