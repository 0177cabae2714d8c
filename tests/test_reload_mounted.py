"""Rules in a ConfigMap that is mounted: followed as it changes, read once."""

import shutil
from pathlib import Path

from test_reload import looked, text

from streams.reload import begin


class Mounted:
    """A ConfigMap as the kubelet mounts it: names that lead by `..data` to a hidden folder; `..data` is swapped for another."""

    def __init__(self, path: Path, **files: str) -> None:
        self.path, self.count = path, 0
        self.swap(**files)

    def swap(self, **files: str) -> None:
        """As the kubelet does it: the new folder, then `..data` at once, then the names, at last the old folder goes."""
        before, self.count = self.path / f"..2026_{self.count}", self.count + 1
        folder = self.path / f"..2026_{self.count}"
        folder.mkdir()
        for name, content in files.items():
            (folder / f"{name}.yaml").write_text(content)
        (self.path / "..data_tmp").symlink_to(folder.name)
        (self.path / "..data_tmp").replace(self.path / "..data")
        for name in files:
            if not (self.path / f"{name}.yaml").is_symlink():
                (self.path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        for link in self.path.glob("[!.]*"):
            if link.stem not in files:
                link.unlink()
        shutil.rmtree(before, ignore_errors=True)


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, a=text(name="a"), b=text(name="b"))
    rules = begin(tmp_path, text=True)
    assert [r.ref.name for r in rules.take().rules] == ["a", "b"]  # once each, though the hidden folder has them, too
    mounted.swap(a=text(name="a", severity="critical"), c=text(name="c"))
    assert looked(rules, 1).newest is rules.in_force
    assert [(r.ref.name, r.severity) for r in looked(rules, 1).newest.rules] == [("a", "critical"), ("c", "info")]
    assert rules.refused == ""


def test_a_mounted_config_map_amid_its_swap_changes_nothing(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, a=text(name="a"))
    rules = begin(tmp_path, text=True)
    (tmp_path / "b.yaml").symlink_to("..data/b.yaml")  # the name is there, its file is not yet
    assert looked(rules, 1).newest is rules.take()
    mounted.swap(a=text(name="a"), b=text(name="b"))
    assert len(looked(rules).newest.rules) == 2
    assert rules.refused == ""
