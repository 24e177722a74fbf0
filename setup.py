"Builds the package; name, version, dependencies and the command come from settings.ini."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

settings = ConfigParser(delimiters=["="])
settings.read("settings.ini", encoding="utf-8")
config = settings["DEFAULT"]

setup(
    name=config["lib_name"],
    version=config["version"],
    description=config["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=config["author"],
    license="Apache-2.0",
    keywords=config["keywords"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Telecommunications Industry",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
    ],
    python_requires=f">={config['min_python']}",
    # the notebooks that papermill runs, and their YAML files, travel as stouter/experiments
    packages=[*find_packages(include=["stouter", "stouter.*"]), "stouter.experiments"],
    package_dir={"stouter.experiments": "nbs/experiments"},
    package_data={
        "stouter": ["pretrained/*/*"],
        "stouter.experiments": ["*.ipynb", "paper.csv", "params/*.yaml", "studies/*.yaml", "grids/*.yaml", "presets/*"],
        "stouter.html_report": ["assets/*"],
        "stouter.planning": ["templates/*"],
    },
    install_requires=config["requirements"].split(),
    extras_require={
        name: config[f"{name}_requirements"].split()
        for name in ("dev", "dask", "excel", "explorer", "fabric", "store", "tensorboard")
    },
    entry_points={"console_scripts": config["console_scripts"].split()},
)
