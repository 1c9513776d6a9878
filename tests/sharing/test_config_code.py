"""What a stranger's bundle could execute: every trick is named, none of it runs, and plain configs are not named."""

from __future__ import annotations

import json
import os

import pytest
from monai.bundle import ConfigParser
from monai.handlers import IgniteMetricHandler

from vafa_monai import handlers
from vafa_monai.runs import copy_bundle
from vafa_monai.sharing.config_code import CALLS, FILES, HARMLESS, Executable, executables, judge_target

TOUCH = "touch {trap}"
EVIL = {"_target_": "os.system", "command": TOUCH}
YAML = "run:\n- _target_: os.system\n  command: touch {trap}\n"
LOGGING = """[loggers]
keys=root
[handlers]
keys=one
[formatters]
keys=
[logger_root]
handlers=one
[handler_one]
class={}
args={}
"""


def run(value):
    """A config that runs this."""
    return {"configs/train.json": json.dumps({"run": [value]})}


def trick(target, **arguments):
    return run({"_target_": target, **arguments})


F_STRING = '\'@f + {__import__("os").system("touch {trap}")} + \''  # MONAI makes two texts of it, one an f-text
TRICKS = {  # files of a bundle
    "through torch": trick("torch.os.system", command=TOUCH),
    "through monai": trick("monai.bundle.scripts.os.system", command=TOUCH),
    "through a private module of numpy": trick("numpy.lib._npyio_impl.os.system", command=TOUCH),
    "through this package": trick("vafa_monai.sharing.fetch.os.system", command=TOUCH),
    "through a class": trick("monai.networks.nets.UNet.__init__.__globals__", x=1),
    "another config run": trick("monai.bundle.run", config_file="docs/other.json"),
    "run by its bare name": trick("run", config_file="docs/other.json"),
    "builtin by its bare name": trick("eval", source="1"),
    "builtins": trick("builtins.exec", object="1"),
    "module that acts when imported": trick("antigravity.fly"),
    "loading of a pickle": trick("torch.load", f="models/model.pt", weights_only=False),
    "hub of torch": trick("torch.hub.load", repo_or_dir="a/b", model="c"),
    "download": trick("monai.apps.utils.download_url", url="http://a", filepath="b"),
    "download by a pretrained network": trick("DenseNet121", spatial_dims=2, in_channels=1, out_channels=1),
    "transform that takes code": trick("monai.transforms.Lambda", func="$__import__('os').system('touch {trap}')"),
    "transform of another library by its name": trick("TorchVisiond", keys="a", name="Lambda", lambd="x"),
    "reader by its name": trick("LoadImage", reader="os.system", command=TOUCH),
    "writer by its name": trick("SaveImaged", keys="a", writer="subprocess.Popen"),
    "writer in an overlay": {"configs/a.json": json.dumps({"post#transforms#0#writer": "subprocess.Popen"})},
    "merger by its name": trick("monai.inferers.PatchInferer", merger_cls="os.system"),
    "target in an overlay": {"configs/a.json": json.dumps({"run#0#_target_": "os.system"})},
    "target in an overlay with colons": {"configs/a.json": json.dumps({"+run::0::_target_": "os.system"})},
    "target by reference": {"configs/a.json": json.dumps({"x": "os.system", "run": [{"_target_": "@x"}]})},
    "target by macro": {"configs/a.json": json.dumps({"x": "os.system", "run": [{"_target_": "%x"}]})},
    "target by expression": trick("$print"),
    "target by arithmetic": trick("$'os.' + 'system'", command=TOUCH),
    "target that is no text": {"configs/a.json": json.dumps({"run": [{"_target_": ["os.system"]}]})},
    "debugger": trick("torch.nn.Identity", _mode_="debug"),
    "breakpoint": trick("torch.nn.Identity", _debug_=True),
    "deep in lists": run([[{"a": [{"b": EVIL}]}]]),
    "in a description": trick("torch.nn.Identity", _desc_="$print(1)"),
    "in what is required": trick("torch.nn.Identity", _requires_="$print(1)"),
    "in what is disabled": trick("os.system", _disabled_="$False"),
    "import": run("$import os"),
    "import of a name": run("$from os import system"),
    "expression": run("$__import__('os').system('touch {trap}')"),
    "expression in metadata": {"configs/metadata.json": json.dumps({"authors": "$print(1)"})},
    "f-text that MONAI makes": {"configs/a.json": json.dumps({"f": "x", "run": ["$" + F_STRING]})},
    "relative reference completed by a key": {
        "configs/a.json": json.dumps({"x']+evil()+['": {"a": 1, "b": "$@#a"}}),
    },
    "power": run("$9 ** 9 ** 9"),
    "walrus and comprehension": run("$[y for y in (1,)]"),
    "attribute of a literal": run("$().__class__"),
    "JSON outside of configs": {"docs/y.json": json.dumps({"run": [EVIL]})},
    "JSON in capitals": {"configs/train.JSON": json.dumps({"run": [EVIL]})},
    "hidden JSON": {".hidden/.y.json": json.dumps({"run": [EVIL]})},
    "YAML": {"configs/train.yaml": YAML},
    "YAML in capitals": {"docs/x.Yml": YAML},
    "YAML by an anchor": {"docs/x.yml": "a: &a\n  _target_: os.system\nrun: [*a]\n"},
    "YAML that makes objects": {"docs/x.yml": "a: !!python/object/apply:os.system [touch x]\n"},
    "JSON with a mark of its order": {"docs/x.json": b"\xef\xbb\xbf" + json.dumps({"run": [EVIL]}).encode()},
    "JSON of 16 bits": {"docs/x.json": json.dumps({"run": [EVIL]}).encode("utf-16")},
    "key that comes twice": {"docs/x.json": '{"_target_": "os.system", "_target_": "torch.nn.Identity"}'},
    "key in escapes": {"docs/x.json": '{"\\u005ftarget_": "os.system"}'},
    "deep JSON": {"docs/x.json": "[" * 500 + "]" * 500},
    "broken JSON": {"docs/x.json": "{"},
    "macro out of the bundle": run("%../elsewhere/x.json#run"),
    "macro to an absolute file": run("%/tmp/x.yaml"),
    "macro on a second line": run("%a\n/tmp/x.json"),
    "relative macro that a key makes a file": {"docs/x.json": json.dumps({"/tmp/x.json": {"a": "%#run"}})},
    "arguments of a log handler": {"configs/logging.conf": LOGGING.format("StreamHandler", "(os.system('id'),)")},
    "class of a log handler": {"configs/logging.conf": LOGGING.format("eval", "('1',)")},
    "log handler that sends": {"configs/logging.conf": LOGGING.format("handlers.SocketHandler", "('host', 1)")},
    "log arguments by interpolation": {
        "docs/log.ini": "[DEFAULT]\nevil=(print(1),)\n" + LOGGING.format("StreamHandler", "%(evil)s")
    },
    "broken log file": {"configs/logging.conf": "args=1"},
    "module": {"scripts/__init__.py": ""},
    "compiled module": {"torch.pyc": b"x"},
    "TorchScript": {"models/model.ts": b"PK"},
    "program without a suffix": {"docs/tool": "x"},
    "program as a text": {"docs/tool.txt": "#!/bin/sh\n"},
    "binary as an image": {"docs/a.png": b"\x7fELF"},
    "archive as a text": {"docs/a.md": b"PK\x03\x04"},
}


def written(folder, files, trap=""):
    """Write the files of a bundle."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.replace("{trap}", str(trap)).encode())
    return folder


def test_every_trick_is_named_and_none_runs(tmp_path):
    named, ran = {}, []
    for number, (name, files) in enumerate(TRICKS.items()):
        trap = tmp_path / f"{number}_executed"
        named[name] = [one.file for one in executables(written(tmp_path / str(number), files, trap))][:1]
        ran += [name] if trap.exists() else []
    assert named == {name: [next(iter(files))] for name, files in TRICKS.items()}
    assert ran == []


def test_f_text_that_monai_makes_of_a_reference_is_real(tmp_path):
    """The reason why expressions are judged after MONAI's own replacement of references."""
    trap = tmp_path / "executed"
    folder = written(tmp_path, TRICKS["f-text that MONAI makes"], trap)
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "a.json"))
    parser.get_parsed_content("run#0")
    assert trap.exists()


PLAIN = {
    "literals": run([1, "text", None, True, {"a": "@b", "b": "50 % of $5", "c": "eva@example.org"}]),
    "arithmetic": run("$4 / 255 + (2 if @a > 1 else -@b#c) * @d[0]"),
    "constructors": run([{"_target_": one} for one in ("UNet", "torch.optim.AdamW", "monai.losses.DiceLoss")]),
    "own constructors": run([{"_target_": f"vafa_monai.attacks.{one}"} for one in ("PGD", "VAFA.preset")]),
    "class itself": trick("torch.nn.Conv3d", _mode_="callable"),
    "macro in the file": run("%network#spatial_dims"),
    "macro to a file beside": {"configs/a.json": '{"a": "%docs/b.yml#c"}', "docs/b.yml": "c: 1\n"},
    "log to a stream": {"configs/logging.conf": LOGGING.format("StreamHandler", "(sys.stdout,)")},
    "texts": {"LICENSE": "(c) them", "docs/README.md": "# A bundle", "models/.gitkeep": "", "docs/a.png": b"\x89PNG"},
}


def test_plain_files_are_not_named(tmp_path):
    named = {name: executables(written(tmp_path / str(number), PLAIN[name])) for number, name in enumerate(PLAIN)}
    assert named == {name: [] for name in PLAIN}


def test_every_target_of_the_shipped_bundles_is_known(tmp_path):
    known = {"reads or writes files", "evaluates", "imports"}
    for name in ("mni152_unetr_segmentation", "synapse_unetrpp_segmentation"):
        others = [one for one in executables(copy_bundle(name, tmp_path)) if one.kind not in known]
        assert {one.text for one in others} <= {"MLFlowHandler"}  # talks to a server


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("UNet", HARMLESS),
        ("monai.networks.nets.unet.UNet", HARMLESS),
        ("vafa_monai.networks.UNETRPP.preset", HARMLESS),
        ("LoadImaged", FILES),
        ("CheckpointSaver", FILES),
        ("vafa_monai.handlers.RobustnessReport", FILES),
        ("monai.networks.nets", CALLS),
        ("monai.networks.nets.UNet.forward", CALLS),
        ("vafa_monai.attacks.VAFA.mro", CALLS),
        ("vafa_monai.data.write_whole", CALLS),
        ("nothing.at.all", CALLS),
    ],
)
def test_target_is_judged_by_the_object_that_it_is(target, kind):
    assert judge_target(target) == kind


def test_replaced_class_of_a_known_name_is_no_longer_known(monkeypatch):
    monkeypatch.setattr("monai.networks.nets.unet.UNet", os.system)
    assert judge_target("monai.networks.nets.unet.UNet") == CALLS


def test_aliases_that_double_each_other_are_looked_at_once(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    assert executables(written(tmp_path, {"docs/x.yml": "\n".join(lines)})) == []


def test_line_for_a_terminal_holds_no_commands_for_it():
    line = str(Executable("a.json", "x\x1b[2J#run", "$\x9b31m\u202e" + "y" * 500, "evaluates"))
    assert line.isprintable()
    assert len(line) < 300


def test_metrics_of_the_package_are_no_code():
    metrics = [
        name for name, one in vars(handlers).items() if isinstance(one, type) and issubclass(one, IgniteMetricHandler)
    ]
    judged = {name: judge_target(f"vafa_monai.handlers.{name}") for name in metrics}
    assert judged.pop("PerceptualSimilarity") == FILES
    assert len(judged) > 2
    assert set(judged.values()) == {HARMLESS}
