"""Run every benchmark with its defaults: `python -m benchmarks`, or `make bench`."""

import importlib
import pkgutil

import benchmarks


def main() -> None:
    """Run the `main` of each module of this folder that has one."""
    for found in pkgutil.iter_modules(benchmarks.__path__):
        if found.name == "__main__":
            continue
        module = importlib.import_module(f"benchmarks.{found.name}")
        if hasattr(module, "main"):
            print(f"\n== {found.name}: {(module.__doc__ or '').splitlines()[0]}\n", flush=True)
            module.main([])


if __name__ == "__main__":
    main()
