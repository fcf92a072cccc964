"""What pyproject.toml cannot say: the folder ``baselines`` goes into the wheel as the data of ``harness.shipped``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["harness*"]), "harness.shipped"],
    package_dir={"harness.shipped": "baselines"},
)
