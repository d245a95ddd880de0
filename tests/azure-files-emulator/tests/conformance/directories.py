"""Directories, names and listings."""

import re

from support import case, expect, file, names, raw, share, share_client


@case
def directory_properties():
    client = share()
    made = client.create_directory("d")
    properties = made.get_directory_properties()
    assert properties.file_attributes == "Directory"
    assert properties.file_id and properties.parent_id == "0"
    assert properties.creation_time and properties.change_time and properties.last_write_time
    assert properties.server_encrypted
    below = made.create_subdirectory("below")
    assert below.get_directory_properties().parent_id == properties.file_id
    assert made.get_directory_properties().etag == properties.etag, "work inside changes nothing"
    expect(404, "ResourceNotFound", client.get_directory_client("none").get_directory_properties)
    code = "ParentNotFound"
    expect(404, code, client.get_directory_client("none/below").get_directory_properties)
    file(b"", name="f", of=client)
    expect(409, "ResourceTypeMismatch", client.get_directory_client("f").get_directory_properties)


@case
def root_directory_exists():
    root = share().get_directory_client()
    assert root.exists() and root.get_directory_properties().file_id == "0"
    assert list(root.list_directories_and_files()) == []
    expect(409, None, root.delete_directory)
    expect(409, "ResourceAlreadyExists", root.create_directory)


@case
def create_directory_conflicts():
    client = share()
    client.create_directory("d")
    expect(409, "ResourceAlreadyExists", client.create_directory, "d")
    expect(409, "ResourceAlreadyExists", client.create_directory, "D")
    expect(404, "ParentNotFound", client.create_directory, "none/below")
    file(b"", name="f", of=client)
    expect(409, None, client.create_directory, "f")
    expect(404, "ParentNotFound", client.create_directory, "f/below")


@case
def delete_directory():
    client = share()
    made = client.create_directory("d")
    below = made.create_subdirectory("below")
    expect(409, "DirectoryNotEmpty", made.delete_directory)
    below.delete_directory()
    made.delete_directory()
    assert not made.exists()
    expect(404, "ResourceNotFound", made.delete_directory)
    file(b"", name="f", of=client)
    expect(409, "ResourceTypeMismatch", client.get_directory_client("f").delete_directory)


@case
def directory_metadata_and_times():
    client = share()
    then = "2021-02-03T04:05:06.7654321Z"
    made = client.create_directory("d", metadata={"a": "1"}, file_creation_time=then)
    before = made.get_directory_properties()
    assert before.metadata == {"a": "1"} and before.creation_time.year == 2021
    made.set_directory_metadata({"b": "2"})
    after = made.get_directory_properties()
    assert after.metadata == {"b": "2"} and after.etag != before.etag
    assert after.last_write_time == before.last_write_time
    assert after.change_time > before.change_time
    made.set_http_headers(file_attributes="Hidden|Directory", file_last_write_time=then)
    after = made.get_directory_properties()
    assert after.file_attributes == "Hidden | Directory", after.file_attributes
    assert after.last_write_time.year == 2021 and after.metadata == {"b": "2"}


@case
def odd_file_names():
    client = share()
    odd = ["a b", "r\u00e9sum\u00e9", "100%", "a+b", "a&b=c;d", "#1", "'q'", "\u65e5\u672c", "\U0001f600"]
    odd += ["%41", "a;b", "~x", "{x}", "[x]", "e\u0301", " lead", "@$!,()"]
    for name in odd:
        made = client.get_file_client(name)
        made.upload_file(name.encode())
        assert made.download_file().readall() == name.encode(), name
    assert sorted(names(client.list_directories_and_files())) == sorted(odd)
    for name in odd:
        client.get_file_client(name).delete_file()
    assert not list(client.list_directories_and_files())


@case
def odd_directory_names():
    client = share()
    outer = client.create_directory("a b%+&")
    inner = outer.create_subdirectory("\u65e5 #1")
    inner.upload_file("x\u00e9 y", b"1")
    found = client.get_directory_client("a b%+&/\u65e5 #1")
    assert names(found.list_directories_and_files()) == ["x\u00e9 y"]
    moved = inner.rename_directory("a b%+&/100% \u00e9")
    assert names(moved.list_directories_and_files()) == ["x\u00e9 y"]
    assert names(outer.list_directories_and_files()) == ["100% \u00e9"]


@case
def names_not_valid_in_xml():
    client = share()
    name = "a\uffffb"
    inner = client.create_directory("dir" + name)
    inner.upload_file(name, b"x")
    assert names(client.list_directories_and_files()) == ["dir" + name]
    assert names(inner.list_directories_and_files()) == [name]
    found = inner.list_directories_and_files(name_starts_with="a\uffff")
    assert names(found) == [name]
    answer = raw("GET", client.share_name, query="restype=directory&comp=list")
    assert '<Name Encoded="true">dira%EF%BF%BFb</Name>' in answer.text, answer.text


@case
def names_ignore_case_and_keep_it():
    client = share()
    made = file(b"one", name="MiXed.TXT", of=client)
    other = client.get_file_client("mixed.txt")
    assert other.download_file().readall() == b"one"
    other.upload_file(b"two")
    assert made.download_file().readall() == b"two"
    assert names(client.list_directories_and_files()) == ["MiXed.TXT"]
    client.create_directory("\u00c9T\u00c9").upload_file("x", b"")
    assert client.get_file_client("\u00e9t\u00e9/X").exists()
    renamed = made.rename_file("mixed.txt")
    assert names(client.list_directories_and_files()) == ["\u00c9T\u00c9", "mixed.txt"] or names(
        client.list_directories_and_files()
    ) == ["mixed.txt", "\u00c9T\u00c9"]
    assert renamed.download_file().readall() == b"two"


@case
def bad_names():
    client = share()
    for name in ["a:b", "a*b", "a<b", "a|b", 'a"b', "a\\b", "a\x01b"]:
        expect(400, None, client.get_file_client(name).create_file, 1)
        expect(400, None, client.create_directory, name)
    expect(400, None, client.get_file_client("x" * 256).create_file, 1)
    client.get_file_client("x" * 255).create_file(1)
    deep = "/".join(["d"] * 251)
    answer = raw("PUT", client.share_name + "/" + deep, query="restype=directory", data=b"")
    assert answer.status_code == 400, answer.status_code
    long = "/".join(["x" * 200] * 11)
    answer = raw("PUT", client.share_name + "/" + long, query="restype=directory", data=b"")
    assert answer.status_code == 400, answer.status_code
    answer = raw("PUT", client.share_name + "/%2e%2e", query="restype=directory", data=b"")
    # The HTTP library may have taken the dots away; then it is the share that is asked for.
    assert answer.status_code in (400, 409), answer.status_code


@case
def trailing_dots():
    client = share()
    file(b"plain", name="a.", of=client)
    assert names(client.list_directories_and_files()) == ["a"]
    dotted = share_client(client.share_name, allow_trailing_dot=True, allow_source_trailing_dot=True)
    file(b"dotted", name="a.", of=dotted)
    assert names(client.list_directories_and_files()) == ["a", "a."]
    assert dotted.get_file_client("a.").download_file().readall() == b"dotted"
    assert client.get_file_client("a.").download_file().readall() == b"plain"
    moved = dotted.get_file_client("a.").rename_file("b..")
    assert moved.file_path[-1] == "b.." and names(client.list_directories_and_files()) == ["a", "b.."]


@case
def list_sorted_kinds_and_sizes():
    client = share()
    for name in ["b", "D", "a10", "a2"]:
        file(b"x" * len(name), name=name, of=client)
    client.create_directory("c")
    found = list(client.list_directories_and_files())
    # The library sorts directories before files; on the wire they are mixed.
    assert names(found) == ["c", "a10", "a2", "b", "D"], names(found)
    assert [entry["is_directory"] for entry in found] == [True, False, False, False, False]
    assert [entry.get("size") for entry in found] == [None, 3, 2, 1, 1]
    answer = raw("GET", client.share_name, query="restype=directory&comp=list")
    on_the_wire = re.findall("<(File|Directory)><Name>(.+?)</Name>", answer.text)
    assert "".join(name for _, name in on_the_wire) == "a10a2bcD", on_the_wire
    assert on_the_wire[3] == ("Directory", "c")
    assert len({entry["file_id"] for entry in found}) == 5


@case
def list_pages():
    client = share()
    directory = client.create_directory("d")
    for number in range(7):
        directory.create_subdirectory("p%d" % number)
        directory.upload_file("q%d" % number, b"")
    pages = directory.list_directories_and_files(name_starts_with="p", results_per_page=3)
    pages = [names(page) for page in pages.by_page()]
    assert pages == [["p0", "p1", "p2"], ["p3", "p4", "p5"], ["p6"]], pages
    everything = directory.list_directories_and_files(results_per_page=5)
    assert len(list(everything)) == 14
    first = directory.list_directories_and_files(results_per_page=7).by_page()
    assert names(next(first)) == ["p%d" % n for n in range(7)]
    # What was there when a page is asked for counts, and a marker outlives its entry.
    directory.delete_subdirectory("p6")
    assert names(next(first)) == ["q%d" % n for n in range(7)]
    assert names(directory.list_directories_and_files(name_starts_with="Q6")) == ["q6"]
    for wrong in ["0", "-1"]:
        query = "restype=directory&comp=list&maxresults=" + wrong
        answer = raw("GET", client.share_name, query=query)
        assert answer.headers["x-ms-error-code"] == "OutOfRangeQueryParameterValue"


@case
def list_extended():
    client = share()
    made = file(b"x", of=client)
    client.create_directory("d")
    (d, f) = client.list_directories_and_files(
        include=["timestamps", "Etag", "Attributes", "PermissionKey"], include_extended_info=True
    )
    properties = made.get_file_properties()
    assert f["etag"] == properties.etag and f["file_id"] == properties.file_id
    assert f["file_attributes"] == "Archive" and d["file_attributes"] == "Directory"
    assert f["permission_key"] == properties.permission_key
    assert f["last_modified"] == properties.last_modified
    for name in ["creation_time", "last_write_time", "change_time", "last_access_time"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", f[name]), f[name]
    (_, plain) = client.list_directories_and_files()
    assert plain["etag"] is None and plain["creation_time"] is None
    answer = raw("GET", client.share_name, query="restype=directory&comp=list&include=Nothing")
    assert answer.status_code == 400


@case
def list_wire_shape():
    client = share()
    client.create_directory("sub").create_subdirectory("d")
    file(b"abc", name="sub/f&", of=client)
    query = "restype=directory&comp=list&prefix=&maxresults=1"
    answer = raw("GET", client.share_name + "/sub", query=query)
    assert answer.headers["Content-Type"] == "application/xml"
    text = answer.content
    assert text.startswith(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><EnumerationResults ')
    text = text.decode("utf-8-sig")
    assert 'ShareName="%s"' % client.share_name in text and 'DirectoryPath="sub"' in text
    assert "<MaxResults>1</MaxResults>" in text and "<Prefix />" in text
    assert "<Directory><Name>d</Name><FileId>" in text and "<Properties />" in text
    marker = re.search("<NextMarker>(.+)</NextMarker>", text).group(1)
    answer = raw("GET", client.share_name + "/sub", query=query + "&marker=" + marker)
    assert "<Marker>%s</Marker>" % marker in answer.text
    assert "<Name>f&amp;</Name>" in answer.text and "<NextMarker />" in answer.text
    assert "<Properties><Content-Length>3</Content-Length></Properties>" in answer.text


@case
def list_missing_directory():
    client = share()
    missing = client.get_directory_client("none")
    expect(404, "ResourceNotFound", missing.list_directories_and_files().next)
    missing = client.get_directory_client("none/none")
    expect(404, "ParentNotFound", missing.list_directories_and_files().next)


@case
def handles_of_nothing_open():
    client = share()
    made = file(b"", of=client)
    assert list(client.get_directory_client().list_handles(recursive=True)) == []
    assert list(made.list_handles()) == []
    expected = {"closed_handles_count": 0, "failed_handles_count": 0}
    assert made.close_all_handles() == expected
    assert client.get_directory_client().close_all_handles(recursive=True) == expected
    assert made.close_handle("7") == expected
    expect(404, "ResourceNotFound", client.get_file_client("none").list_handles().next)
