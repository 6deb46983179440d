"""The examples of the README do what they show."""

import doctest
import pathlib

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_examples_of_the_readme():
    failed, tried = doctest.testfile(str(README), module_relative=False)
    assert tried > 10 and failed == 0
