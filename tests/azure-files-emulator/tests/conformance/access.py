"""Keys, versions and shared access signatures."""

from datetime import datetime, timedelta, timezone

import requests
from azure.storage.fileshare import (
    AccessPolicy,
    ShareClient,
    ShareFileClient,
    ShareSasPermissions,
    ShareServiceClient,
    generate_file_sas,
    generate_share_sas,
)
from support import SETTINGS, account_sas, case, expect, file, options, raw, service, share


def later(**delta):
    return datetime.now(timezone.utc) + timedelta(**delta)


def with_sas(share_name, sas, **more):
    return ShareClient(SETTINGS["endpoint"], share_name, credential=sas, **options(**more))


@case
def shared_key_is_accepted():
    client = share()
    assert client.get_share_properties().name == client.share_name
    # Names of metadata that clients and servers sort in different orders.
    client.set_share_metadata({"a_b": "1", "a1": "2", "aa": "3", "b": "4"})
    assert client.get_share_properties().metadata == {"a_b": "1", "a1": "2", "aa": "3", "b": "4"}


@case
def wrong_key_is_rejected():
    name = share().share_name
    wrong = {"account_name": SETTINGS["account"], "account_key": "bm90IHRoZSBrZXk="}
    client = ShareClient(SETTINGS["endpoint"], name, credential=wrong, **options())
    error = expect(403, "AuthenticationFailed", client.get_share_properties)
    assert error.response.headers["x-ms-error-code"] == "AuthenticationFailed"
    url = SETTINGS["endpoint"] + "/" + name + "?restype=share"
    headers = {
        "x-ms-version": "2025-01-05",
        "x-ms-date": datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Authorization": "SharedKey %s:AAAA" % SETTINGS["account"],
    }
    answer = requests.get(url, headers=headers, verify=SETTINGS["ca"] or True, timeout=60)
    assert answer.status_code == 403
    assert "restype:share" in answer.text and "AuthenticationErrorDetail" in answer.text
    headers["x-ms-date"] = later(minutes=-20).strftime("%a, %d %b %Y %H:%M:%S GMT")
    answer = requests.get(url, headers=headers, verify=SETTINGS["ca"] or True, timeout=60)
    assert answer.status_code == 403 and "too old" in answer.text, answer.text


@case
def no_credentials_are_rejected():
    name = share().share_name
    answer = raw("GET", name, query="restype=share", sas="")
    assert answer.status_code == 401, answer.text
    assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
    assert answer.headers["x-ms-error-code"] == "NoAuthenticationInformation"


@case
def response_carries_protocol_headers():
    name = share().share_name
    answer = raw("GET", name, {"x-ms-client-request-id": "mine"}, query="restype=share")
    assert answer.status_code == 200
    for header in ["x-ms-request-id", "x-ms-version", "Date", "Server", "ETag", "Last-Modified"]:
        assert answer.headers.get(header), header
    assert answer.headers["x-ms-version"] == "2025-01-05"
    assert answer.headers["x-ms-client-request-id"] == "mine"
    missing = raw("GET", name + "/none", query="comp=metadata")
    assert missing.content.startswith(b"\xef\xbb\xbf<?xml"), missing.content
    assert "<Code>ResourceNotFound</Code>" in missing.text
    assert "RequestId:" + missing.headers["x-ms-request-id"] in missing.text
    head = raw("HEAD", name + "/none")
    assert head.status_code == 404 and not head.content
    assert head.headers["x-ms-error-code"] == "ResourceNotFound"


@case
def older_service_version():
    client = share(api_version="2020-10-02")
    made = client.get_file_client("f")
    made.upload_file(b"old")
    assert made.download_file().readall() == b"old"
    assert made.get_file_properties().file_attributes == "Archive"
    answer = raw("GET", client.share_name, {"x-ms-version": "soon"}, query="restype=share")
    assert answer.status_code == 400
    assert "<HeaderName>x-ms-version</HeaderName>" in answer.text


@case
def account_sas_is_checked():
    client = share()
    file(b"data", of=client)
    name = client.share_name
    full = with_sas(name, account_sas())
    assert full.get_file_client("file.bin").download_file().readall() == b"data"
    full.create_directory("made")
    full.get_file_client("file.bin").rename_file("renamed.bin")
    names = {entry["name"] for entry in full.list_directories_and_files()}
    assert names == {"made", "renamed.bin"}
    reader = with_sas(name, account_sas("rl"))
    assert reader.get_share_properties().name == name
    expect(403, "AuthorizationPermissionMismatch", reader.create_directory, "no")
    writer = reader.get_file_client("renamed.bin")
    expect(403, "AuthorizationPermissionMismatch", writer.delete_file)
    shares_only = with_sas(name, account_sas("rl", "c"))
    code = "AuthorizationResourceTypeMismatch"
    expect(403, code, shares_only.get_file_client("renamed.bin").get_file_properties)
    old = with_sas(name, account_sas(expiry=later(minutes=-1)))
    expect(403, "AuthenticationFailed", old.get_share_properties)
    early = with_sas(name, account_sas(start=later(hours=1), expiry=later(hours=2)))
    expect(403, "AuthenticationFailed", early.get_share_properties)
    elsewhere = with_sas(name, account_sas(ip="10.1.2.3"))
    expect(403, "AuthorizationSourceIPMismatch", elsewhere.get_share_properties)
    assert raw("GET", name, query="restype=share", sas=account_sas()[:-4] + "AA%3D").status_code == 403
    lister = ShareServiceClient(SETTINGS["endpoint"], credential=account_sas(), **options())
    assert name in [found.name for found in lister.list_shares(name_starts_with=name)]
    created = with_sas(name, account_sas("c")).get_file_client("new")
    created.create_file(1)
    expect(403, "AuthorizationPermissionMismatch", created.create_file, 1)


@case
def share_sas_permissions():
    client = share()
    file(b"data", of=client)

    def sas(letters):
        made = generate_share_sas(
            SETTINGS["account"],
            client.share_name,
            SETTINGS["key"],
            ShareSasPermissions.from_string(letters),
            later(hours=1),
        )
        return with_sas(client.share_name, made)

    everything = sas("rcwdl")
    other = everything.get_file_client("other")
    other.upload_file(b"1")
    assert len(list(everything.list_directories_and_files())) == 2
    other.delete_file()
    denied = "AuthorizationPermissionMismatch"
    expect(403, denied, everything.get_share_properties)
    expect(403, denied, everything.delete_share)
    expect(403, denied, sas("r").get_file_client("file.bin").delete_file)
    expect(403, denied, sas("w").get_file_client("file.bin").download_file)
    expect(403, denied, sas("r").list_directories_and_files().next)
    creator = sas("c").get_file_client("made")
    creator.create_file(10)
    expect(403, denied, creator.create_file, 10)
    another = share()
    query = generate_share_sas(
        SETTINGS["account"], client.share_name, SETTINGS["key"], "rl", later(hours=1)
    )
    wrong = with_sas(another.share_name, query)
    expect(403, "AuthenticationFailed", wrong.get_file_client("x").get_file_properties)


@case
def file_sas_names_one_file():
    client = share()
    client.create_directory("a b")
    name = "r\u00e9sum\u00e9%.txt"
    file(b"mine", name="a b/" + name, of=client)
    file(b"other", name="a b/other", of=client)
    sas = generate_file_sas(
        SETTINGS["account"],
        client.share_name,
        ["a b", name],
        SETTINGS["key"],
        "r",
        later(hours=1),
        content_disposition="attachment; filename=x.txt",
    )

    def at(path):
        return ShareFileClient(
            SETTINGS["endpoint"], client.share_name, path, credential=sas, **options()
        )

    mine = at("a b/" + name)
    assert mine.download_file().readall() == b"mine"
    shown = mine.get_file_properties().content_settings.content_disposition
    assert shown == "attachment; filename=x.txt", shown
    expect(403, "AuthenticationFailed", at("a b/other").get_file_properties)
    expect(403, "AuthorizationPermissionMismatch", mine.delete_file)


@case
def sas_with_stored_policy():
    client = share()
    file(b"data", of=client)
    policy = AccessPolicy("rl", later(hours=1), later(hours=-1))
    client.set_share_access_policy({"reader": policy})
    sas = generate_share_sas(
        SETTINGS["account"], client.share_name, SETTINGS["key"], policy_id="reader"
    )
    reader = with_sas(client.share_name, sas)
    assert reader.get_file_client("file.bin").download_file().readall() == b"data"
    code = "AuthorizationPermissionMismatch"
    expect(403, code, reader.get_file_client("file.bin").delete_file)
    twice = generate_share_sas(
        SETTINGS["account"], client.share_name, SETTINGS["key"], "r", policy_id="reader"
    )
    twice = with_sas(client.share_name, twice).get_file_client("file.bin")
    expect(403, "AuthenticationFailed", twice.get_file_properties)
    client.set_share_access_policy({})
    read = reader.get_file_client("file.bin").download_file
    expect(403, "AuthenticationFailed", read)


@case
def unknown_calls_are_told_so():
    name = share().share_name
    assert raw("GET", name, query="restype=share&comp=nothing").status_code == 400
    assert raw("PATCH", name, query="restype=share").status_code == 405
    assert service().get_service_properties()["cors"] is not None
