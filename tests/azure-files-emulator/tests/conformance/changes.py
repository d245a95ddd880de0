"""Renames, leases of files, copies and links."""

import uuid

from azure.storage.fileshare import ShareLeaseClient
from support import SETTINGS, account_sas, case, etag, expect, file, names, raw, share, share_client

SDDL = "O:S-1-5-21-1-2-3-512G:S-1-5-21-1-2-3-513D:(A;;FA;;;SY)"


@case
def rename_file_keeps_identity():
    made = file(b"content", metadata={"a": "1"}, file_attributes="Hidden")
    before = made.get_file_properties()
    moved = made.rename_file("new.bin")
    after = moved.get_file_properties()
    assert not made.exists() and moved.download_file().readall() == b"content"
    assert after.file_id == before.file_id and after.metadata == {"a": "1"}
    assert after.creation_time == before.creation_time
    assert after.last_write_time == before.last_write_time
    assert after.permission_key == before.permission_key
    assert after.file_attributes == before.file_attributes
    assert after.etag != before.etag and after.change_time > before.change_time
    again = moved.rename_file(
        "third.bin", metadata={"b": "2"}, file_attributes="System", content_type="text/plain"
    ).get_file_properties()
    assert again.metadata == {"b": "2"} and again.file_attributes == "System"
    assert again.content_settings.content_type == "text/plain"


@case
def rename_file_into_other_directory():
    client = share()
    made = file(b"x", of=client)
    client.create_directory("d").create_subdirectory("e f")
    moved = made.rename_file("d/e f/g%h")
    assert moved.download_file().readall() == b"x"
    parent = client.get_directory_client("d/e f").get_directory_properties()
    assert moved.get_file_properties().parent_id == parent.file_id
    expect(404, "ParentNotFound", moved.rename_file, "none/x")
    assert moved.exists()


@case
def rename_file_conflicts():
    client = share()
    one, two = file(b"1", name="one", of=client), file(b"2", name="two", of=client)
    expect(409, "ResourceAlreadyExists", one.rename_file, "two")
    assert two.download_file().readall() == b"2"
    identity = one.get_file_properties().file_id
    replaced = one.rename_file("two", overwrite=True)
    assert replaced.download_file().readall() == b"1"
    assert replaced.get_file_properties().file_id == identity
    assert names(client.list_directories_and_files()) == ["two"]
    client.create_directory("d")
    expect(409, None, replaced.rename_file, "d", overwrite=True)
    expect(404, "ResourceNotFound", one.rename_file, "x")
    directory = client.get_directory_client("two")
    expect(409, "ResourceTypeMismatch", directory.rename_directory, "y")
    same = replaced.rename_file("two")
    assert same.download_file().readall() == b"1"


@case
def rename_over_read_only():
    client = share()
    one = file(b"1", name="one", of=client)
    file(b"2", name="two", of=client)
    two = client.get_file_client("two")
    from azure.storage.fileshare import ContentSettings

    two.set_http_headers(ContentSettings(), file_attributes="ReadOnly")
    expect(409, "ReadOnlyAttribute", one.rename_file, "two", overwrite=True)
    moved = one.rename_file("two", overwrite=True, ignore_read_only=True)
    assert moved.download_file().readall() == b"1"
    moved.set_http_headers(ContentSettings(), file_attributes="ReadOnly")
    assert moved.rename_file("three").exists(), "a read-only source can be renamed"


@case
def rename_directory_moves_the_tree():
    client = share()
    made = client.create_directory("d")
    made.create_subdirectory("e").upload_file("f", b"deep")
    identity = made.get_directory_properties().file_id
    before = client.get_file_client("d/e/f").get_file_properties()
    moved = made.rename_directory("new name")
    after = client.get_file_client("new name/e/f").get_file_properties()
    assert client.get_file_client("new name/e/f").download_file().readall() == b"deep"
    assert moved.get_directory_properties().file_id == identity
    assert after.etag == before.etag and after.file_id == before.file_id
    assert not made.exists()
    client.create_directory("other")
    expect(409, "ResourceAlreadyExists", moved.rename_directory, "other")
    expect(409, None, moved.rename_directory, "other", overwrite=True)
    expect(400, None, moved.rename_directory, "new name/e/inside")
    file(b"", name="file", of=client)
    expect(409, "ResourceAlreadyExists", moved.rename_directory, "file")
    assert moved.rename_directory("file", overwrite=True).exists()
    assert names(client.list_directories_and_files()) == ["file", "other"]


@case
def rename_needs_the_lease():
    client = share()
    one, two = file(b"1", name="one", of=client), file(b"2", name="two", of=client)
    source = one.acquire_lease()
    expect(412, "LeaseIdMissing", one.rename_file, "x")
    target = two.acquire_lease()
    more = {"overwrite": True, "source_lease": source}
    expect(412, "LeaseIdMissing", one.rename_file, "two", **more)
    moved = one.rename_file("two", destination_lease=target, **more)
    assert moved.get_file_properties().lease.state == "leased", "the source's lease goes along"
    expect(412, "LeaseIdMissing", moved.delete_file)
    moved.delete_file(lease=source.id)


@case
def rename_with_sas():
    client = share()
    file(b"x", of=client)
    from azure.storage.fileshare import ShareClient
    from support import options

    limited = ShareClient(
        SETTINGS["endpoint"], client.share_name, credential=account_sas("rw"), **options()
    )
    assert limited.get_file_client("file.bin").rename_file("moved").exists()
    reader = ShareClient(
        SETTINGS["endpoint"], client.share_name, credential=account_sas("r"), **options()
    )
    code = "AuthorizationPermissionMismatch"
    expect(403, code, reader.get_file_client("moved").rename_file, "x")


@case
def file_lease_guards_writes():
    made = file(b"x" * 512)
    before = etag(made)
    lease = made.acquire_lease()
    properties = made.get_file_properties()
    assert (properties.lease.state, properties.lease.status) == ("leased", "locked")
    assert properties.lease.duration == "infinite" and properties.etag == before
    for write in [
        lambda **more: made.upload_range(b"y" * 512, 0, 512, **more),
        lambda **more: made.clear_range(0, 512, **more),
        lambda **more: made.set_file_metadata({"a": "1"}, **more),
        lambda **more: made.resize_file(512, **more),
        lambda **more: made.create_file(512, **more),
        lambda **more: made.start_copy_from_url(made.url, **more),
        lambda **more: made.delete_file(**more),
    ]:
        expect(412, "LeaseIdMissing", write)
        expect(412, "LeaseIdMismatchWithFileOperation", write, lease=str(uuid.uuid4()))
    made.upload_range(b"y" * 512, 0, 512, lease=lease)
    made.create_file(512, lease=lease)
    assert made.get_file_properties().lease.state == "leased", "the lease outlives a replacement"
    assert made.download_file().readall() == bytes(512)
    made.download_file(lease=lease).readall()
    code = "LeaseIdMismatchWithFileOperation"
    expect(412, code, made.download_file, lease=str(uuid.uuid4()))
    expect(409, "LeaseAlreadyPresent", made.acquire_lease)
    assert made.acquire_lease(lease.id).id == lease.id
    other = str(uuid.uuid4())
    lease.change(other)
    lease.release()
    assert made.get_file_properties().lease.state == "available"
    made.delete_file()


@case
def file_lease_break_and_absence():
    made = file(b"x" * 512)
    lease = made.acquire_lease()
    assert lease.break_lease() == 0
    assert made.get_file_properties().lease.state == "broken"
    expect(412, "LeaseLost", made.upload_range, b"y", 0, 1, lease=lease)
    made.upload_range(b"y", 0, 1)
    assert made.get_file_properties().lease.state == "available"
    code = "LeaseNotPresentWithFileOperation"
    expect(412, code, made.upload_range, b"y", 0, 1, lease=str(uuid.uuid4()))
    stranger = ShareLeaseClient(made, str(uuid.uuid4()))
    expect(409, "LeaseNotPresentWithLeaseOperation", stranger.release)
    expect(409, "LeaseNotPresentWithLeaseOperation", stranger.break_lease)
    lease = made.acquire_lease()
    expect(409, "LeaseIdMismatchWithLeaseOperation", stranger.release)
    path = made.share_name + "/file.bin"
    headers = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "30"}
    answer = raw("PUT", path, headers, b"", query="comp=lease")
    assert answer.status_code == 400, "leases of files are infinite"
    missing = share().get_file_client("none")
    expect(404, "ResourceNotFound", missing.acquire_lease)
    made.rename_file("moved", source_lease=lease)


@case
def copy_file():
    client = share()
    source = file(b"copied" * 1000, metadata={"a": "1"}, of=client)
    target = client.get_file_client("copy")
    result = target.start_copy_from_url(source.url)
    assert result["copy_status"] == "success" and result["copy_id"]
    properties = target.get_file_properties()
    assert target.download_file().readall() == b"copied" * 1000
    assert properties.metadata == {"a": "1"} and properties.copy.status == "success"
    assert properties.copy.progress == "6000/6000" and properties.copy.id == result["copy_id"]
    before = source.get_file_properties()
    assert properties.last_write_time > before.last_write_time and properties.file_id != before.file_id
    target.start_copy_from_url(
        source.url, metadata={"b": "2"}, file_last_write_time="source", file_creation_time="source"
    )
    properties = target.get_file_properties()
    assert properties.metadata == {"b": "2"}
    assert properties.last_write_time == before.last_write_time
    assert properties.creation_time == before.creation_time
    expect(409, "NoPendingCopyOperation", target.abort_copy, result["copy_id"])
    missing = client.get_file_client("none")
    expect(404, None, target.start_copy_from_url, missing.url)
    snapshot = client.create_snapshot()["snapshot"]
    source.upload_file(b"changed")
    target.start_copy_from_url(source.url + "?sharesnapshot=" + snapshot)
    assert target.download_file().readall() == b"copied" * 1000, "restored from the snapshot"
    elsewhere = share().get_file_client("over")
    elsewhere.start_copy_from_url(source.url + "?" + account_sas("r"))
    assert elsewhere.download_file().readall() == b"changed"
    expect(403, None, elsewhere.start_copy_from_url, source.url + "?" + account_sas("w"))


@case
def upload_range_from_url():
    client = share()
    source = file(b"0123456789" * 100, of=client)
    target = file(size=1000, name="target", of=client)
    url = source.url + "?" + account_sas("r")
    result = target.upload_range_from_url(url, offset=500, length=10, source_offset=5)
    data = target.download_file().readall()
    assert data == bytes(500) + b"5678901234" + bytes(490)
    assert result["etag"] == etag(target)
    path = client.share_name + "/target"
    headers = {
        "x-ms-write": "update",
        "x-ms-range": "bytes=0-9",
        "x-ms-source-range": "bytes=0-9",
        "x-ms-copy-source": url,
    }
    answer = raw("PUT", path, headers, b"", query="comp=range")
    assert answer.status_code == 201 and len(answer.headers["x-ms-content-crc64"]) == 12
    crc = answer.headers["x-ms-content-crc64"]
    match = {**headers, "x-ms-source-if-match-crc64": crc}
    assert raw("PUT", path, match, b"", query="comp=range").status_code == 201
    other = {**headers, "x-ms-source-if-none-match-crc64": crc}
    assert raw("PUT", path, other, b"", query="comp=range").status_code == 412
    wrong = source.url + "?" + account_sas("w")
    code = "CannotVerifyCopySource"
    expect(403, code, target.upload_range_from_url, wrong, 0, 10, 0)


@case
def links_on_nfs_shares():
    client = share_client("nfs" + uuid.uuid4().hex)
    client.create_share(protocols="NFS", root_squash="RootSquash")
    assert client.get_share_properties().root_squash == "RootSquash"
    made = client.get_file_client("file")
    made.create_file(5, owner="1000", group="1001", file_mode="0640", data=b"hello")
    properties = made.get_file_properties()
    assert (properties.owner, properties.group, properties.file_mode) == ("1000", "1001", "0640")
    assert properties.nfs_file_type == "Regular" and properties.link_count == 1
    hard = client.get_file_client("hard")
    hard.create_hardlink(target="file")
    assert hard.download_file().readall() == b"hello"
    assert hard.get_file_properties().link_count == 2
    made.delete_file()
    assert hard.download_file().readall() == b"hello"
    link = client.get_file_client("link")
    link.create_symlink(target="../hard")
    assert link.get_symlink()["link_text"] == "../hard"
    upper = client.get_file_client("HARD")
    assert not upper.exists(), "names tell case on NFS shares"
    smb = share().get_file_client("link")
    expect((400, 409), None, smb.create_symlink, target="x")
