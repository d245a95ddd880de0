"""Shares and the account."""

import uuid

from azure.storage.fileshare import (
    AccessPolicy,
    CorsRule,
    Metrics,
    RetentionPolicy,
    ShareLeaseClient,
)
from support import case, expect, file, raw, service, share, share_client



@case
def create_share_and_find_it():
    client = share()
    found = [found.name for found in service().list_shares(name_starts_with=client.share_name)]
    assert found == [client.share_name]
    properties = client.get_share_properties()
    assert properties.etag and properties.last_modified
    client.delete_share()
    expect(404, "ShareNotFound", client.get_share_properties)
    assert not list(service().list_shares(name_starts_with=client.share_name))


@case
def create_share_twice():
    client = share()
    expect(409, "ShareAlreadyExists", client.create_share)


@case
def share_name_rules():
    for name in ["Upper-case", "two--hyphens", "-start", "under_score"]:
        expect(400, "InvalidResourceName", share_client(name).create_share)
    for name in ["ab", "x" * 64]:
        expect(400, "OutOfRangeInput", share_client(name).create_share)
    longest = share_client(uuid.uuid4().hex + "x" * 31)
    longest.create_share()
    longest.delete_share()


@case
def missing_share():
    client = share_client("missing" + uuid.uuid4().hex)
    expect(404, "ShareNotFound", client.get_share_properties)
    expect(404, "ShareNotFound", client.delete_share)
    expect(404, "ShareNotFound", client.create_directory, "d")
    expect(404, "ShareNotFound", client.get_file_client("f").create_file, 1)
    expect(404, "ShareNotFound", client.get_file_client("f").download_file)
    expect(404, "ShareNotFound", client.list_directories_and_files().next)


@case
def share_quota_and_metadata():
    client = share_client("t" + uuid.uuid4().hex)
    client.create_share(metadata={"one": "1"}, quota=7, access_tier="Hot")
    properties = client.get_share_properties()
    assert (properties.quota, properties.metadata) == (7, {"one": "1"})
    assert properties.access_tier == "Hot"
    before = properties.etag
    client.set_share_quota(9)
    client.set_share_metadata({"two": "2"})
    client.set_share_properties(access_tier="Cool")
    properties = client.get_share_properties()
    assert (properties.quota, properties.metadata) == (9, {"two": "2"})
    assert properties.access_tier == "Cool" and properties.etag != before
    assert properties.protocols == ["SMB"] and properties.lease.state == "available"
    expect(400, "InvalidHeaderValue", client.set_share_properties, access_tier="Warm")
    big = {"big": "x" * 9000}
    expect(400, "MetadataTooLarge", client.set_share_metadata, big)


@case
def share_statistics():
    client = share()
    assert client.get_share_stats() == 0
    made = file(b"x" * 100_000, of=client)
    assert 100_000 <= client.get_share_stats() <= 101_000
    made.delete_file()
    assert client.get_share_stats() == 0


@case
def list_shares_pages_and_metadata():
    prefix = "list" + uuid.uuid4().hex[:8]
    for number in range(5):
        share_client("%s-%d" % (prefix, number)).create_share(metadata={"n": str(number)})
    # Another one that must not be on page 2, where the prefix comes from page 1's answer.
    share_client("a" + prefix).create_share()
    share_client("z" + prefix).create_share()
    pages = service().list_shares(
        name_starts_with=prefix, include_metadata=True, results_per_page=2
    ).by_page()
    pages = [list(page) for page in pages]
    assert [len(page) for page in pages] == [2, 2, 1], pages
    found = [(found.name, found.metadata) for page in pages for found in page]
    assert found == [("%s-%d" % (prefix, n), {"n": str(n)}) for n in range(5)], found
    snapshot = share_client(prefix + "-3").create_snapshot()["snapshot"]
    with_snapshots = service().list_shares(name_starts_with=prefix, include_snapshots=True)
    found = [(found.name[-1], found.snapshot) for found in with_snapshots]
    assert found == [("0", None), ("1", None), ("2", None), ("3", snapshot), ("3", None), ("4", None)]
    answer = raw("GET", "", query="comp=list&maxresults=0")
    assert answer.headers["x-ms-error-code"] == "OutOfRangeQueryParameterValue"


@case
def share_access_policy():
    from datetime import datetime, timezone

    client = share()
    assert client.get_share_access_policy()["signed_identifiers"] == []
    start, end = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2))
    client.set_share_access_policy({"one": AccessPolicy("rw", end, start), "two": AccessPolicy("l")})
    got = client.get_share_access_policy()["signed_identifiers"]
    assert [policy.id for policy in got] == ["one", "two"]
    assert got[0].access_policy.permission == "rw"
    assert got[0].access_policy.start.startswith("2026-01-01T00:00:00"), got[0].access_policy.start
    many = "".join(
        "<SignedIdentifier><Id>%d</Id><AccessPolicy /></SignedIdentifier>" % n for n in range(6)
    )
    body = "<SignedIdentifiers>%s</SignedIdentifiers>" % many
    # Policies are for those who have the key; an account SAS is not enough.
    answer = raw("PUT", client.share_name, data=body, query="restype=share&comp=acl")
    assert answer.status_code == 403, answer.text


@case
def service_properties():
    client = service()
    day = RetentionPolicy(enabled=True, days=5)
    metrics = Metrics(enabled=True, include_apis=True, retention_policy=day)
    rule = CorsRule(["www.example.com"], ["GET"], max_age_in_seconds=60)
    client.set_service_properties(hour_metrics=metrics, cors=[rule])
    got = client.get_service_properties()
    assert got["hour_metrics"].enabled and got["hour_metrics"].retention_policy.days == 5
    assert got["cors"][0].allowed_origins == "www.example.com", vars(got["cors"][0])
    assert not got["minute_metrics"].enabled
    client.set_service_properties(cors=[])
    got = client.get_service_properties()
    assert got["cors"] == [] and got["hour_metrics"].enabled


@case
def share_lease():
    client = share()
    lease = client.acquire_lease(lease_duration=15)
    properties = client.get_share_properties()
    assert properties.lease.state == "leased" and properties.lease.duration == "fixed"
    expect(412, "LeaseIdMissing", client.delete_share)
    expect(409, "LeaseAlreadyPresent", client.acquire_lease, lease_duration=-1)
    lease.renew()
    other = str(uuid.uuid4())
    lease.change(other)
    assert lease.id == other
    stranger = ShareLeaseClient(client, str(uuid.uuid4()))
    expect(409, "LeaseIdMismatchWithLeaseOperation", stranger.release)
    code = "LeaseIdMismatchWithShareOperation"
    expect(412, code, client.get_share_properties, lease=str(uuid.uuid4()))
    lease.release()
    assert client.get_share_properties().lease.state == "available"
    lease = client.acquire_lease(lease_duration=-1)
    assert client.get_share_properties().lease.duration == "infinite"
    assert lease.break_lease(lease_break_period=0) == 0
    assert client.get_share_properties().lease.state == "broken"
    expect(400, None, client.acquire_lease, lease_duration=5)
    client.acquire_lease(lease_duration=-1).release()
    client.delete_share()


@case
def deleted_share_can_be_restored():
    client = share()
    file(b"kept", of=client)
    client.delete_share()
    listed = service().list_shares(name_starts_with=client.share_name, include_deleted=True)
    (deleted,) = list(listed)
    assert deleted.deleted and deleted.version
    back = service().undelete_share(deleted.name, deleted.version, **{})
    assert back.get_file_client("file.bin").download_file().readall() == b"kept"


@case
def snapshot_read_and_limits():
    client = share()
    made = file(b"before", of=client)
    client.create_directory("d")
    before = made.get_file_properties().etag
    taken = client.create_snapshot(metadata={"why": "test"})
    assert taken["snapshot"].endswith(".0000000Z")
    second = client.create_snapshot()
    assert second["snapshot"] > taken["snapshot"]
    assert made.get_file_properties().etag == before
    made.upload_file(b"after, and longer")
    client.get_directory_client("d").delete_directory()
    then = share_client(client.share_name, snapshot=taken["snapshot"])
    old = then.get_file_client("file.bin")
    assert old.download_file().readall() == b"before"
    assert old.get_file_properties().etag == before
    assert [entry["name"] for entry in then.list_directories_and_files()] == ["d", "file.bin"]
    assert then.get_directory_client("d").exists()
    assert then.get_share_properties().metadata == {"why": "test"}
    assert old.get_ranges() == [{"start": 0, "end": 5}]
    answer = raw("DELETE", client.share_name + "/file.bin", query="sharesnapshot=" + second["snapshot"])
    assert answer.status_code == 400
    assert answer.headers["x-ms-error-code"] == "InvalidQueryParameterValue"
    expect(409, "ShareHasSnapshots", client.delete_share)
    then.delete_share()
    expect(404, "ShareSnapshotNotFound", old.get_file_properties)
    assert made.download_file().readall() == b"after, and longer"
    # 200 at most; one is left.
    for _ in range(199):
        client.create_snapshot()
    expect(409, "ShareSnapshotCountExceeded", client.create_snapshot)
    client.delete_share(delete_snapshots=True)


@case
def snapshot_range_diff():
    client = share()
    made = file(b"x" * 4096, of=client)
    first = client.create_snapshot()["snapshot"]
    made.upload_range(b"y" * 512, 512, 512)
    made.clear_range(2048, 1024)
    ranges, cleared = made.get_ranges_diff(first)
    assert ranges == [{"start": 512, "end": 1023}], ranges
    assert cleared == [{"start": 2048, "end": 3071}], cleared
    second = client.create_snapshot()["snapshot"]
    assert made.get_ranges_diff(second) == ([], [])
    made.upload_range(b"z" * 512, 2048, 512)
    ranges, cleared = made.get_ranges_diff(first)
    assert [r["start"] for r in ranges] == [512, 2048] and cleared == [{"start": 2560, "end": 3071}]
    at_second = share_client(client.share_name, snapshot=second).get_file_client("file.bin")
    assert at_second.get_ranges_diff(first)[1] == [{"start": 2048, "end": 3071}]
    window = made.get_ranges_diff(first, offset=1024, length=1536)
    assert window == ([{"start": 2048, "end": 2559}], []), window
    found = list(made.list_ranges_diff(first, results_per_page=1))
    assert [(r.start, r.end, bool(r.cleared)) for r in found] == [
        (512, 1023, False),
        (2048, 2559, False),
        (2560, 3071, True),
    ], found
    moved = made.rename_file("moved.bin")
    expect((404, 409), None, moved.get_ranges_diff, first)
    assert len(moved.get_ranges_diff(first, include_renames=True)[0]) == 2
    new = file(b"new", name="new.bin", of=client)
    expect(404, None, new.get_ranges_diff, first)
    moved.upload_file(b"whole")
    expect(409, None, moved.get_ranges_diff, first, include_renames=True)
    expect(409, "PreviousSnapshotNotFound", moved.get_ranges_diff, "2020-01-01T00:00:00.0000000Z")


@case
def permissions():
    client = share()
    sddl = "O:S-1-5-21-1-2-3-512G:S-1-5-21-1-2-3-513D:(A;;FA;;;SY)"
    key = client.create_permission_for_share(sddl)
    assert key and client.create_permission_for_share(sddl) == key
    assert client.get_permission_for_share(key) == sddl
    made = client.get_file_client("f")
    made.create_file(1, permission_key=key)
    assert made.get_file_properties().permission_key == key
    other = client.get_file_client("g")
    other.create_file(1, file_permission=sddl)
    assert other.get_file_properties().permission_key == key
    plain = file(b"", name="h", of=client)
    default = client.get_directory_client().get_directory_properties().permission_key
    assert plain.get_file_properties().permission_key == default != key
    expect(400, None, client.create_permission_for_share, "nonsense")
    expect(400, None, client.get_permission_for_share, "1*2")


@case
def snapshots_are_named_by_seconds():
    client = share()
    ids = [client.create_snapshot()["snapshot"] for _ in range(3)]
    assert len(set(ids)) == 3 and ids == sorted(ids)
    assert all(len(one) == 28 for one in ids)
