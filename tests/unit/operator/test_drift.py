"""Drift in words: which object, and which of its fields."""

from tenantry_operator.plan.drift import NAMED, OBJECTS, Drift, put_back, told

WHOLE: dict[str, object] = {
    "f:metadata": {"f:labels": {"f:tenantry.dev/tenant": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:containers": {'k:{"name":"api"}': {".": {}, "f:image": {}, "f:name": {}}},
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
        "f:policyTypes": {},
    },
}


def test_what_left_our_entry_is_what_was_changed() -> None:
    left: dict[str, object] = {
        "f:metadata": {"f:labels": {}},
        "f:spec": {"f:containers": {'k:{"name":"api"}': {".": {}, "f:name": {}}}, "f:policyTypes": {}},
    }
    assert put_back(left, WHOLE) == (
        ".metadata.labels[tenantry.dev/tenant]",
        ".spec.containers[name=api].image",
        ".spec.ports[port=80,protocol=TCP].port",
        ".spec.replicas",
    )
    assert put_back(WHOLE, WHOLE) == ()


def test_an_object_that_was_not_there_lost_all_of_it() -> None:
    assert len(put_back({}, WHOLE)) == 6


def test_the_note_names_objects_and_fields() -> None:
    note = told(
        [
            Drift(kind="NetworkPolicy", name="default-deny", fields=(".spec.policyTypes",)),
            Drift(kind="Deployment", name="api"),
            Drift(kind="ConfigMap", name="stray", stray=True),
        ]
    )
    assert "NetworkPolicy default-deny had been changed at .spec.policyTypes" in note
    assert "Deployment api had been deleted" in note
    assert "ConfigMap stray was not the operator's" in note


def test_the_note_stays_short_whatever_has_happened() -> None:
    much = tuple(f".spec.field{number}" for number in range(50))
    note = told([Drift(kind="Deployment", name="api", fields=much)] * 30)
    assert len(note) < 1024
    assert f"and {50 - NAMED} more" in note
    assert note.endswith(f"{30 - OBJECTS} more objects")
