from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import recipe, yamlfile
from lorareg.registry.expression import MAX_PARTS, Expression, Part
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.recipe import RecipeManifest, RecipePart
from lorareg.registry.schema import check

SLUGS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
VERSIONS = st.from_regex(r"v[1-9][0-9]{0,2}\.0\.[1-9]", fullmatch=True)
WEIGHTS = st.none() | st.floats(-100, 100)
BLOCKS = st.dictionaries(st.sampled_from(["te", "up.1", "layers.0-7"]), st.floats(-100, 100))
WINDOWS = st.sampled_from([(), ((0.0, 0.6, 1.0),), ((0.1, 0.3, -0.5), (0.3, 1.0, 2.0))])
PARTS = st.builds(
    Part,
    st.builds(Ref, st.none() | SLUGS, SLUGS, st.none() | SLUGS | VERSIONS),
    WEIGHTS,
    BLOCKS,
    WINDOWS,
)
INK = RecipePart(ref="style/ink", weight=0.7)
ZHANGSAN = RecipePart(ref="character/zhangsan", weight=1.0)
EXPRESSIONS = st.builds(Expression, st.lists(PARTS, min_size=1, max_size=5).map(tuple))


@given(EXPRESSIONS)
def test_an_expression_reads_back_as_it_prints(expression: Expression) -> None:
    assert Expression.parse(str(expression)) == expression


@given(st.text("ab/@:+-.0123456789e {}=,tups", max_size=20))
def test_any_text_is_an_expression_that_prints_as_itself_or_is_refused(text: str) -> None:
    try:
        expression = Expression.parse(text)
    except LoraregError:
        return

    assert Expression.parse(str(expression)) == expression


def test_parts_weights_and_states_are_read() -> None:
    found = Expression.parse("style/ink@v1.2.0:0.7 + zhangsan@stable : -.3+a:1e-2")

    assert found.parts == (
        Part(Ref("style", "ink", "v1.2.0"), 0.7),
        Part(Ref(None, "zhangsan", "stable"), -0.3),
        Part(Ref(None, "a"), 0.01),
    )
    assert Expression.parse("a").parts[0].weight is None


@pytest.mark.parametrize(
    "text",
    [
        "", "+", "a+", "+a", "a++b", "a:", "a:x", "a:nan", "a:inf", "a:-inf", "a:101", "a:1e3",
        "a:1_0", "a:٣", "a:0x1", "a:1:2", "a:--1", ":0.5", "a/b/c:1", "../a:1", "/etc/passwd",
        "a b", "a:1{x=1}", "张三:1", "a\n", "a:1\n+b\n+",
        "+".join(["a"] * (MAX_PARTS + 1)),
    ],
)  # fmt: skip
def test_what_is_no_composition_is_refused(text: str) -> None:
    if text == "a\n":
        text = "a\nb"  # white space around a part is allowed, within it is not
    with pytest.raises(LoraregError) as caught:
        Expression.parse(text)

    assert caught.value.fix or caught.value.why
    assert "\n" not in caught.value.what


def folder(registry: Path, name: str = "both") -> Path:
    path = registry / f"manifests/recipe/{name}/manifest.yaml"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("name", ["both", "007", "true", "null", "1e5", "2027-12-31"])
def test_a_recipe_is_read_as_it_was_saved(registry: Path, name: str) -> None:
    path = folder(registry, name)

    recipe.save(
        path,
        RecipeManifest.of(name, (INK, RecipePart(ref="character/zhangsan@v1.0.0", weight=-1e-05))),
    )
    found = recipe.load(path, AssetId("recipe", name))

    assert str(found.expression) == "style/ink:0.7+character/zhangsan@v1.0.0:-1e-05"
    assert str(found.id) == f"recipe/{name}"


def test_saving_again_keeps_what_people_wrote(registry: Path) -> None:
    path = folder(registry)
    recipe.save(path, RecipeManifest.of("both", (INK,)))
    path.write_text(path.read_text() + "owners: [alice]  # asks first\n")

    recipe.save(
        path, RecipeManifest.of("both", (RecipePart(ref="style/ink", weight=0.5), ZHANGSAN))
    )

    assert "owners: [alice]  # asks first" in path.read_text()
    assert str(recipe.load(path, AssetId("recipe", "both")).expression) == (
        "style/ink:0.5+character/zhangsan:1.0"
    )


@pytest.mark.parametrize("name", ["Both", "a/b", "张三", ""])
def test_a_recipe_that_would_not_load_is_not_written(registry: Path, name: str) -> None:
    path = folder(registry)

    with pytest.raises(InvalidFileError, match="name"):
        recipe.save(path, RecipeManifest.of(name, (INK,)))

    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": []}, "parts: tuple should have at least 1"),
        ({"parts": [{"ref": "../x", "weight": 1}]}, "parts.0.ref: kind '..' is not a slug"),
        ({"parts": [{"ref": "a", "weight": 1}, {"ref": "b/C", "weight": 1}]}, "parts.1.ref"),
        ({"parts": [{"ref": "a", "weight": 101}]}, "parts.0.weight"),
        ({"parts": [{"ref": "a", "wieght": 1}]}, "did you mean weight?"),
        ({"parts": [{"ref": "a"}]}, "parts.0.weight: missing"),
        ({"method": "soup"}, "method"),
        ({"kind": "style"}, "kind"),
        ({"tilte": {}}, "did you mean title?"),
    ],
)
def test_a_wrong_recipe_is_refused(changes: dict[str, Any], said: str) -> None:
    document = {
        "schema": "lorareg/1", "kind": "recipe", "name": "both",
        "parts": [{"ref": "style/ink", "weight": 1}],
    } | changes  # fmt: skip

    with pytest.raises(InvalidFileError) as caught:
        check(RecipeManifest, document, "manifests/recipe/both/manifest.yaml")

    assert said in caught.value.why


def test_a_recipe_in_another_folder_is_refused(registry: Path) -> None:
    path = folder(registry)
    recipe.save(path, RecipeManifest.of("both", (INK,)))

    with pytest.raises(InvalidFileError, match="says it is recipe/both"):
        recipe.load(path, AssetId("recipe", "other"))


def test_a_saved_recipe_is_plain_yaml(registry: Path) -> None:
    path = folder(registry)

    recipe.save(path, RecipeManifest.of("both", (INK,)))

    assert yamlfile.load(path)["parts"] == [{"ref": "style/ink", "weight": 0.7}]
