from __future__ import annotations

import pytest

from tests.unit.support import link, make_vm, put_broken, put_vm, uuid_of
from virshle.errors import NotFoundError
from virshle.store import Layout, Store

WEB = uuid_of("web")


@pytest.fixture
def there(layout: Layout) -> Layout:
    put_vm(layout, make_vm("web", 1))
    put_vm(layout, make_vm("db", 2))
    return layout


_WORDS = [("web", "name"), ("1", "id"), (str(WEB), "uuid")]


@pytest.mark.parametrize(("word", "kind"), _WORDS)
def test_a_vm_is_found_by_name_number_and_uuid(word: str, kind: str, store: Store, there: Layout) -> None:
    assert store.find(word).uuid == WEB
    assert store.find(word, kind).uuid == WEB


@pytest.mark.parametrize(("word", "kind"), _WORDS)
def test_a_kind_allows_only_that(word: str, kind: str, store: Store, there: Layout) -> None:
    for other in {"name", "id", "uuid"} - {kind}:
        with pytest.raises(NotFoundError):
            store.find(word, other)


@pytest.mark.parametrize(("word", "kind"), _WORDS)
def test_missing_links_hide_no_vm(word: str, kind: str, store: Store, there: Layout) -> None:
    there.name("web").unlink()
    there.id(1).unlink()
    assert store.find(word).uuid == WEB
    assert store.find(word, kind).uuid == WEB


@pytest.mark.parametrize("word", ["web", "1"])
@pytest.mark.parametrize("target", ["../vm/no-uuid", f"../vm/{uuid_of('gone')}", f"../vm/{uuid_of('db')}", "loop"])
def test_a_wrong_link_leads_to_no_other_vm(word: str, target: str, store: Store, there: Layout) -> None:
    for path in (there.name("web"), there.id(1)):
        path.unlink()
        path.symlink_to(target)
    assert store.find(word).uuid == WEB


@pytest.mark.parametrize(
    "word",
    ["wbe", "../name/web", "/", ".", "..", "-1", "01", "3", "x" * 5000, "a\0b", "\udcff", str(uuid_of("gone")), "*"],
)
def test_what_is_not_there_is_not_found(word: str, store: Store, there: Layout) -> None:
    with pytest.raises(NotFoundError):
        store.find(word)


def test_not_found_names_the_near_match(store: Store, there: Layout) -> None:
    with pytest.raises(NotFoundError) as caught:
        store.find("wbe")
    assert "web" in caught.value.hint


def test_a_broken_vm_is_found_by_the_name_it_claimed_and_by_uuid(store: Store, layout: Layout) -> None:
    bad = uuid_of("bad")
    put_broken(layout, bad, name="bad")
    link(layout.id(7), bad)
    for word in ("bad", str(bad), "7"):
        assert store.find(word).uuid == bad


@pytest.mark.parametrize("kind", ["", "id"])
def test_an_empty_word_is_no_vm(kind: str, store: Store, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    with pytest.raises(NotFoundError):
        store.find("", kind)


def test_a_wrong_link_to_a_broken_vm_does_not_hide_the_one_of_that_name(store: Store, there: Layout) -> None:
    bad = uuid_of("bad")
    put_broken(there, bad)
    there.name("web").unlink()
    link(there.name("web"), bad)
    assert store.find("web").uuid == WEB
