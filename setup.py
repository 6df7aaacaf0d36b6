"""Packaging: which folder is which package. Metadata and dependencies stand in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {
    "hzlm": "hzlm",
    "hzlm.kernels": "kernels",
    "hzlm.launch": "launch",
    "hzlm.tools": "tools",
    "hzlm.configs": "configs",
}


def packages() -> list[str]:
    """Every package of every folder, by its full name."""
    return [
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{child}" for child in find_packages(folder)))
    ]


setup(
    package_dir=FOLDERS,
    packages=packages(),
    package_data={"hzlm": ["py.typed"], "hzlm.kernels.gpu": ["*.json"], "hzlm.configs": ["*.yaml", "*/*.yaml"]},
)
