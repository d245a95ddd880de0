"""What the cases share: registration, clients, expectations."""

import json
import os
import uuid

import requests
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.fileshare import ShareClient, ShareServiceClient, generate_account_sas

CASES = []
SETTINGS = json.loads(os.environ.get("AZURE_FILES_EMULATOR", "{}"))


def case(function):
    """Registers a case under its function's name."""
    CASES.append(function)
    return function


def options(**more):
    """What each client is made with: no retries, so that a fault of the server is seen at once."""
    base = {"retry_total": 0}
    if SETTINGS["ca"]:
        base["connection_verify"] = SETTINGS["ca"]
    return {**base, **more}


def service(**more):
    return ShareServiceClient.from_connection_string(
        SETTINGS["connection_string"], **options(**more)
    )


def share(**more):
    """A new share."""
    client = share_client("t" + uuid.uuid4().hex, **more)
    client.create_share()
    return client


def share_client(name, snapshot=None, **more):
    return ShareClient.from_connection_string(
        SETTINGS["connection_string"], name, snapshot=snapshot, **options(**more)
    )


def file(data=None, size=None, name="file.bin", of=None, **more):
    """A new file, in a new share unless one is given."""
    client = (of or share()).get_file_client(name)
    if data is not None:
        client.upload_file(data, **more)
    else:
        client.create_file(size or 0, **more)
    return client


def expect(status, code, act, *arguments, **more):
    """The call fails with that status and code (any code, if None)."""
    try:
        result = act(*arguments, **more)
        if hasattr(result, "__next__"):
            list(result)
    except HttpResponseError as error:
        found = getattr(error, "error_code", None)
        found = getattr(found, "value", found)
        statuses = status if isinstance(status, tuple) else (status,)
        assert error.status_code in statuses, (error.status_code, found, str(error))
        assert code is None or found == code, (found, str(error))
        return error
    except AzureError as error:
        raise AssertionError("failed otherwise: %r" % error) from error
    raise AssertionError("nothing failed; %s %s was expected" % (status, code))


def account_sas(permission="rwdlcu", resource_types="sco", **more):
    from datetime import datetime, timedelta, timezone

    more.setdefault("expiry", datetime.now(timezone.utc) + timedelta(hours=1))
    return generate_account_sas(
        SETTINGS["account"], SETTINGS["key"], resource_types, permission, **more
    )


def raw(method, path, headers=None, data=None, sas=None, query="", base=None):
    """A request of our own making, below the account's address, with a SAS of the account."""
    parts = [part for part in (query, account_sas() if sas is None else sas) if part]
    url = (base or SETTINGS["endpoint"]) + "/" + path + "?" + "&".join(parts)
    sent = {"x-ms-version": "2025-01-05", **(headers or {})}
    return requests.request(
        method, url, headers=sent, data=data, verify=SETTINGS["ca"] or True, timeout=60
    )


def names(listing):
    return [entry["name"] for entry in listing]


def etag(client):
    properties = getattr(client, "get_file_properties", None) or client.get_directory_properties
    return properties().etag
