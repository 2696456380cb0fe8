"""What is generated from the code is as the code says."""

import generator.__main__ as generator
import pytest


@pytest.mark.parametrize("name", sorted(generator.files()))
def test_a_generated_file_is_as_the_code_says(name: str) -> None:
    assert (generator.ROOT / name).read_text(encoding="utf-8") == generator.files()[name], "run `make reference`"
