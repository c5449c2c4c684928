import pytest

from edge_inspector.errors import BackendMissing, Misuse
from edge_inspector.importer import choose, load

TABLE = {"path": "pathlib:Path", "absent": "no_such_package.module:Thing"}


def test_a_name_of_the_table_is_imported():
    assert choose(TABLE, "path", "source").__name__ == "Path"


def test_a_dotted_name_is_a_plugin():
    assert choose(TABLE, "fractions:Fraction", "source").__name__ == "Fraction"


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(Misuse, match="unknown source 'pth'; known: absent, path, or package"):
        choose(TABLE, "pth", "source")


def test_an_absent_package_is_named():
    with pytest.raises(BackendMissing, match="needs the package 'no_such_package'"):
        choose(TABLE, "absent", "source")


@pytest.mark.parametrize("target", ["pathlib", ":Path", "pathlib:"])
def test_a_target_without_both_halves_is_refused(target):
    with pytest.raises(Misuse, match="package\\.module:Attribute"):
        load(target)


def test_an_absent_attribute_is_named():
    with pytest.raises(Misuse, match="module 'pathlib' has no attribute 'Pth'"):
        load("pathlib:Pth")
