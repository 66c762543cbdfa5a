"""setup.cfg, the hooks and the checks of a change agree with the code."""

import configparser
import importlib
import importlib.metadata
import pathlib
import re

import pytest

import pipeline

ROOT = pathlib.Path(__file__).parent.parent


def scripts() -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options.entry_points"]["console_scripts"].strip().splitlines()


@pytest.mark.parametrize("script", scripts())
def test_console_scripts_exist(script):
    module, _, function = script.partition(" = ")[2].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_installed_version_is_the_packages():
    try:
        installed = importlib.metadata.version("kannada-pipeline")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the distribution kannada-pipeline is not installed in this environment")
    assert installed == pipeline.__version__


def test_hooks_run_what_a_change_must_pass():
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert hooks == [line for line in lines if line.startswith(("ruff", "mypy"))] != []


def test_the_changelog_has_an_unreleased_section():
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()
