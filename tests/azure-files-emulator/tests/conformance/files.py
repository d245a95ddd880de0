"""Files: content, ranges and properties."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from azure.storage.fileshare import ContentSettings
from support import case, etag, expect, file, raw, share

MIB = 1 << 20
THEN = "2021-02-03T04:05:06.7654321Z"


@case
def create_file_is_zero_filled():
    made = file(size=10_000)
    assert made.download_file().readall() == bytes(10_000)
    assert made.get_ranges() == []
    properties = made.get_file_properties()
    assert properties.size == 10_000 and properties.file_attributes == "Archive"
    assert properties.content_settings.content_type == "application/octet-stream"
    huge = share().get_file_client("huge")
    huge.create_file(4 << 40)
    assert huge.get_file_properties().size == 4 << 40
    expect(400, "OutOfRangeInput", huge.create_file, (4 << 40) + 1)


@case
def create_file_with_data():
    client = share()
    made = client.get_file_client("f")
    made.create_file(10, data=b"0123456789")
    assert made.download_file().readall() == b"0123456789"
    made.create_file(10, data=b"abc")
    assert made.download_file().readall() == b"abc" + bytes(7)


@case
def create_file_replaces():
    made = file(b"x" * 3000, metadata={"a": "1"}, content_settings=ContentSettings("text/plain"))
    before = made.get_file_properties()
    made.create_file(100)
    after = made.get_file_properties()
    assert made.download_file().readall() == bytes(100)
    assert after.metadata == {} and after.etag != before.etag
    assert after.content_settings.content_type == "application/octet-stream"
    client = share()
    client.create_directory("d")
    expect(409, "ResourceTypeMismatch", client.get_file_client("d").create_file, 1)
    expect(404, "ParentNotFound", client.get_file_client("none/f").create_file, 1)


@case
def upload_download_small():
    made = file(b"hello", metadata={"k": "v"})
    download = made.download_file()
    assert download.readall() == b"hello" and download.size == 5
    properties = made.get_file_properties()
    assert properties.metadata == {"k": "v"} and properties.server_encrypted
    assert properties.lease.state == "available" and properties.lease.status == "unlocked"


@case
def upload_download_several_ranges():
    data = os.urandom(9 * MIB + 17)
    made = file(data, max_concurrency=3)
    assert made.download_file(max_concurrency=3).readall() == data
    assert made.get_ranges() == [{"start": 0, "end": len(data) - 1}]


@case
def download_in_chunks():
    data = os.urandom(3 * MIB)
    made = file(data)
    small = share().get_file_client("f")
    small._config.max_single_get_size = small._config.max_chunk_get_size = 100_000
    small.upload_file(data)
    chunks = list(small.download_file().chunks())
    assert b"".join(chunks) == data and len(chunks) == -(-len(data) // 100_000)
    assert b"".join(made.download_file().chunks()) == data


@case
def download_ranges():
    data = os.urandom(20_000)
    made = file(data)
    assert made.download_file(offset=100, length=50).readall() == data[100:150]
    assert made.download_file(offset=19_990).readall() == data[19_990:]
    assert made.download_file(offset=19_990, length=500).readall() == data[19_990:]
    expect(416, "InvalidRange", made.download_file, offset=20_000, length=1)
    path = made.share_name + "/file.bin"
    answer = raw("GET", path, {"Range": "bytes=5-9"})
    assert answer.status_code == 206 and answer.content == data[5:10]
    assert answer.headers["Content-Range"] == "bytes 5-9/20000"
    answer = raw("GET", path, {"Range": "bytes=5-9", "x-ms-range": "bytes=19999-30000"})
    assert answer.content == data[-1:], "x-ms-range goes before Range"
    assert answer.headers["Content-Range"] == "bytes 19999-19999/20000"
    whole = raw("GET", path)
    assert whole.status_code == 200 and whole.content == data
    assert whole.headers["Accept-Ranges"] == "bytes" and whole.headers["x-ms-type"] == "File"
    head = raw("HEAD", path)
    assert head.headers["Content-Length"] == "20000" and not head.content


@case
def download_empty_file():
    made = file(b"")
    assert made.download_file().readall() == b""
    answer = raw("GET", made.share_name + "/file.bin", {"x-ms-range": "bytes=0-99"})
    assert answer.status_code == 416
    assert answer.headers["x-ms-error-code"] == "InvalidRange"


@case
def upload_range_overwrites_in_place():
    made = file(b"x" * 2000)
    before = made.get_file_properties()
    result = made.upload_range(b"y" * 100, offset=950, length=100)
    after = made.get_file_properties()
    assert made.download_file().readall() == b"x" * 950 + b"y" * 100 + b"x" * 950
    assert result["etag"] == after.etag != before.etag
    assert after.last_write_time > before.last_write_time
    assert after.file_id == before.file_id and after.size == 2000


@case
def upload_range_can_preserve_last_write_time():
    made = file(b"x" * 2000, file_last_write_time=THEN)
    result = made.get_file_properties()
    made.set_http_headers(ContentSettings(), file_last_write_time=THEN)
    made.upload_range(b"y" * 10, 0, 10, file_last_write_mode="preserve")
    after = made.get_file_properties()
    assert after.last_write_time.year == 2021, after.last_write_time
    assert after.etag != result.etag and after.change_time.year > 2021
    made.upload_range(b"y" * 10, 0, 10, file_last_write_mode="now")
    assert made.get_file_properties().last_write_time.year > 2021


@case
def upload_range_limits():
    made = file(size=10 * MIB)
    expect(413, "RequestBodyTooLarge", made.upload_range, b"x" * (4 * MIB + 1), 0, 4 * MIB + 1)
    made.upload_range(b"x" * 4 * MIB, 0, 4 * MIB)
    expect(416, "InvalidRange", made.upload_range, b"x" * 10, 10 * MIB - 5, 10)
    assert made.get_file_properties().size == 10 * MIB
    path = made.share_name + "/file.bin"
    headers = {"x-ms-write": "update", "x-ms-range": "bytes=0-9"}
    answer = raw("PUT", path, headers, b"short", query="comp=range")
    assert answer.status_code == 400, answer.text
    answer = raw("PUT", path, {"x-ms-range": "bytes=0-4"}, b"short", query="comp=range")
    assert answer.headers["x-ms-error-code"] == "MissingRequiredHeader"
    missing = share().get_file_client("none")
    expect(404, "ResourceNotFound", missing.upload_range, b"x", 0, 1)


@case
def md5_is_checked():
    data = b"checked"
    made = file(b"0" * len(data))
    made.upload_range(data, 0, len(data), validate_content=True)
    assert made.download_file(validate_content=True).readall() == data
    headers = {
        "x-ms-write": "update",
        "x-ms-range": "bytes=0-4",
        "Content-MD5": "XUFAKrxLKna5cZ2REBfFkg==",
    }
    path = made.share_name + "/file.bin"
    answer = raw("PUT", path, headers, b"hello", query="comp=range")
    assert answer.status_code == 201
    assert answer.headers["Content-MD5"] == "XUFAKrxLKna5cZ2REBfFkg=="
    answer = raw("PUT", path, headers, b"jello", query="comp=range")
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
    answer = raw("PUT", path, {**headers, "Content-MD5": "x"}, b"hello", query="comp=range")
    assert answer.headers["x-ms-error-code"] == "InvalidMd5"
    stored = bytearray(hashlib.md5(b"anything").digest())
    made.set_http_headers(ContentSettings(content_md5=stored))
    wants = {"x-ms-range": "bytes=0-4", "x-ms-range-get-content-md5": "true"}
    answer = raw("GET", path, wants)
    assert answer.headers["Content-MD5"] == "XUFAKrxLKna5cZ2REBfFkg=="
    assert answer.headers["x-ms-content-md5"] != answer.headers["Content-MD5"]
    big = file(size=5 * MIB)
    wants["x-ms-range"] = "bytes=0-%d" % (4 * MIB)
    answer = raw("GET", big.share_name + "/file.bin", wants)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "OutOfRangeInput")


@case
def clear_range_punches_a_hole():
    made = file(b"x" * 4096)
    before = made.get_file_properties().etag
    made.clear_range(1024, 1024)
    assert made.download_file().readall() == b"x" * 1024 + bytes(1024) + b"x" * 2048
    assert made.get_ranges() == [{"start": 0, "end": 1023}, {"start": 2048, "end": 4095}]
    assert made.get_file_properties().etag != before
    headers = {"x-ms-write": "clear", "x-ms-range": "bytes=2100-2199"}
    answer = raw("PUT", made.share_name + "/file.bin", headers, b"", query="comp=range")
    assert answer.status_code == 201, answer.text
    assert made.get_ranges() == [{"start": 0, "end": 1023}, {"start": 2048, "end": 4095}]
    data = made.download_file().readall()
    assert data[2048:2100] + data[2200:2300] == b"x" * 152 and data[2100:2200] == bytes(100)
    big = file(b"x" * (9 * MIB))
    big.clear_range(0, 9 * MIB)
    assert big.get_ranges() == []
    expect(416, "InvalidRange", made.clear_range, 4096, 512)


@case
def list_ranges_windows_and_pages():
    made = file(size=100_000)
    for start in range(0, 100_000, 10_240):
        made.upload_range(b"x" * 512, start, 512)
    everything = made.get_ranges()
    assert everything == [{"start": s, "end": s + 511} for s in range(0, 100_000, 10_240)]
    window = made.get_ranges(offset=10_300, length=10_500)
    assert window == [{"start": 10_300, "end": 10_751}, {"start": 20_480, "end": 20_799}], window
    pages = [list(page) for page in made.list_ranges(results_per_page=4).by_page()]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [r.start for page in pages for r in page] == [r["start"] for r in everything]
    answer = raw("GET", made.share_name + "/file.bin", query="comp=rangelist")
    assert answer.headers["x-ms-content-length"] == "100000"
    assert answer.headers["ETag"] == etag(made)
    expect(404, "ResourceNotFound", share().get_file_client("none").get_ranges)


@case
def resize():
    made = file(b"x" * 1000)
    before = made.get_file_properties()
    made.resize_file(500)
    assert made.download_file().readall() == b"x" * 500
    made.resize_file(2000)
    assert made.download_file().readall() == b"x" * 500 + bytes(1500)
    after = made.get_file_properties()
    assert after.size == 2000 and after.last_write_time > before.last_write_time
    assert after.etag != before.etag and after.file_id == before.file_id
    kept = after.last_write_time
    made.resize_file(2000)
    assert made.get_file_properties().last_write_time == kept


@case
def set_http_headers_replaces():
    made = file(b"x")
    made.set_http_headers(
        ContentSettings(
            content_type="text/plain",
            content_language="en",
            content_encoding="gzip",
            cache_control="no-cache",
            content_disposition="inline",
        )
    )
    settings = made.get_file_properties().content_settings
    assert (settings.content_type, settings.content_language) == ("text/plain", "en")
    assert (settings.content_encoding, settings.cache_control) == ("gzip", "no-cache")
    assert settings.content_disposition == "inline"
    made.set_http_headers(ContentSettings(content_language="fr"))
    settings = made.get_file_properties().content_settings
    assert settings.content_language == "fr" and settings.content_encoding is None
    made.resize_file(10)
    assert made.get_file_properties().content_settings.content_language == "fr"


@case
def times_keep_seven_digits():
    made = share().get_file_client("f")
    made.create_file(1, file_creation_time=THEN, file_last_write_time=THEN, file_change_time=THEN)
    answer = raw("HEAD", made.share_name + "/f")
    for name in ["creation", "last-write", "change"]:
        assert answer.headers["x-ms-file-%s-time" % name] == THEN
    moved = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
    made.set_http_headers(ContentSettings(), file_last_write_time=moved)
    answer = raw("HEAD", made.share_name + "/f")
    assert answer.headers["x-ms-file-last-write-time"] == "2001-02-03T04:05:06.0000070Z"
    assert answer.headers["x-ms-file-creation-time"] == THEN, "kept"
    assert answer.headers["x-ms-file-change-time"] > "2026", "now"
    bad = {"x-ms-file-last-write-time": "yesterday"}
    answer = raw("PUT", made.share_name + "/f", bad, b"", query="comp=properties")
    assert answer.status_code == 400


@case
def attributes_and_read_only():
    made = share().get_file_client("f")
    made.create_file(512, file_attributes="ReadOnly")
    assert made.get_file_properties().file_attributes == "ReadOnly | Archive"
    code = "ReadOnlyAttribute"
    expect(409, code, made.upload_range, b"x" * 512, 0, 512)
    expect(409, code, made.clear_range, 0, 512)
    expect(409, code, made.create_file, 1)
    expect(409, code, made.set_file_metadata, {"a": "1"})
    expect(409, code, made.delete_file)
    assert made.download_file().readall() == bytes(512)
    made.set_http_headers(ContentSettings(), file_attributes="Hidden|System")
    assert made.get_file_properties().file_attributes == "Hidden | System"
    made.set_http_headers(ContentSettings(), file_attributes="None")
    assert made.get_file_properties().file_attributes == "None"
    made.set_http_headers(ContentSettings(), file_creation_time=THEN)
    assert made.get_file_properties().file_attributes == "None"
    expect(400, "InvalidHeaderValue", made.set_http_headers, ContentSettings(), file_attributes="Odd")
    made.delete_file()


@case
def file_errors():
    client = share()
    missing = client.get_file_client("none")
    expect(404, "ResourceNotFound", missing.get_file_properties)
    expect(404, "ResourceNotFound", missing.download_file)
    expect(404, "ResourceNotFound", missing.delete_file)
    expect(404, "ResourceNotFound", missing.resize_file, 1)
    expect(404, "ResourceNotFound", missing.set_file_metadata, {"a": "1"})
    expect(404, "ParentNotFound", client.get_file_client("none/f").get_file_properties)
    client.create_directory("d")
    expect(409, "ResourceTypeMismatch", client.get_file_client("d").delete_file)
    answer = raw("PUT", client.share_name + "/f", {"x-ms-type": "file"}, b"")
    assert answer.headers["x-ms-error-code"] == "MissingRequiredHeader"
    headers = {"x-ms-type": "file", "x-ms-content-length": "many"}
    answer = raw("PUT", client.share_name + "/f", headers, b"")
    assert answer.headers["x-ms-error-code"] == "InvalidHeaderValue"
    assert not missing.exists() and not client.get_file_client("f").exists()


@case
def delete_file():
    made = file(b"x")
    made.delete_file()
    assert not made.exists()
    made.create_file(0)
    assert made.exists()


@case
def file_metadata():
    made = file(b"x", metadata={"one": "1"})
    before = made.get_file_properties()
    made.set_file_metadata({"two": "2", "three": "3"})
    after = made.get_file_properties()
    assert after.metadata == {"two": "2", "three": "3"} and after.etag != before.etag
    assert after.last_write_time == before.last_write_time
    assert after.change_time > before.change_time
    made.set_file_metadata({})
    assert made.get_file_properties().metadata == {}
    headers = {"x-ms-meta-": "x"}
    answer = raw("PUT", made.share_name + "/file.bin", headers, b"", query="comp=metadata")
    assert answer.headers["x-ms-error-code"] == "EmptyMetadataKey"


@case
def parallel_range_writers():
    made = file(size=32 * 65_536)

    def put(number):
        return made.upload_range(bytes([number]) * 65_536, number * 65_536, 65_536)["etag"]

    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(put, range(32)))
    assert len(set(etags)) == 32 and etag(made) in etags
    expected = b"".join(bytes([number]) * 65_536 for number in range(32))
    assert made.download_file().readall() == expected
