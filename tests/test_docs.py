"""Every block of the documentation is run: bash in order in one folder, python by itself."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vafa_monai.runs.override import merged_config, require_known

ROOT = Path(__file__).parents[1]
PAGES = ["attacks", "audit", "share", "tutorial", "hardening", "scale", "how_to", "design", "conventions"]
READ_ONLY = ["any_model", "benchmarks", "monai_label", "nnunet"]  # pages whose commands take long or other programs
SRUN = """#!/bin/sh
# A stand-in: once a node, here two on this machine; the first failure is the exit code.
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $first || exit $?
wait $second
"""
SLURM = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "1", "SLURM_LOCALID": "0"}
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def environment(folder):
    """Let ``vafa-monai`` and ``torchrun`` be found, and modules of the folder be imported."""
    import vafa_monai

    places = [str(Path(vafa_monai.__file__).parents[1]), str(folder)]
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    python = f'#!/bin/sh\nexec "{sys.executable}"'
    for name, text in {
        "python": f'{python} "$@"\n',  # a link to it would not find the packages of its virtual environment
        "vafa-monai": f'{python} -m vafa_monai.cli "$@"\n',
        "torchrun": f'{python} -m torch.distributed.run "$@"\n',
        "srun": SRUN,
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_python_blocks_run(page, fork_python, tmp_path):
    texts = []
    for language, file, text in blocks(page):
        if file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
        elif language == "python":
            texts.append(text)
    each = "".join(f"exec(compile({text!r}, 'block {number}', 'exec'), {{}})\n" for number, text in enumerate(texts))
    (tmp_path / "blocks_of_the_page.py").write_text(each)
    process = fork_python(["blocks_of_the_page"], tmp_path, PATH=environment(tmp_path)["PATH"])
    told, _ = process.communicate()
    assert process.returncode == 0, told[-3000:]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in PAGES + READ_ONLY)])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def bundle_lines():
    """Yield each line that runs configs of a bundle of ours: its configs, and its options with their words."""
    for page in (*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("bundles/*/docs/README.md"))):
        own = page.parents[1] / "configs"
        folder = own if own.is_dir() else ROOT / "bundles" / "mni152_unetr_segmentation" / "configs"
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.search(r"monai\.bundle run (--config_file [^`\\]*)", line):
                words = shlex.split(found[1])
                paths = [folder.parent / config for config in re.findall(r"configs/[\w/]+\.json", words[1])]
                if paths and all(path.is_file() for path in paths):
                    yield paths, [word.removeprefix("--") for word in words[2:] if word.startswith("--")]


def test_bundle_lines_name_config_ids_that_there_are():
    lines = list(bundle_lines())
    assert len(lines) > 50
    for paths, names in lines:
        require_known(merged_config(paths), names)


@pytest.mark.slow
def test_commands_run_in_the_order_of_the_pages(tmp_path):
    pytest.importorskip("nilearn")
    for name in PAGES:
        for language, file, text in blocks(f"docs/{name}.md"):
            if file:
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / file).write_text(text)
            elif language == "bash":
                for line in text.splitlines():
                    finished = subprocess.run(
                        ["bash", "-c", line], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
                    )
                    assert finished.returncode == 0, f"{name}: {line}\n{finished.stderr[-2000:]}"


@pytest.fixture(scope="module")
def tutorial_folder(tmp_path_factory):
    """The folder of the tutorial after its standard model was trained, with the scripts of the page on scale."""
    pytest.importorskip("nilearn")
    folder = tmp_path_factory.mktemp("tutorial")
    for _, file, text in blocks("docs/scale.md"):
        if file:
            (folder / file).write_text(text)
    lines = [
        line for language, _, text in blocks("docs/tutorial.md") if language == "bash" for line in text.splitlines()
    ]
    for line in lines[:3]:
        subprocess.run(["bash", "-c", line], cwd=folder, env=environment(folder), check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("script", ["harden.sbatch", "attack.sbatch"])
def test_slurm_scripts_run_with_two_nodes(script, tutorial_folder):
    finished = subprocess.run(
        ["bash", script], cwd=tutorial_folder, env=environment(tutorial_folder) | SLURM, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    made = {"harden.sbatch": "models/model_n_fgsm.pt", "attack.sbatch": "eval/scale_slurm/report.html"}
    assert (tutorial_folder / made[script]).is_file()
