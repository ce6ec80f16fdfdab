"""The collection of a registry on the Hub: a list of everything it publishes for everybody."""

from __future__ import annotations

from lorareg.registry.publishing.door import door, patiently


def collect(namespace: str, title: str, repo: str) -> str:
    """Put a repository into the collection of that title, made if there is none; gives its slug."""
    from huggingface_hub import HfApi

    with door(f"collection {title!r} of {namespace}", "write to"):
        known = patiently(lambda: list(HfApi().list_collections(owner=namespace)))
        slugs = [each.slug for each in known if each.title == title]
        slug = slugs[0] if slugs else patiently(lambda: _new_collection(namespace, title))
        patiently(lambda: HfApi().add_collection_item(slug, repo, "model", exists_ok=True))
    return str(slug)


def is_collected(namespace: str, title: str, repo: str) -> bool:
    """Whether a repository is in the collection of that title."""
    from huggingface_hub import HfApi

    with door(f"collection {title!r} of {namespace}", "read"):
        item = f"models/{repo}"
        known = patiently(lambda: list(HfApi().list_collections(owner=namespace, item=item)))
    return any(each.title == title for each in known)


def _new_collection(namespace: str, title: str) -> str:
    from huggingface_hub import HfApi

    made = HfApi().create_collection(title, namespace=namespace, private=False, exists_ok=True)
    return str(made.slug)
