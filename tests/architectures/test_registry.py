"""Names without imports, nearest names, a user's own file."""

import subprocess
import sys
import textwrap

import pytest

from architectures import build, registry
from architectures.frozen import SettingError

OWN = '''
"""A user's own design."""
from typing import ClassVar

from architectures.contract import DesignConfig
from architectures.designs.dual_encoder import DualEncoder, DualEncoderConfig


class Mine(DualEncoder):
    """The floor again, under another name."""

    name: ClassVar[str] = "mine"
    version: ClassVar[str] = "3"
    Config = DualEncoderConfig
'''


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


def test_names_are_read_without_imports():
    code = """
        import sys
        from architectures import registry
        found = registry.names()
        assert {"split_bert", "dual_encoder"} <= found.keys()
        assert all(e.summary and e.version and e.file.is_file() for e in found.values())
        heavy = {"torch", "timm", "transformers", "numpy"} & sys.modules.keys()
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_read_entries_equal_the_classes():
    for name, entry in registry.names().items():
        cls = registry.find(name)
        assert (cls.name, cls.version) == (name, entry.version)
        assert cls.__doc__ is not None and cls.__doc__.startswith(entry.summary)


def test_unknown_names_give_the_nearest(small):
    with pytest.raises(SettingError, match="did you mean 'split_bert'"):
        registry.find("split_bret")
    with pytest.raises(SettingError, match=r"split_bert: .*did you mean 'text_layers'"):
        registry.config("split_bert", {"text_layer": 3})
    with pytest.raises(SettingError, match=r"split_bert: text_layers: .*-1"):
        registry.config("split_bert", {"text_layers": -1})


@pytest.mark.parametrize("name", ["split_bert", "dual_encoder"])
def test_too_many_text_layers_name_the_range(small, name):
    with pytest.raises(SettingError, match=r"text_layers is 9, .* 8 layers: take \d to 8"):
        registry.find(name).facts(registry.config(name, {"text_layers": 9}), small)


def test_unknown_objective(small):
    with pytest.raises(SettingError, match="unknown objective 'itx'"):
        build.construct("split_bert", {}, small, 50, ["itx"])


def test_only_heads_that_are_asked_for(small):
    assert list(build.construct("split_bert", {}, small, 50, ["itm"]).heads) == ["itm"]


def test_a_users_own_file(tmp_path, small, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    module = registry.load_file(file)
    assert registry.load_file(str(file)) is module
    assert registry.find("mine") is module.Mine
    assert registry.version("mine") == "3"
    assert build.construct("mine", {"text_layers": 1}, small, 50).name == "mine"
    file.write_text(OWN.replace('"3"', '"4"'))
    registry.load_file(file)
    assert registry.find("mine").version == registry.version("mine") == "4"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = (\n", r"mine.py:2: '\(' was never closed"),
        ("x = 1\n\nraise ValueError('no good')\n", "mine.py:3: ValueError: no good"),
        (OWN.replace('"mine"', '"split_bert"'), "mine.py:9: the name 'split_bert' is taken"),
        (
            OWN.replace('version: ClassVar[str] = "3"', ""),
            "mine.py:9: design 'mine' has no `version`",
        ),
        (
            OWN.replace("    Config = DualEncoderConfig\n", ""),
            "'mine' inherits `Config`: write it out",
        ),
    ],
)
def test_a_wrong_file_names_its_line(tmp_path, text, said):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(SettingError, match=said):
        registry.load_file(file)
    assert "mine" not in registry.names()


def test_a_missing_file(tmp_path):
    with pytest.raises(SettingError, match=r"nowhere\.py: no such file"):
        registry.load_file(tmp_path / "nowhere.py")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package with a module of designs, as a wheel would stand."""

    def install(text, value="acme.designs"):
        (tmp_path / "acme").mkdir()
        (tmp_path / "acme" / "__init__.py").touch()
        (tmp_path / "acme" / "designs.py").write_text(text)
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fuselab.designs]\nacme = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in ("acme.designs", "acme"):
        sys.modules.pop(name, None)


def test_designs_of_an_installed_package(package, small):
    package(OWN)
    assert registry.names()["mine"].module == "acme.designs"
    assert "acme.designs" not in sys.modules, "listing imports no design"
    assert [file.name for file in registry.outside()] == ["designs.py"]
    made = build.construct("mine", {"text_layers": 1}, small, 50)
    assert type(made).__module__ == "acme.designs" and registry.version("mine") == "3"


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        (OWN, "acme.nowhere", "ImportError: there is no module acme.nowhere"),
        (OWN.replace("class", "klass"), "acme.designs", "SyntaxError"),
        (OWN.replace('"mine"', '"split_bert"'), "acme.designs", "the name 'split_bert' is taken"),
        (OWN.replace('version: ClassVar[str] = "3"', ""), "acme.designs", "has no `version`"),
        ("x = 1", "acme.designs", "it holds no design"),
    ],
)
def test_a_package_that_cannot_be_read_stops_nothing(package, text, value, said):
    package(text, value)
    with pytest.warns(UserWarning, match=said) as warned:
        names = registry.names()
    assert "mine" not in names and "split_bert" in names
    assert "acme" in str(warned[0].message)
